"""What a run says before it trains: what it works with, what of the model trains when, and what never does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from visiontl.backbones.weights import LoadReport
from visiontl.engine.order import Orders
from visiontl.freezing.layout import Layout
from visiontl.freezing.policies import Mode
from visiontl.kit.words import plural
from visiontl.report.console import Console
from visiontl.report.formats import human
from visiontl.report.run import StageRow


def announce_weights(report: LoadReport, console: Console) -> None:
    """What was loaded; a warning where some of the backbone starts at random beside pretrained weights, or
    the file seems to be of a larger architecture."""
    if report.missing or report.deeper:
        console.warn(report.lines[0], report.lines[1:])
    else:
        console.say(report.lines[0], keep=True, lines=report.lines[1:])


def announce_layout(layout: Layout, console: Console) -> None:
    unread = [stage for stage in layout.totals if stage not in layout.members]
    if layout.unread:
        whole = f"; whole stages: {', '.join(unread)}" if unread else ""
        console.say(f"{len(layout.unread)} parameters are not read by the loss and never train{whole}", keep=True)
    if layout.fixed:
        console.say(f"{len(layout.fixed)} parameters are fixed by the task or the architecture", keep=True)


def announce_phases(
    phases: Sequence[tuple[int, Mapping[str, Mode]]],
    layout: Layout,
    edges: Sequence[int],
    epochs: int,
    console: Console,
) -> None:
    """edges: epochs at which the policy declares a change; epochs: of the run."""
    for edge in edges:
        if edge >= epochs:
            console.warn(f"freeze.policy: the change at epoch {edge} never comes; train.epochs is {epochs}")
    asleep = [stage for stage in layout.stages if all(modes[stage] == "frozen" for _, modes in phases)]
    if len(phases) > 1 and asleep:
        console.say(f"frozen for the whole run, in every phase: {', '.join(asleep)}", keep=True)


def announce_phase(rows: Sequence[StageRow], epoch: int, console: Console) -> None:
    total, active = sum(row.parameters for row in rows), sum(row.trainable for row in rows)
    console.table(
        f"epoch {epoch}: {human(active)} of {human(total)} parameters train",
        ["stage", "mode", "parameters", "trainable", "peak lr"],
        [[row.stage, row.mode, human(row.parameters), human(row.trainable), row.lr] for row in rows],
    )


def warn_of_no_loss(values: Mapping[str, float], step: int, console: Console) -> None:
    """Once: a loss of exactly 0 has no gradient, and most often no labels either."""
    if values.get("loss") == 0 and not any("the loss is 0 " in note for note in console.notes):
        console.warn(
            f"the loss is 0 at step {step}: nothing is learned from it. Labels of one class alone, or all ignored, "
            "give such a loss; `visiontl doctor CONFIG` shows what the labels hold"
        )


def announce_data(orders: Orders, total: int, epochs: int, console: Console) -> None:
    """total: optimizer updates of the run."""
    splits, world = orders.data.splits(), orders.world
    counts = ", ".join(f"{name} {len(split)}" for name, split in splits.items())
    console.say(f"images: {counts}; updates: {total}, epochs: {epochs}, processes: {world}")
    console.say(
        f"batch: {orders.batch_size} per process x {orders.accumulate} accumulated x {world} processes "
        f"= {orders.batch_size * orders.accumulate * world} per update"
    )
    dropped = orders(0).dropped
    if dropped:
        left = f"{dropped} {plural(dropped, 'image')} of each epoch, other ones every time"
        console.say(f"{left}, {plural(dropped, 'is')} left over and not used", keep=True)
    if "val" not in splits:
        console.warn("there is no val split: no score picks the best weights, the last ones are kept")
