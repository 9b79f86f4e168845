"""The command line. Heavy modules are imported by the command that needs them: help and config errors
answer without torch."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from visiontl.errors import ConfigError, RankFailed, Stopped, VisionTLError, did_you_mean
from visiontl.report.console import clean

if TYPE_CHECKING:
    from visiontl.backbones.catalog import Row
    from visiontl.entry import BackboneEntry
    from visiontl.task import Task

# seconds; a launcher ends the other ranks as soon as one has failed, so what rank 0 has said too is said once
WAIT_FOR_RANK_0 = 5.0
OPTION = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")


@dataclass(frozen=True)
class Subcommand:
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    epilog: str = ""


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are errors like all others."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0; 2: a mistake of the user; 1: another failure;
    75: stopped by a signal and saved; 130: ^C before there was anything to save."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    arguments = [a for i, a in enumerate(arguments) if a != "--debug" or i > end]
    try:
        code = dispatch(arguments)
        sys.stdout.flush()  # here, where a closed pipe is still caught
        return code
    except BrokenPipeError:  # `visiontl list backbones | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        complain("interrupted", debug)
        return 130
    except Stopped as stopped:  # on every rank at once
        if rank() == 0:
            complain(str(stopped), debug=False)
        return stopped.exit_code
    except VisionTLError as error:
        if debug or not (isinstance(error, RankFailed) and error.said):
            complain(f"error: {error}", debug)
        return error.exit_code
    except OSError as error:
        if error.filename is None:
            complain(f"error: {describe(error)}", debug)
            return 1
        complain(f"error: {error.filename}: {error.strerror}", debug)
        return 2
    except (Exception, SystemExit) as error:  # a plugin's function may even call sys.exit
        complain(f"error: {describe(error)}", debug)
        return 1
    finally:
        distributed = sys.modules.get("visiontl.processes.ranks")  # absent where no command got so far
        if distributed is not None:
            distributed.shutdown()


def dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        from visiontl import __version__

        print(f"visiontl {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in SUBCOMMANDS:
        return run_subcommand(f"visiontl {name}", SUBCOMMANDS[name], rest)
    if name.startswith("-"):
        raise ConfigError(f"unknown option {name!r}; see `visiontl --help`")
    return task_command(name, rest)


def run_subcommand(program: str, command: Subcommand, arguments: Sequence[str]) -> int:
    parser = Parser(
        prog=program,
        description=command.help[0].upper() + command.help[1:] + ".",
        epilog=command.epilog or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this help")
    command.arguments(parser)
    if {"-h", "--help"} & set(arguments):
        print(parser.format_help(), end="")
        if command is SUBCOMMANDS["predict"]:
            print_options(arguments)
        return 0
    # positionals and options may alternate: train x.yaml train.epochs=1 --dry-run optim.lr=0.1
    parsed, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        options = [option for action in parser._actions for option in action.option_strings]
        near = did_you_mean(unknown[0], options)
        raise ConfigError(f"unknown argument {unknown[0]!r}{near or f'; see `{program} --help`'}")
    return command.run(parsed) or 0


def task_command(name: str, arguments: Sequence[str]) -> int:
    """`visiontl TASK COMMAND ...`"""
    from visiontl import plugins

    tasks = plugins.tasks()
    if name not in tasks:
        if did_you_mean(name, SUBCOMMANDS).startswith("; did"):
            raise ConfigError(f"no command {name!r}{did_you_mean(name, SUBCOMMANDS)}")
        try:
            plugins.task(name)
        except ConfigError as error:
            raise ConfigError(f"no command {name!r} (commands: {', '.join(SUBCOMMANDS)}), and {error}") from None
    task = tasks[name]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(task_overview(task))
        return 0
    commands = {command.name: command for command in task.commands}
    if arguments[0] not in commands:
        has = did_you_mean(arguments[0], commands) or "; it has none"
        raise ConfigError(f"task {name!r} has no command {arguments[0]!r}{has}")
    command = commands[arguments[0]]
    parser = Parser(prog=f"visiontl {name} {command.name}", description=command.help, allow_abbrev=False)
    command.arguments(parser)
    try:
        parsed = parser.parse_args(list(arguments[1:]))
    except SystemExit as stop:  # its help was asked for
        return int(stop.code or 0)
    return command.run(parsed) or 0


def overview() -> str:
    lines = [
        "usage: visiontl COMMAND ...",
        "",
        "Plugin-based, multi-task vision transfer learning.",
        "",
        "commands:",
        *(f"  {name:<10} {command.help}" for name, command in SUBCOMMANDS.items()),
        "  TASK       a task's own commands: visiontl TASK --help",
        "",
        "  visiontl COMMAND --help explains one; --debug shows the trace of an error; --version",
        "",
        f"installed plugins: {', '.join(plugin_names()) or 'none'}",
    ]
    return "\n".join(lines)


def plugin_names() -> list[str]:
    """Entry points alone: nothing is imported for a help text."""
    from importlib.metadata import entry_points

    return sorted({point.name for point in entry_points(group="visiontl")})


def task_overview(task: Task) -> str:
    lines = [f"usage: visiontl {task.name} COMMAND ...", ""]
    if task.commands:
        width = max(len(command.name) for command in task.commands)
        lines += ["commands:", *(f"  {command.name:<{width}}  {command.help}" for command in task.commands)]
    else:
        lines.append(f"Task {task.name!r} has no commands of its own; train, evaluate and predict serve it.")
    return "\n".join(lines)


def print_options(arguments: Sequence[str]) -> None:
    """Below predict's help: what the task of the named run can be asked."""
    run = next((a for a in arguments if not a.startswith("-") and Path(a).exists()), None)
    if run is None:
        print("\n`visiontl predict RUN --help` lists the options of that run's task.")
        return
    from visiontl.engine import predict as prediction

    print(f"\n{prediction.options_help(run)}")


def warn_of_plugins() -> None:
    """What is installed and cannot be used; it stops nobody who does not ask for it."""
    from visiontl import plugins

    if rank() == 0:
        for line in plugins.warnings():
            print(clean(f"warning: {line}"), file=sys.stderr)


def rank() -> int:
    """Known before the process group is: launchers set it in the environment."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdigit() else 0


def describe(error: BaseException) -> str:
    """An error that nobody foresaw, in one line, with the place where it was raised."""
    text = " ".join(str(error).split())
    here, place = error.__traceback__, ""
    while here is not None:
        place = f"{Path(here.tb_frame.f_code.co_filename).name}:{here.tb_lineno}"
        here = here.tb_next
    text = text if len(text) <= 500 else text[:497] + "..."
    hint = ""
    if type(error).__name__ == "OutOfMemoryError":
        hint = "; try a smaller train.batch_size with train.accumulate"
    return f"{type(error).__name__}: {text} ({place}){hint}; run again with --debug for the trace"


def complain(message: str, debug: bool) -> None:
    """A message on stderr. Ranks other than 0 wait, since what failed there mostly failed on rank 0 too."""
    if debug:
        import traceback

        traceback.print_exc()
        return
    sys.stdout.flush()
    if rank() > 0:
        time.sleep(WAIT_FOR_RANK_0)
        message = f"rank {rank()}: {message}"
    encoding = sys.stderr.encoding or "utf-8"  # a file name's lone surrogate must not hide the message
    print(clean(message).encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr, flush=True)


def train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file")
    parser.add_argument("overrides", metavar="a.b=c", nargs="*", default=[], help="config values to replace")
    parser.add_argument(
        "--dry-run", action="store_true", help="one batch of everything: train, evaluate, save, load, predict"
    )


def train(arguments: argparse.Namespace) -> None:
    from visiontl.config import resolve as config

    warn_of_plugins()
    resolved = config.resolve(arguments.config, arguments.overrides)  # mistakes are told before torch is imported
    from visiontl.engine import train as training

    training.train(resolved, dry_run=arguments.dry_run)


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a config whose model is measured untrained")
    parser.add_argument(
        "rest", metavar="DATA | a.b=c", nargs="*", default=[], help="other data; config values to replace"
    )
    parser.add_argument(
        "--split",
        action="append",
        metavar="NAME",
        help="train, val or test; repeatable; default: val and test",
    )


def evaluate(arguments: argparse.Namespace) -> None:
    data, overrides = split_arguments(arguments.rest)
    if len(data) > 1:
        raise ConfigError(f"one data set was expected; got {', '.join(data)}")
    warn_of_plugins()
    run: Any = arguments.run
    if Path(run).is_file() or Path(run).suffix in (".yaml", ".yml"):
        from visiontl.config import resolve as config

        run, overrides = config.resolve(run, overrides), []
    from visiontl.engine import evaluate as evaluation

    evaluation.evaluate(run, data[0] if data else None, arguments.split, overrides)


def predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or its model/ alone")
    parser.add_argument(
        "rest",
        metavar="IMAGE | option=value",
        nargs="*",
        help="files, folders or globs; what the task offers",
    )
    parser.add_argument("--out", metavar="DIR", help="where predictions are written; default: beside the run")
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing on the images")


def predict(arguments: argparse.Namespace) -> None:
    from visiontl.config import yaml_text

    images, given = split_arguments(arguments.rest)
    if not images:
        raise ConfigError("no images; name files, folders or globs: visiontl predict RUN IMAGE ...")
    options = {}
    for text in given:
        key, _, value = text.partition("=")
        try:
            options[key] = yaml_text.parse_value(value)
        except ConfigError as error:
            raise ConfigError([f"option {text!r}: {line}" for line in error.problems]) from None
    warn_of_plugins()
    from visiontl.engine import predict as prediction

    prediction.predict_files(
        arguments.run, images, out=arguments.out, options=options, pictures=not arguments.no_pictures
    )


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(paths, a.b=c): an existing path is a path, whatever is in its name."""
    assigned = [a for a in arguments if OPTION.match(a) and not Path(a).exists()]
    return [a for a in arguments if a not in assigned], assigned


def config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a YAML file; with --schema also a task's name")
    parser.add_argument("overrides", metavar="a.b=c", nargs="*", default=[], help="config values to replace")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of configs instead")


def print_config(arguments: argparse.Namespace) -> None:
    from visiontl import plugins
    from visiontl.config import resolve as config

    if arguments.config is None and not arguments.schema:
        raise ConfigError("no config; name a file: visiontl config CONFIG")
    warn_of_plugins()
    if not arguments.schema:
        print(config.to_yaml(config.resolve(arguments.config or "", arguments.overrides)), end="")
        return
    import json

    name = arguments.config or None
    if name and (Path(name).exists() or name not in plugins.tasks()):
        name = config.resolve(name, arguments.overrides).task.name
    print(json.dumps(config.schema(name), indent=2))


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file")
    parser.add_argument("overrides", metavar="a.b=c", nargs="*", default=[], help="config values to replace")
    parser.add_argument("--json", metavar="FILE", help="also write everything that was found, with all names")


def examine(arguments: argparse.Namespace) -> int:
    from visiontl.config import resolve as config

    warn_of_plugins()
    resolved = config.resolve(arguments.config, arguments.overrides)
    from visiontl.doctor import diagnose as doctor

    return doctor.doctor(resolved, arguments.json)


LISTS = ("tasks", "backbones", "policies", "plugins")


def list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="WHAT", help=" | ".join(LISTS))
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", help="a name with * and ?, or a part of one")


def print_list(arguments: argparse.Namespace) -> None:
    if arguments.kind not in LISTS:
        raise ConfigError(f"cannot list {arguments.kind!r}{did_you_mean(arguments.kind, LISTS)}")
    from visiontl.report.console import Console

    warn_of_plugins()
    columns, rows, names = TABLES[arguments.kind](arguments.pattern)
    if not rows and arguments.pattern:
        near = did_you_mean(arguments.pattern.strip("*?"), names)
        raise ConfigError(f"none of the {arguments.kind} matches {arguments.pattern!r}{near}")
    Console().table("", columns, rows)


Listing = tuple[Sequence[str], Sequence[Sequence[Any]], Sequence[str]]
"""(columns, rows that match, all names)."""


def matches(name: str, pattern: str | None) -> bool:
    """A pattern with wildcards must fit the whole name; without them it may be any part of it."""
    from fnmatch import fnmatch

    if not pattern:
        return True
    pattern, name = pattern.lower(), name.lower()
    return fnmatch(name, pattern) if set(pattern) & set("*?[") else pattern in name


def list_tasks(pattern: str | None) -> Listing:
    from visiontl import plugins
    from visiontl.config.resolve import first_sentence

    tasks = plugins.tasks()
    rows = []
    for name, task in sorted(tasks.items()):
        if matches(name, pattern):
            plugin, distribution, version = plugins.owner(name)
            what = first_sentence(task.config.__doc__ or plugins.manager().get_plugin(plugin).__doc__)
            rows.append([name, plugin, f"{distribution} {version}".strip(), what])
    return ["task", "plugin", "package", "what"], rows, list(tasks)


def list_backbones(pattern: str | None) -> Listing:
    from visiontl import plugins
    from visiontl.backbones import catalog

    entries = plugins.backbones()
    rows, note = catalog.listing("*")
    known = {row.name for row in rows}
    rows += [as_row(entry) for name, entry in entries.items() if name not in known]
    if note:
        print(f"note: {note}", file=sys.stderr)
    bare = {row.name: row.name.partition("/")[2] for row in rows}
    cells = [row.cells() for row in rows if matches(row.name, pattern) or matches(bare[row.name], pattern)]
    return list(cells[0]) if cells else [], [list(cell.values()) for cell in cells], [*bare, *bare.values()]


def as_row(entry: BackboneEntry) -> Row:
    """A backbone that is not in the catalog, as far as it states its numbers."""
    from visiontl.backbones.catalog import Row, Tag

    facts = {key: entry.facts[key] for key in ("params", "embed_dim", "strides", "size") if key in entry.facts}
    return Row(entry.name, **facts, weights=tuple(Tag(w.tag, w.license, w.source) for w in entry.weights))


def list_policies(pattern: str | None) -> Listing:
    from visiontl import plugins
    from visiontl.config.resolve import first_sentence

    factories = plugins.policies()
    rows = [
        [name, first_sentence(f.__doc__).removeprefix(f"{name}: ")]
        for name, f in factories.items()
        if matches(name, pattern)
    ]
    return ["policy", "what"], rows, list(factories)


def list_plugins(pattern: str | None) -> Listing:
    from visiontl import plugins

    found = plugins.installed()
    rows = [
        [one.name, one.distribution, one.version, one.state, one.offers] for one in found if matches(one.name, pattern)
    ]
    return ["plugin", "package", "version", "state", "offers"], rows, [one.name for one in found]


TABLES: dict[str, Callable[[str | None], Listing]] = {
    "tasks": list_tasks,
    "backbones": list_backbones,
    "policies": list_policies,
    "plugins": list_plugins,
}


OVERRIDES_HELP = """a.b=c replaces one value of the config: train.epochs=5 freeze.policy='{first: 2}'.
`visiontl config CONFIG` prints every key with its meaning."""

SUBCOMMANDS: dict[str, Subcommand] = {
    "doctor": Subcommand(
        "read all data of a config and say what is wrong with it", doctor_arguments, examine, OVERRIDES_HELP
    ),
    "train": Subcommand("train a model as a config file says", train_arguments, train, OVERRIDES_HELP),
    "evaluate": Subcommand("measure a finished run, also on other data", evaluate_arguments, evaluate, OVERRIDES_HELP),
    "predict": Subcommand("use a finished run on images", predict_arguments, predict),
    "list": Subcommand("show what is installed: tasks, backbones, policies, plugins", list_arguments, print_list),
    "config": Subcommand("print a config complete, with the meaning of each key", config_arguments, print_config),
}
