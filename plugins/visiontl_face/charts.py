"""What the report shows of a split: what training brought, ROC, similarities, groups, and the pairs most confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from visiontl import Figure, Pictures, Table
from visiontl.kit.charts import chosen_pictures
from visiontl.kit.drawing import panels
from visiontl.kit.words import count, told
from visiontl_face import verification
from visiontl_face.config import FaceConfig
from visiontl_face.scores import BASELINES, Judged, curve_of, pairs_of, score, similarities, stacked
from visiontl_face.verification import Roc

LINES = {
    "embedding": "this model",
    "pooled": "backbone's features as they are",
    "centered": "features minus the training mean",
}
CONFUSED = 8  # pictures of each kind
HEIGHT = 180  # pixels of a picture in a pair
BINS = 40
FLOOR = 1e-4  # where the logarithmic axis of the ROC begins


def report(
    cfg: FaceConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], image: Callable[[int], Image.Image]
) -> list[Any]:
    """image: id -> photo; row number i is the image with id i."""
    judged = pairs_of(cfg, rows)
    if not judged.both_kinds:
        return []
    scores = score(cfg, rows, meta)
    curves = {name: curve_of(rows, judged, name) for name in LINES}
    similarity = similarities(stacked(rows, "embedding"), judged)
    threshold = scores["best_threshold"]
    shown: list[Any] = [
        _comparison(scores, curves),
        Figure(
            "ROC",
            partial(draw_roc, curves=curves),
            f"{curves['embedding'].same:,} pairs of one person, {curves['embedding'].different:,} of two.",
            (5.5, 4.2),
        ),
        Figure(
            "Similarities",
            partial(draw_similarities, similarity=similarity, same=judged.same, threshold=threshold),
            f"The line is the threshold with the highest accuracy on these pairs, {threshold:.3f}.",
            (5.5, 3.4),
        ),
    ]
    if "groups" in scores:
        columns = ("group", "pairs", "auc", "false_match", "false_non_match")
        shown.append(
            Table(
                "Groups",
                columns,
                [[name, *(values[key] for key in columns[1:])] for name, values in scores["groups"].items()],
                f"Pairs within a group, all at the threshold {threshold:.3f}. false_match: different people called the "
                "same; false_non_match: one person called two. A group whose errors are larger is served worse.",
            )
        )
    return [*_confused(rows, judged, similarity, threshold, image), *shown, *_people(rows)]


def _people(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """How many photos the people of the split have; none where nobody knows who is who."""
    photos = Counter(row["identity"] for row in rows if row["identity"])
    if not photos:
        return []
    once = sum(number == 1 for number in photos.values())
    caption = f"{count(sum(photos.values()), 'photo')} of {len(photos):,} people"
    caption += f"; {once:,} with one photo, who make no pair of one person." if once else "."
    return [Figure("Photos per person", partial(draw_people, numbers=sorted(photos.values())), caption, (5.5, 2.8))]


def draw_people(axes: Any, numbers: Sequence[int]) -> None:
    """numbers: photos of each person."""
    edges = np.unique(np.linspace(min(numbers), max(numbers) + 1, BINS // 2 + 1).round())
    axes.hist(numbers, edges - 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("photos of a person")
    axes.set_ylabel("people")


def _comparison(scores: Mapping[str, Any], curves: Mapping[str, Roc]) -> Table:
    lines = []
    for name, label in LINES.items():
        curve, prefix = curves[name], "" if name == "embedding" else f"{name}_"
        tars = [verification.at_far(curve, far) for far in verification.FARS]
        told_tars = [verification.TOO_FEW if point is None else point[0] for point in tars]
        lines.append([label, scores[f"{prefix}auc"], scores[f"{prefix}accuracy"], verification.eer(curve), *told_tars])
    assert len(lines) == 1 + len(BASELINES)
    columns = ["embedding", "AUC", "accuracy", "EER", *(f"TAR at FAR {far:g}" for far in verification.FARS)]
    return Table(
        "Verification, with and without training",
        columns,
        lines,
        "The lower lines are this backbone's pooled features without a trained layer; where the backbone itself was "
        "trained, the columns 'at the start' of the scores above tell what they were before.",
    )


def draw_roc(axes: Any, curves: Mapping[str, Roc]) -> None:
    for name, curve in curves.items():
        label = f"{LINES[name]}, AUC {verification.auc(curve):.4f}"
        far = np.maximum(curve.far, FLOOR)
        axes.plot(far, curve.tar, drawstyle="steps-post", label=label, linewidth=2 if name == "embedding" else 1.2)
    axes.set_xscale("log")
    least = max(FLOOR, 0.5 / max(curve.different for curve in curves.values()))
    ticks = [far for far in (*reversed(verification.FARS), 1.0) if far >= least]
    axes.set_xticks(ticks, [f"{far:g}" for far in ticks])  # the report reads no formulas, such as 10 to the -1
    axes.minorticks_off()
    axes.set_xlim(least, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("FAR (different pairs accepted)")
    axes.set_ylabel("TAR (same pairs accepted)")
    axes.grid(True)
    axes.legend(loc="lower right")


def draw_similarities(axes: Any, similarity: np.ndarray, same: np.ndarray, threshold: float) -> None:
    edges = np.linspace(float(similarity.min()), float(similarity.max()) + 1e-9, BINS + 1)
    for kind, label in ((False, "two people"), (True, "one person")):
        weights = np.full(int((same == kind).sum()), 1 / max(1, int((same == kind).sum())))
        axes.hist(similarity[same == kind], edges, weights=weights, alpha=0.6, label=label)
    axes.axvline(threshold, linestyle="--", color="gray")
    axes.set_xlabel("cosine similarity")
    axes.set_ylabel("share of the pairs of a kind")
    axes.legend(loc="best")


def _confused(
    rows: Sequence[Mapping[str, Any]],
    judged: Judged,
    similarity: np.ndarray,
    threshold: float,
    image: Callable[[int], Image.Image],
) -> list[Pictures]:
    """The most similar pairs of two people and the least similar ones of one person."""

    def item(place: int) -> tuple[str, Image.Image]:
        a, b = int(judged.first[place]), int(judged.second[place])
        names = [told(rows[one]["name"]) for one in (a, b)]
        verdict = "called one person" if similarity[place] >= threshold else "called two people"
        faces = panels([(name, at_height(image(one))) for name, one in zip(names, (a, b), strict=True)])
        return f"{' | '.join(names)}: similarity {similarity[place]:.3f}, {verdict}", faces

    shown: list[Pictures] = []
    for kind, sign, title in (
        (False, -1, "Two people, most similar"),
        (True, 1, "One person, least similar"),
    ):
        places = np.flatnonzero(judged.same == kind)
        most = places[np.argsort(sign * similarity[places], kind="stable")][:CONFUSED].tolist()
        caption = f"Cosine similarity; from the threshold {threshold:.3f} on a pair is called one person."
        shown += chosen_pictures(title, most, item, caption)
    return shown


def at_height(image: Image.Image) -> Image.Image:
    return image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT))
