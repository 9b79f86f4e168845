"""What a checkpoint says of its run: state.json, read and checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from visiontl import __version__
from visiontl.errors import CheckpointError
from visiontl.kit.statements import sound
from visiontl.runs import store
from visiontl.spec import ImageSpec

FILE = "state.json"
Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Best(_Part):
    score: str
    value: Finite | None
    step: Count
    epoch: Finite


class _State(_Part):
    """The values that `resume` and `start.backbone_to_train` read. A logged loss and a score may be NaN."""

    step: Count
    best: _Best | None
    start: dict[str, dict[str, Any]] | None
    without_gain: Count
    window: list[dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]]]
    due: bool
    seconds: Annotated[Finite, Field(ge=0)]
    ema_updates: Count
    scaler: dict[str, int | float] | None
    processes: Annotated[int, Field(ge=1)]
    precision: str
    cached: list[str]
    config_hash: str
    data_fingerprint: str
    preprocessing: dict[str, Any]
    method: dict[str, str]


def read_state(folder: Path) -> dict[str, Any]:
    """state.json of a checkpoint, as it is. Raises CheckpointError for one that lacks a value or has one of another
    kind, with what was expected there and how to go on."""
    state, file = store.read_json(folder, FILE), folder / FILE
    lacking = [key for key in _State.model_fields if key not in state]
    if lacking:
        raise CheckpointError(
            f"{file}: has no {', '.join(lacking[:3])}; it was written by visiontl {state.get('visiontl')}, this is "
            f"{__version__}: continue with the version that began the run"
        )
    try:
        _State.model_validate(state)
        sound(ImageSpec.from_json(state["preprocessing"]))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise _wrong(file, place, first["input"], first["msg"][:1].lower() + first["msg"][1:]) from None
    except (LookupError, TypeError, ValueError) as error:
        raise _wrong(file, "preprocessing", state["preprocessing"], str(error)) from None
    best, step = state["best"], state["step"]
    if best is not None and best["step"] > step:
        raise _wrong(file, "best.step", best["step"], f"it lies behind the checkpoint's own step {step}")
    return state


def require_end(folder: Path, state: Mapping[str, Any], total: int, scores: Sequence[str]) -> None:
    """Raise CheckpointError for a state that lies behind the run's end (total: updates), has sums of other processes,
    or whose best score is none of the task's."""
    if state["step"] > total:
        raise _wrong(folder / FILE, "step", state["step"], f"the run has {total} updates")
    if len(state["window"]) not in (0, state["processes"]):
        expected = f"one entry for each of {state['processes']} processes was expected"
        raise _wrong(folder / FILE, "window", state["window"], expected)
    if state["best"] is not None and state["best"]["score"] not in scores:
        raise _wrong(folder / FILE, "best.score", state["best"]["score"], f"the task's scores are {', '.join(scores)}")


def require_fit(folder: Path, name: str, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless a file's tensors have the names and shapes of the model's."""
    lacking, strange = [key for key in wanted if key not in tensors], [key for key in tensors if key not in wanted]
    other = [
        f"{key} is {tuple(tensors[key].shape)}, expected {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    problems = [f"lacks {', '.join(lacking[:3])}"] if lacking else []
    problems += [f"has {', '.join(strange[:3])} besides"] if strange else []
    if problems or other:
        raise CheckpointError(
            f"{folder / name}: does not fit the model ({'; '.join([*problems, *other[:2]])}); was it written by "
            "another version of the task or of the backbone's library?"
        )


def _wrong(file: Path, key: str, value: Any, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{file}: {key} is {value!r:.80}: {expected}; no version of visiontl writes that. Remove {file.parent} to "
        "go on from the checkpoint before it"
    )
