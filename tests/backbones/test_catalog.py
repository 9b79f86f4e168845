"""The catalog is true to the installed libraries, and quick to read."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from visiontl.backbones import catalog
from visiontl.backbones.catalog import parse, read, write_line
from visiontl.backbones.listing import cells
from visiontl.backbones.registry import find

TOOL = Path(__file__).parents[2] / "tools" / "catalog.py"
SAMPLE = [
    "timm/resnet18",
    "timm/vit_tiny_patch16_224",
    "timm/test_efficientnet",
    "timm/test_maxvit",
    "timm/qwen3_vit_88m_enc",
    "torchvision/squeezenet1_1",
    "torchvision/mobilenet_v3_small",
]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("catalog_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SAMPLE)
def test_rows_are_what_the_installed_libraries_give(tool, name):
    shipped, fresh = read().rows[name], tool.measured(name)
    assert (shipped.embed_dim, shipped.strides, bool(shipped.problem)) == (
        fresh.embed_dim,
        fresh.strides,
        bool(fresh.problem),
    )
    if catalog.stale() is None:
        assert shipped == fresh
    else:  # other versions of the libraries may have more weights
        assert shipped.channels == fresh.channels


def test_every_architecture_is_listed(tool):
    if catalog.stale() is not None:
        pytest.skip("other versions of timm or torchvision than the catalog's are installed")
    assert set(tool.all_names()) == set(read().rows)


def test_parameters_are_those_of_the_built_backbone():
    for name in ("timm/test_resnet", "torchvision/shufflenet_v2_x0_5"):
        backbone = find(name)[0].build()
        assert sum(p.numel() for p in backbone.parameters()) == read().rows[name].params


def test_a_listing_says_what_a_person_chooses_by():
    said = cells(find("timm/resnet50")[0])
    assert said["parameters"] == "23.5M"
    assert said["embed width"] == "2048"
    assert said["strides"] == "2 4 8 16 32"
    assert said["input size"] == "224x224"
    assert "a1_in1k (apache-2.0)" in said["weights (license)"]
    assert "cannot serve as a backbone" in cells(find("timm/qwen3_vit_88m_enc")[0])["weights (license)"]


def test_lines_survive_writing_and_reading():
    for row in read().rows.values():
        assert parse(write_line(row)) == row


def test_other_versions_are_said(tmp_path):
    text = catalog.PATH.read_text(encoding="utf-8").splitlines()
    path = tmp_path / "catalog.tsv"
    path.write_text("\n".join(["# timm=0.0.1 torchvision=0.0.2", *text[1:3]]), encoding="utf-8")
    assert len(read(path).rows) == 1
    assert "timm 0.0.1 (installed: " in catalog.stale(path)
    assert not read(tmp_path / "absent.tsv").rows
    assert "is missing" in catalog.stale(tmp_path / "absent.tsv")


def test_licenses_are_stated():
    rows = read().rows
    assert {tag.license for tag in rows["torchvision/vit_b_16"].weights} == {"bsd-3-clause", "cc-by-nc-4.0"}
    stated = [tag.license for row in rows.values() for tag in row.weights]
    assert len(stated) > 1800
    assert stated.count("unknown") < 60


def test_the_tool_resumes(tool, tmp_path):
    assert tool.work_on("timm/test_resnet", tmp_path)
    assert not tool.work_on("timm/test_resnet", tmp_path)  # done
    tool.place(tmp_path, "timm/test_vit").with_suffix(".claim").touch()
    assert not tool.work_on("timm/test_vit", tmp_path)  # another process is at it
    assert sorted(p.name for p in tmp_path.glob("*.tsv")) == ["timm@test_resnet.tsv"]
    tool.write(tmp_path / "out.tsv", [tool.place(tmp_path, "timm/test_resnet").read_text().rstrip("\n")])
    assert list(read(tmp_path / "out.tsv").rows) == ["timm/test_resnet"]
