"""Everything that stands before the first update, in three steps: build, arrange, open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from visiontl import plugins
from visiontl.config.resolve import Resolved
from visiontl.config.write import to_yaml
from visiontl.engine import folds, moments, scan
from visiontl.engine.adapting import adapt
from visiontl.engine.announcements import announce_data, announce_layout, announce_phases
from visiontl.engine.caching import make_caches, probe_batch
from visiontl.engine.deciding import pace, policy_of
from visiontl.engine.device import Placement, current_device, place
from visiontl.engine.ema import Ema
from visiontl.engine.feature_cache import FeatureCache
from visiontl.engine.init import warm_start
from visiontl.engine.method import method_of
from visiontl.engine.model import Built
from visiontl.engine.optim import make_optimizer
from visiontl.engine.order import Orders, fetched
from visiontl.engine.start import backbone_to_train, build, newest_checkpoint, start_from_data
from visiontl.engine.wholes import with_start
from visiontl.engine.wrapping import load_model_state
from visiontl.errors import DataError
from visiontl.freezing.layout import Layout, make_layout, phases, table, trainable
from visiontl.freezing.policies import Mode
from visiontl.freezing.rates import stage_rates
from visiontl.kit import memory
from visiontl.methods.terms import Method
from visiontl.processes import ranks
from visiontl.processes.seeds import INIT, mix, seeded
from visiontl.report.console import Console
from visiontl.report.run import StageRow
from visiontl.runs import folders, store
from visiontl.runs.environment import check_processes, named_folder, run_folder
from visiontl.runs.metrics import check_trackers
from visiontl.task import Data


@dataclass
class Run:
    """A run that is set up and not yet trained.

    phases: [(first epoch, modes of the stages)]. total: optimizer updates. ema: the average of the weights, where one
    is kept. caches: {split: features of the frozen backbone}. folder: made last, when all else stands.
    """

    resolved: Resolved
    console: Console
    placement: Placement
    built: Built
    data: Data
    orders: Orders
    layout: Layout
    phases: list[tuple[int, dict[str, Mode]]]
    optimizer: Optimizer
    method: Method
    total: int
    caches: Mapping[str, FeatureCache]
    ema: Ema | None
    folder: Path = field(init=False)
    began: datetime = field(default_factory=datetime.now)

    @property
    def accelerator(self) -> Any:
        return self.placement.accelerator

    @property
    def steps_per_epoch(self) -> int:
        return self.orders.steps_per_epoch

    @property
    def kept(self) -> Built:
        """The model that is evaluated and exported: the average, where there is one."""
        return self.built.averaged(self.ema.model) if self.ema else self.built

    def trainability(self, modes: Mapping[str, Mode], epoch: int) -> list[StageRow]:
        """The table of the phase that begins at an epoch: a row per stage, and one for the head."""
        optim = self.resolved.config.optim
        lr = optim.lr * pace(self.resolved, epoch)
        rates = stage_rates(self.layout.stages, lr, optim.backbone_scale, optim.layer_decay)
        return table(self.layout, modes, rates)


def set_up(
    resolved: Resolved, limit: int | None = None, parent: Path | None = None, console: Console | None = None
) -> Run:
    """limit: optimizer updates at most; parent: where the run folder is made, in place of run.folder."""
    current_device()  # starts the process group
    console = console or Console(main=ranks.rank() == 0)
    check_processes(resolved.config.run.processes)
    check_trackers(resolved.config.run.trackers)
    moments.require(resolved.config.optim)
    plugins.check_steps(resolved.task)
    parent = parent or Path(resolved.config.run.folder)
    ranks.on_main(lambda: check_folder(resolved, parent))
    built, found, complete = begin(resolved, console)
    run = arrange(built, found, complete, console, limit)
    run.folder = open_folder(run, parent)
    announce_data(run.orders, run.total, resolved.config.train.epochs, console)
    return run


# ---------------------------------------------------------------------------------------------- build: model and data


def begin(resolved: Resolved, console: Console) -> tuple[Built, Data, bool]:
    """The model with its starting weights, and the data. True: all its weights are set, and a task's `start` has
    nothing to add."""
    resolved = with_start(resolved, console)
    with seeded(mix(resolved.config.train.seed, INIT)):
        backbone, loaded, newest = ranks.main_first(lambda: backbone_to_train(resolved, console))
        built, found = build(resolved, backbone, loaded, console)
    if found.train is None:
        raise DataError("the data has no train split; `visiontl evaluate` measures without training")
    found = folds.readable_data(resolved.config.data, resolved.task, built.resolved.cfg, found, console)
    complete = newest is not None or warm_start(built, console)
    adapt(built, console)
    if newest is not None:
        load_model_state(built.model, store.read_tensors(newest, "model.safetensors"), newest / "model.safetensors")
    return built, found, complete


# ---------------------------------------------------------------- arrange: what of it trains, when, how fast, on what


def arrange(built: Built, found: Data, complete: bool, console: Console, limit: int | None) -> Run:
    config, section = built.resolved.config, built.resolved.config.train
    orders = Orders(found, section.seed, section.batch_size, section.accumulate, ranks.world())
    total = orders.steps_per_epoch * section.epochs
    placement = place(section, built.model, built.backbone, console, config.run.trackers)
    accelerator = placement.accelerator

    # what the loss reads, and so what can train at all
    first = fetched(orders(0).group(0)[0], ranks.rank())
    probed = ranks.agree(lambda: probe_batch(accelerator, built, found, first))
    read = set().union(*ranks.gather_objects(probed.probe.read))
    layout = make_layout(built.model, built.backbone, read)
    announce_layout(layout, console)

    # what trains when
    policy = policy_of(accelerator, built, found, orders, layout, console)
    planned = phases(policy, section.epochs, layout)
    announce_phases(planned, layout, getattr(policy, "edges", ()), section.epochs, console)
    ever = {name for _, modes in planned for name in trainable(layout, modes)}
    optimizer = make_optimizer(config.optim, built.model, layout, ever, accelerator.device)
    method = method_of(accelerator, built, found, ever, probed, console)

    # what never changes is computed once
    frozen = len(planned) == 1 and all(mode == "frozen" for mode in planned[0][1].values())
    caches = {}
    if frozen and config.features.cache != "off" and section.epochs > 0 and not method.needs_images:
        caches = make_caches(placement, built, found, probed, console)
    complete = complete or ranks.on_main(lambda: newest_checkpoint(config.resume) is not None)
    if built.resolved.task.start is not None and not complete:
        start_from_data(accelerator, built, found, caches.get("train"), console)
    return Run(
        resolved=built.resolved,
        console=console,
        placement=placement,
        built=built,
        data=found,
        orders=orders,
        layout=layout,
        phases=planned,
        optimizer=optimizer,
        method=method,
        total=total if limit is None else min(total, limit),
        caches=caches,
        ema=Ema(built.model, section.ema.decay) if section.ema else None,
    )


# --------------------------------------------------------------------------------------------- open: the run's folder


def check_folder(resolved: Resolved, parent: Path) -> None:
    """Refuse a taken name, a folder that cannot be resumed or written to, before anything else is done."""
    if resolved.config.resume is None:
        folders.require_free(parent, resolved.config.run.name)
    else:
        folders.require_run(Path(resolved.config.resume))
        folders.require_writable(Path(resolved.config.resume))


def open_folder(run: Run, parent: Path) -> Path:
    """The folder of a new run, or of the one that is resumed; held until the run ends, with its config and lists."""
    config, text = run.resolved.config, to_yaml(run.resolved) if run.resolved.config.resume is None else None
    if config.resume is not None:
        folder = Path(config.resume)
    elif config.run.name is not None:
        folder = named_folder(parent, config.run.name)
    else:
        folder = run_folder(parent, Path(run.resolved.source).stem or run.resolved.task.name)

    def fill() -> None:
        names = {name: split.names for name, split in run.data.splits().items()}
        folders.write_lists(folder, text, names, scan.unreadable_lines(run.data))
        memory.write_to(folder)

    ranks.on_main(lambda: folders.begin(folder, text is not None, fill))
    return folder
