"""Installed packages, sound and broken, made on the spot: one process loads them all, case by case."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.shared import ROOT

TASK = """
from visiontl import Section, Task, hookimpl
class C(Section):
    '''Counts sheep. Slowly.'''
def f(*a): return None
def task(name, **more):
    return Task(**{**dict(name=name, config=C, data=f, sample=f, collate=f, model=f, loss=f, rows=f, score=f,
                best=("accuracy", "max"), predict=f), **more})
"""

NEWER = "update visiontl, or install an older version of the package"
LOSS = "expected loss(cfg, outputs, batch, meta)"
OFFER = "\n@hookimpl\ndef visiontl_tasks(): return [{}]\n"

# package -> (version, source)
PACKAGES = {
    "sound": ("1.0", TASK + OFFER.format('task("sheep"), task("goats")')),
    "broken_import": ("2.1", "import a_module_that_is_not_there"),
    "broken_syntax": ("2.2", "def ("),
    "broken_exit": ("2.3", "import sys; sys.exit(3)"),
    "misspelt": ("3.0", TASK + "\n@hookimpl\ndef visiontl_task(): return [task('m')]\n"),
    "wrong_arguments": (
        "3.1",
        "from visiontl import hookimpl\n@hookimpl\ndef visiontl_logged(stepp): pass\n",
    ),
    "unmarked": ("3.2", TASK + "\ndef visiontl_tasks(): return [task('u')]\n"),
    "silent": ("3.3", "x = 1"),
    "raises": ("4.0", TASK + OFFER.format("1 / 0")),
    "no_list": ("4.1", TASK + "\n@hookimpl\ndef visiontl_tasks(): return task('n')\n"),
    "no_task": ("4.2", TASK + OFFER.format("42")),
    "twin_a": ("5.0", TASK + OFFER.format('task("twin"), task("only_a")')),
    "twin_b": ("5.1", TASK + OFFER.format('task("twin")')),
    "old_contract": ("6.0", TASK + OFFER.format('task("old", contract=0), task("new")')),
    "newer_task": ("6.5", TASK + OFFER.format('task("newer", contract=2, emit=f)')),
    "newer_hooks": ("6.6", "visiontl_contract = 2\n" + TASK + OFFER.format('task("n")')),
    "stated": ("6.7", "visiontl_contract = 1\n" + TASK + OFFER.format('task("stated")')),
    "typo": ("6.8", TASK + OFFER.format('task("typo", modell=f)')),
    "lax": (
        "6.1",
        TASK + "import pydantic\nclass Lax(pydantic.BaseModel): a: int = 1\n" + OFFER.format('task("lax", config=Lax)'),
    ),
    "named": (
        "6.2",
        TASK + "class Named(Section): name: str = 'x'\n" + OFFER.format('task("named", config=Named)'),
    ),
    "wrong_step": ("6.3", TASK + "def loss(outputs, batch): pass\nTASKS = [task('w', loss=loss)]\n"),
    "wrong_in_hook": ("6.4", TASK + "def loss(outputs, batch): pass\n" + OFFER.format("task('v', loss=loss)")),
    "policy": (
        "7.0",
        "from visiontl import hookimpl\n@hookimpl\ndef visiontl_freeze_policies(): return {'mine': lambda a: a}\n",
    ),
    "policy_twin": (
        "7.1",
        "from visiontl import hookimpl\n@hookimpl\ndef visiontl_freeze_policies(): return {'mine': print}\n",
    ),
    "watcher": ("8.0", "from visiontl import hookimpl\n@hookimpl\ndef visiontl_logged(step): pass\n"),
    "bodies": (
        "9.0",
        "from visiontl import BackboneEntry, hookimpl\n@hookimpl\n"
        "def visiontl_backbones(): return [BackboneEntry('bodies/one', build=lambda **more: None), "
        "BackboneEntry('bodies/two', build=lambda spec: None, state=lambda: {})]\n",
    ),
}

SCRIPT = """
import json, os, sys
from visiontl import plugins
from visiontl.errors import VisionTLError

def answer(call):
    try:
        value = call()
    except VisionTLError as error:
        return f"{type(error).__name__}: {error}"
    return getattr(value, "name", None) or repr(value)

def case(chosen, *names):
    plugins.reset()
    os.environ["VISIONTL_PLUGINS"] = chosen
    try:
        found = {"tasks": sorted(plugins.tasks())}
    except VisionTLError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    found["broken"] = {b.name: str(b) for b in plugins.broken()}
    found["warnings"] = plugins.warnings()
    found["installed"] = {
        i.name: [i.distribution, i.version, i.state, i.offers, i.contract, i.error] for i in plugins.installed()
    }
    found["policies"] = sorted(plugins.policies())
    found["asked"] = {name: answer(lambda: plugins.task(name)) for name in names}
    return found

every = ",".join(PACKAGES)
out = {
    "all": case(every, "sheep", "shep", "twin", "only_a", "old", "new", "lax", "broken_import", "raises", "named"),
    "none": case("", "sheep"),
    "one": case("sound", "sheep", "twin_a"),
    "unknown": case("sond,sound"),
    "spaces": case(" sound , policy "),
}
plugins.reset()
os.environ["VISIONTL_PLUGINS"] = "policy,policy_twin"
out["policy clash"] = [answer(lambda: plugins.policy("mine")), answer(lambda: plugins.policy("none")),
                       answer(lambda: plugins.policy({"frist": 2}))]
plugins.reset()
os.environ["VISIONTL_PLUGINS"] = "bodies"
out["bodies"] = answer(lambda: plugins.backbone_entry("bodies/one")[0])
out["refused"] = answer(lambda: plugins.backbone_entry("bodies/two"))
out["near"] = answer(lambda: plugins.backbone_entry("bodies/oen"))
out["bodies installed"] = case("bodies")["installed"]["bodies"]
out["listed"] = "bodies/one" in plugins.backbones()
del os.environ["VISIONTL_PLUGINS"]
plugins.reset()
out["unset"] = "sheep" in plugins.tasks()
out["torch"] = "torch" in sys.modules
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("packages")
    for name, (version, source) in PACKAGES.items():
        (folder / f"{name}_module.py").write_text(textwrap.dedent(source))
        info = folder / f"{name}_package-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[visiontl]\n{name} = {name}_module\n")
    paths = [str(folder), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    script = f"PACKAGES = {list(PACKAGES)!r}\n{SCRIPT}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_broken_package_is_named_and_stops_nobody(found):
    case = found["all"]
    assert case["tasks"] == ["goats", "new", "only_a", "sheep", "stated"]
    assert case["asked"]["sheep"] == "sheep"
    expected = {
        "broken_import": ["broken_import-package 2.1", "ModuleNotFoundError", "a_module_that_is_not_there"],
        "broken_syntax": ["broken_syntax-package 2.2", "SyntaxError"],
        "broken_exit": ["broken_exit-package 2.3", "SystemExit: 3"],
        "misspelt": ["misspelt-package 3.0", "visiontl_task is no hook; did you mean 'visiontl_tasks'"],
        "wrong_arguments": ["wrong_arguments-package 3.1", "stepp"],
        "unmarked": ["unmarked-package 3.2", "visiontl_tasks is not marked", "@visiontl.hookimpl"],
        "silent": ["silent-package 3.3", "implements no hook", "visiontl_freeze_policies"],
        "raises": ["raises-package 4.0", "visiontl_tasks: ZeroDivisionError"],
        "no_list": ["no_list-package 4.1", "returned Task; a list of visiontl.Task"],
        "no_task": ["no_task-package 4.2", "returned int in its list"],
        "old_contract": ["old_contract-package 6.0", "'old' was written for contract 0", "serves contract 1"],
        "newer_task": [
            "newer_task-package 6.5) is broken: visiontl_tasks: task 'newer' was written for contract 2; ",
            NEWER,
        ],
        "newer_hooks": [
            "newer_hooks-package 6.6) is broken: it was written for contract 2; this visiontl serves",
            NEWER,
        ],
        "typo": ["typo-package 6.8", "task 'typo': no field 'modell'; did you mean 'model'?"],
        "lax": ["lax-package 6.1", "lets unknown keys pass; derive it from visiontl.Section"],
        "named": ["named-package 6.2", "has a key `name`"],
        "wrong_step": ["wrong_step-package 6.3) is broken: task 'w': loss is loss(outputs, batch) at ", LOSS],
        "wrong_in_hook": ["wrong_in_hook-package 6.4", "visiontl_tasks: task 'v': loss is loss(outputs, batch)", LOSS],
    }
    assert set(case["broken"]) == set(expected)
    for name, parts in expected.items():
        for part in parts:
            assert part in case["broken"][name]
    for line in case["broken"].values():
        assert line in case["warnings"]


def test_a_name_offered_twice_names_both_plugins(found):
    for line in (found["all"]["asked"]["twin"], " ".join(found["all"]["warnings"])):
        assert "task 'twin' is offered by plugin 'twin_a' (twin_a-package 5.0) and by plugin 'twin_b'" in line
    assert found["all"]["asked"]["only_a"] == "only_a"
    clash, sound, misspelt = found["policy clash"]
    assert clash.startswith("PluginError: freeze policy 'mine' is offered by plugin 'policy'")
    assert "'policy_twin'" in clash
    assert "NoFreeze" in sound
    assert "did you mean 'first'" in misspelt
    assert "mine" not in found["all"]["policies"]


def test_asking_for_a_task_that_cannot_be_had_says_why(found):
    asked = found["all"]["asked"]
    assert asked["shep"] == "ConfigError: no task 'shep'; did you mean 'sheep'?"
    assert "a_module_that_is_not_there" in asked["broken_import"]
    assert "ZeroDivisionError" in asked["raises"]
    assert "contract 0" in asked["old"]
    assert asked["new"] == "new"
    assert "lets unknown keys pass" in asked["lax"]
    assert "no task plugin is loaded" not in asked["shep"]


def test_the_environment_chooses_the_packages(found):
    assert found["none"]["tasks"] == []
    assert "switched off" not in found["none"]["asked"]["sheep"]
    assert "no task plugin is loaded" in found["none"]["asked"]["sheep"]
    assert found["one"]["tasks"] == ["goats", "sheep"]
    assert "plugin 'twin_a' (twin_a-package 5.0) is switched off" in found["one"]["asked"]["twin_a"]
    assert found["unknown"]["error"].startswith("PluginError: VISIONTL_PLUGINS names 'sond', which is not installed")
    assert "did you mean 'sound'" in found["unknown"]["error"]
    assert "mine" in found["spaces"]["policies"]
    assert found["unset"]


def test_the_core_always_offers_its_own(found):
    installed = found["none"]["installed"]
    assert installed["visiontl.freezing.policies"][2] == "loaded"
    assert "gradual" in installed["visiontl.freezing.policies"][3]
    assert installed["visiontl.backbones"][3] == "backbones"
    assert {state for name, (_, _, state, *_) in installed.items() if not name.startswith("visiontl.")} == {"off"}


def test_the_list_of_plugins_says_what_each_offers(found):
    installed = found["all"]["installed"]
    assert installed["sound"] == ["sound-package", "1.0", "loaded", "tasks: sheep, goats", "1", ""]
    assert installed["watcher"][3] == "tracker"
    assert installed["misspelt"][2] == "broken"
    assert installed["twin_b"][3] == "tasks: twin (clash)"
    assert installed["old_contract"][3:5] == ["tasks: new, old (refused)", "0, 1"]
    assert installed["old_contract"][5].startswith(
        "task 'old' was written for contract 0; this visiontl serves contract 1;"
    )
    assert installed["newer_hooks"][2:] == [
        "broken",
        "",
        "",
        found["all"]["broken"]["newer_hooks"].split("broken: ")[1],
    ]
    assert installed["stated"][4] == "1"
    assert found["bodies installed"] == ["bodies-package", "9.0", "loaded", "backbones: bodies/one", "1", ""]


def test_backbones_of_packages_are_found(found):
    assert found["bodies"] == "bodies/one"
    assert "backbone 'bodies/two': build is lambda(spec) at " in found["refused"]
    assert "expected build(spec=, in_channels=, output_stride=, image_size=); state is lambda() at" in found["refused"]
    assert "did you mean 'bodies/one'" in found["near"]
    assert found["listed"]


def test_no_torch_was_imported_for_any_of_it(found):
    assert found["torch"] is False


def test_plugins_registered_by_hand_are_checked_too(monkeypatch):
    from visiontl import hookimpl, plugins
    from visiontl.errors import PluginError

    class Misspelt:
        @hookimpl
        def visiontl_finish(self, report):
            pass

    class Watcher:
        @hookimpl
        def visiontl_finished(self, report):
            seen.append(report)

    seen: list = []
    monkeypatch.setenv("VISIONTL_PLUGINS", "")
    plugins.reset()
    try:
        with pytest.raises(
            PluginError, match=r"'Misspelt': visiontl_finish is no hook; did you mean 'visiontl_finished'"
        ):
            plugins.register(Misspelt())
        assert not plugins.manager().has_plugin("Misspelt")
        watcher = Watcher()
        plugins.register(watcher, "watcher")
        with pytest.raises(PluginError, match="same"):
            plugins.register(watcher, "again")
        with pytest.raises(PluginError, match="watcher"):
            plugins.register(Watcher(), "watcher")
        plugins.manager().hook.visiontl_finished(report={"a": 1})
        assert seen == [{"a": 1}]
    finally:
        plugins.reset()
    assert Path(plugins.__file__).exists()
