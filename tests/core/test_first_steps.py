"""docs/first_steps.ipynb: a notebook by its shape, whose cells run in order and show something."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure as Drawing

from tests.core.test_docs import tool
from tests.shared import ROOT

NOTEBOOK = ROOT / "docs" / "first_steps.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
SETTINGS = {"train.epochs": 1, "backbone.image_size": 96}
SHOWN = ("text/html", "image/png", "image/jpeg")


def kinds(outputs: list[dict]) -> list[tuple[str, list[str]]]:
    """Of what kind a cell's displays are; an image may be either kind of file."""
    shown = [one for one in outputs if one["output_type"] != "stream"]
    return [(one["output_type"], sorted({kind.partition("/")[0] for kind in one["data"]})) for one in shown]


def test_it_is_a_notebook_of_version_4():
    """As nbformat 4.5 wants it, which is not installed here."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    ids = [cell["id"] for cell in CELLS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", id) for id in ids)
    for cell in CELLS:
        keys = {"cell_type", "id", "metadata", "source"}
        assert cell.keys() == (keys | {"execution_count", "outputs"} if cell["cell_type"] == "code" else keys)
        assert cell["cell_type"] in ("code", "markdown")
        assert cell["metadata"] == {}
        assert all(isinstance(line, str) for line in cell["source"])
        assert all(line.endswith("\n") for line in cell["source"][:-1])
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))


def test_what_it_shows_is_small_whole_and_from_no_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 450_000
    assert not re.search(r"/tmp/|/work/|/home/|/root/|Traceback|https?://(?!www\.w3\.org)", text)
    for cell in CODE:
        for one in cell["outputs"]:
            needed = {
                "stream": {"name", "output_type", "text"},
                "display_data": {"data", "metadata", "output_type"},
                "execute_result": {"data", "execution_count", "metadata", "output_type"},
            }
            assert one.keys() == needed[one["output_type"]]
            for kind, data in one.get("data", {}).items():
                assert isinstance(data, list if kind.startswith("text/") else str)
                if kind == "text/html":
                    HTMLParser().feed("".join(data))
            if one["output_type"] == "execute_result":
                assert one["execution_count"] == cell["execution_count"]


def test_its_cells_run_and_show_what_the_page_shows(tmp_path, monkeypatch):
    """On fewer and smaller pictures, for one epoch."""
    samples = pytest.importorskip("visiontl_classification.samples")
    monkeypatch.setattr(samples, "IMAGES", {"train": 4, "val": 2, "test": 2})
    drawn = Drawing.savefig  # the figures of a report cost more than its training here

    def savefig(figure, out, **options):
        out.write("<svg></svg>") if isinstance(out, io.StringIO) else drawn(figure, out, **options)

    monkeypatch.setattr(Drawing, "savefig", savefig)
    samples.one_each.cache_clear()
    notebook = tool("notebook")
    try:
        outputs = notebook.run(
            CELLS,
            tmp_path,
            {"settings": 'import visiontl\n\nSETTINGS = {"train.epochs": 1, "backbone.image_size": 96}'},
        )
    finally:
        samples.one_each.cache_clear()
    assert list(outputs) == [cell["id"] for cell in CODE]
    for cell in CODE:
        shown = outputs[cell["id"]]
        if cell["id"] == "settings":
            assert shown == []
            continue
        assert shown[-1]["output_type"] == "execute_result", cell["id"]  # its last line is an expression
        assert any(shown[-1]["data"].get(kind) for kind in SHOWN), cell["id"]
        assert kinds(shown) == kinds(cell["outputs"]), f"{cell['id']}: renew it by `python tools/notebook.py`"
    for id in ("train", "random"):
        printed = "".join(one.get("text", "") for one in outputs[id])
        assert "  step " not in printed  # one line that changes instead
        [line] = [one for one in outputs[id] if one["output_type"] == "display_data"]
        assert "epoch 1/1" in line["data"]["text/html"]
    assert "12 predictions" in outputs["predict"][-1]["data"]["text/html"]
