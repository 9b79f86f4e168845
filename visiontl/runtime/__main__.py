"""`python -m visiontl.runtime MODEL IMAGES...`: an exported model on photos, without torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from visiontl.errors import ConfigError, DataError, VisionTLError
from visiontl.kit.folders import find_images
from visiontl.report.values import json_value
from visiontl.runtime.model import Model, load
from visiontl.runtime.written import Written, new_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 2: a mistake of the user; 1: some photos could not be read."""
    parser = argparse.ArgumentParser(prog="python -m visiontl.runtime", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="model.onnx as `visiontl export` wrote it, or its folder")
    parser.add_argument("rest", nargs="+", metavar="IMAGE | option=value", help="files, folders or globs; options")
    parser.add_argument(
        "--out", metavar="DIR", help="write predictions.jsonl, .csv and pictures there; else JSON lines"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of a prediction; default: all cores")
    given = parser.parse_args(argv)
    try:
        return predict(given)
    except VisionTLError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def predict(given: argparse.Namespace) -> int:
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
    else:
        written = Written(new_folder(Path(given.out)))
        try:
            for file, prediction in predictions(model, list(files), options, failed):
                written.add(file, prediction)
        finally:
            written.finish()
    for reason in failed.values():
        print(f"warning: {reason}", file=sys.stderr)
    return 1 if failed else 0


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
