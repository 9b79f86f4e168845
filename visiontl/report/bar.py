"""How far a loop has come and how fast it goes, in words. Imports no torch."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from visiontl.report.formats import duration, is_number, labeled

WINDOW = 100  # updates over which images per second are measured
SLOW = 10.0  # seconds after which a short bar is worth a line in a log file


def _moments() -> deque[tuple[float, int, int]]:
    return deque(maxlen=WINDOW + 1)


@dataclass
class Bar:
    """A running count of updates. `update` costs about a microsecond where it writes nothing.

    total: updates when all is done, None where unknown. step: how many are done. epochs: of the whole run; each has
    total / epochs updates. what: names a short bar ('val').
    write: where lines go, None where a terminal draws the bar. every: updates between two lines.
    seen: is called after each update, where a notebook draws the bar.
    images_per_second: over the last updates, without the first one and without time spent in bars inside.
    """

    total: int | None
    step: int = 0
    unit: str = "step"
    every: int = 1
    epochs: int | None = None
    what: str = ""
    write: Callable[[str], None] | None = None
    seen: Callable[[], None] | None = None
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    began: float = field(default_factory=lambda: time.perf_counter())
    paused: float = 0.0  # seconds spent in bars inside this one
    _images: int = 0
    _window: deque[tuple[float, int, int]] = field(default_factory=_moments)  # (seconds, step, images)
    _written: int = field(init=False)  # the step of the newest line

    def __post_init__(self) -> None:
        self._written = self.step

    def update(self, step: int, images: int = 0, values: Mapping[str, float] | None = None) -> None:
        """step: how many are done; images: taken by this update, on all processes together."""
        self.step = step
        self._images += images
        self._window.append((time.perf_counter() - self.paused, step, self._images))
        if values:
            self.values = dict(values)
        if self.write is not None and not self.what and (step % max(1, self.every) == 0 or step == self.total):
            self._written = step
            self.write(self.line())
        if self.seen is not None:
            self.seen()

    @property
    def images_per_second(self) -> float | None:
        """None until two updates were seen."""
        if len(self._window) < 2:
            return None
        (begin, _, before), (end, _, after) = self._window[0], self._window[-1]
        return (after - before) / (end - begin) if end > begin else None

    @property
    def remaining(self) -> float | None:
        """Seconds to go: the last updates' pace, with the share of time spent in bars inside (evaluation)."""
        if self.total is None or len(self._window) < 2:
            return None
        (begin, before, _), (end, after, _) = self._window[0], self._window[-1]
        if after <= before:
            return None
        busy = time.perf_counter() - self.began - self.paused
        share = 1 + self.paused / busy if busy > 0 else 1.0
        return (self.total - self.step) * (end - begin) / (after - before) * share

    def counts(self) -> str:
        """'epoch 2/10  step 120/600', or 'val 3/5'."""
        of = "" if self.total is None else f"/{self.total}"
        text = f"{self.what or self.unit} {self.step}{of}"
        if self.epochs and self.total:
            epoch = max(1, min(self.epochs, math.ceil(self.step * self.epochs / self.total)))
            text = f"epoch {epoch}/{self.epochs}  {text}"
        return text

    def measures(self) -> str:
        """'loss 0.4312  lr 1.0e-3': the newest values."""
        return "  ".join(labeled(name, value) for name, value in self.values.items() if is_number(value))

    def pace(self) -> str:
        """'87 img/s  ETA 3:12': what is known so far."""
        rate, remaining = self.images_per_second, self.remaining
        parts = [f"{rate:.0f} img/s" if rate >= 10 else f"{rate:.2g} img/s"] if rate else []
        if remaining is not None and self.step != self.total:
            parts.append(f"ETA {duration(remaining)}")
        return "  ".join(parts)

    def line(self) -> str:
        return "  ".join(filter(None, [self.counts(), self.measures(), self.pace()]))

    def last_line(self) -> str:
        """What is worth a line when the loop has ended and nothing was written of its last update; or nothing. A
        short bar is, in a log file, where it was slow."""
        took = time.perf_counter() - self.began
        if not self.what:
            return self.line() if self.step != self._written else ""
        return f"{self.line()}  took {duration(took)}" if self.write is not None and took > SLOW else ""
