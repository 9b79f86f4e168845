"""Float64 within a block, whatever a model or a loss asks for."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from visiontl.testing import Case, ranks
from visiontl.testing.double import in_double


def kinds() -> set[torch.dtype]:
    bytes = torch.ones(2, dtype=torch.uint8)
    made = (
        bytes.float(),
        bytes.to(torch.float32),
        bytes.to("cpu", dtype=torch.float32),
        bytes.new_zeros(2, dtype=torch.float32),
        torch.tensor([1, 2], dtype=torch.float32),
        torch.rand(2),
        nn.BatchNorm1d(2).running_mean,
    )
    return {one.dtype for one in made}


def test_what_asks_for_float32_gets_float64_within_the_block_only():
    with in_double():
        assert kinds() == {torch.float64}
    assert kinds() == {torch.float32}
    with pytest.raises(ZeroDivisionError), in_double():
        raise ZeroDivisionError
    assert kinds() == {torch.float32}


def test_weights_are_not_compared_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "in_double", contextlib.nullcontext)
    with pytest.raises(AssertionError, match="not in float64: backbone"):
        ranks.check_weights(Case("brightness", tmp_path))
