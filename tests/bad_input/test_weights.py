"""Pickles with code in every place where weights are accepted: none runs, each is refused by name."""

from __future__ import annotations

import argparse
import shutil

import pytest

from tests.bad_input.conftest import CONFIG
from tests.bad_input.outcome import check_refused, command
from tests.bad_input.run_folders import edited
from tests.bad_input.sources import photo, sound
from tests.bad_input.weights import CALLS, MARKER, NO_WEIGHTS, RUNS_CODE, SUFFIXES, pickled
from visiontl import ImageSpec


@pytest.fixture
def config(place):
    sound(place / "photos")
    (place / "config.yaml").write_text(CONFIG.format(data="photos"))
    return place / "config.yaml"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("file", [*RUNS_CODE, *NO_WEIGHTS], ids=lambda one: one.name)
def test_files_given_as_weights(capsys, place, config, file, suffix):
    path = place / f"weights.{suffix}"
    path.write_bytes(file.content())
    check_refused(command(capsys, place, "train", config, f"backbone.weights={path}"), path.name)
    assert not (place / MARKER).exists()


def test_the_pickles_would_run(place):
    """The corpus is what it says: read as pickles are, each call leaves its mark."""
    import pickle

    for name in ("os.mkdir", "os.system", "eval", "exec", "Path.mkdir"):
        pickle.loads(pickled(CALLS[name], 4)())
        (place / MARKER).rmdir()


@pytest.mark.parametrize("file", RUNS_CODE, ids=lambda one: one.name)
@pytest.mark.parametrize("where", ["model", "resume", "init"])
def test_weights_of_a_run(capsys, place, trained, file, where):
    """The sums are put right, so that only the file's content can give it away."""
    run = shutil.copytree(trained, place / "run")
    (run / "report.json").unlink()
    photo(place / "photo.png")
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    folder = checkpoint if where == "resume" else run / "model"
    edited("model.safetensors", lambda _: file.content())(folder)
    arguments = {
        "model": ["predict", "run", "photo.png", "--out", "answers"],
        "resume": ["train", "run/config.yaml", "resume=run"],
        "init": ["train", trained / "config.yaml", "init=run", "run.folder=new"],
    }[where]
    allowed = ["run/.lock", "run/config.yaml"] if where == "resume" else []
    check_refused(command(capsys, place, *arguments), "model.safetensors", allowed=allowed)
    assert not (place / MARKER).exists()


def test_the_optimizer_of_a_checkpoint(capsys, place, trained):
    run = shutil.copytree(trained, place / "run")
    (run / "report.json").unlink()
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    edited("optimizer.safetensors", lambda _: RUNS_CODE[0].content())(checkpoint)
    done = command(capsys, place, "train", "run/config.yaml", "resume=run")
    check_refused(done, "optimizer.safetensors", allowed=["run/.lock"])
    assert not (place / MARKER).exists()


@pytest.mark.parametrize("file", RUNS_CODE, ids=lambda one: one.name)
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_downloads_in_the_cache(capsys, place, config, monkeypatch, file, library):
    """Where no name states a hash, only reading it without code keeps a file in the cache harmless."""
    import timm
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(place / "cache"))
    cache = place / "cache/hub/checkpoints"
    cache.mkdir(parents=True)
    if library == "torchvision":
        name = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
        backbone = "{name: torchvision/squeezenet1_1, weights: IMAGENET1K_V1}"
    else:
        name, backbone = "weights.pth", "{name: timm/resnet18, weights: a1_in1k}"
        published = argparse.Namespace(hf_hub_id=None, custom_load=False, url=f"https://host.invalid/{name}")
        monkeypatch.setattr(timm, "get_pretrained_cfg", lambda *_: published)
        from visiontl.backbones import timm as family

        monkeypatch.setattr(family, "default_spec", lambda *_: ImageSpec(size=(32, 32)))
    (cache / name).write_bytes(file.content())
    check_refused(command(capsys, place, "train", config, f"backbone={backbone}"), name)
    assert not (place / MARKER).exists()


@pytest.mark.parametrize("file", RUNS_CODE, ids=lambda one: one.name)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_files_of_the_hub(capsys, place, config, monkeypatch, file, name):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    (place / name).write_bytes(file.content())

    def download(repository, filename, **options):
        if filename != name:
            raise EntryNotFoundError(f"404 {filename}")
        return str(place / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("visiontl.backbones.downloads.resolvable", lambda address: True)
    check_refused(command(capsys, place, "train", config, "backbone.weights=hf-hub:some/body"), name)
    assert not (place / MARKER).exists()
