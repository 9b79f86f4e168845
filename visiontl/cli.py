"""The command line. Heavy modules are imported by the command that needs them: help and config errors
answer without torch."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO, cast

from visiontl.commands import COMMANDS
from visiontl.commands.arguments import rank, split_arguments
from visiontl.commands.flags import refuse_unknown_flags
from visiontl.commands.results import as_json as to_json
from visiontl.commands.results import spoken, wants_json
from visiontl.errors import (
    ConfigError,
    RankFailed,
    Stopped,
    did_you_mean,
    explained,
)
from visiontl.outlet import Outlet, guarded, say
from visiontl.report.layout import tell
from visiontl.task import Command

if TYPE_CHECKING:
    from visiontl.task import Task

WIDE = 10_000  # columns of a help text, which is wrapped where a terminal shows it
# seconds; a launcher ends the other ranks as soon as one has failed, so what rank 0 has said too is said once
WAIT_FOR_RANK_0 = 5.0

# What these print is all that they make, so a command whose words are lost has failed
ANSWERING = {"list", "config", "configs", "completion", "doctor", "help"}
NO_READER = 141  # what a shell gives a program that a closed pipe has ended (`visiontl list backbones | head`)

# What other programs call a command of ours
CALLED = {
    **dict.fromkeys(("fit", "finetune", "fine-tune", "run", "start"), "train"),
    **dict.fromkeys(("eval", "test", "val", "validate", "score", "benchmark"), "evaluate"),
    **dict.fromkeys(("infer", "inference", "apply", "use"), "predict"),
    **dict.fromkeys(("ls", "show", "models", "backbones", "tasks"), "list"),
    **dict.fromkeys(("inspect", "diagnose"), "doctor"),
    **dict.fromkeys(("gradcam", "cam", "saliency", "heatmap"), "explain"),
    **dict.fromkeys(("diff", "versus", "leaderboard"), "compare"),
}

Call = tuple[Command, argparse.Namespace]
"""A command and what it is called with. Parsing ends before it runs, so nothing of it is on the stack of a training."""


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are errors like all others."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0; 2: a mistake of the user; 1: another failure;
    75: stopped by a signal and saved; 130: ^C before there was anything to save; 141: nobody reads what was asked for.
    What cannot be printed ends no command that makes more than words."""
    with guarded() as (out, err):
        arguments = list(sys.argv[1:] if argv is None else argv)
        end = arguments.index("--") if "--" in arguments else len(arguments)
        debug = "--debug" in arguments[:end]
        arguments = [a for i, a in enumerate(arguments) if a != "--debug" or i > end]
        as_json = "--json" in arguments[:end]
        try:
            command, given = parse(arguments)
            debug, as_json = debug or getattr(given, "verbose", False), wants_json(given)
            with spoken(given) as results:
                code = command.run(given) or 0
            answers = results if as_json else out if command.name in ANSWERING else None
            return code or code_of_words(out, err, answers)
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # a plugin's function may even call sys.exit
            message, code = explained(error)
            if debug or not (isinstance(error, RankFailed) and error.said):
                complain(message, debug and not isinstance(error, Stopped))
            if as_json and rank() == 0:
                say(to_json({"error": message.removeprefix("error: "), "exit_code": code}), out)
            return code
        finally:
            distributed = sys.modules.get("visiontl.processes.ranks")  # absent where no command got so far
            if distributed is not None:
                distributed.shutdown()


def code_of_words(out: Outlet, err: Outlet, answers: Outlet | None) -> int:
    """The exit code for what could not be printed by a command that went well, which is said once where there is a
    place left. answers: where what was asked for went; None where a command makes more than words."""
    out.flush()
    lost = answers.lost if answers is not None else None
    if isinstance(lost, BrokenPipeError):
        return NO_READER
    if lost is not None:
        tell(f"error: what was asked for could not be printed ({lost})", cast(TextIO, err))
        return 1
    for one, other in ((out, err), (err, out)):
        if one.lost is not None and other is not answers:
            tell(f"warning: some of what was said could not be printed ({one.lost})", cast(TextIO, other))
    return 0


def parse(arguments: Sequence[str]) -> Call:
    """The words of a command line -> what they call. Raises ConfigError for what they do not say rightly."""
    if arguments[:1] == ["help"] and len(arguments) > 1:
        return parse([*arguments[1:], "--help"])
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return printing(overview())
    if arguments[0] in ("--version", "-V", "version") or list(arguments) == ["-v"]:
        from visiontl import __version__

        return printing(f"visiontl {__version__}")
    name, rest = arguments[0], arguments[1:]
    if name in COMMANDS:
        return parse_command("visiontl", COMMANDS[name], rest)
    if name.startswith("-"):
        first = next((word for word in rest if not word.startswith("-")), None)
        behind = f"; flags stand behind the command: visiontl {first} ... {name}" if first else ""
        raise ConfigError(f"unknown option {name!r}{behind or '; see `visiontl --help`'}")
    from visiontl import plugins

    tasks = plugins.tasks()
    if name in tasks:
        return parse_task_command(tasks[name], rest)
    try:
        return parse_command("visiontl", plugins.command(name), rest)
    except ConfigError:
        if name in plugins.commands():
            raise
    raise ConfigError(unknown_command(name))


def parse_command(program: str, command: Command, arguments: Sequence[str]) -> Call:
    program = f"{program} {command.name}"
    parser = Parser(
        prog=program,
        description=command.help[:1].upper() + command.help[1:] + ".",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=WIDE),
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this help")
    command.arguments(parser)
    if {"-h", "--help"} & set(arguments):
        parser.epilog = below_help(command, arguments)
        return printing(parser.format_help().rstrip("\n"))
    refuse_unknown_flags(parser, command, arguments)
    words, assigned = standing_alone(parser, arguments), []
    if command.options is not None:
        words, assigned = apart(parser, words)
    # positionals and options may alternate: train x.yaml train.epochs=1 --dry-run optim.lr=0.1
    given, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        raise ConfigError(f"unknown argument {unknown[0]!r}; see `{program} --help`")
    if command.options is not None:
        from visiontl.config.overrides import option_values, parse_options

        given.options = parse_options(command.options, option_values(assigned, program), program)
    return command, given


def standing_alone(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """The words, with each flag that may stand alone (doctor's --json) kept from a word behind it that is none of its
    own: a flag, a.b=c, and what is the first to stand without a name, unless it ends in .json."""
    may = {flag: action for action in parser._actions if action.nargs == "?" for flag in action.option_strings}
    takes = {flag for action in parser._actions if action.nargs is None for flag in action.option_strings}
    words, free = list[str](), 0
    for word in arguments:
        if words and words[-1] in takes and re.match(r"-\.?\d", word):  # --budget -3m: a value, and no flag
            words[-1] += f"={word}"
        else:
            words.append(word)
    for i, word in enumerate(words):
        behind = words[i + 1] if i + 1 < len(words) else "-"
        other = behind.startswith("-") or split_arguments([behind])[1] or not free
        if word in may and other and not behind.endswith(".json"):
            words[i] = f"{word}={may[word].const}"
        free += not word.startswith("-")
    return words


def apart(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the other words, name=value): the value of a flag and an existing path are none, whatever is in them."""
    takes = {flag for action in parser._actions if action.nargs != 0 for flag in action.option_strings}
    free = [word for i, word in enumerate(arguments) if i == 0 or arguments[i - 1] not in takes]
    assigned = split_arguments(free)[1]
    return [word for word in arguments if word not in assigned], assigned


def below_help(command: Command, arguments: Sequence[str]) -> str:
    text = command.epilog if isinstance(command.epilog, str) else command.epilog(arguments)
    if command.options is None:
        return text
    from visiontl.config.overrides import option_lines

    return "\n".join(filter(None, ["name=value:", *option_lines(command.options), text]))


def parse_task_command(task: Task, arguments: Sequence[str]) -> Call:
    """`visiontl TASK COMMAND ...`"""
    if not arguments or arguments[0] in ("-h", "--help"):
        return printing(task_overview(task))
    commands = {command.name: command for command in task.commands}
    if arguments[0] not in commands:
        has = did_you_mean(arguments[0], commands) or "; it has none"
        raise ConfigError(f"task {task.name!r} has no command {arguments[0]!r}{has}")
    return parse_command(f"visiontl {task.name}", commands[arguments[0]], arguments[1:])


def unknown_command(name: str) -> str:
    """Why no command of that name is there, and what may have been meant."""
    from visiontl import plugins
    from visiontl.config import ready

    names = [*plugins.commands(), *COMMANDS]
    if name in ready.runs() or Path(name).suffix in (".yaml", ".yml"):
        return f"no command {name!r}; to train that config: visiontl train {name}"
    if name.lower() in ("report", "results", "plot"):
        page = "each run has its page, RUN/report.html; `visiontl compare RUN RUN` makes one of several"
        return f"no command {name!r}; {page}"
    if (meant := CALLED.get(name.lower())) is not None:
        return f"no command {name!r}; did you mean {meant!r}?"
    near = did_you_mean(name, names)
    if near.startswith("; did"):
        return f"no command {name!r}{near}"
    try:
        plugins.task(name)
    except ConfigError as error:
        return f"no command {name!r} (commands: {', '.join(dict.fromkeys(names))}), and {error}"
    raise AssertionError(f"{name!r} is a task")


def printing(text: str) -> Call:
    """A call that only says something."""
    return Command("help", "", lambda parser: None, lambda given: tell(text, sys.stdout)), argparse.Namespace()


def overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: visiontl COMMAND ...",
        "",
        "Plugin-based, multi-task vision transfer learning.",
        "",
        "commands:",
        *(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()),
        f"  {'TASK':<{width}}  a task's own commands: visiontl TASK --help",
        "",
        "  visiontl COMMAND --help explains one; --debug shows the trace of an error; --version",
        "",
        f"installed plugins: {', '.join(plugin_names()) or 'none'}",
        "their commands: visiontl list commands",
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
    tell(message, sys.stderr)
