"""Which splits are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from visiontl.errors import DataError
from visiontl.task import SampleDataset


def choose_splits(available: Mapping[str, SampleDataset], wanted: Sequence[str] | None) -> dict[str, SampleDataset]:
    """The asked-for splits; by default all that were not trained on."""
    if wanted:
        unknown = [name for name in wanted if name not in available]
        if unknown:
            raise DataError(f"no split {', '.join(unknown)} here; there is {', '.join(available)}")
        return {name: available[name] for name in wanted}
    chosen = {name: split for name, split in available.items() if name != "train"}
    if not chosen:
        raise DataError("there is neither a val nor a test split; name one with --split, such as --split train")
    return chosen
