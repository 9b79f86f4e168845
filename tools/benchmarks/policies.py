"""Freezing policies against full fine-tuning, and against freezing as it is often done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.children import children
from benchmarks.engine import DEFAULTS, FP32
from benchmarks.harness import Case, Child, Lap, Options, Table, measure, ratios, seconds

ABOUT = """
One optimizer update of visiontl's loop under several policies, against full fine-tuning (`none`) in fp32 and NCHW, on
random weights and pixels in memory (an update's time depends on neither). `wrong freeze` is a bare loop in which the
backbone's convolutions and linear layers need no gradient and BatchNorm stays as `model.train()` leaves it: its
statistics move and its scale and shift train. Defaults are what visiontl chooses itself: channels_last for conv nets,
bf16 where the hardware multiplies in it. Each case is a process; they take turns, in rotating order; ratios are
medians over rounds, with quartiles. `none again` is the control.
"""

EPOCHS = 10  # over which the building of the feature cache is spread
MODELS = {"mobilenetv2_100": 8, "resnet18": 8, "regnetx_004": 8}  # timm's name -> batch
CASES: dict[str, dict[str, Any]] = {
    "none": {"loop": "engine"},
    "none again": {"loop": "engine"},
    "first: 2 stages": {"loop": "engine", "policy": {"first": 2}},
    "wrong freeze": {"loop": "wrong"},
    "all": {"loop": "engine", "policy": "all"},
    "all, cached features": {"loop": "engine", "policy": "all", "cache": True},
    "none, defaults": {"loop": "engine", **DEFAULTS},
    "first: 2 stages, defaults": {"loop": "engine", "policy": {"first": 2}, **DEFAULTS},
    "all, defaults": {"loop": "engine", "policy": "all", **DEFAULTS},
}


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    if options.quick:
        common = {"model": "timm/mobilenetv3_small_050", "batch": 4, "size": 32, "images": 8}
        sample = {name: CASES[name] for name in ("none", "wrong freeze", "all", "none, defaults")}
        yield "Policies, sample", partial(compare, common, sample, 1)
        return
    for threads in (1, 2):
        for model, batch in MODELS.items():
            common = {"model": f"timm/{model}", "batch": batch, "size": 224, "threads": threads}
            title = f"{model}, batch {batch}, 224 pixels, {threads} thread{'s' * (threads > 1)}"
            yield title, partial(compare, common, CASES, 8)


def compare(common: Mapping[str, Any], cases: Mapping[str, Mapping[str, Any]], rounds: int) -> Table:
    """One row per policy."""
    settings = {"steps": 2, **FP32, **common}
    with children(cases, settings) as found:
        laps = measure([Case(name, partial(amortised, child, settings)) for name, child in found.items()], rounds)
        chosen = found["none, defaults"].told
    rows = []
    images = settings["steps"] * settings["batch"]
    for name, mine in laps.items():
        speeds = [ratios(laps[other], mine).text(2) for other in ("none", "wrong freeze")]
        rows.append(
            [name, seconds(mine).text(1, 1e3 / settings["steps"]), f"{images / seconds(mine).median:.1f}", *speeds]
        )
    layout = "channels_last" if chosen["channels_last"] else "contiguous"
    notes = [
        f"Defaults chosen here: {chosen['precision']}, {layout}. `all, cached features`: the cache's building is "
        f"spread over {EPOCHS} epochs. Targets: `all` at least 3 x `none` and 2 x the wrong freeze; `none` with the "
        "defaults at least 2 x `none`."
    ]
    values = {name: [lap.seconds / settings["steps"] for lap in mine] for name, mine in laps.items()}
    columns = ["policy", "ms per update", "images/s", "times as fast as `none`", "times as fast as the wrong freeze"]
    return Table(columns, rows, notes, values=values)


def amortised(child: Child, settings: Mapping[str, Any]) -> Lap:
    """A lap, with these images' share of what building the cache took."""
    lap = child.lap()
    images = settings.get("images", 64)
    share = child.told["cache_seconds"] / images / EPOCHS * settings["steps"] * settings["batch"]
    return Lap(lap.seconds + share, lap.losses, lap.cpu_seconds)
