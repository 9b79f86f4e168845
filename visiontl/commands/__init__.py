"""The commands of the command line, one file each."""

from visiontl.commands import config, doctor, evaluate, list, predict, train
from visiontl.hookspecs import hookimpl
from visiontl.task import Command

COMMANDS = {
    module.COMMAND.name: module.COMMAND for module in (doctor, train, evaluate, predict, list, config)
}  # as help shows them


@hookimpl
def visiontl_commands() -> tuple[Command, ...]:
    return tuple(COMMANDS.values())
