"""Which image goes where: one order for every way to share it out, and rows merged back. Oracles are plain lists."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import visiontl
from visiontl.engine.order import Order, epoch_order, evaluation_keys, fetched, training_keys
from visiontl.engine.rows import merge_rows
from visiontl.errors import TrainingError

PRODUCTS = (1, 2, 3, 4, 6, 8, 12, 24)  # images per update


def ways(product: int) -> list[tuple[int, int, int]]:
    """Every (batch_size, accumulate, world) that gives `product` images per update."""
    numbers = [n for n in range(1, product + 1) if product % n == 0]
    return [(b, a, w) for b, a, w in itertools.product(numbers, repeat=3) if b * a * w == product]


def updates(ids: list[int], product: int) -> list[list[int]]:
    """The images of each update: slices of the order; the last, short one has an even number of them."""
    found = [ids[i : i + product] for i in range(0, len(ids), product)]
    if found and len(found[-1]) < product:
        found[-1] = found[-1][: len(found[-1]) - len(found[-1]) % 2]
    return [update for update in found if update]


@settings(max_examples=150, deadline=None)
@given(count=st.integers(0, 60), product=st.sampled_from(PRODUCTS), seed=st.integers(0, 2**31))
@example(count=13, product=8, seed=0)  # an odd rest
@example(count=1, product=8, seed=0)  # nothing to train on
def test_what_an_update_sees_depends_on_the_product_alone(count, product, seed):
    """batch_size x accumulate x processes, however they are chosen: the same images in the same order."""
    ids = np.random.default_rng(seed).permutation(count)
    expected = updates(ids.tolist(), product)
    for batch, accumulate, world in ways(product):
        order = Order(ids, batch, accumulate, world)
        groups = [order.group(step) for step in range(len(order))]
        seen = [[i for micro in group for part in micro for i in part] for group in groups]
        assert seen == expected, (batch, accumulate, world)
        assert order.dropped == count - sum(map(len, expected))
        for group in groups:
            assert len(group) <= accumulate
            assert all(len(micro) == world and micro[0] for micro in group)
            sizes = {len(part) for micro in group for part in micro if part}
            assert min(sizes) >= min(2, batch), "one image alone breaks batch norm"
            assert max(sizes) <= batch, "more than the memory was planned for"
            assert max(sizes) - min(sizes) <= 1


def test_at_most_one_image_stays_out_and_another_one_every_epoch():
    data = visiontl.Data(train=[None] * 13)
    left = set()
    for epoch in range(20):
        order = epoch_order(data, 3, epoch, 4, 1, 2)
        used = {i for step in range(len(order)) for micro in order.group(step) for part in micro for i in part}
        assert order.dropped == 1
        left |= set(range(13)) - used
    assert len(left) > 5


def test_order_is_a_function_of_seed_and_epoch():
    data = visiontl.Data(train=[None] * 24)
    orders = {(seed, epoch): tuple(epoch_order(data, seed, epoch, 4, 1, 1).ids) for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    assert orders[0, 1] == tuple(epoch_order(data, 0, 1, 2, 2, 3).ids)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(2, 40),
    batch=st.integers(1, 5),
    accumulate=st.integers(1, 3),
    world=st.integers(1, 4),
    start=st.integers(0, 60),
)
def test_keys_of_the_ranks_are_the_order_from_any_update_on(count, batch, accumulate, world, start):
    data, epochs = visiontl.Data(train=[None] * count), 3

    def order(epoch: int) -> Order:
        return epoch_order(data, 7, epoch, batch, accumulate, world)

    steps = len(order(0))
    start = min(start, steps * epochs)
    keys = [list(training_keys(order, rank, start, steps, epochs)) for rank in range(world)]
    expected = [
        (micro, step // steps, step)
        for step in range(start, steps * epochs)
        for micro in order(step // steps).group(step % steps)
    ]
    assert all(len(one) == len(expected) for one in keys), "a rank that stops early leaves the others waiting"
    for (micro, epoch, step), *of_ranks in zip(expected, *keys, strict=True):
        for rank, key in enumerate(of_ranks):
            assert key == (micro[rank] if micro[rank] else micro[0], epoch, step)


def test_a_rank_without_images_computes_those_of_rank_0():
    group = Order(np.arange(10), 2, 1, 4).group(1)  # 8 images, then 2 for four ranks
    assert group == [[(8, 9), (), (), ()]]
    assert [fetched(group[0], rank) for rank in range(4)] == [(8, 9)] * 4


def test_own_batches_of_a_task_are_dealt_in_whole_rounds():
    batches = [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(7)]
    order = Order(np.empty(0, dtype=np.int64), 3, 2, 2, batches)
    assert [order.group(step) for step in range(len(order))] == [
        [[(0, 1, 2), (3, 4, 5)], [(6, 7, 8), (9, 10, 11)]],
        [[(12, 13, 14), (15, 16, 17)]],
    ]
    assert order.dropped == 3


def test_too_few_images_are_refused_in_words():
    with pytest.raises(visiontl.DataError, match="too few for one update"):
        epoch_order(visiontl.Data(train=[None]), 0, 0, 4, 1, 2)


def test_rows_of_every_size_batch_and_number_of_ranks_are_merged_once_each():
    """Sizes 1 to 50, batches of 1 to 8, 1 to 3 ranks and, so that some have nothing, 9."""
    empty = 0
    for count, batch, world in itertools.product(range(1, 51), range(1, 9), (1, 2, 3, 9)):
        of_ranks = [[ids for ids, _, _ in evaluation_keys(count, batch, rank, world)] for rank in range(world)]
        chunks = [list(range(count))[i : i + batch] for i in range(0, count, batch)]
        dealt: list[list[list[int]]] = [[] for _ in range(world)]
        for number, chunk in enumerate(chunks):
            dealt[number % world].append(chunk)
        assert [[list(ids) for ids in keys] for keys in of_ranks] == dealt
        empty += sum(not keys for keys in of_ranks)
        parts = [{i: f"row {i}" for ids in keys for i in ids} for keys in of_ranks]
        assert merge_rows(parts[::-1], count) == [f"row {i}" for i in range(count)]
    assert empty > 1000


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 50), data=st.data())
def test_an_image_that_is_missing_twice_or_foreign_is_an_error(count, data):
    rank_of = [data.draw(st.integers(0, 2)) for _ in range(count)]
    parts = [{i: i for i in range(count) if rank_of[i] == rank} for rank in range(3)]
    assert merge_rows(parts, count) == list(range(count))
    victim = data.draw(st.integers(0, count - 1))
    lost = [{i: row for i, row in part.items() if i != victim} for part in parts]
    with pytest.raises(TrainingError, match=rf"missing ids: \[{victim}\]"):
        merge_rows(lost, count)
    with pytest.raises(TrainingError, match=f"twice, such as id {victim}$"):
        merge_rows([*parts, {victim: victim}], count)
    with pytest.raises(TrainingError, match="has rows for"):
        merge_rows([*parts, {count: count}], count)
