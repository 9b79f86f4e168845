"""Low-rank adapters of a run: into its model before it trains, and on disk beside its best weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visiontl import plugins
from visiontl.backbone import Backbone
from visiontl.engine.model import Built
from visiontl.errors import PolicyError
from visiontl.freezing.layout import ADAPTER, backbone_prefix
from visiontl.freezing.surgical import Lora
from visiontl.kit.words import count, some
from visiontl.methods import lora
from visiontl.processes.seeds import INIT, mix, seeded
from visiontl.report.console import Console
from visiontl.runs import store


def adapt(built: Built, console: Console) -> None:
    """Adapters into the backbone, where freeze.policy asks for them, after the weights of the start were loaded."""
    policy = plugins.policy(built.resolved.config.freeze.policy)
    if not isinstance(policy, Lora):
        return
    with seeded(mix(built.resolved.config.train.seed, INIT, 2)):
        names = lora.insert(built.backbone, policy)
    if policy.start is not None:
        lora.read(built.backbone, Path(policy.start), policy)
    begun = "" if policy.start is None else f", which begin as those of {policy.start}"
    console.say(f"low-rank adapters of rank {policy.rank} in {count(len(names), 'layer')}{begun}", keep=True)
    say_full(built.backbone, names, policy.rank, console)


def say_full(backbone: Backbone, names: Sequence[str], rank: int, console: Console) -> None:
    """The layers whose adapter is not of low rank: it can be any change, and trains more weights than the layer has."""
    widths = {name: min(backbone.get_submodule(name).weight.shape[:2]) for name in names}  # type: ignore[union-attr]
    full = {name: width for name, width in widths.items() if width <= rank}
    if not full:
        return
    least = min(full, key=lambda name: full[name])
    told = (
        f"rank {rank} is no low rank in {len(full)} of {count(len(names), 'layer')} ({least} is {full[least]} wide): "
        "an adapter there trains more weights than the layer has"
    )
    if 2 * len(full) > len(names):
        console.warn(f"freeze.policy: lora: {told}; lower the rank, or name wider layers in targets")
    else:
        console.say(told, keep=True)


def require_called(built: Built, read: set[str]) -> None:
    """Raises PolicyError for layers whose weights the loss reads while the layers themselves are never called: an
    adapter there would do nothing. read: names of the parameters that the loss reaches."""
    prefix = backbone_prefix(built.model, built.backbone)
    places = [f"{prefix}{name}" for name in lora.adapters(built.backbone)]
    idle = [place for place in places if f"{place}.weight" in read and f"{place}.{ADAPTER[0]}" not in read]
    if idle:
        raise PolicyError(
            f"freeze.policy: lora: {some(idle, 3)} are never called, only their weights are read, so an adapter "
            "there would do nothing; name others in targets"
        )


def write_adapter(folder: Path, kept: Built) -> None:
    """`adapter/` of a run: the adapters alone, in peft's format."""
    policy = plugins.policy(kept.resolved.config.freeze.policy)
    if isinstance(policy, Lora):
        store.write_folder(folder / "adapter", lora.files(kept.backbone, policy))
