"""What `visiontl explain` writes: for each photo a picture, the heat, the map, and a line of what was explained."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visiontl.engine.explain import Explainer, Explanation
from visiontl.engine.predict import Predictor, check_no_runs, load, stopped
from visiontl.engine.predictions import out_folder
from visiontl.errors import ConfigError, DataError
from visiontl.kit.folders import find_images
from visiontl.kit.words import count, told
from visiontl.processes import launch
from visiontl.report.console import Console
from visiontl.runs import folders
from visiontl.runs.environment import run_folder
from visiontl.runs.files import write_text, writing
from visiontl.runtime.written import Names, append_whole, save_picture

SHOWN = 5  # explanations that the console lists


@dataclass
class Written:
    """Explanations as they come: each is a line of explanations.jsonl before the next one is made.

    records: of the photos so far. failed: file -> why it has none.
    """

    folder: Path
    records: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    taken: Names = field(default_factory=Names)

    def add(self, file: Path, found: Explanation) -> None:
        name = self.taken.free(file)
        places = {kind: f"{kind}/{name}{ending}" for kind, ending in (("pictures", ".jpg"), ("heat", ".png"))}
        places["maps"] = f"maps/{name}.npy"
        for place in places.values():
            (self.folder / place).parent.mkdir(exist_ok=True)
        save_picture(found.beside(told(file.name)), self.folder / places["pictures"])
        Image.fromarray((found.heat * 255).round().astype(np.uint8)).save(self.folder / places["heat"])
        np.save(self.folder / places["maps"], found.cam, allow_pickle=False)
        record = {
            "file": str(file),
            "explained": found.words,
            "score": found.score,
            "method": found.method,
            "stages": list(found.stages),
            "shown": list(found.shown),
            "box": None if found.box is None else list(found.box),
            "empty": found.empty,
            "picture": places["pictures"],
            "heat": places["heat"],
            "map": places["maps"],
        }
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        append_whole(self.folder / "explanations.jsonl", line.encode("utf-8", "backslashreplace"))
        self.records.append(record)


def explain_files(
    run: str | Path,
    images: Sequence[str | Path],
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Explain files, folders and globs, one photo at a time; write explanations.jsonl, pictures/NAME.jpg (photo and
    heat), heat/NAME.png (8 bits, of the photo's pixels) and maps/NAME.npy ((h, w) float32, the map behind it).

    A photo that cannot be read, or has nothing to explain, is counted and named, and the others go on. Two photos of a
    task that compares photos are explained by each other. Returns {"folder", "explained", "failed": {file: reason}}.
    """
    if launch.world_size() > 1:
        raise ConfigError("explain runs on one process (each would write every file); start it without a launcher")
    console = Console()
    check_no_runs(images)
    predictor = load(run)
    found, notes = find_images(images, suffixes=predictor.opener.suffixes)
    files = list(found)
    for note in notes:
        console.say(note)
    explainer = Explainer(predictor.built, predictor.accelerator)
    asked = [explainer.parse({**(options or {}), **more}) for more in counterparts(explainer, files, options or {})]
    folder = out_folder(Path(out)) if out is not None else run_folder(folders.outputs(Path(run)), "explain")
    written = Written(folder)
    with writing(folder, "make room, then explain again into another --out"), predictor.reading():
        try:
            explain_each(predictor, explainer, zip(files, asked, strict=True), written, console)
        except BaseException:
            stopped(folder, "explained", (len(written.records), len(files)), console)
            raise
    say(written, console)
    if not written.records:
        first = next(iter(written.failed.values()), "no reason is known")
        named = folder / "not_explained.json"
        raise DataError(f"none of {count(len(files), 'image')} could be explained; {named} names them; first: {first}")
    return {"folder": str(folder), "explained": len(written.records), "failed": written.failed}


def explain_each(
    predictor: Predictor, explainer: Explainer, asked: Iterable[tuple[Path, Any]], written: Written, console: Console
) -> None:
    """Each file as it was asked; what has no explanation is added to `written.failed`."""
    asked = list(asked)
    with console.progress(total=len(asked), unit="image", what="explain") as bar:
        for done, (file, wanted) in enumerate(asked, start=1):
            try:
                written.add(file, explainer.explain(predictor.opener(file), wanted))
            except DataError as error:
                written.failed[str(file)] = str(error)
                console.warn(str(error) if str(file) in str(error) else f"{told(file)}: {error}")
            bar.update(done, images=1)


def counterparts(explainer: Explainer, files: Sequence[Path], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is asked of each file beside the options: of a task that compares two photos, and two photos, the other."""
    if "other" in explainer.options.model_fields and "other" not in options and len(files) == 2:
        return [{"other": str(files[1])}, {"other": str(files[0])}]
    return [{} for _ in files]


def say(written: Written, console: Console) -> None:
    failed = f", {count(len(written.failed), 'image')} not" if written.failed else ""
    console.say(f"{len(written.records)} explained{failed}")
    for record in written.records[:SHOWN]:
        nothing = "; nothing in the photo raises it" if record["empty"] else ""
        console.say(f"  {told(record['file'])}: {record['explained']}{nothing}")
    if written.failed:
        write_text(written.folder / "not_explained.json", json.dumps(written.failed, indent=1, ensure_ascii=False))
    console.say(f"written to {written.folder}")
