"""What can go wrong, in words. Every error says what was given, what was expected and what to do."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# How names were spelled in visiontl before they followed the libraries: {pattern of a stem: what it is now}
RESPELLED = {
    "colour": "color", "normalis": "normaliz", "optimis": "optimiz", "equalis": "equaliz", "stylis": "styliz",
    "licence": "license", "centred": "centered", "centre": "center", "grey": "gray", r"enrol(?!l)": "enroll",
}  # fmt: skip


# What a name may hold that steers a terminal or turns the direction of writing: only tab and newline are let through
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
WIDEST = 1800  # characters of a line of an error


def clean(text: str) -> str:
    """Control characters written out, so that a file's name cannot steer the terminal."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def sentence(text: str, lines: Iterable[str] = ()) -> str:
    """`clean` text in one line, below it those of `lines`, indented. A new line within any of them is written out: it
    is a name's, and could begin a line that looks like ours."""
    one = clean(text.rstrip("\n")).replace("\n", "\\n")
    return "\n".join([one, *(f"  {sentence(line)}" for line in lines)])


class VisionTLError(Exception):
    """The base of all errors that are the user's to mend. The command line and notebooks print it without a trace.

    Its text is a `sentence` that can be read, whatever the names of files and keys in it hold. lines: what stands
    below the sentence, a line each."""

    exit_code = 2

    def __init__(self, *said: object, lines: Iterable[object] = ()):
        heads = [shortened(sentence(str(one)), WIDEST) for one in said] or [""]
        heads[-1] = sentence(heads[-1], (shortened(sentence(str(line)), WIDEST - 2) for line in lines))
        super().__init__(*heads if said else ())

    def __format__(self, spec: str) -> str:
        """Within another sentence it is one line: `list.csv: 2 errors: one; two`."""
        head, *below = str(self).split("\n")
        told = "; ".join(line.strip().removeprefix("- ") for line in below)
        return format(f"{head}: {told}" if told else head, spec)

    def __reduce__(self) -> tuple[Any, ...]:
        """From another process as it was: its lines are its own."""
        return _again, (type(self), self.args, self.__dict__)

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in the place of its trace; `%tb` and `%debug` still have that."""
        return [f"{type(self).__name__}: {self!s}"]


def _again(kind: type[VisionTLError], said: tuple[str, ...], held: Mapping[str, Any]) -> VisionTLError:
    error = kind.__new__(kind, *said)
    error.__dict__.update(held)
    return error


class ConfigError(VisionTLError):
    """One or several mistakes in a config; `problems` holds them all. The message explains the first ones, a line
    each, and names the others in one line more."""

    shown = 10  # lines
    width = 500  # characters of a line

    def __init__(self, problems: str | Sequence[str], where: str | None = None):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.where = where
        count = len(self.problems)
        head = f"{where}: " if where else ""
        if count == 1:
            super().__init__(head + shortened(self.problems[0], self.width))
        else:
            lines = [f"- {shortened(line, self.width)}" for line in self.problems[: self.shown]]
            if count > self.shown:
                prefix = f"{where}:"
                others = [line.removeprefix(prefix).split(": ", 2) for line in self.problems[self.shown :]]
                named = ", ".join(": ".join(parts[:2]).strip() for parts in others)
                lines.append(f"- and {count - self.shown} more: {shortened(named, 3 * self.width)}")
            super().__init__(head + f"{count} errors", lines=lines)


class DataError(VisionTLError):
    """A folder, list or picture that cannot be used; the message names it."""


class WeightsError(VisionTLError):
    """A weights file that does not fit, cannot be read, or would run code."""


class BackboneError(VisionTLError):
    """A backbone that is unknown, or that cannot serve what a task asks of it."""


class PolicyError(VisionTLError):
    """A freezing policy that is unknown, does nothing, or leaves nothing to train."""


class PluginError(VisionTLError):
    """A plugin that is missing, broken, or clashes with another."""


class CheckpointError(VisionTLError):
    """A run folder, checkpoint or exported model that cannot be read or continued."""


class TrainingError(VisionTLError):
    """Training cannot go on: a loss that is not finite, ranks that disagree."""

    exit_code = 1


class RankFailed(TrainingError):
    """Another rank raised an error or died. said: this rank has told so already."""

    def __init__(self, message: str, said: bool = False):
        super().__init__(message)
        self.said = said


class Stopped(VisionTLError):
    """Training was asked to stop, and saved itself: no failure, and to be continued."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: the same command may well succeed later


# What a disk answers that takes no more: full, over a quota or a limit, made read-only, broken
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def refused_by_disk(error: BaseException) -> str | None:
    """What the disk said, such as `No space left on device`; None for an error of another kind."""
    number = error.errno if isinstance(error, OSError) else None
    if type(error).__name__ == "SafetensorError":  # which has its number in its words
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else None
    return os.strerror(number) if number in DISK else None


def room_at(place: Path) -> str:
    """How many bytes are free on the disk of a place, which need not exist: `3,214 bytes are free there`."""
    whole = Path(os.path.abspath(place))
    with suppress(OSError, ValueError):
        above = next(one for one in (whole, *whole.parents) if os.path.exists(one))
        return f"{shutil.disk_usage(above).free:,} bytes are free there"
    return "how many bytes are free there is not known"


# What the system refuses, and what to do then
MENDED = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "; make room on that disk, then run it again"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "; let more files be open (ulimit -n 4096), then run it again"),
    **dict.fromkeys((errno.EROFS, errno.EIO), "; see to that disk, then run it again"),
    errno.ENOMEM: "; let more memory be used (ulimit -v), or try a smaller train.batch_size with train.accumulate",
    errno.EAGAIN: "; let more processes run (ulimit -u), or take fewer loader.workers",
}

# of torch, oneDNN and Python
NO_MEMORY = re.compile(
    "can't allocate memory|bad_alloc|[Cc]annot allocate|could not create a (primitive|memory)|new thread"
)


def explained(error: BaseException) -> tuple[str, int]:
    """(the sentence for an error, the exit code that goes with it)"""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, Stopped):  # on every rank at once
        return str(error), error.exit_code
    if isinstance(error, VisionTLError):
        return f"error: {error!s}", error.exit_code
    if isinstance(error, OSError) and (error.filename is not None or error.errno in MENDED):
        place = f"{error.filename}: " if error.filename is not None else ""
        return sentence(f"error: {place}{error.strerror}{MENDED.get(error.errno or 0, '')}"), 2
    if refused := refused_by_disk(error):
        return sentence(f"error: {refused}{MENDED[errno.ENOSPC]}"), 2
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        said = " ".join(str(error).split())[:200]
        return f"error: no memory is left{f' ({said})' if said else ''}{MENDED[errno.ENOMEM]}", 1
    return f"error: {describe(error)}", 1


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
    place = ", ".join([place, *getattr(error, "__notes__", ())])  # a task's step says whose it was
    return f"{type(error).__name__}: {text} ({place}){hint}; run again with --debug for the trace"


def shortened(text: str, width: int) -> str:
    """Text in one line of at most `width` characters, the middle left out where it is longer."""
    text = " ".join(text.splitlines())
    half = (width - 5) // 2
    return text if len(text) <= width else f"{text[:half]} ... {text[-half:]}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) < 200 else text[:200] + " ..."


def closest(name: str, options: Iterable[str], count: int = 3) -> list[str]:
    """The options nearest to `name` in spelling, best first."""
    options = [str(option) for option in options]
    lowered = {option.lower(): option for option in reversed(options)}
    if name.lower() in lowered:
        return [lowered[name.lower()]]
    found = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.6)
    return [lowered[match] for match in found]


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the list of options where none is near and the list is short; `; it is 'x' now` for an
    option under its old spelling."""
    options = sorted({shortened(str(option), 120) for option in options})
    if (now := respelled(name)) != name and now in options:
        return f"; it is {now!r} now"
    near = closest(name, options)
    if near:
        return f"; did you mean {' or '.join(repr(n) for n in near)}?"
    if 0 < len(options) <= 12:
        return f"; choose from {', '.join(options)}"
    return ""


def respelled(name: str) -> str:
    """A name under its old spelling -> as it is spelled now; any other as it is."""
    for stem, now in RESPELLED.items():
        name = re.sub(stem, now, name)
    return name
