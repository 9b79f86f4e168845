"""What the parts have to show of a split, each under its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from visiontl import Pictures
from visiontl_multi.config import MultiConfig
from visiontl_multi.scores import of_part


@dataclass(frozen=True)
class Photos:
    """A part's ids -> photos."""

    image: Any
    ids: Sequence[int]

    @property
    def names(self) -> list[str]:
        names = getattr(self.image, "names", ())
        return [str(names[id]) for id in self.ids] if len(names) else []

    def __call__(self, id: int) -> Image.Image:
        return self.image(self.ids[id])


def report(cfg: MultiConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], image: Any) -> list[Any]:
    shown: list[Any] = []
    for name, part in cfg.tasks.items():
        ids, own = of_part(rows, name)
        if part.task.report is not None and own:
            items = part.task.report(part.section, own, meta["parts"][name]["meta"], Photos(image, ids))
            shown += [replace(item, title=f"{name}: {item.title}") for item in items]
    return shown


def preview(cfg: MultiConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], image: Any) -> Pictures:
    """The parts' previews in one; none where no part has one."""
    titles, items, captions = [], list[tuple[str, Any]](), []
    for name, part in cfg.tasks.items():
        ids, own = of_part(rows, name)
        if part.task.preview is None or not own:
            continue
        made = part.task.preview(part.section, own, meta["parts"][name]["meta"], Photos(image, ids))
        titles.append(f"{name}: {made.title}")
        captions += [made.caption] if made.caption else []
        items += [(f"{name}: {text}" if text else name, picture) for text, picture in made.items]
    return Pictures("; ".join(titles) or "nothing to preview", items, " ".join(captions))
