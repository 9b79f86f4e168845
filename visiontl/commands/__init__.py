"""The commands of the command line, one file each."""

from visiontl.commands import (
    check,
    compare,
    completion,
    config,
    configs,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    export_backbone,
    import_weights,
    list,
    merge,
    new,
    predict,
    push,
    quickstart,
    rank,
    samples,
    serve,
    sweep,
    train,
    tune,
)
from visiontl.hookspecs import hookimpl
from visiontl.task import Command

# in the order of the help
MODULES = (
    quickstart,
    doctor,
    train,
    evaluate,
    predict,
    explain,
    compare,
    merge,
    rank,
    tune,
    sweep,
    export,
    push,
    export_backbone,
    import_weights,
    list,
    config,
    configs,
    samples,
    serve,
    demo,
    new,
    check,
    completion,
)
COMMANDS = {module.COMMAND.name: module.COMMAND for module in MODULES}


@hookimpl
def visiontl_commands() -> tuple[Command, ...]:
    return tuple(COMMANDS.values())
