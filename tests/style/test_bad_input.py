"""What users hand in: each case ends with exit code 2 and a sentence that names the place, or is taken with a word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from visiontl_style.config import PredictOptions
from visiontl_style.data import data
from visiontl_style.example import example, waves
from visiontl_style.pictures import decoded

from visiontl import cli
from visiontl.config.resolve import resolve
from visiontl.engine.predict import parse_options
from visiontl.errors import ConfigError
from visiontl.plugins import task
from visiontl.testing.case import SETTINGS


@dataclass(frozen=True)
class Wrong:
    """name; overrides of the config, where {here} is a fresh folder; make: what is put there first; words: of the
    message."""

    name: str
    overrides: tuple[str, ...]
    words: tuple[str, ...]
    make: Callable[[Path], object] = field(default=lambda here: None)


def style(text: str) -> str:
    return f"task.data.styles=[{text}]"


def saved(name: str, image: Image.Image) -> Callable[[Path], object]:
    return lambda here: image.save(here / name)


def photos_of(count: int) -> Callable[[Path], object]:
    def make(here: Path) -> None:
        (here / "few").mkdir()
        for i in range(count):
            waves().save(here / f"few/{i}.png")

    return make


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda here: (here / name).write_bytes(content)


def cut_off(file: Path) -> None:
    waves().save(file)
    file.write_bytes(file.read_bytes()[:900])


def damaged(here: Path) -> None:
    photos_of(6)(here)
    for i in range(6):
        cut_off(here / f"few/{i}.png")


CONFIGS = [
    Wrong("policy none", ("freeze.policy=none",), ("freeze.policy", "none makes no sense", "judge")),
    Wrong("policy gradual", ("freeze.policy={gradual: 1}",), ("gradual makes no sense",)),
    Wrong("policy first", ("freeze.policy={first: 2}",), ("first makes no sense",)),
    Wrong("policy in one word", ("freeze.policy=until:stage2",), ("until makes no sense",)),
    Wrong("policy norm_and_bias", ("freeze.policy=norm_and_bias",), ("norm_and_bias makes no sense",)),
    Wrong("misspelt key", ("task.stlye_weight=2",), ("stlye_weight", "did you mean 'style_weight'")),
    Wrong("no such way", ("task.way=adane",), ("task.way", "adain")),
    Wrong("negative weight", ("task.style_weight=-1",), ("task.style_weight",)),
    Wrong("weight of a layer", ("task.style_layers={map0: 0}",), ("task.style_layers",)),
    Wrong("no layers", ("task.style_layers=[]",), ("at least one layer",)),
    Wrong("layers as a word", ("task.content_layers=deep",), ("task.content_layers",)),
    Wrong("tiny crop", ("task.crop=8",), ("task.crop", "32")),
    Wrong("jitter beyond the crop", ("task.jitter=24",), ("jitter 24", "crop 48")),
    Wrong("no blocks", ("task.blocks=0",), ("task.blocks",)),
    Wrong("no photos", ("task.data.photos=[]",), ("task.data.photos",)),
    Wrong("all held out", ("task.data.val_fraction=1",), ("task.data.val_fraction",)),
    Wrong("val_styles without adain", ("task.data.val_styles=[x.png]",), ("val_styles", "way: adain")),
    Wrong("text for a number", ("task.size=large",), ("task.size",)),
]
DATA = [
    Wrong("style that is missing", (style("{here}/starry.png"),), ("no such file", "starry_night.png"),
          saved("starry_night.png", waves())),
    Wrong("style that is tiny", (style("{here}/a.png"),), ("a.png", "5 x 70 pixels", "64"),
          saved("a.png", Image.new("RGB", (5, 70)))),
    Wrong("style of one color", (style("{here}/a.png"),), ("a.png", "one color only"),
          saved("a.png", Image.new("RGB", (90, 90), "navy"))),
    Wrong("style that is a web page", (style("{here}/a.jpg"),), ("a.jpg", "HTML page"),
          written("a.jpg", b"<!DOCTYPE html><p>not found")),
    Wrong("style that is cut off", (style("{here}/a.png"),), ("a.png", "damaged"),
          lambda here: cut_off(here / "a.png")),
    Wrong("style that is empty", (style("{here}/a.png"),), ("a.png", "empty"), written("a.png", b"")),
    Wrong("folder without styles", (style("{here}"),), ("holds no pictures", "no picture: a.txt"),
          written("a.txt", b"x")),
    Wrong("no style", (style(""),), ("task.data.styles", "none is named")),
    Wrong("a null byte", ("task.data.photos=[\"a\\0b\"]",), ("not allowed",)),
    Wrong("photos that are missing", ("task.data.photos=[{here}/fotos]",), ("no such file or folder", "photos"),
          lambda here: (here / "photos").mkdir()),
    Wrong("folder without photos", ("task.data.photos=[{here}]",), ("task.data.photos", "holds no pictures")),
    Wrong("one photo", ("task.data.photos=[{here}/few]",), ("1 photo,", "style optimize"), photos_of(1)),
    Wrong("two photos, one held out", ("task.data.photos=[{here}/few]",), ("2 photos, 1 left",), photos_of(2)),
    Wrong("photos that are cut off", ("task.data.photos=[{here}/few]",), ("damaged", "data.on_bad=skip"), damaged),
    Wrong("val that is missing", ("task.data.val=[{here}/val]",), ("task.data.val", "no such file")),
    Wrong("val style that is trained on", ("task.way=adain", "task.data.styles=[{here}/a.png]",
          "task.data.val_styles=[{here}/a.png]"), ("a.png is among task.data.styles too",), saved("a.png", waves())),
    Wrong("val style that is tiny", ("task.way=adain", "task.data.val_styles=[{here}/a.png]"), ("a.png", "9 x 9"),
          saved("a.png", Image.new("RGB", (9, 9)))),
]  # fmt: skip
BACKBONES = [
    Wrong("layer that is misspelt", ("task.style_layers=[stage1.dwn]",), ("stage1.dwn", "did you mean 'stage1.down'")),
    Wrong("content layer that is misspelt", ("task.content_layers=[stge2]",), ("stge2", "did you mean 'stage2'")),
    Wrong("encoder that is misspelt", ("task.way=adain", "task.encoder_layer=stagee1"), ("did you mean 'stage1'",)),
    Wrong("level that is too deep", ("task.style_layers=[map9]",), ("pyramid levels 0 to 3",)),
    Wrong("layer that is no map", ("task.style_layers=[norm]",), ("'norm'", "gives no map")),
    Wrong("a plain ViT", ("backbone.name=torchvision/vit_b_32", "backbone.image_size=null"), ("one stride only",)),
    Wrong("gray input", ("backbone.in_channels=1",), ("backbone.in_channels: 1",)),
]  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    section = {"name": "style", "data": example(folder), **task("style").small}
    path = folder / "style.yaml"
    path.write_text(yaml.safe_dump({"task": section, **SETTINGS, "run": {"folder": str(folder / "runs")}}))
    return path


def outcome(capsys, *arguments: str) -> tuple[int, str]:
    code = cli.main(list(arguments))
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out + said.err


@pytest.mark.parametrize("wrong", [*CONFIGS, *DATA, *BACKBONES], ids=lambda wrong: wrong.name)
def test_a_wrong_config_or_data_set_is_refused_in_a_sentence(wrong, config, tmp_path, capsys):
    wrong.make(tmp_path)
    overrides = [text.replace("{here}", str(tmp_path)) for text in wrong.overrides]
    command = "config" if wrong in CONFIGS else "train"
    code, said = outcome(capsys, command, str(config), *overrides)
    assert code == 2, said
    for word in wrong.words:
        assert word in said
    runs = config.parent / "runs"
    assert not runs.exists() or not list(runs.glob("*/model")), "a half-made run"


def odd_styles() -> dict[str, tuple[Image.Image, str]]:
    """Style pictures that can be used, and what is said of each."""
    color = np.asarray(waves())
    alpha = np.dstack([color, np.tile(np.arange(96, dtype=np.uint8) * 2, (96, 1))])
    deep = Image.fromarray(color[..., 0].astype(np.uint16) * 257)
    return {
        "gray.png": (waves().convert("L"), "is gray"),
        "transparent.png": (Image.fromarray(alpha, "RGBA"), "has transparency"),
        "palette.png": (waves().convert("P"), ""),
        "sixteen.png": (deep, "is gray"),
        "cmyk.jpg": (waves().convert("CMYK"), ""),
        "strip.png": (waves().resize((700, 70)), ""),
    }


@pytest.mark.parametrize("name", odd_styles())
def test_an_odd_style_picture_is_used_with_a_word(name, config, tmp_path, capsys):
    picture, words = odd_styles()[name]
    picture.save(tmp_path / name)
    resolved = resolve(config, [f"task.data.styles={tmp_path / name}"])
    found = data(resolved.cfg, None)
    assert (
        any(words in note and name in note for note in found.notes)
        if words
        else not any(name in n for n in found.notes)
    )
    pixels = decoded(found.meta["styles"][0]["png"])
    assert min(pixels.shape[1:]) == 48
    assert max(pixels.shape[1:]) <= 2 * 48


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": 2}, "strength"),
        ({"strength": -0.1}, "strength"),
        ({"stregth": 1}, "did you mean 'strength'"),
        ({"style": {"waves": -1}}, "style"),
        ({"style": {"waves": 0}}, "style"),
        ({"tile": 10}, "tile"),
        ({"size": 0}, "size"),
        ({"style_scale": 100}, "style_scale"),
        ({"keep_colors": "perhaps"}, "keep_colors"),
    ],
)
def test_wrong_predict_options_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        parse_options(task("style"), options)
    assert PredictOptions.model_validate({}).strength == 1


@dataclass(frozen=True)
class Call:
    """arguments of `visiontl style ...`, where {here} is a folder with photo.png, style.png and results/photo.png."""

    arguments: str
    words: str


TINY = "backbone=visiontl/tiny weights=none"
SOUND = "optimize {here}/photo.png {here}/o style={here}/style.png"
CALLS = [
    Call("optimize {here}/foto.png {here}/o style={here}/style.png", "no such file"),
    Call("optimize {here}/tiny.png {here}/o style={here}/style.png", "4 x 4 pixels"),
    Call("optimize {here}/photo.png {here}/o style={here}/stile.png", "did you mean 'style.png'"),
    Call("optimize {here}/photo.png {here}/o style={here}/tiny.png", "4 x 4 pixels"),
    Call("optimize {here}/photo.png {here}/results style={here}/style.png", "nothing is overwritten"),
    Call("optimize {here}/photo.png {here}/photo.png style={here}/style.png", "nothing is overwritten"),
    Call(f"{SOUND} size=8 steps=0", "2 errors"),
    Call(f"{SOUND} size=x", "option size=x: size: got x; expected a whole number"),
    Call(f"{SOUND} size=64 jitter=40", "jitter 40 is not below half of size 64"),
    Call(f"{SOUND} lr=0", "lr: got 0; expected a number above 0"),
    Call(f"{SOUND} style_weight=.nan", "not a finite number"),
    Call(f"{SOUND} optimizer=sgd", "expected 'adam' or 'lbfgs'"),
    Call(f"{SOUND} --preview-every -1", "--preview-every -1 is below 0"),
    Call(f"{SOUND} --size 64", "unknown argument '--size'; it is an option: size=VALUE"),
    Call(f"{SOUND} --keep-colours", "'--keep-colours'; it is an option: keep_colors=VALUE"),
    Call("sheet {here}/s.png {here}/photo.png --column A=b", "'--column'; did you mean the option columns=VALUE?"),
    Call("optimize {here}/photo.png --style {here}/style.png --out {here}/o", "it is an option: style=VALUE"),
    Call("optimize {here}/photo.png --out {here}/o", "DIR stands without a name: usage: visiontl style optimize"),
    Call("optimize {here}/photo.png {here}/o", "style: is missing"),
    Call(f"{SOUND} {TINY} style_layers=stag1", "did you mean 'stage1'"),
    Call(f"{SOUND} backbone=visiontl/tinny", "visiontl/tiny"),
    Call(f"{SOUND} backbone=visiontl/tiny weights=no.pth", "no.pth"),
    Call("judge {here}/results {here}/photo.png style={here}/style.png", "2 or more are needed"),
    Call("judge {here}/results {here}/style.png style={here}/style.png", "none of its 1 pictures"),
    Call("judge {here}/results style={here}/style.png", "no photos are named"),
    Call("judge {here}/nowhere {here}/photo.png style={here}/style.png", "no such file"),
    Call("judge {here}/results {here}/photo.png style={here}/style.png size=9", "size: got 9; expected"),
    Call("sheet {here}/sheet.png {here}/photo.png columns=results", "columns: got results; expected a mapping"),
    Call("sheet {here}/sheet.png {here}/photo.png --column a=results", "unknown argument '--column'"),
    Call("sheet {here}/sheet.gif {here}/photo.png", ".png or .jpg"),
    Call("sheet {here}/sheet.png {here}/style.png columns.a={here}/results", "names must match"),
    Call("sheet {here}/sheet.png {here}/photo.png side=3", "side: got 3; expected"),
    Call("optimise", "it is 'optimize' now"),
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.arguments.replace("{here}/", "")[:60])
def test_a_wrong_command_is_refused_in_a_sentence(call, tmp_path, capsys):
    (tmp_path / "results").mkdir()
    for name in ("photo.png", "style.png", "results/photo.png"):
        waves().save(tmp_path / name)
    Image.new("RGB", (4, 4)).save(tmp_path / "tiny.png")
    before = sorted(tmp_path.rglob("*"))
    code, said = outcome(capsys, "style", *call.arguments.replace("{here}", str(tmp_path)).split())
    assert code == 2, said
    assert call.words in said
    assert sorted(tmp_path.rglob("*")) == before, "something was written"
