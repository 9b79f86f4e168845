"""What one request, and all of them together, may take."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from visiontl.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """upload: bytes of a request's body. pixels: of a picture. pictures: of a request. seconds: from the first byte of
    a request to its answer. batch: pictures that the model sees at once. gather: seconds for which a batch waits for
    more of them. waiting: pictures that wait, beyond which requests are sent away."""

    upload: int = 20 << 20
    pixels: int = 50_000_000
    pictures: int = 32
    seconds: float = 30.0
    batch: int = 8
    gather: float = 0.005
    waiting: int = 64

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not math.isfinite(value) or value < 0 or (value == 0 and one.name != "gather"):
                raise ConfigError(f"{one.name} of a server: a number above 0 was expected; got {value!r:.40}")
