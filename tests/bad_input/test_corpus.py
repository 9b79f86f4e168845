"""The corpus itself: how many inputs there are, each under a name of its own."""

from __future__ import annotations

from collections import Counter

from tests.bad_input.configs import CONFIGS
from tests.bad_input.packages import PACKAGES
from tests.bad_input.pictures import READABLE, UNREADABLE
from tests.bad_input.run_folders import CHECKPOINTS, MODELS
from tests.bad_input.sources import FOLDERS, NAMES
from tests.bad_input.tables import LISTS, TABLES
from tests.bad_input.test_run_folders import NO_RUNS, PLACES
from tests.bad_input.weights import NO_WEIGHTS, RUNS_CODE

KINDS = {
    "pictures": ([one.file for one in [*READABLE, *UNREADABLE]], 40),
    "folders, names, tables and lists": (
        [
            *(f"folder: {one.name}" for one in FOLDERS),
            *(f"name: {name}" for name in NAMES),
            *(f"table: {one.name}" for one in TABLES),
            *(f"list: {one.name}" for one in LISTS),
        ],
        30,
    ),
    "configs": ([one.name for one in CONFIGS], 50),
    "run folders": (
        [
            *(f"model: {one.name}" for one in MODELS),
            *(f"checkpoint: {one.name}" for one in CHECKPOINTS),
            *(f"place: {name}" for name in PLACES),
            *(f"no run: {name}" for name in NO_RUNS),
        ],
        20,
    ),
    "plugins": ([one.name for one in PACKAGES], 20),
    "weights": ([one.name for one in [*RUNS_CODE, *NO_WEIGHTS]], 15),
}


def test_the_corpus_is_large_and_its_names_are_unique():
    for kind, (names, least) in KINDS.items():
        assert len(names) >= least, kind
        assert [name for name, count in Counter(names).items() if count > 1] == []
    assert sum(len(names) for names, _ in KINDS.values()) >= 150
