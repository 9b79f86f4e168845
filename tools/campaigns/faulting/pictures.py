"""Pictures that become something else while a run reads them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tools.campaigns.faulting.moments import at_update
from tools.campaigns.faulting.scenes import Plant, Scene


def changed_picture(kind: str, update: int) -> tuple[Plant, Callable[[Scene], None]]:
    """All pictures but the first become something else after an update; they come back."""

    def keep(scene: Scene) -> Path:
        return scene.folder / "kept"

    def change(scene: Scene) -> None:
        keep(scene).mkdir()
        for number, picture in enumerate(others(scene)):
            shutil.copy2(picture, keep(scene) / str(number))
            picture.unlink()
            if kind == "garbage":
                picture.write_bytes(os.urandom(5000))
            elif kind == "of 100 megapixels":
                Image.new("1", (10_000, 10_000)).save(picture, "PNG")
            elif kind == "cut short":
                picture.write_bytes((keep(scene) / str(number)).read_bytes()[:200])
            elif kind == "a pipe":
                os.mkfifo(picture)
            if kind in ("of 100 megapixels", "a pipe"):  # one is enough
                break

    def plant(scene: Scene, rank: int) -> None:
        if rank == 0:
            at_update(scene, update, lambda: change(scene))

    def mend(scene: Scene) -> None:
        for number, picture in enumerate(others(scene)):
            if (keep(scene) / str(number)).exists():
                picture.unlink(missing_ok=True)
                shutil.copy2(keep(scene) / str(number), picture)

    return plant, mend


def others(scene: Scene) -> list[Path]:
    """The pictures but the first, also those that are gone."""
    return [Path(line) for line in (scene.folder / "pictures.txt").read_text().splitlines()][1:]
