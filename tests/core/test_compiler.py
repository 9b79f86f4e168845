"""torch's compiler is imported by whoever compiles, and by nobody else."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.shared import ROOT

SCRIPT = """
import json, sys
from visiontl.processes import compiler
compiler.let_wait()
compiler.let_wait()
import torch, torchvision, timm
from accelerate import Accelerator
waits = lambda: isinstance(sys.modules["torch._dynamo"], compiler.StandIn)
model = torch.nn.Linear(3, 3)
model, optimizer = Accelerator(cpu=True).prepare(model, torch.optim.AdamW(model.parameters()))
model(torch.zeros(1, 3)).sum().backward()
optimizer.step(), optimizer.zero_grad(), optimizer.state_dict()
with torch.device("meta"):
    timm.create_model("test_efficientnet")
left = torch.compiler.disable(lambda x: x + torch.compiler.is_compiling())
found = {"waits": waits(), "left": float(left(torch.zeros(())))}
import torch._dynamo.config as settings
found["one copy"] = settings is torch._dynamo.config is torch._dynamo.eval_frame.config
found["spec"] = settings.__spec__.origin == settings.__file__
compiled = torch.compile(lambda x: left(x * 2) + 1, backend="eager")
found |= {"compiled": float(compiled(torch.ones(()))), "waits still": waits()}
marks = [hasattr(one.__wrapped__, compiler.MARK) for one in (torch.optim.Optimizer.zero_grad,)]
print(json.dumps(found | {"marks": marks}))
"""


def test_the_compiler_waits_until_something_is_compiled():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("marks") == [False]
    assert found == {"waits": True, "left": 0, "one copy": True, "spec": True, "compiled": 3, "waits still": False}
