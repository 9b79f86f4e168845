"""The door between a run and the methods that its config asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator

from visiontl.engine.adapting import require_called
from visiontl.engine.as_it_is import before
from visiontl.engine.caching import Probed
from visiontl.engine.model import Built, load_model
from visiontl.engine.order import evaluation_keys
from visiontl.engine.rows import still_batches
from visiontl.kit.words import count
from visiontl.methods.made import make_method
from visiontl.methods.recompute import recompute
from visiontl.methods.terms import Method, Situation
from visiontl.report.console import Console
from visiontl.task import Data


def method_of(
    accelerator: Accelerator, built: Built, found: Data, ever: set[str], probed: Probed, console: Console
) -> Method:
    """What training minimizes. ever: names of the parameters that train in some phase. The model holds the weights of
    the start: those of a checkpoint come later."""

    require_called(built, probed.probe.read)
    if built.resolved.config.train.recompute:
        console.say(f"activations are computed again in {count(recompute(built.backbone), 'block')}", keep=True)

    def images() -> Iterator[dict[str, Any]]:
        split = found.still or found.train
        assert split is not None
        keys = evaluation_keys(len(split), built.batch_size)
        for _, batch in still_batches(accelerator, built, split, keys, Console(main=False), None):
            yield batch

    here = Situation(
        resolved=built.resolved,
        model=built.model,
        backbone=built.backbone,
        meta=built.meta,
        ever=frozenset(ever),
        calls=probed.probe.calls,
        autocast=lambda: accelerator.autocast(),
        images=images,
        load=load_model,
        old=lambda: before(built.resolved),
        say=lambda text: console.say(text, keep=True),
    )
    return make_method(here)
