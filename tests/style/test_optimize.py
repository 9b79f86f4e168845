"""The optimized way, the judge and the sheet, on the tiny backbone: what they reach, and what they leave."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from visiontl_style.example import dots, waves
from visiontl_style.formulas import gram, gram_distance
from visiontl_style.judge import measure
from visiontl_style.loss_network import LossNetwork, choose_layers
from visiontl_style.optimize import Settings, optimize

import visiontl
from tests.style.made import photo
from visiontl import cli, seeded
from visiontl.kit.images import to_tensor


def as_input(image: Image.Image) -> torch.Tensor:
    return to_tensor(image)[None].float() / 255


@pytest.fixture(scope="module")
def judge() -> LossNetwork:
    with seeded(0):
        backbone = visiontl.load_backbone("visiontl/tiny", "none")
    return LossNetwork(backbone, choose_layers(backbone))


SETTINGS = Settings(steps=30, content_weight=0.1, tv_weight=0.1)


def distance(judge: LossNetwork, one: torch.Tensor, style: torch.Tensor) -> float:
    names = tuple(judge.layers.style)
    with torch.no_grad():
        found, wanted = (judge(x, names) for x in (one, style))
    return sum(float(gram_distance(gram(found[n]), gram(wanted[n]))) for n in names)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_style_comes_near_and_the_same_seed_gives_the_same_picture(judge, optimizer):
    content, style = as_input(photo(64, 48)), as_input(waves())
    settings, steps = replace(SETTINGS, optimizer=optimizer), []
    made = optimize(judge, content, [style], settings, lambda step, parts, picture: steps.append((step, parts)))
    assert made.shape == content.shape
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    assert distance(judge, made, style) < 0.5 * distance(judge, content, style)
    assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
    assert len(steps) <= 31
    assert steps[0][1].keys() == {"loss", "content", "style", "tv", *(f"style.{n}" for n in judge.layers.style)}
    assert torch.equal(made, optimize(judge, content, [style], settings))


def test_the_first_loss_is_what_the_formulas_say(judge):
    content, style, first = as_input(photo(48, 48)), as_input(dots()), {}
    optimize(judge, content, [style], replace(SETTINGS, steps=1, jitter=0), lambda *seen: first.update(seen[1]))
    assert first["style"] == pytest.approx(1), "each layer counts relative to the plain photo"
    assert first["content"] == pytest.approx(0, abs=1e-6)
    tv = float(content.diff(dim=2).square().mean() + content.diff(dim=3).square().mean())
    assert first["loss"] == pytest.approx(4 + 0.1 * tv)


def test_two_styles_are_mixed_and_noise_is_a_start_too(judge):
    content, styles = as_input(photo(48, 48)), [as_input(waves()), as_input(dots())]
    mixed = optimize(judge, content, styles, replace(SETTINGS, start="noise"))
    assert not torch.equal(mixed, optimize(judge, content, styles[:1], replace(SETTINGS, start="noise")))


def run(*arguments: object) -> int:
    return cli.main(["style", *map(str, arguments)])


TINY = ("backbone=visiontl/tiny", "weights=none")


def test_the_command_leaves_picture_losses_and_previews(tmp_path, capsys):
    photo(90, 60).save(tmp_path / "house.png")
    waves().save(tmp_path / "waves.png")
    out = tmp_path / "out"
    options = (f"style={tmp_path / 'waves.png'}", "size=48", "steps=6", "keep_colors=true", "jitter=4")
    assert run("optimize", tmp_path / "house.png", out, *TINY, *options, "--preview-every", 3) == 0
    assert Image.open(out / "house.png").size == (48, 32)
    with (out / "losses.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["step"]) for line in lines] == list(range(1, 7))
    assert {"loss", "content", "style", "tv"} < lines[0].keys()
    assert sorted(path.name for path in (out / "previews").iterdir()) == ["step-000003.jpg", "step-000006.jpg"]
    said = capsys.readouterr().out
    assert "step 6/6" in said
    assert "48 x 32 pixels in" in said


def test_the_judge_knows_a_copy_from_a_painting(judge):
    """Results that are the photos themselves, the style itself, and half and half."""
    photos = [as_input(photo(64, 64, seed)) for seed in range(4)]
    style, other = as_input(waves())[:, :, :64, :64], as_input(dots())[:, :, :64, :64]
    same = measure(judge, photos, photos, style, [other])
    assert set(same.style.values()) == set(same.root.values()) == {1.0}
    assert list(same.content.values()) == [0.0]
    assert list(same.right_photo.values()) == list(same.right_photo_raw.values()) == [1.0]
    assert same.total_variation == pytest.approx(1)
    assert same.checkerboard == same.plain_checkerboard
    painted = measure(judge, photos, [style] * 4, style, [other])
    assert max(painted.style.values()) < 1e-9
    assert painted.right_painting == 1.0
    assert list(painted.right_photo.values()) == [0.25], "one of four is found by chance"
    assert measure(judge, photos, [other] * 4, style, [other]).right_painting == 0.0
    half = measure(judge, photos, [(one + style) / 2 for one in photos], style, [other])
    assert all(0 < value < 1 for value in half.style.values())
    assert 0 < half.content["map2"] < 1


def test_content_is_relative_to_unrelated_photos_by_numpy(judge):
    photos, results = ([as_input(photo(64, 64, seed + s)) for seed in range(3)] for s in (0, 10))
    with torch.no_grad():
        given, found = (
            [judge(one, ("map2",))["map2"].double().numpy() for one in group] for group in (photos, results)
        )
    own = np.mean([((a - b) ** 2).sum() for a, b in zip(found, given, strict=True)])
    others = np.mean([((a - b) ** 2).sum() for i, a in enumerate(given) for j, b in enumerate(given) if i != j])
    expected = (own / others) ** 0.5
    assert measure(judge, photos, results, as_input(waves()), []).content["map2"] == pytest.approx(expected)


def test_judge_and_sheet_match_results_by_name(tmp_path, capsys):
    for folder in ("photos", "results/previews"):
        (tmp_path / folder).mkdir(parents=True)
    for seed in range(3):
        photo(70, 50, seed).save(tmp_path / f"photos/{seed}.png")
        waves().save(tmp_path / f"results/{seed}.png")
    waves().save(tmp_path / "results/previews/1.png")
    waves().save(tmp_path / "waves.png")
    dots().save(tmp_path / "dots.png")
    given = (tmp_path / "photos", f"style={tmp_path / 'waves.png'}", f"paintings={tmp_path / 'dots.png'}")
    sizes = ("size=48", "style_size=64", "--out", tmp_path / "table.md")
    assert run("judge", tmp_path / "results", *given, *TINY, *sizes) == 0
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert "3 photos at 48 px, judged by visiontl/tiny" in table
    assert "| right painting found among 2 | 100.0%" in table
    columns = (f"columns.tiny={tmp_path / 'results'}", "side=64")
    assert run("sheet", tmp_path / "sheet.png", tmp_path / "photos", *columns) == 0
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.width == 2 * 64 + 6
    assert sheet.height > 3 * 45
