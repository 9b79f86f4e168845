"""What stands between a command and the first update of its run."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import pytest

from tests.shared import ROOT
from visiontl.processes import garbage

HEAVY = {
    "torchvision", "timm", "torch._inductor", "torch.distributed.tensor", "sympy", "scipy", "sklearn", "pandas",
    "matplotlib", "jinja2", "rich", "tensorboard", "torch.utils.tensorboard", "pycocotools", "optuna", "transformers",
}  # fmt: skip
SCRIPT = """
import gc, json, sys
from visiontl.cli import main
from visiontl.processes import compiler, garbage
from visiontl.runs.metrics import Metrics

class Updated(BaseException):
    pass

def updated(self, *values, **more):
    raise Updated

Metrics.add = updated
try:
    main(["train", *json.loads(sys.argv[1])])
except Updated:
    heavy = sorted(set(json.loads(sys.argv[2])) & set(sys.modules))
    waits = isinstance(sys.modules["torch._dynamo"], compiler.StandIn)
    print(json.dumps({"heavy": heavy, "waits": waits, "collects": gc.isenabled(), "left": gc.get_freeze_count()}))
"""


def test_nothing_is_imported_that_the_first_update_does_not_need(tmp_path):
    overrides = ["task.data=example", "backbone.name=visiontl/tiny", "backbone.weights=none", "freeze.policy=none"]
    config = ["configs/classification/quickstart.yaml", f"run.folder={tmp_path}", "train.log_every=1", *overrides]
    arguments = [json.dumps(config), json.dumps(sorted(HEAVY))]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"heavy": [], "waits": True, "collects": True, "left": 0}


def test_nothing_is_collected_while_modules_are_imported():
    assert gc.isenabled()
    with garbage.uncollected():
        assert not gc.isenabled()
        with garbage.uncollected():
            pass
        assert not gc.isenabled()  # as it was found
    with pytest.raises(ImportError), garbage.uncollected():
        raise ImportError
    assert gc.isenabled()


def test_what_was_imported_is_left_out_of_collections_until_the_end():
    with garbage.left_out():
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0
    with pytest.raises(ImportError), garbage.left_out():
        raise ImportError
    assert gc.get_freeze_count() == 0
