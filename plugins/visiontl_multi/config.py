"""The `task:` section of several tasks at once, and what a user may ask of predict and explain. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializeAsAny,
    ValidationError,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from visiontl import Section, Task, VisionTLError, find_task
from visiontl.kit.words import did_you_mean

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
WHOSE = "whose answer; null: the first part's that can be explained"
MEAN = "mean"  # the score that stands for all parts


class Part(BaseModel):
    """One of the tasks: its name, and its own section, validated by it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="an installed task")
    section: SerializeAsAny[BaseModel] = Field(description="its keys, which stand beside the name")

    @property
    def task(self) -> Task:
        return find_task(self.name)

    @model_validator(mode="before")
    @classmethod
    def validated(cls, value: Any) -> Any:
        """{"name": a task, **its section} -> the two apart. Its mistakes keep their places in the section."""
        value = {"name": value} if isinstance(value, str) else value
        if not isinstance(value, Mapping):
            return value
        if set(value) == {"name", "section"} and isinstance(value["section"], BaseModel):
            return value
        if not isinstance(value.get("name"), str):
            raise refusal([(("name",), "is missing; give the name of an installed task")])
        try:
            task = find_task(value["name"])
        except VisionTLError as error:
            raise refusal([(("name",), str(error))]) from None
        try:
            section = task.config.model_validate({key: one for key, one in value.items() if key != "name"})
        except ValidationError as error:
            raise with_hints(error, task.config) from None
        return {"name": task.name, "section": section}

    @model_serializer
    def flat(self, info: SerializationInfo) -> dict[str, Any]:
        return {"name": self.name, **self.section.model_dump(mode=info.mode)}


def refusal(problems: Iterable[tuple[tuple[str | int, ...], str]]) -> ValidationError:
    """(a key's place, what is wrong) of each mistake -> one error of all."""
    lines = [
        InitErrorDetails(type=PydanticCustomError("refused", "{text}", {"text": text, "error": ValueError(text)}),
                         loc=loc, input={})
        for loc, text in problems
    ]  # fmt: skip
    return ValidationError.from_exception_data("several tasks", lines)


def with_hints(error: ValidationError, model: type[BaseModel]) -> ValidationError:
    """The same mistakes; an unknown key is told with the nearest one that its section has."""
    lines: list[InitErrorDetails] = []
    for one in error.errors(include_url=False):
        kind: Any = one["type"]
        if kind == "extra_forbidden":
            name, known = str(one["loc"][-1]), sorted(keys_at(model, one["loc"][:-1]))
            text = f"unknown key{did_you_mean(name, known) or '; known here: ' + ', '.join(known)}"
            kind = PydanticCustomError("refused", "{text}", {"text": text, "error": ValueError(text)})
            lines.append(InitErrorDetails(type=kind, loc=one["loc"], input={}))
        elif kind in ("value_error", "assertion_error") or "ctx" in one or not kind.isidentifier():
            lines.append(InitErrorDetails(type=kind, loc=one["loc"], input=one["input"], ctx=one.get("ctx", {})))
        else:
            lines.append(InitErrorDetails(type=kind, loc=one["loc"], input=one["input"]))
    return ValidationError.from_exception_data(error.title, lines)


def keys_at(model: type[BaseModel], place: Sequence[str | int]) -> set[str]:
    models = [model]
    for key in place:
        models = [
            inner
            for one in models
            if str(key) in one.model_fields
            for inner in models_in(one.model_fields[str(key)].annotation)
        ] or models
    return {name for one in models for name in one.model_fields}


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


class MultiConfig(Section):
    data: Any = Field(
        None,
        description="{part: its data}, or one value for all parts; null: each part names its own; example: a small set "
        "drawn on the spot",
    )
    tasks: dict[str, Part] = Field(
        min_length=1, description="{part: {name: an installed task, and that task's own keys}}; the first one leads"
    )
    weights: dict[str, float] = Field(
        default_factory=dict, description="{part: how much its loss counts}; a part that is not named has 1"
    )
    weighting: Literal["fixed", "uncertainty", "balance"] = Field(
        "fixed",
        description="fixed: weights as they are; uncertainty: each part's variance is learned (Kendall et al. 2018); "
        "balance: the parts' gradients at the features that they share get one norm, times their weights",
    )
    rates: dict[str, float] = Field(
        default_factory=dict, description="{part: learning rate of its head, relative to optim.lr}"
    )
    mix: dict[str, float] | None = Field(
        None,
        description="null: one set, photos of the parts are matched by file name; {part: share}: sets of their own, "
        "each batch holds images of all in these proportions",
    )
    splits: str | None = Field(
        None,
        description="the part whose split a photo is in, where the parts' splits disagree; null: refuse that",
    )
    views: dict[str, str] = Field(
        default_factory=dict,
        description="{part: another part, whose picture of a photo it is shown}: for labels of the whole photo, so "
        "that both read one pass",
    )
    color: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of training photos changed in brightness, contrast, saturation, hue, for all parts alike",
    )

    @model_validator(mode="before")
    @classmethod
    def data_in_parts(cls, values: Any) -> Any:
        """`data` goes to the parts before they are validated, in the place of what they name themselves."""
        if (
            not isinstance(values, Mapping)
            or values.get("data") is None
            or not isinstance(values.get("tasks"), Mapping)
        ):
            return values
        parts = {}
        for name, part in values["tasks"].items():
            part = part.model_dump() if isinstance(part, Part) else {"name": part} if isinstance(part, str) else part
            given = data_of(values["data"], name, part)
            parts[name] = {**part, "data": given} if isinstance(part, Mapping) and given is not None else part
        return {**values, "tasks": parts}

    @model_validator(mode="after")
    def names_of_parts(self) -> MultiConfig:
        problems: list[tuple[tuple[str | int, ...], str]] = []
        for name, part in self.tasks.items():
            if not NAME.fullmatch(name):
                problems.append((("tasks", name), f"{name!r} is no name of a part; letters, digits, - and _ make one"))
            if part.name == "multi":
                problems.append((("tasks", name, "name"), "several tasks within one of several; name its parts here"))
        named: dict[str, Iterable[str]] = {
            "weights": self.weights,
            "rates": self.rates,
            "mix": self.mix or (),
            "views": [*self.views, *self.views.values()],
            "splits": [] if self.splits is None else [self.splits],
        }
        for key, names in named.items():
            for name in names:
                if name not in self.tasks:
                    told = (
                        f"{name!r} is no part{did_you_mean(name, self.tasks) or '; they are ' + ', '.join(self.tasks)}"
                    )
                    given: Any = getattr(self, key)
                    inside = isinstance(given, Mapping) and name in given
                    problems.append(((key, name) if inside else (key,), told))
        if isinstance(self.data, Mapping):
            known = {*self.tasks, *(part.name for part in self.tasks.values())}
            lost = [str(name) for name in self.data if name not in known]
            if len(lost) == len(self.data):
                problems.append((("data",), f"names {', '.join(lost)}; expected parts: {', '.join(self.tasks)}"))
        for key, numbers in (("weights", self.weights), ("rates", self.rates), ("mix", self.mix or {})):
            least = [name for name, number in numbers.items() if not number > 0 and (key != "weights" or number < 0)]
            problems += [((key, name), f"{numbers[name]:g} is too small; expected a number above 0") for name in least]
        if self.mix is not None and self.mix.keys() != self.tasks.keys() and not problems:
            missing = [name for name in self.tasks if name not in self.mix]
            problems.append((("mix",), f"says nothing of {', '.join(missing)}; give each part its share"))
        if self.weights and not any(self.weight(name) for name in self.tasks):
            problems.append((("weights",), "all are 0, so nothing would be learned"))
        for name, other in self.views.items():
            if other in self.views:
                problems.append((("views", name), f"{other} is shown the pictures of {self.views[other]} itself"))
        if problems:
            raise refusal(problems)
        return self

    def weight(self, part: str) -> float:
        return self.weights.get(part, 1.0)


def data_of(data: Any, name: str, part: Any) -> Any:
    """What `task.data` says of a part: under its name or its task's; a value that is no mapping is everybody's."""
    if not isinstance(data, Mapping):
        return data
    task = part.get("name") if isinstance(part, Mapping) else None
    return data.get(name, data.get(task) if isinstance(task, str) else None)


class PredictOptions(Section):
    """What a user may ask of predict: a part's own options under its name, as in mask.flip=true; flip=true is for
    all."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def of_model(cls, cfg: MultiConfig, meta: Mapping[str, Any]) -> type[PredictOptions]:
        """With the parts' own options, each under its part's name."""
        fields: dict[str, Any] = {}
        for name, part in cfg.tasks.items():
            if part.task.options is not None:
                place: Any = {"meta": f"parts.{name}.meta"}
                fields[name] = (part.task.options, Field(default_factory=part.task.options, json_schema_extra=place))
        return create_model("PredictOptions", __base__=PredictOptions, **fields)


class ExplainOptions(Section):
    """What an explanation is to be of."""

    part: str | None = Field(default=None, description=WHOSE)
    options: dict[str, Any] = Field(
        default_factory=dict, description="that part's own options, as in options.label=cat"
    )

    @classmethod
    def of_model(cls, cfg: MultiConfig, meta: Mapping[str, Any]) -> type[ExplainOptions]:
        """With the parts to choose from."""
        names: Any = Literal[tuple(explained(cfg))]
        kind: Any = names | None if explained(cfg) else None
        part: Any = (kind, Field(default=None, description=WHOSE))
        return create_model("ExplainOptions", __base__=ExplainOptions, part=part)


def explained(cfg: MultiConfig) -> list[str]:
    """The parts whose task explains a number of one photo."""
    return [
        name
        for name, part in cfg.tasks.items()
        if part.task.explain is not None
        and "other" not in (part.task.explain_options.model_fields if part.task.explain_options else {})
    ]


def options_of(part: Part, kind: Literal["options", "explain_options"], values: Mapping[str, Any]) -> Any:
    """A part's validated options; None for a task without. Raises ValueError in words."""
    model: type[BaseModel] | None = getattr(part.task, kind)
    if model is None:
        if values:
            raise ValueError(f"task {part.name} takes no such options; got {', '.join(values)}")
        return None
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = with_hints(error, model).errors(include_url=False)
        raise ValueError("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in lines)) from None


def ranked(cfg: MultiConfig) -> dict[str, Literal["max", "min"]]:
    """The mean of the parts' own scores first; then each part's."""
    found: dict[str, Literal["max", "min"]] = {MEAN: "max"}
    for name, part in cfg.tasks.items():
        found |= {f"{name}/{score}": direction for score, direction in ranked_of(part).items()}
    return found


def ranked_of(part: Part) -> dict[str, Literal["max", "min"]]:
    """What may pick a part's best weights, its default first."""
    asked: Callable[[Any], Mapping[str, Any]] | None = part.task.ranked
    found: dict[str, Any] = dict([part.task.best] if asked is None else asked(part.section).items())
    return found


def refuse(cfg: MultiConfig, policy: str) -> str | None:
    """The first part's reason that has one."""
    for name, part in cfg.tasks.items():
        reason = part.task.refuse(part.section, policy) if part.task.refuse is not None else None
        if reason:
            return f"{name}: {reason}"
    return None
