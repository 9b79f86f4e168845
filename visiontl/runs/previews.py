"""The pictures of each evaluation while training, with their captions: kept in `previews/`, read for the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

from visiontl.kit.charts import spread
from visiontl.report.console import Console
from visiontl.report.items import Pictures
from visiontl.runs.files import read_text, write_text

FOLDER = "previews"
STEPS = 6  # at which a picture is shown


def save_previews(folder: Path, step: int, shown: Pictures, console: Console) -> None:
    """Keep the pictures of one evaluation; a resumed run writes the same files again. A full disk is said aloud."""
    place = folder / FOLDER
    try:
        place.mkdir(exist_ok=True)
        for index, (_, picture) in enumerate(shown.items):
            file = place / f"step-{step:08d}-{index:02d}.jpg"
            file.unlink(missing_ok=True)  # a link is not written through
            picture.convert("RGB").save(file, quality=90)
        words = {
            "title": str(shown.title),
            "caption": str(shown.caption),
            "items": [str(text) for text, _ in shown.items],
        }
        write_text(place / f"step-{step:08d}.json", json.dumps(words, indent=1))
    except OSError as error:
        console.warn(f"previews of step {step} could not be saved ({error}); training goes on")


def read_previews(folder: Path) -> list[Pictures]:
    """What was kept, each with its step and its own caption: the first picture of each step, then the second. Of many
    steps STEPS from the first to the last are chosen. What is left out, and what cannot be read, is counted in the
    caption."""
    items: list[tuple[str, Image.Image]] = []
    words: dict[str, dict[str, Any]] = {}
    unread = 0
    named = [re.fullmatch(r"step-(\d+)-(\d+)", file.stem) for file in (folder / FOLDER).glob("step-*.jpg")]
    kept = sorted((found[2], found[1]) for found in named if found is not None)  # the others are no files of a run
    shown = set(spread(sorted({step for _, step in kept}), STEPS))
    for index, step in kept:
        if step not in shown:
            continue
        file = folder / FOLDER / f"step-{step}-{index}.jpg"
        if step not in words:
            words[step] = _words(folder / FOLDER / f"step-{step}.json")
        texts = words[step].get("items")
        text = str(texts[int(index)]) if isinstance(texts, list) and int(index) < len(texts) else ""
        try:
            if not file.is_file():  # a pipe would be waited for
                raise OSError("it is no plain file")
            with Image.open(file) as picture:
                items.append((f"step {int(step)}" + (f": {text}" if text else ""), picture.copy()))
        except (OSError, ValueError, SyntaxError):  # Pillow's words for a file that is damaged
            unread += 1
    if not items:
        return []
    newest = next((words[step] for step in sorted(words, reverse=True) if words[step]), {})
    title = f"How it grew: {newest['title']}" if newest.get("title") else "How it grew"
    said = [str(newest.get("caption") or ""), f"{unread} more cannot be read." if unread else ""]
    left_out = sum(step not in shown for _, step in kept)
    said.append(f"{left_out} more are in the folder {FOLDER}." if left_out else "")
    return [Pictures(title, items, " ".join(filter(None, said)))]


def _words(file: Path) -> dict[str, Any]:
    """What was said of the pictures of a step; nothing where it is gone, as in a run of an older version."""
    try:
        found = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
