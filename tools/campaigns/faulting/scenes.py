"""A fault, where it happens, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from visiontl.testing.case import Case

Plant = Callable[["Scene", int], None]  # (scene, rank): called in each process before the command


@dataclass(frozen=True)
class Scene:
    """Where a fault happens. disk: the folder of the run, on a disk of its own where one is mounted. marker: what stood
    when the fault came."""

    case: Case
    folder: Path
    disk: Path
    mounted: bool

    @property
    def run(self) -> Path:
        return self.disk / "runs/run"

    @property
    def marker(self) -> Path:
        return self.folder / "stood.json"

    def pictures(self) -> list[Path]:
        """Pictures of the data, those of the train split where a folder or a list says so."""
        found = sorted((self.case.folder / "runs").glob("example-*/**/*"))
        found = [one for one in found if one.suffix in (".png", ".jpg") and "mask" not in str(one)]
        return [one for one in found if "train" in str(one)] or found


@dataclass(frozen=True)
class Fault:
    """family: of which kind; what: in words. plant: brings it about. mend: takes it away before the run is resumed.
    needs: "disk", "shm" or nothing. same: whether a run that goes on ends with the bits of one without a fault. words:
    more of the command line; command: what is run in the place of training."""

    family: str
    what: str
    task: str
    plant: Plant
    mend: Callable[[Scene], None] = lambda scene: None
    processes: int = 1
    workers: int = 0
    needs: str = ""
    same: bool = True
    command: str = "train"
    twice: bool = False  # two processes begin at once
    begun: bool = False  # the run has been killed on its way before

    @property
    def name(self) -> str:
        return f"{self.family}: {self.what} ({self.task}, {self.processes} and {self.workers}, {self.command})"


@dataclass
class Result:
    """ended: the words in which the run ended, or that it went on; resumed: how it ended once the fault was mended."""

    fault: str
    family: str
    what: str
    task: str
    command: str
    processes: int
    code: int | None = None
    seconds: float = 0.0
    ended: str = ""
    resumed: str = ""
    problems: list[str] = field(default_factory=list)


def nothing(scene: Scene, rank: int) -> None:
    """No fault."""
