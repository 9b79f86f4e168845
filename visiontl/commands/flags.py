"""Flags that a command does not have: which of its own words, or which key of the config, is meant."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontl.commands.arguments import ASSIGNED
from visiontl.errors import ConfigError, VisionTLError, did_you_mean
from visiontl.task import Command

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

# What other programs call a flag of ours, and what stands here without a name
FLAGS = {
    "--quiet": "silent",
    "--out": "output output_dir out_dir outdir save_dir o",
    "--split": "splits",
    "--no-pictures": "no_save nosave no_draw",
    "--dry-run": "dry smoke fast_dev_run",
}
PLACES = {
    "CONFIG": "config cfg conf yaml c",
    "RUN": "run model weights checkpoint ckpt m w",
    "DATA": "data dataset data_dir data_path root d",
    "IMAGE": "image images img input source src i path",
}
YES = ("true", "false", "yes", "no", "on", "off")


@dataclass(frozen=True)
class Flag:
    """name: as it stands. value: behind it or behind its =, None where there is none; words: how many it takes."""

    name: str
    value: str | None
    words: int


@dataclass
class Reading:
    """A command line with flags that are none. said: what is wrong, a sentence each; words: the line as it should be;
    whole: whether it then says all that was asked."""

    parser: argparse.ArgumentParser
    command: Command
    arguments: Sequence[str]
    keys: Mapping[str, FieldInfo | None]
    assigns: str
    said: list[str] = field(default_factory=list[str])
    words: list[str] = field(default_factory=list[str])
    whole: bool = True

    def mean(self, given: Flag, hint: str, words: Sequence[str] | None, read: int) -> int:
        """hint: behind the flag's name; words: what stands in its place, None where that is unknown. Returns `read`."""
        self.said.append(f"unknown argument {given.name!r}; {hint}")
        self.whole = self.whole and bool(words)
        self.words += words or []
        return read

    @property
    def flags(self) -> dict[str, argparse.Action]:
        return {flag: action for action in self.parser._actions for flag in action.option_strings}

    def place(self, word: str) -> str | None:
        """Which of what stands without a name (CONFIG, RUN, DATA ...) is called so."""
        for action in (one for one in self.parser._actions if not one.option_strings):
            for metavar in (found := str(action.metavar or action.dest)).split(" | "):
                if word in (metavar.lower(), *PLACES.get(metavar, "").split()) or (word, metavar) == (
                    action.dest,
                    found,
                ):
                    return metavar
        return None

    @property
    def usage(self) -> str:
        return " ".join(self.parser.format_usage().split())

    @property
    def line(self) -> str:
        return shlex.join([*self.parser.prog.split(), *self.words])


def refuse_unknown_flags(parser: argparse.ArgumentParser, command: Command, arguments: Sequence[str]) -> None:
    """Raise ConfigError for flags that the command does not have, with the line that was meant."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    takes = {flag for flag, action in flags.items() if action.nargs != 0}
    unknown = [
        i
        for i, word in enumerate(arguments[:end])
        if word[:1] == "-" and not known_flag(word, flags) and (i == 0 or arguments[i - 1] not in takes)
    ]
    if not unknown:
        return
    keys, assigns = keys_of(parser, command, arguments)
    reading = Reading(parser, command, arguments, keys, assigns)
    i = 0
    while i < len(arguments):
        if i in unknown:
            i += read_flag(reading, i)
        else:
            reading.words.append(arguments[i])
            i += 1
    raise ConfigError(sentence(reading))


def known_flag(word: str, flags: Mapping[str, Any]) -> bool:
    """Whether argparse will know it; numbers and several short flags in one word too."""
    name = word.partition("=")[0]
    together = re.fullmatch(r"-([A-Za-z]{2,})", word)
    return (
        name in flags
        or word == "-"
        or re.match(r"-[\d.]", word) is not None
        or (together is not None and all(f"-{letter}" in flags for letter in together[1]))
    )


def keys_of(
    parser: argparse.ArgumentParser, command: Command, arguments: Sequence[str]
) -> tuple[dict[str, FieldInfo | None], str]:
    """({key: its field}, what a word that sets one is called) of the `name=value` words that the command takes: its
    options, those of a run's task, or the keys of a config."""
    if command.options is not None:
        return dict(command.options.model_fields), "option"
    metavars = " | ".join(str(action.metavar) for action in parser._actions)
    free = [word for word in arguments if word[:1] != "-" and not ASSIGNED.match(word)]
    if "option=value" in metavars:
        from visiontl.commands.predict import task_of

        for word in free:
            with suppress(VisionTLError, OSError):
                if (task := task_of(word)) is not None and task.options is not None:
                    return dict(task.options.model_fields), "option"
        return {}, "option"
    return (config_keys(free), "key") if "a.b=c" in metavars else ({}, "")


def config_keys(words: Sequence[str]) -> dict[str, FieldInfo | None]:
    """The keys of a config: the core's, and those of the task that a word names by its config or run."""
    from visiontl import plugins
    from visiontl.config.meant import settable
    from visiontl.config.resolve import task_name
    from visiontl.config.schema import Config

    found: dict[str, FieldInfo | None] = {".".join(key): info for key, info in settable(Config) if key != ("task",)}
    found["task.name"] = None
    for word in words:
        inside = (Path(word, "model", "config.yaml"), Path(word, "config.yaml"))
        place = next((file for file in inside if file.is_file()), word)
        with suppress(VisionTLError, OSError):
            task = plugins.task(task_name(place))
            return found | {".".join(key): info for key, info in settable(task.config, ("task",))}
    return {**found, "task.data": None}


def read_flag(reading: Reading, i: int) -> int:
    """Say what is meant by the flag at `i`. Returns how many words were read: a value behind it is its own."""
    from visiontl.config.meant import elsewhere, keys_called, keys_near, plain

    flag, equals, inline = reading.arguments[i].partition("=")
    behind = reading.arguments[i + 1] if i + 1 < len(reading.arguments) else "-"
    follows = not equals and not re.match(r"-(?![\d.])", behind) and not ASSIGNED.match(behind)
    given = Flag(flag, inline if equals else behind if follows else None, 2 if follows else 1)
    word = plain(flag)
    if place := reading.place(word):
        hint = f"{place} stands without a name: {reading.usage}"
        return reading.mean(given, hint, [given.value or place], given.words)
    if own := next((own for own, words in FLAGS.items() if own in reading.flags and word in words.split()), None):
        takes = reading.flags[own].nargs != 0
        line = [own, given.value or "VALUE"] if takes else [own]
        return reading.mean(given, f"did you mean {own!r}?", line, given.words if takes else 1)
    if word not in reading.keys and (told := elsewhere(flag)):
        return reading.mean(given, told, [], given.words)
    if keys := keys_called(flag, reading.keys) or keys_called(flag.replace("--no-", "--"), reading.keys):
        return write_key(reading, given, keys)
    near = did_you_mean(flag, reading.flags).removeprefix("; ")
    if not near.startswith("did") and (keys := keys_near(flag, reading.keys)):
        if reading.assigns == "option":
            return reading.mean(given, f"did you mean the option {keys[0]}=VALUE?", None, given.words)
        return write_key(reading, given, keys)
    if "." in flag:
        near = f"write {flag.lstrip('-')}={given.value or 'VALUE'}"
    elif reading.assigns == "key" and not near.startswith("did"):
        near = "no key of the config is called so either: `visiontl config CONFIG` prints them all"
    return reading.mean(given, near or f"see `{reading.parser.prog} --help`", None, given.words)


def write_key(reading: Reading, given: Flag, keys: Sequence[str]) -> int:
    """The flag as the `name=value` that is meant; of several keys the likeliest few are named."""
    info = reading.keys[keys[0]]
    word, value, words = given.name.lstrip("-").replace("-", "_").lower(), given.value, given.words
    switch = info is not None and info.annotation is bool
    if switch and (value or "yes").lower() not in YES:  # the word behind is none of its own
        value, words = None, 1
    if switch and value is None:
        value = "false" if word.startswith("no_") else "true"
    if keys[0] == "train.precision" and word in ("fp16", "bf16", "fp32", "half", "amp") and value is None:
        value = {"half": "fp16", "amp": "bf16"}.get(word, word)
    if keys[0] == "backbone.weights" and (value or "yes").lower() in YES:
        value = "none" if (value or "").lower() in ("false", "no", "off") or word.startswith("no_") else "default"
    value = value or {"resume": "auto"}.get(keys[0], "VALUE")
    written = f"{keys[0]}={value}"
    if reading.assigns == "option":
        return reading.mean(given, f"it is an option: {keys[0]}=VALUE", [written], words)
    others = f", or one of {', '.join(keys[1:5])}" if len(keys) > 1 else ""
    return reading.mean(given, f"write {written}{others}", [written], words)


def sentence(reading: Reading) -> str | list[str]:
    """What is wrong with the line, and the line that was meant where it can be said whole."""
    if not reading.whole:
        return reading.said
    if len(reading.said) > 1 and not all("; write " in line for line in reading.said):
        return [*reading.said, f"in one line: `{reading.line}`"]
    if len(reading.said) > 1:
        names = ", ".join(line.split("; ")[0].removeprefix("unknown argument ") for line in reading.said)
        return f"unknown arguments {names}; write `{reading.line}`"
    [said] = reading.said
    return said if reading.usage in said else f"{said}{'' if said.endswith('?') else ':'} `{reading.line}`"
