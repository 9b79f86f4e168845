"""Models to the hub and from it, against a stand-in of its HTTP interface."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import threading

import pytest
from huggingface_hub import ModelCard

from tests.export.hub_server import Hub
from tests.shared import ROOT
from visiontl import plugins
from visiontl.engine import pushing
from visiontl.engine.pushing import Origin, license_of, without_places
from visiontl.errors import CheckpointError, ConfigError
from visiontl.report.card import Card, page
from visiontl.runs.hub import repository_of

SCRIPT = """
import json, os, sys
from visiontl.cli import main
for words in json.loads(sys.argv[1]):
    try:
        if words[0] == "ENVIRONMENT":
            code = os.environ.update([words[1:]]) or 0
        elif words[0] == "LISTEN":  # to nothing: the model is loaded, the address said, and that is all
            from visiontl.serving import server
            server.run = lambda *more: None
            server.demonstrate = lambda served, ready: ready("http://")
            server.require = lambda extra: None
            code = 0
        else:
            code = main(words)
    except SystemExit as end:
        code = end.code
    print("CODE", code, flush=True)
    print("CODE", code, file=sys.stderr, flush=True)
"""


@pytest.fixture
def hub():
    made = Hub()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def commands(hub: Hub, folder, *lines: list[str], **environment: str) -> list[tuple[int, str]]:
    """(exit code, what it printed) of each command, one after the other in one process, in this folder."""
    given = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_secret",
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "no_proxy": "*",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment,
    }  # fmt: skip
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        given.pop(name, None)
    asked = [sys.executable, "-c", SCRIPT, json.dumps(lines)]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=folder, env=given, timeout=300)
    said = [re.split(r"^CODE .*\n", text, flags=re.MULTILINE) for text in (done.stdout, done.stderr)]
    codes = [int(code) for code in re.findall(r"^CODE (\d+)$", done.stdout, re.MULTILINE)]
    assert len(codes) == len(lines), done.stdout[-3000:] + done.stderr[-3000:]
    return [(code, out + err) for code, out, err in zip(codes, said[0], said[1], strict=False)]


def test_a_model_goes_to_the_hub_and_comes_back_as_it_was(hub, untrained, photos, tmp_path):
    run = str(untrained("classification"))
    data = plugins.task("classification").example(tmp_path / "drawn")  # type: ignore[misc]
    train = ["train", "classification/quickstart", "task.data=example", "backbone.name=visiontl/tiny"]
    train += ["backbone.image_size=32", "train.epochs=1", "train.precision=fp32", "-q"]
    name = "hf-hub:anna/colors"
    hub.repositories["evil/path"] = {
        "visiontl.json": b"{}",
        "manifest.json": b'{"format": 1, "files": {"../../escaped": {"sha256": "", "bytes": 1}}}',
    }
    hub.repositories["other/library"] = {"config.json": b"{}"}
    found = commands(
        hub,
        tmp_path,
        ["push", run, "anna/colors"],
        ["push", run, "anna/colors", "--license", "mit", "--data", "drawn colors", "--datasets", "anna/drawn"],
        ["predict", name, str(photos), "--out", "theirs", "-q"],
        ["predict", run, str(photos), "--out", "ours", "-q"],
        ["predict", name, str(photos), "-q"],
        ["evaluate", name, str(data), "-q"],
        [*train, "backbone.weights=none", "run.name=whole", f"init={name}"],
        [*train, f"backbone.weights={name}", "run.name=backbone"],
        ["predict", "hf-hub:anna/nothing", str(photos)],
        ["predict", "hf-hub:../secret", str(photos)],
        ["predict", "hf-hub:evil/path", str(photos)],
        ["predict", "hf-hub:other/library", str(photos)],
        ["explain", name, str(photos), "--out", "their-heat", "-q"],
        ["explain", run, str(photos), "--out", "our-heat", "-q"],
        ["explain", name, str(photos), "-q"],
        ["export", name, "--format", "safetensors", "-q"],
        ["LISTEN"],
        ["serve", name, "--port", "0", "--threads", "1"],
        ["demo", name, "--port", "0"],
        *([one, "hf-hub:anna/nothing"] for one in ("export", "serve", "demo")),
        ["explain", "hf-hub:anna/nothing", str(photos)],
        ["explain", name, "--help"],
        ["ENVIRONMENT", "HF_TOKEN", "wrong"],
        ["push", run, "anna/others", "--license", "mit"],
    )
    codes = [code for code, _ in found]
    assert codes[:6] == [2, 0, 0, 0, 0, 0], found[:6]
    assert "its license is yours to say, with --license NAME" in found[0][1]
    assert (tmp_path / "ours/predictions.jsonl").read_bytes() == (tmp_path / "theirs/predictions.jsonl").read_bytes()
    assert len(list((tmp_path / "runs/anna--colors").glob("predict*/predictions.jsonl"))) == 1
    assert codes[6:8] == [0, 0], found[6:8]
    trained = json.loads((tmp_path / "runs/backbone/report.json").read_text())["backbone"]["loaded"]["tensors"]
    assert trained["matched"] == trained["total"] > 0
    assert codes[8:12] == [2, 2, 2, 2], found[8:12]
    for (_, said), words in zip(
        found[8:12],
        ["could not be downloaded", "hf-hub:owner/name was expected", "lists '../../escaped'", "holds no model that"],
        strict=True,
    ):
        assert words in said
    assert not (tmp_path / "escaped").exists()
    check_used(tmp_path, found[12:24])
    assert codes[-1] == 2
    assert "log in with `hf auth login`" in found[-1][1]
    assert "anna/others" not in hub.repositories
    check_pushed(hub)


def check_used(folder, found: list[tuple[int, str]]) -> None:
    """Explained, exported, served and on a page by its name, as from the run; what is not there is said by each."""
    assert [code for code, _ in found] == [0] * 7 + [2] * 4 + [0], found
    ours, theirs = ((folder / f"{whose}-heat/explanations.jsonl").read_text() for whose in ("our", "their"))
    assert ours == theirs
    made = folder / "runs/anna--colors"
    assert len(list(made.glob("explain*/explanations.jsonl"))) == 1
    assert len(list(made.glob("export*/*.safetensors"))) == 1
    assert "serving hf-hub:anna/colors at http://127.0.0.1:" in found[5][1]
    assert "a page of hf-hub:anna/colors at" in found[6][1]
    assert all("hf-hub:anna/nothing could not be downloaded" in said for _, said in found[7:11]), found[7:11]
    assert "label=null  a class of the model" in found[11][1]


def check_pushed(hub: Hub) -> None:
    """What was sent is the model and its card, and nothing else."""
    files = hub.repositories["anna/colors"]
    wanted = (
        "README.md config.json config.yaml manifest.json meta.json model.safetensors preprocessing.json visiontl.json"
    )
    assert set(files) - {"scores.json"} == set(wanted.split())
    assert str(ROOT.parent).encode() not in b"".join(files.values())
    assert b"/tmp" not in files["config.yaml"]
    card = ModelCard(files["README.md"].decode())
    assert (card.data.license, card.data.pipeline_tag, card.data.library_name) == (
        "mit",
        "image-classification",
        "visiontl",
    )
    assert card.data.datasets == ["anna/drawn"]
    changed = [path for method, path in hub.told if method != "GET"]
    assert {path.split("/")[1] for path in changed} <= {"api", "lfs", "anna"}


def test_a_full_disk_leaves_no_half_of_a_repository(untrained, tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pushing.shutil, "copyfile", full)
    with pytest.raises(CheckpointError, match=r"cannot be written to: No space left on device.*make room, then push"):
        pushing.push(untrained("classification"), pushing.Wanted("a/b", license="mit", out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a b", "--", "a/b/c", "../a", "a: b"])
def test_what_is_no_name_of_a_data_set_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="--datasets: names on the hub were expected"):
        pushing.push(tmp_path, pushing.Wanted("a/b", datasets=["mnist", name]))


def test_the_license_of_what_a_model_came_from_goes_on():
    free, bound = Origin("timm/a, weights b", "apache-2.0", "timm/a.b"), Origin("c", "cc-by-nc-4.0")
    assert license_of([free], None)[0] == "apache-2.0"
    with pytest.raises(ConfigError, match=r"not for commercial use, so neither is this model: c \(cc-by-nc-4.0\)"):
        license_of([free, bound], None)
    license, said = license_of([bound], "cc-by-nc-4.0")
    assert license == "cc-by-nc-4.0"
    assert "neither is this model" in said
    with pytest.raises(ConfigError, match=r"or is not known: d \(unknown\)"):
        license_of([Origin("d")], None)
    with pytest.raises(ConfigError, match="the hub's name of a license"):
        license_of([free], "../x")


def test_a_card_holds_the_scores_as_the_hub_reads_them_and_the_limits_of_the_task():
    scores = {"val": {"auc": 0.91, "confusion": [[1]]}, "test": {"auc": 0.5, "odd": float("nan")}}
    task = plugins.task("face")
    card = Card(
        "anna/faces", "face", "vector", "timm/a", "other", [("c", "cc-by-nc-4.0", "owner/c")], scores,
        {"train": 1200}, ["a|b", "[x](y)\n# z"], [3, 4], limits=task.limits,
    )  # fmt: skip
    made = ModelCard(page(card))
    assert [(one.dataset_split, one.metric_type, one.metric_value) for one in made.data.eval_results][:2] == [
        ("val", "auc", 0.91),
        ("test", "auc", 0.5),
    ]
    assert made.data.base_model == ["owner/c"]
    assert "1,200 images of train" in made.text
    assert "\n# z" not in made.text
    assert "- c: cc-by-nc-4.0" in made.text
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert task.limits in made.text
    assert all(sentence.rstrip(".") in readme for sentence in task.limits.split(". "))


def test_no_place_on_this_machine_stays_in_a_config():
    text = 'task:\n  data: /home/anna/secret/photos   # a/b\n  other: {root: ~/x/y, b: ["/srv/z", 1/2]}\nrun: runs\n'
    assert without_places(text) == 'task:\n  data: photos   # a/b\n  other: {root: y, b: ["z", 1/2]}\nrun: runs\n'


@pytest.mark.parametrize("text", ["hf-hub:", "hf-hub:a", "hf-hub:a/b/c", "hf-hub:../b", "hf-hub:a/..", "hf-hub:a/b@"])
def test_what_is_no_name_of_a_repository_is_refused(text):
    with pytest.raises(CheckpointError, match="hf-hub:owner/name was expected"):
        repository_of(text)
