"""Pictures of a report: inside the page at a size that keeps it small, and as larger files beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from visiontl.report.items import Pictures

THUMBNAIL = 420  # pixels, longer side of a picture inside the report where there are many
FEW, LARGER = 12, 900  # so many pictures of one grid, and the longer side of each
PICTURE = 2000  # pixels, longer side of a picture's file
TINY = 64  # pixels, longer side up to which a picture is shown with its pixels seen
SHOWN = 60  # pictures of one grid inside the report; the others are files only
HEIGHT, TALLEST = 11.0, 24.0  # rem: how high a small and a large picture would like to stand
WIDEST = 37.0  # rem: from which width on a large picture is no higher, so that two stand in the row of 1280 pixels


def picture_grid(
    item: Pictures, folder: Path, name: str, write: Callable[[Path, bytes], None], problem: Callable[[str], None]
) -> dict[str, Any]:
    """The item, ready for the template, each picture written as folder/NAME-NUMBER.png."""
    shown: list[dict[str, Any]] = []
    width = len(str(len(item.items)))
    side = LARGER if len(item.items) <= FEW else THUMBNAIL
    for index, (caption, image) in enumerate(item.items):
        try:
            image = plain_mode(image)
            large = image.copy()
            large.thumbnail((PICTURE, PICTURE))
            data = io.BytesIO()
            large.save(data, "PNG")
            file = f"{name}-{index + 1:0{width}}.png"
            write(folder / file, data.getvalue())
            if len(shown) < SHOWN:
                shown.append(
                    {
                        "caption": str(caption),
                        "uri": thumbnail(large, side),
                        "tiny": max(image.size) <= TINY,
                        "file": f"{folder.name}/{file}",
                        "aspect": f"{min(8.0, max(0.2, image.width / max(image.height, 1))):.3f}",
                        "height": f"{height(image.size):.1f}",
                    }
                )
        except Exception as error:
            problem(
                f"picture {index + 1} of '{item.title}' could not be drawn: {type(error).__name__}: {error}",
            )
    large_ones = any(float(one["height"]) > HEIGHT for one in shown)
    whole = len(shown) > 3 or large_ones or sum(float(one["aspect"]) for one in shown) > 3
    return {"kind": "pictures", "pictures": shown, "left_out": max(0, len(item.items) - SHOWN), "whole": whole}


def height(size: tuple[int, int]) -> float:
    """How high (rem) a picture of (W, H) pixels would like to stand: a sheet of many parts is shown larger."""
    share = min(1.0, max(0.0, (max(size) - THUMBNAIL) / (LARGER - THUMBNAIL)))
    return max(HEIGHT, min(HEIGHT + share * (TALLEST - HEIGHT), WIDEST * size[1] / max(size[0], 1)))


def plain_mode(image: Any) -> Any:
    """A PIL image in a mode that both PNG and a browser know."""
    mode = image.mode if image.mode in ("L", "RGB", "RGBA", "P") else "RGB"
    return image if image.mode == mode else image.convert(mode)


def thumbnail(image: Any, side: int = THUMBNAIL) -> str:
    """Data URI of a JPEG with a longer side of at most `side` pixels; PNG if tiny or see-through."""
    image = image.copy()
    tiny = max(image.size) <= TINY
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    image.thumbnail((side, side))
    kind = "PNG" if tiny or image.mode == "RGBA" else "JPEG"
    data = io.BytesIO()
    image.save(data, kind, **({"quality": 82} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
