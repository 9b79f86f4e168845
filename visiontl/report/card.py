"""A model's card as the hub has it: facts for its search in YAML, and a page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visiontl.errors import clean
from visiontl.report.formats import is_number

PIPELINES = {  # what the hub calls what a kind of answer is used for
    "classes": "image-classification",
    "boxes": "object-detection",
    "mask": "image-segmentation",
    "picture": "image-to-image",
    "vector": "image-feature-extraction",
    "values": "keypoint-detection",
}
CLASSES = 60  # that a card lists


@dataclass(frozen=True)
class Card:
    """repository: owner/name. answers: the kind of answer, "" where it is not known. origins: what its weights came
    from, each (what, license, its repository on the hub or ""). scores: split -> name -> value. counts: split ->
    images. data: what the data are called; datasets: their names on the hub."""

    repository: str
    task: str
    answers: str
    backbone: str
    license: str
    origins: Sequence[tuple[str, str, str]] = ()
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    classes: Sequence[str] = ()
    class_counts: Sequence[int] = ()
    input: str = ""
    data: str = "data of its author"
    datasets: Sequence[str] = ()
    limits: str = ""
    version: str = ""
    told: str = ""  # on the license


def numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """The scores that are one number, rounded to what a card shows."""
    return {name: round(float(value), 6) for name, value in scores.items() if is_number(value)}


def facts(card: Card) -> str:
    """The YAML between two lines of dashes, with the scores as the hub's model-index."""
    from huggingface_hub import EvalResult, ModelCardData

    pipeline = PIPELINES.get(card.answers)
    results = [
        EvalResult(
            task_type=pipeline or "other",
            task_name=card.task,
            dataset_type=card.datasets[0] if card.datasets else "other",
            dataset_name=card.data,
            dataset_split=split,
            metric_type=name,
            metric_name=name.replace("_", " "),
            metric_value=value,
        )
        for split, scores in card.scores.items()
        for name, value in numbers(scores).items()
    ]
    bases = [base for _, _, base in card.origins if base]
    names = list(dict.fromkeys(name for scores in card.scores.values() for name in numbers(scores)))
    extra: dict[str, Any] = {"datasets": list(card.datasets)} if card.datasets else {}
    extra |= {"base_model": bases} if bases else {}
    extra |= {"eval_results": results, "model_name": card.repository.partition("/")[2]} if results else {}
    made = ModelCardData(
        license=card.license,
        library_name="visiontl",
        pipeline_tag=pipeline,
        tags=["visiontl", card.task, card.backbone.rpartition("/")[2]],
        metrics=names or None,
        **extra,
    )
    return made.to_yaml()


def page(card: Card) -> str:
    """README.md: facts, then what a person asks first."""
    parts = [f"---\n{facts(card)}\n---", f"# {card.repository.partition('/')[2]}", opening(card), using(card)]
    if card.scores:
        parts.append("## Scores\n\n" + score_table(card))
    parts.append("## Data\n\n" + counted(card))
    parts.append("## License and origin\n\n" + origin(card))
    if card.limits:
        parts.append(f"## Limits\n\n{card.limits}")
    return "\n\n".join(parts) + "\n"


def opening(card: Card) -> str:
    shown = [plain(name) for name in card.classes[:CLASSES]]
    more = f" and {len(card.classes) - CLASSES} more" if len(card.classes) > CLASSES else ""
    said = f"\n\n{len(card.classes)} classes: {', '.join(shown)}{more}." if shown else ""
    return f"A model of the task {card.task} on {card.backbone}, trained with visiontl {card.version}.{said}"


def using(card: Card) -> str:
    lines = [
        f"visiontl predict hf-hub:{card.repository} photos/",
        f"visiontl evaluate hf-hub:{card.repository} DATA",
        f"visiontl train CONFIG init=hf-hub:{card.repository}",
    ]
    seen = f"\n\nPhotos are seen at {card.input}; the model does that itself." if card.input else ""
    return "## Use\n\n```sh\n" + "\n".join(lines) + f"\n```{seen}"


def score_table(card: Card) -> str:
    splits = list(card.scores)
    names = list(dict.fromkeys(name for split in splits for name in numbers(card.scores[split])))
    rows = [["score", *splits], ["---"] * (1 + len(splits))]
    for name in names:
        found = [numbers(card.scores[split]).get(name) for split in splits]
        rows.append([name.replace("_", " "), *("" if one is None else f"{one:.4g}" for one in found)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def counted(card: Card) -> str:
    images = ", ".join(f"{count:,} images of {split}" for split, count in card.counts.items())
    said = f"{plain(card.data)}: {images or 'how many images is not known'}."
    if card.class_counts and len(card.class_counts) == len(card.classes):
        each = [f"{plain(name)} {count:,}" for name, count in zip(card.classes, card.class_counts, strict=True)]
        said += f" In training: {', '.join(each[:CLASSES])}{' ...' if len(each) > CLASSES else ''}."
    return said


def origin(card: Card) -> str:
    came = [f"- {what}: {license}" for what, license, _ in card.origins]
    return "\n".join([f"{card.told}\n" if card.told else f"{card.license}.\n", *came]).rstrip()


def plain(text: str) -> str:
    """A name of the data in Markdown, in one line and without markup of its own."""
    kept = clean(text).replace("\n", " ")
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in kept)
