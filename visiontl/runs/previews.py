"""The pictures of each evaluation while training, with their captions: kept in `previews/`, read for the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

from visiontl.report.console import Console
from visiontl.report.items import Pictures
from visiontl.runs.files import write_text

FOLDER = "previews"


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
    """All that was kept, in the order of the steps, each with its step and its own caption. What cannot be read is
    counted in the caption."""
    items: list[tuple[str, Image.Image]] = []
    words: dict[str, dict[str, Any]] = {}
    unread = 0
    for file in sorted((folder / FOLDER).glob("step-*.jpg")):
        named = re.fullmatch(r"step-(\d+)-(\d+)", file.stem)
        if named is None:  # no file of a run
            continue
        step, index = named.groups()
        if step not in words:
            words[step] = _words(folder / FOLDER / f"step-{step}.json")
        texts = words[step].get("items")
        text = str(texts[int(index)]) if isinstance(texts, list) and int(index) < len(texts) else ""
        try:
            with Image.open(file) as picture:
                items.append((f"step {int(step)}" + (f": {text}" if text else ""), picture.copy()))
        except (OSError, ValueError, SyntaxError):  # Pillow's words for a file that is damaged
            unread += 1
    if not items:
        return []
    newest = next((found for found in reversed(list(words.values())) if found), {})
    title = f"How it grew: {newest['title']}" if newest.get("title") else "How it grew"
    said = [str(newest.get("caption") or ""), f"{unread} more cannot be read." if unread else ""]
    return [Pictures(title, items, " ".join(filter(None, said)))]


def _words(file: Path) -> dict[str, Any]:
    """What was said of the pictures of a step; nothing where it is gone, as in a run of an older version."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
