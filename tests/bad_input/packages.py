"""Plugins that fail: at import, at registration, when a hook is called, and in the middle of a run."""

from __future__ import annotations

from dataclasses import dataclass

TASK = """
import visiontl_classification
from dataclasses import replace
from visiontl import hookimpl
from visiontl_classification import TASK
def offer(name, **changes): return replace(TASK, **{"name": name, **changes})
"""
HOOK = "\n@hookimpl\ndef visiontl_tasks(): return {}\n"
POLICY = "from visiontl import hookimpl\n@hookimpl\ndef visiontl_freeze_policies(): return {}\n"
BACKBONE = "from visiontl import hookimpl\n@hookimpl\ndef visiontl_backbones(): return {}\n"
ENTRY = "from visiontl import BackboneEntry\n"


@dataclass(frozen=True)
class Package:
    """source: of its module. ask: overrides that need it, or none. words: what is said when it is asked for;
    without `ask` every command works and `words` is the warning. code: the exit code that is expected."""

    name: str
    source: str
    words: tuple[str, ...]
    ask: tuple[str, ...] = ()
    code: int = 2


def task(name: str, offered: str, *words: str, code: int = 2) -> Package:
    return Package(name, TASK + HOOK.format(offered), words, (f"task.name={name}",), code)


def fails(name: str, function: str, body: str, *words: str, code: int = 1) -> Package:
    """A task whose one function is another."""
    source = TASK + f"def f(*a, **k):\n    {body}\n" + HOOK.format(f"[offer('{name}', {function}=f)]")
    return Package(name, source, words, (f"task.name={name}",), code)


PACKAGES = [
    Package("import_error", "import a_module_that_is_not_there", ("ModuleNotFoundError",)),
    Package("name_error", "x = undefined", ("NameError",)),
    Package("syntax_error", "def (", ("SyntaxError",)),
    Package("tab_error", "if 1:\n\tx = 1\n        y = 2\n", ("TabError",)),
    Package("nul_bytes", "x = 1\0", ("null bytes",)),
    Package("system_exit", "import sys; sys.exit(0)", ("SystemExit",)),
    Package("quits", "quit()", ("SystemExit",)),
    Package("recursion", "def f(): f()\nf()", ("RecursionError",)),
    Package("loud", "raise Exception('line\\n' * 50)", ("Exception: line",)),
    Package("escape", "raise Exception('\\x1b[31mred')", ("Exception",)),
    Package("silent", "x = 1", ("implements no hook",)),
    Package("misspelt", TASK + "\n@hookimpl\ndef visiontl_task(): return []\n", ("did you mean 'visiontl_tasks'",)),
    Package("unmarked", TASK + "\ndef visiontl_tasks(): return []\n", ("not marked as a hook",)),
    Package("argument", "from visiontl import hookimpl\n@hookimpl\ndef visiontl_logged(stepp): pass\n", ("stepp",)),
    Package("hook_raises", TASK + HOOK.format("1 / 0"), ("visiontl_tasks: ZeroDivisionError",)),
    Package("hook_exits", TASK + "import sys\n" + HOOK.format("sys.exit(3)"), ("visiontl_tasks: SystemExit",)),
    Package("hook_number", TASK + HOOK.format("42"), ("returned int; a list of visiontl.Task",)),
    Package("hook_text", TASK + HOOK.format("'tasks'"), ("returned str; a list",)),
    Package("hook_task", TASK + HOOK.format("TASK"), ("returned Task; a list",)),
    Package("hook_rubbish", TASK + HOOK.format("[object()]"), ("returned object in its list",)),
    Package("hook_generator", TASK + HOOK.format("(t for t in [TASK])"), ("returned generator; a list",)),
    task("contract", "[offer('contract', contract=99)]", "written for contract 99"),
    task(
        "no_config", "[offer('no_config', config=dict)]", "config is <class 'dict'> (type); expected a pydantic model"
    ),
    task("twice", "[offer('twice'), offer('twice')]", "task 'twice' is offered by plugin"),
    Package("twin", TASK + HOOK.format("[offer('classification')]"), ("task 'classification' is offered by",), ("x",)),
    Package("policy_list", POLICY.format("[1]"), ("returned list; a mapping",)),
    Package(
        "policy_twin", POLICY.format("{'all': print}"), ("freeze policy 'all' is offered by",), ("freeze.policy=all",)
    ),
    Package("policy_key", POLICY.format("{3: print}"), ("policy_key",)),
    Package("policy_none", POLICY.format("{'mine': None}"), ("mine",), ("freeze.policy=mine",)),
    Package("policy_fails", POLICY.format("{'mine': lambda *a: 1 / 0}"), ("freeze.policy",), ("freeze.policy=mine",)),
    Package(
        "backbone_raises",
        BACKBONE.format("1 / 0"),
        ("visiontl_backbones: ZeroDivisionError",),
        ("backbone.name=mine/x",),
    ),
    Package("backbone_rubbish", BACKBONE.format("[1]"), ("returned int in its list",), ("backbone.name=mine/x",)),
    Package(
        "backbone_twin",
        ENTRY + BACKBONE.format("[BackboneEntry(name='visiontl/tiny', build=lambda **k: None)]"),
        ("backbone 'visiontl/tiny' is offered by",),
        ("x",),
    ),
    Package(
        "backbone_none",
        ENTRY + BACKBONE.format("[BackboneEntry(name='mine/none', build=lambda **k: None)]"),
        ("mine/none",),
        ("backbone.name=mine/none",),
    ),
    fails("data_raises", "data", "raise ValueError('no idea')", "ValueError: no idea"),
    fails("data_exits", "data", "raise SystemExit(7)", "SystemExit"),
    fails("data_nothing", "data", "return None", "data: it gave None", code=2),
    fails("loss_raises", "loss", "raise KeyError('truth')", "KeyError"),
    fails("loss_nothing", "loss", "return None", "loss: it gave None", code=2),
    fails("loss_nan", "loss", "return {'loss': a[1]['logits'].sum() * float('nan')}", "not finite"),
    fails("score_nothing", "score", "return {}", "best is 'accuracy'"),
    fails("rows_too_few", "rows", "return []", "rows gave 0 records for"),
]
