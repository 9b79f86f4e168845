"""The checks of what a task says of its answers beside its scores: its mistakes, and the number that an explanation is
of."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from typing import Any

import numpy as np
import torch

from visiontl import plugins
from visiontl.config.asked import Place
from visiontl.engine.device import to_device
from visiontl.engine.explain import Differentiated, Explainer
from visiontl.engine.prepare import Run
from visiontl.engine.rows import gather_rows
from visiontl.errors import DataError, VisionTLError
from visiontl.task import SampleDataset
from visiontl.testing.case import Case

LOOKED_AT = 4  # photos of a split


def names_mistakes_that_are_images_of_the_split(case: Case) -> None:
    """mistakes: ids of the rows that it is given, each once (of pairs both, one after the other) and with words for
    people; it changes no row."""
    task = plugins.task(case.task)
    if task.mistakes is None:
        return
    run = case.run()
    built, split = run.built, _judged(run)
    rows = gather_rows(run.accelerator, built, split, run.console, "val")
    before = pickle.dumps(rows)
    found = list(task.mistakes(built.resolved.cfg, rows, built.meta))
    assert pickle.dumps(rows) == before, "mistakes changed the rows that it was given"
    assert found == list(task.mistakes(built.resolved.cfg, rows, built.meta)), (
        "mistakes: two answers for one set of rows"
    )
    for one in found:
        assert len(one) == 2, f"mistakes gave {one!r}; expected (id, words)"
        id, words = one
        whole = isinstance(id, int | np.integer) and not isinstance(id, bool)
        assert whole, f"mistakes names {id!r}; expected the id of an image, a whole number"
        assert 0 <= id < len(rows), f"mistakes names id {id}; the split has the ids 0 to {len(rows) - 1}"
        _for_people("mistakes", words)
    ids = [int(id) for id, _ in found]
    if _compares(task.explain_options):
        assert len(ids) % 2 == 0, f"mistakes of a task that compares two photos come in pairs; got {len(ids)}"
        same = [a for a, b in zip(ids[::2], ids[1::2], strict=True) if a == b]
        assert not same, f"mistakes: a pair of image {same[0]} with itself"
    else:
        twice = [id for id, times in Counter(ids).items() if times > 1]
        assert not twice, (
            f"mistakes names image {twice[0]} {ids.count(twice[0])} times; expected each once, the worst first"
        )


def lets_every_option_of_an_explanation_be_left_out(case: Case) -> None:
    """explain_options: every option may be left out, has words for `--help`, and is none of the core's own."""
    task = plugins.task(case.task)
    if task.explain_options is None:
        return
    assert task.explain is not None, "explain_options without explain: nothing reads them"
    own = task.explain_options.model_fields
    taken = sorted(own.keys() & Place.model_fields.keys())
    assert not taken, f"explain_options has {', '.join(taken)}, which every task's explanations have from the core"
    needed = [name for name, field in own.items() if field.is_required()]
    assert not needed, f"explain_options: {', '.join(needed)} must be given; expected a default"
    bare = [name for name, field in own.items() if not field.description]
    assert not bare, f"explain_options: {', '.join(bare)} without a description"


def explains_a_number_of_the_photo(case: Case) -> None:
    """explain: one finite number that is computed from the backbone's maps in one pass, with finite gradients, another
    for another photo, the same when asked again; of a photo to predict, and of one with its truth. The model stays as
    it was."""
    task = plugins.task(case.task)
    if task.explain is None:
        return
    run = case.run()
    built, split, explainer = run.built, _judged(run), Explainer(run.built)
    before = {name: tensor.clone() for name, tensor in built.model.state_dict().items()}
    ids = range(min(LOOKED_AT, len(split)))
    prepare = task.sample(built.resolved.cfg, built.backbone.spec, built.meta)
    for kind in ("to predict", "with its truth"):
        found: list[tuple[int, Differentiated]] = []
        for id in ids:
            photo = split.image(id)
            sample = prepare(photo) if kind == "to predict" else split[id, 0]
            asked = _asked(explainer, split, id)
            one = _differentiated(explainer, sample, asked, f"photo {id} {kind}")
            if one is None:
                continue
            numbers = float(one.scalar.value.detach()), float(one.scalar.score)
            assert all(map(math.isfinite, numbers)), f"explain: value and score are {numbers} (photo {id} {kind})"
            _for_people("explain", one.scalar.words)
            for gradient in one.gradients:
                assert bool(gradient.isfinite().all()), f"explain: gradients that are not finite (photo {id} {kind})"
            found.append((id, one))
            _has_a_heat(explainer, photo, asked, sample, one)
        assert found, f"explain: none of the photos {kind} has a number; DataError is for the few that have none"
        assert any(not one.dead for _, one in found), f"explain: no place of any photo {kind} moves the number"
        values = {float(one.scalar.value.detach()) for _, one in found}
        assert len(found) == 1 or len(values) > 1, f"explain: one number for {len(found)} photos {kind}: {values.pop()}"
    moved = [name for name, tensor in built.model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert not moved, f"explain changed the model: {moved[:3]}"


CHECKS = [
    names_mistakes_that_are_images_of_the_split,
    lets_every_option_of_an_explanation_be_left_out,
    explains_a_number_of_the_photo,
]


def _judged(run: Run) -> SampleDataset:
    split = run.data.val or run.data.test
    assert split is not None, "the example data has neither val nor test"
    return split


def _compares(options: Any) -> bool:
    return options is not None and "other" in options.model_fields


def _asked(explainer: Explainer, split: SampleDataset, id: int) -> Any:
    """Nothing; of a task that compares two photos the next one."""
    other = {"other": split.image((id + 1) % len(split))} if _compares(explainer.options) else {}
    return explainer.parse(other)


def _differentiated(explainer: Explainer, sample: dict[str, Any], asked: Any, what: str) -> Differentiated | None:
    """None of a photo that has no such number."""
    built = explainer.built
    batch = built.resolved.task.collate(built.resolved.cfg, [sample], None, built.meta)
    batch = to_device({**batch, "id": torch.tensor([0]), "step": 0, "progress": 1.0}, explainer.device)
    try:
        return explainer.differentiated(batch, asked)
    except DataError:
        return None
    except VisionTLError as error:  # what is no number of a photo, or comes out of none of the maps
        raise AssertionError(f"explain ({what}): {error}") from error


def _has_a_heat(explainer: Explainer, photo: Any, asked: Any, sample: dict[str, Any], known: Differentiated) -> None:
    """Also that the number is the same when it is asked for again."""
    again = explainer.explain(photo, asked, sample)
    assert again.words == known.scalar.words, f"explain: {known.scalar.words!r}, and {again.words!r} when asked again"
    assert again.score == known.scalar.score, f"explain: {known.scalar.score}, and {again.score} when asked again"
    assert again.heat.shape == (photo.height, photo.width), f"a heat of {again.heat.shape} for a photo of {photo.size}"
    assert bool(np.isfinite(again.heat).all()), "explain: a heat that is not finite"


def _for_people(step: str, words: Any) -> None:
    assert isinstance(words, str), f"{step} gave {words!r}; expected words for people"
    assert words.strip(), f"{step} gave no words for people"
    assert "\n" not in words, f"{step}: words on one line were expected; got {words!r}"
