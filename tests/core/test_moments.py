"""Moments of 8 bits: what is asked of the library, what a checkpoint holds of it, and what is refused."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from visiontl.config.schema import OptimConfig
from visiontl.engine import moments
from visiontl.engine.train import fit
from visiontl.errors import CheckpointError, ConfigError
from visiontl.runs import store
from visiontl.testing.case import Case, same, state

BITS = "optim.name=adamw8bit"


class Rounded(torch.optim.Optimizer):
    """Stands in for bitsandbytes' where that is not installed: a state of the same names, kinds and shapes, moments of
    large tensors rounded to a grid of 8 bits a block of 256, walked through in the order of memory."""

    def __init__(self, params, lr, betas, min_8bit_size):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": 0.0})
        self.least, self.codes = min_8bit_size, torch.arange(256) / 255  # one table for all

    def load_state_dict(self, state_dict):
        """Moments stay what they are, which torch's own would make fp32."""
        super().load_state_dict(state_dict)
        own = [one for group in self.param_groups for one in group["params"]]
        for number, kept in state_dict["state"].items():
            self.state[own[number]] = dict(kept)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for one in [one for one in group["params"] if one.grad is not None]:
                one.data = one.data.contiguous()
                kept, gradient = self.state[one], one.grad.contiguous().view(-1)
                blocks = -(-one.numel() // 256)
                if not kept:
                    small = one.numel() < self.least
                    kind = torch.float32 if small else torch.uint8
                    kept |= {"step": 0, "state1": torch.zeros_like(one, dtype=kind)}
                    kept |= {"state2": torch.zeros_like(one, dtype=kind)}
                    kept |= {} if small else {f"qmap{i}": self.codes for i in (1, 2)}
                    kept |= {} if small else {f"absmax{i}": torch.zeros(blocks) for i in (1, 2)}
                assert type(kept["step"]) is int
                kept["step"] += 1
                for i, (beta, new) in enumerate(zip(group["betas"], (gradient.abs(), gradient**2), strict=True), 1):
                    flat = kept[f"state{i}"].view(-1)
                    if flat.dtype == torch.float32:
                        flat.mul_(beta).add_(new, alpha=1 - beta)
                        continue
                    scale = kept[f"absmax{i}"].repeat_interleave(256)[: one.numel()]
                    value = beta * kept[f"qmap{i}"][flat.long()] * scale + (1 - beta) * new
                    padded = torch.zeros(blocks * 256).index_put((torch.arange(one.numel()),), value)
                    kept[f"absmax{i}"].copy_(padded.view(blocks, 256).amax(1).clamp_min(1e-12))
                    scale = kept[f"absmax{i}"].repeat_interleave(256)[: one.numel()]
                    flat.copy_((value / scale * 255).round().to(torch.uint8))
                size = kept["state1"].view(-1).float() + 1
                one.view(-1).sub_(group["lr"] * gradient.sign() * size / size.amax())


@pytest.fixture
def bits(monkeypatch):
    """The library, or what stands in for it."""
    try:
        return moments.library().optim.AdamW8bit
    except ConfigError:
        made = ModuleType("bitsandbytes")
        made.optim = ModuleType("bitsandbytes.optim")
        made.optim.AdamW8bit = Rounded
        monkeypatch.setitem(sys.modules, "bitsandbytes", made)
        monkeypatch.setitem(sys.modules, "bitsandbytes.optim", made.optim)
        return Rounded


def lacking(folder, kind):
    """A checkpoint, written anew without one tensor of this kind in the optimizer's state."""
    model, kept = (store.read_tensors(folder, f"{name}.safetensors") for name in ("model", "optimizer"))
    del kept[next(key for key in kept if key.endswith(kind))]
    text = (folder / "state.json").read_text()
    store.write_folder(folder, {"model.safetensors": model, "optimizer.safetensors": kept, "state.json": text})


def test_a_run_goes_on_with_the_same_bits(bits, tmp_path):
    """From a checkpoint in the middle of an epoch, of a model whose weights are laid out channels last elsewhere; a
    checkpoint that lacks a part is refused."""
    settings = ("train.checkpoint_every=1 step", "train.channels_last=true", "optim.schedule=constant")
    case = Case("classification", tmp_path, {}, (BITS, *settings))
    whole, broken = case.run(limit=3), case.run(limit=1)
    assert isinstance(whole.optimizer, bits)
    fit(whole)
    fit(broken)
    held = store.read_tensors(store.step_folders(broken.folder / "checkpoints")[0], "optimizer.safetensors")
    kinds = {key.rpartition("|")[2]: value.dtype for key, value in held.items() if value.dtype == torch.uint8}
    assert set(kinds) == {"state1", "state2"}
    resumed = case.run(f"resume={broken.folder}", limit=3)
    fit(resumed)
    assert not same(state(whole), state(resumed))
    lacking(store.step_folders(broken.folder / "checkpoints")[0], "absmax2")
    with pytest.raises(CheckpointError, match=r"does not fit the model \(lacks .*absmax2"):
        fit(case.run(f"resume={broken.folder}", limit=4))


def test_what_is_not_there_is_refused_before_anything_is_read(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        ConfigError, match=r"needs bitsandbytes .*pip install 'visiontl\[bits\]'; optim.name=adamw needs"
    ):
        Case("classification", tmp_path).run(BITS)
    assert not list(tmp_path.glob("runs/*/checkpoints"))


def test_a_device_without_it_is_refused():
    with pytest.raises(ConfigError, match="bitsandbytes has none for mps"):
        moments.adamw8bit([], OptimConfig(), torch.device("mps"))
