"""What a part takes for its backbone: the one that all share, whose pass over the batch's pixels is made already."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from visiontl import Backbone, Features


@dataclass
class Ask:
    """What is asked of a backbone: levels of the pyramid, the pooled embedding, layers."""

    maps: set[int] = field(default_factory=set)
    pooled: bool = False
    layers: set[str] = field(default_factory=set)

    def add(self, maps: Iterable[int], pooled: bool, layers: Iterable[str]) -> None:
        self.maps |= set(maps)
        self.pooled = self.pooled or pooled
        self.layers |= set(layers)

    def __bool__(self) -> bool:
        return bool(self.maps or self.pooled or self.layers)


def together(asks: Iterable[Ask]) -> Ask:
    found = Ask()
    for one in asks:
        found.add(one.maps, one.pooled, one.layers)
    return found


@dataclass(frozen=True)
class Held:
    """Features of these pixels. maps: {level: (B, C, h, w)}."""

    image: Any
    maps: dict[int, Tensor]
    pooled: Tensor | None
    layers: dict[str, Tensor]

    def pick(self, maps: Sequence[int], pooled: bool, layers: Sequence[str]) -> Features | None:
        """What a call asks for; None where it is not all there."""
        if not (set(maps) <= self.maps.keys() and set(layers) <= self.layers.keys()):
            return None
        if pooled and self.pooled is None:
            return None
        return Features(
            [self.maps[level] for level in maps],
            self.pooled if pooled else None,
            {name: self.layers[name] for name in layers},
        )


class Seat(Backbone):
    """A backbone without weights of its own: it answers from the shared pass where it is given that pass's pixels, and
    else calls the shared backbone. All that it is asked about itself, the shared one answers.

    asked: of the shared pass; others: of passes over other pixels (resized, flipped, windows). clones: whether its part
    gets features of its own, because it changes them in place.
    """

    def __init__(self, backbone: Backbone):
        nn.Module.__init__(self)  # no buffers: mean and deviation are the shared one's
        self._shared = (backbone,)  # in a tuple it is no module of this one
        self._replayed: Features | None = None
        self.asked, self.others = Ask(), Ask()
        self.held: deque[Held] = deque(maxlen=2)
        self.given: list[tuple[Tensor, int]] = []
        self.clones = False

    @property
    def channels_last(self) -> bool:  # type: ignore[override]
        return self._shared[0].channels_last

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_shared" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["_shared"][0], name)

    def forward(
        self, image: Tensor, maps: Sequence[int] = (), pooled: bool = False, layers: Sequence[str] = ()
    ) -> Features:
        if self._replayed is not None:
            return self._replayed
        held = next((one for one in self.held if one.image is image), None)
        (self.others if held is None else self.asked).add(maps, pooled, layers)
        found = held.pick(maps, pooled, layers) if held is not None else None
        found = self._shared[0](image, maps, pooled, layers) if found is None else found
        pooling = [] if found.pooled is None else [found.pooled]
        self.given = [(one, one._version) for one in (*found.maps, *pooling, *found.layers.values())]
        if self.clones:
            found = Features(
                [one.clone() for one in found.maps],
                None if found.pooled is None else found.pooled.clone(),
                {name: one.clone() for name, one in found.layers.items()},
            )
        return found

    @property
    def changed(self) -> bool:
        """Whether what it gave was changed in place since."""
        return any(one._version != version for one, version in self.given)

    def hold(self, image: Any, maps: dict[int, Tensor], pooled: Tensor | None, layers: dict[str, Tensor]) -> None:
        """Answer calls with this very image from these features."""
        self.held.append(Held(image, maps, pooled, layers))

    def let_go(self) -> None:
        self.held.clear()
        self.given = []


def _shared(name: str) -> Any:
    def call(self: Seat, *given: Any, **named: Any) -> Any:
        return getattr(self._shared[0], name)(*given, **named)

    return call


for _name in ("normalize", "extract", "library_names", "adopt_names", "own_head", "library_call", "classifier",
              "set_spec"):  # fmt: skip
    setattr(Seat, _name, _shared(_name))
