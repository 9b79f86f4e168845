"""The report of a run or an evaluation: what report.json holds and the page shows. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from visiontl.errors import CheckpointError
from visiontl.report.values import json_value


@dataclass(frozen=True, kw_only=True)
class Portion:
    """matched of total, such as the tensors of a backbone that its weights gave."""

    matched: int
    total: int

    @property
    def fraction(self) -> float:
        """0..1; of nothing, nothing matched."""
        return self.matched / max(self.total, 1)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """How much of the backbone its weights filled. values: single numbers, of all tensors together."""

    values: Portion
    tensors: Portion | None = None  # None: not counted


@dataclass(frozen=True, kw_only=True)
class BackboneFacts:
    """parameters: single numbers. loaded: None where nothing was to be matched (random weights, another run's)."""

    name: str
    weights: str
    parameters: int | None = None
    loaded: Loaded | None = None


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage of a phase, or the head. lr: the learning rate at its peak, 0 where nothing trains."""

    stage: str
    mode: str
    parameters: int
    trainable: int
    lr: float


@dataclass(frozen=True, kw_only=True)
class PhaseRows:
    """What trains from an epoch on: one row per stage, stem first, and one for the head."""

    epoch: int
    rows: Sequence[StageRow]


@dataclass(frozen=True, kw_only=True)
class Best:
    """The evaluation that gave the best weights. value: None without a val split."""

    score: str
    value: float | None
    step: int  # optimizer updates done by then
    epoch: float


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The score that says how good a model is, and which way is better."""

    score: str
    better: Literal["max", "min"]


@dataclass(frozen=True, kw_only=True)
class Trivial:
    """What the ranked score is for the answer that needs no training. answer: in words."""

    answer: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """What a split's answers got wrong. number: of images, or of pairs of images where two are compared. worst: the
    file of the worst, with truth and answer in words."""

    number: int
    worst: str
    pairs: bool = False


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What to try next. why: what was measured. command: to be pasted into a shell."""

    what: str
    why: str
    command: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a run has to say beyond an evaluation. Its fields stand beside the report's in report.json.

    policy: the freezing policy in words. cached_features: splits whose frozen features were cached.
    steps: optimizer updates done. scores_at_start: {split: scores} before the first update, empty if not measured.
    """

    policy: str
    cached_features: Sequence[str]
    trainability: Sequence[PhaseRows]
    steps: int | None = None
    best: Best | None = None
    scores_at_start: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


@dataclass(frozen=True, kw_only=True)
class Report:
    """A run or an evaluation, from its beginning to its end; `dataclasses.replace` adds what becomes known.

    visiontl: its version. run: the folder. started: local date and time, ISO 8601. seconds: spent, None before the
    end. data: images per split. scores: {split: the task's scores}. config: YAML, as resolved.
    training: None for an evaluation. ranked: None where no score is one number. trivial: by split. mistakes: by
    split, where a task tells them and there are some. left_out: images that could not be read, by split. classes:
    {class: how often it is in the training data}. Those that are empty are left out of report.json.
    """

    visiontl: str
    run: str
    task: str
    status: str  # started, finished, stopped early; or evaluated
    started: str
    command: str
    seed: int | None
    environment: Mapping[str, Any]
    data: Mapping[str, int]
    backbone: BackboneFacts
    config: str
    seconds: float | None = None
    notes: Sequence[str] = ()
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    training: Training | None = None
    ranked: Ranked | None = None
    trivial: Mapping[str, Trivial] = field(default_factory=dict[str, Trivial])
    mistakes: Mapping[str, Mistakes] = field(default_factory=dict[str, Mistakes])
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    classes: Mapping[str, float] = field(default_factory=dict[str, float])
    suggestions: Sequence[Suggestion] = ()

    def to_json(self) -> dict[str, Any]:
        """As report.json holds it: JSON values alone, None for what is not finite. Training's fields stand beside
        the others. Raises PluginError for a score that JSON cannot hold, with its place."""
        values: dict[str, Any] = _fields(self)
        training: dict[str, Any] = values.pop("training") or {}
        known = {name: value for name, value in (values | training).items() if value or name not in _LEFT_OUT}
        return {name: json_value(value, name) for name, value in known.items()}

    def to_text(self) -> str:
        """The text of report.json."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Report:
        """What `to_json` gave. Unknown keys are passed over; what is missing or null is empty.

        Raises CheckpointError for a value of another kind, naming it.
        """
        from pydantic import TypeAdapter, ValidationError

        given = {name: value for name, value in values.items() if value is not None}
        if "policy" in given or "trainability" in given:
            training: dict[str, Any] = {"policy": "", "cached_features": (), "trainability": ()}
            given["training"] = {**training, **{name: given[name] for name in _TRAINING if name in given}}
        try:
            return TypeAdapter(cls).validate_python({**_NOTHING, **given})
        except ValidationError as error:
            found = error.errors()[0]
            place = ".".join(map(str, found["loc"]))
            raise CheckpointError(f"report.json: {place}: {found['msg']}; got {found['input']!r:.80}") from None

    @classmethod
    def read(cls, path: Path) -> Report:
        """A report.json. Raises CheckpointError, naming the file, for one that cannot be read or is none."""
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise OSError("it is no plain file")
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error})") from None
        if not isinstance(values, dict):
            raise CheckpointError(f"{path}: is not a report but a {type(values).__name__}")
        return cls.from_json(cast(dict[str, Any], values))


_TRAINING = [one.name for one in dataclasses.fields(Training)]
_LEFT_OUT = {"scores_at_start", "ranked", "trivial", "mistakes", "left_out", "classes", "suggestions"}  # where empty
_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("visiontl", "run", "task", "status", "started", "command", "config"), ""),
    "seed": None,
    "environment": {},
    "data": {},
    "backbone": {"name": "", "weights": ""},
}


def _fields(value: Any) -> Any:
    """A dataclass as {name: value}, those within it too; everything else as it is."""
    if dataclasses.is_dataclass(value):
        return {one.name: _fields(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        found = cast(Mapping[Any, Any], value)
        return {key: _fields(one) if dataclasses.is_dataclass(one) else one for key, one in found.items()}
    if isinstance(value, list | tuple):
        return [_fields(item) for item in value]  # type: ignore[reportUnknownVariableType]
    return value
