"""`python -m visiontl.runtime MODEL IMAGES...`: an exported model on photos, without torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from visiontl.errors import CheckpointError, ConfigError, DataError, explained, refused_by_disk, room_at
from visiontl.kit.folders import find_images
from visiontl.outlet import Outlet, guarded, say
from visiontl.report.values import json_value
from visiontl.runtime.model import Model, load
from visiontl.runtime.written import Written, new_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 2: a mistake of the user; 1: some photos could not be read, or another failure; 130:
    ^C; 141: nobody reads what is printed."""
    parser = argparse.ArgumentParser(prog="python -m visiontl.runtime", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="model.onnx as `visiontl export` wrote it, or its folder")
    parser.add_argument("rest", nargs="+", metavar="IMAGE | option=value", help="files, folders or globs; options")
    parser.add_argument(
        "--out", metavar="DIR", help="write predictions.jsonl, .csv and pictures there; else JSON lines"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of a prediction; default: all cores")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    given = parser.parse_args(argv)
    with guarded() as (out, _):
        try:
            code = predict(given, out)
        except (Exception, KeyboardInterrupt) as error:
            if given.debug:
                raise
            message, code = explained(error)
            say(message, sys.stderr)
        out.flush()
        return code or (code_of_lost(out.lost) if out.lost is not None else 0)


def code_of_lost(lost: Exception) -> int:
    """The exit code where answers could not be printed: as a shell has it for a reader that went away, else 1, said."""
    if isinstance(lost, BrokenPipeError):
        return 141
    say(f"error: what was asked for could not be printed ({lost})", sys.stderr)
    return 1


def predict(given: argparse.Namespace, out: Outlet) -> int:
    """out: where lines go without --out; once it takes no more, no further photo is asked about."""
    images = [word for word in given.rest if "=" not in word or Path(word).exists()]
    options = dict(option(word) for word in given.rest if word not in images)
    if not images:
        raise ConfigError("no images; name files, folders or globs behind the model")
    model = load(given.model, threads=given.threads)
    model.options(options)
    files, notes = find_images(images)
    for note in notes:
        print(note, file=sys.stderr)
    failed: dict[str, str] = {}
    if given.out is None:
        for file, prediction in predictions(model, list(files), options, failed):
            print(json.dumps(json_value({"file": str(file), **plain(prediction)}), allow_nan=False), flush=True)
            if out.lost is not None:
                break
    else:
        write(Written(new_folder(Path(given.out))), len(files), predictions(model, list(files), options, failed))
    for reason in failed.values():
        print(f"warning: {reason}", file=sys.stderr)
    return 1 if failed else 0


def write(written: Written, count: int, predicted: Iterator[tuple[Path, dict[str, Any]]]) -> None:
    """Raises CheckpointError for a disk that takes no more. What stopped it in the middle leaves the photos before it,
    which is said."""
    try:
        for file, prediction in predicted:
            written.add(file, prediction)
        written.finish()
    except BaseException as error:
        with suppress(Exception):  # the first error is the one to tell
            written.finish()
        done = len(written.records)
        say(f"warning: stopped before all were predicted: {done} of {count} are in {written.folder}", sys.stderr)
        if (why := refused_by_disk(error)) is None:
            raise
        room = room_at(written.folder)
        raise CheckpointError(
            f"{written.folder} cannot be written to: {why}, {room}; make room, then predict again into another --out"
        ) from None


def predictions(
    model: Model, files: Sequence[Path], options: dict[str, Any], failed: dict[str, str]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What cannot be read is added to `failed`, with the reason."""
    for file in files:
        try:
            yield file, model.predict(file, **options)
        except DataError as error:
            failed[str(file)] = str(error)


def plain(prediction: dict[str, Any]) -> dict[str, Any]:
    """Without pictures, which no line can hold."""
    return {key: value for key, value in prediction.items() if not hasattr(value, "getbands")}


def option(word: str) -> tuple[str, Any]:
    """name=value, the value in JSON, or a text."""
    name, _, value = word.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
