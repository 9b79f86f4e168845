"""A rehearsal: one batch of everything (train, evaluate, save, load, predict), leaving nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visiontl.config.resolve import Resolved
from visiontl.engine.predict import load
from visiontl.engine.prepare import Run, set_up
from visiontl.engine.results import Result
from visiontl.processes import ranks
from visiontl.task import SampleDataset


class FirstImages:
    """The beginning of a split."""

    def __init__(self, split: SampleDataset, count: int):
        self.split = split
        self.names: Sequence[str] = split.names[:count]
        self.image = split.image

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self.split[key]


def rehearse(resolved: Resolved, perform: Callable[[Run], Result]) -> Result:
    """perform: trains a run that is set up, and returns its report, as this does; the run folder is gone afterwards."""
    section = resolved.config.train
    size = section.eval_batch_size or section.batch_size
    with tempfile.TemporaryDirectory(prefix="visiontl-dry-run-") as made:
        folder = ranks.broadcast_object(made)
        # an example data set may be made in, and kept in, the folder that the config names
        config = resolved.config.model_copy(
            update={
                "run": resolved.config.run.model_copy(update={"name": None, "trackers": []}),
                "features": resolved.config.features.model_copy(update={"cache": "off"}),
                "resume": None,
            }
        )
        run = set_up(replace(resolved, config=config), limit=1, parent=Path(folder))
        short = {name: FirstImages(split, size) for name, split in run.data.splits().items() if name != "train"}
        run.data = replace(run.data, **short)
        report = perform(run)
        if ranks.rank() == 0:
            split = next(iter(short.values()), None) or run.data.train
            assert split is not None
            shown = load(run.folder).predict([split.image(0)])
            run.console.say(f"predicted: {str(shown[0])[:200]}")
            run.console.say("dry run: training, evaluation, saving, loading and prediction all work; nothing was kept")
        ranks.barrier()
    return report
