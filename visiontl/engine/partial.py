"""Images that lack a label: what the terms of a loss are divided by, so that they count nothing in any update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from visiontl.engine.order import Group, images_of
from visiontl.errors import TrainingError
from visiontl.kit.words import some
from visiontl.processes import ranks

LABELED = "labeled"  # {term of the loss: how many images of the batch have a label for it}


def divisors(batches: Iterator[dict[str, Any]], group: Group) -> Iterator[dict[str, Any]]:
    """This rank's batches of one update, micro-batch by micro-batch.

    Where a task's batches state how many of their images have a label, each holds in that place what the sums of its
    terms are to be divided by. The loop weights a batch by its share of the update's images; with these divisors what
    comes out is the sum over all images of the update that have a label, by their number, however they are dealt out
    to micro-batches and ranks. The batches of an update are then read before its first pass, and ranks talk once.
    """
    first = next(batches)
    if not isinstance(first.get(LABELED), Mapping):
        yield first
        yield from islice(batches, len(group) - 1)
        return
    own, rank = [first, *islice(batches, len(group) - 1)], ranks.rank()
    sums = dict.fromkeys(first[LABELED], 0.0)
    for batch, micro in zip(own, group, strict=True):
        same_terms(sums, batch[LABELED])
        for term, number in batch[LABELED].items():
            sums[term] += float(number) if micro[rank] else 0.0  # a rank without images computes rank 0's for nothing
    everywhere = ranks.gather_objects(sums)
    for others in everywhere:
        same_terms(sums, others)
    total = {term: sum(others[term] for others in everywhere) for term in sums}
    for batch, micro in zip(own, group, strict=True):
        share = len(micro[rank]) / images_of(group)
        yield {**batch, LABELED: {term: number * share or 1.0 for term, number in total.items()}}


def same_terms(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raises TrainingError where batches of an update state different terms."""
    if a.keys() != b.keys():
        raise TrainingError(
            f"the task's batches state `{LABELED}` of {some(sorted(a)) or 'nothing'} and of "
            f"{some(sorted(b)) or 'nothing'}; name the same terms in each, with 0 where no image has a label"
        )
