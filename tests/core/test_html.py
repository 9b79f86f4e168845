"""The report: its sections, escaped names, that it stands alone, and that a missing key breaks nothing."""

from __future__ import annotations

import base64
import io
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visiontl import Figure, Pictures, Table
from visiontl.report import page as pages
from visiontl.report.figures import render_figure
from visiontl.report.page import slug
from visiontl.report.pictures import height as picture_height
from visiontl.report.run import Report
from visiontl.report.tables import task_table

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Elements with their attributes, text by section, and a check that tags are balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.section = ""
        self.text: dict[str, str] = {}
        self.script = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("section", "header"):
            self.section = dict(attrs)["id"] or ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.text[self.section] += " "

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.script += data
        elif not {"style", "title"} & set(self.open):
            self.text[self.section] = self.text.get(self.section, "") + data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def trainability(epoch: int, trainable: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "rows": [
            {"stage": "stem", "mode": "frozen", "parameters": 1000, "trainable": 0, "lr": 0.0},
            {"stage": "head", "mode": "train", "parameters": 500, "trainable": trainable, "lr": 1.25e-4},
        ],
    }


def full_report() -> dict[str, Any]:
    return {
        "visiontl": "0.1.0",
        "run": "runs/flowers-1",
        "task": "classification",
        "status": "stopped early",
        "started": "2025-11-24T01:59:23+00:00",
        "seconds": 3723.4,
        "command": f"visiontl train {EVIL}.yaml",
        "seed": 12345,
        "environment": {"python": "3.11", "processes": 2, "precision": "bf16", "channels_last": True},
        "data": {"train": 2440, "val": 612},
        "notes": ["warning: 7 files <b>skipped</b>", "the split is stratified"],
        "backbone": {"name": "timm/resnet18", "weights": "a1_in1k", "parameters": 11689512},
        "policy": "gradual: 2 epochs",
        "trainability": [trainability(0, 500), trainability(2, 400)],
        "best": {"score": "accuracy", "value": 0.9421, "step": 20, "epoch": 2},
        "scores": {
            "val": {
                "accuracy": 0.9421,
                "undefined": math.nan,
                "per_class": {EVIL: 0.25, "rose": 0.75},
                "confusion": [[31337, 2], [3, 4]],
                "deep": {"a": {"b": 41338}},
                "many": {f"class {i}": i / 20 for i in range(20)},
            },
            "test": {"accuracy": 0.9383, "loss": math.inf, "per_class": {EVIL: 0.5}},
        },
        "config": f"task:\n  name: classification  # {EVIL}\n",
    }


def records() -> list[dict[str, Any]]:
    train = [
        {
            "step": s,
            "epoch": s / 10,
            "kind": "train",
            "loss": 1 / s,
            "lr": 1e-3,
            "grad_norm": 0.5,
            "loss_box": 2.0,
        }
        for s in range(1, 31)
    ]
    train[3]["loss"] = math.nan
    val = [
        {
            "step": s,
            "epoch": s / 10,
            "kind": "val",
            "accuracy": s / 30,
            "perplexity": 40.0,
            "per_class": {"a": 1},
        }
        for s in (10, 20, 30)
    ]
    return [*train, *val]


def write_report(folder: Path, report: dict[str, Any], *more: Any) -> Path:
    return pages.write_report(folder, Report.from_json(report), *more)


def broken(ax: Any) -> None:
    raise ValueError("no <b>data</b>")


def named(ax: Any) -> None:
    ax.plot([0, 1], [0, 1], label=EVIL)
    ax.set_xticks([0, 1], ["$\\bad{x$", "日本\x1b"])
    ax.legend()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page, str]:
    folder = tmp_path_factory.mktemp("run")
    photo = Image.linear_gradient("L").resize((3000, 1500)).convert("RGB")
    items = [
        Figure("Evil labels", named, caption=EVIL),
        Figure("../../out/of here", named),
        Figure("Broken", broken),
        Table(EVIL, ["class", "images", "share"], [[EVIL, 3, math.nan], ["rose", 4, 0.5]]),
        Table("Long", ["class", "images"], [[f"class {i}", i] for i in range(16)]),
        Table("Ragged", ["a", "b"], [[1]]),
        Pictures("Errors", [(EVIL, photo), ("tiny", Image.new("RGB", (32, 32), "red")), ("none", object())]),
        "not an item",
    ]
    path = write_report(folder, full_report(), records(), items)  # type: ignore[list-item]
    text = path.read_text(encoding="utf-8")
    return folder, Page(text), text


def test_all_sections_are_there(written: tuple[Path, Page, str]) -> None:
    _, page, _ = written
    ids = [attrs["id"] for tag, attrs in page.tags if tag in ("section", "header")]
    assert ids == ["headline", "scores", "task", "curves", "trainability", "notes", "environment", "config"]
    assert [attrs["href"] for tag, attrs in page.tags if tag == "a"][:7] == [f"#{name}" for name in ids[1:]]
    headline = page.text["headline"]
    for text in ("classification", "flowers-1", "stopped early", "0.9421", "train 2,440, val 612", "1:02:03"):
        assert text in headline
    for text in ("timm/resnet18", "a1_in1k", "11.7 M", "gradual: 2 epochs", "12345", "epoch 2, step 20"):
        assert text in headline
    assert "accuracy on val best weights" in headline


def test_the_first_screen_compares_and_says_what_went_wrong_and_what_to_try(tmp_path: Path) -> None:
    more = {
        "ranked": {"score": "accuracy", "better": "max"},
        "scores_at_start": {"val": {"accuracy": 0.11}},
        "trivial": {"val": {"answer": "the most frequent class (<b>)", "value": 0.3}},
        "mistakes": {
            "val": {"number": 35, "worst": "7.jpg, is ant, called <b> (0.98)"},
            "test": {"number": 1, "worst": "a.jpg, one, called two", "pairs": True},
        },
        "left_out": {"train": 1},
        "suggestions": [{"what": "Train longer.", "why": "<i>", "command": f"visiontl train {EVIL}"}],
        "notes": [f"warning: number {index}" for index in range(6)],
    }
    text = write_report(tmp_path, full_report() | more).read_text(encoding="utf-8")
    page = Page(text)
    words = " ".join(page.text["headline"].split())
    for part in (
        "accuracy on val best weights, epoch 2, step 20, higher is better",
        "val0.9421 test0.9383 val before training0.1100 val, trivial answer0.3000",
        "Trivial answer: the most frequent class (<b>).",
        "35 of 612 images of val are not wholly right; the worst: 7.jpg, is ant, called <b> (0.98).",
        "1 pair of test is not wholly right; the worst: a.jpg, one, called two.",
        "1 image of train cannot be read and took no part.",
        "Warning: number 0",
        f"Train longer. <i>visiontl train {EVIL}",
        "2 more warnings",
    ):
        assert part in words, (part, words)
    assert "number 4" not in page.text["headline"]
    assert "number 4" in page.text["notes"]
    widths = re.findall(r'style="width: ([\d.]+)%"', text)
    assert widths == ["94.2", "93.8", "11.0", "30.0"]  # a share is a share of the whole bar
    measured = {"ranked": {"score": "loss", "better": "min"}, "scores": {"test": {"loss": 8.0}}, "status": "evaluated"}
    trivial = {"trivial": {"test": {"answer": "none", "value": 16.0}}}
    text = write_report(tmp_path, measured | trivial).read_text(encoding="utf-8")
    assert "loss on test lower is better" in " ".join(Page(text).text["headline"].split())
    assert re.findall(r'style="width: ([\d.]+)%"', text) == ["50.0", "100.0"]
    assert "No warning was given, and no image was left out." in text


@pytest.mark.parametrize(
    ("loaded", "text"),
    [
        (None, "a1_in1k"),
        ({"values": {"matched": 90, "total": 90}}, "a1_in1k, all of the backbone loaded"),
        ({"values": {"matched": 81, "total": 90}}, "a1_in1k, 90.0% of the backbone's values loaded"),
        (
            {"values": {"matched": 99_999, "total": 100_000}, "tensors": {"matched": 61, "total": 62}},
            "a1_in1k, 99.9% of the backbone's values loaded (61 of 62 tensors)",  # nothing is rounded up to all
        ),
    ],
)
def test_the_headline_says_what_share_of_the_weights_was_loaded(tmp_path: Path, loaded: Any, text: str) -> None:
    backbone = {"name": "timm/resnet18", "weights": "a1_in1k", "loaded": loaded}
    page = Page(write_report(tmp_path, {"backbone": backbone}).read_text(encoding="utf-8"))
    assert f"weights{text}" in page.text["headline"].split("\n")


def test_scores_stand_per_split_and_big_things_are_left_out(written: tuple[Path, Page, str]) -> None:
    _, page, text = written
    words = page.text["scores"].split()
    begin = words.index("accuracy")
    assert words[begin : begin + 3] == ["accuracy", "0.9421", "0.9383"]
    assert words[words.index("undefined") + 1] == "-"
    assert "infinite" in words
    assert "31337" not in text.replace(",", "")  # lists stay in report.json
    assert "<details><summary>Deep (val)" in text  # nested dicts are tables, folded: the task's own items show them
    assert "41,338" in text
    assert "<details><summary>Many" in text
    assert "<details><summary>Per class" in text


def test_names_are_escaped_everywhere(written: tuple[Path, Page, str]) -> None:
    _, page, text = written
    own = (Path(pages.__file__).parent / "templates/page.js").read_text(encoding="utf-8")
    assert page.count("script") == 1  # the page's own, with nothing of a run in it
    assert page.script.strip() == own.strip()
    assert not re.search(r"innerHTML|eval|fetch|http", own)
    assert "<b>" not in text
    assert "&lt;script&gt;" in text
    for section in ("scores", "task", "environment", "config"):
        assert EVIL in page.text[section]
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]


def test_the_file_stands_alone(written: tuple[Path, Page, str]) -> None:
    _, page, text = written
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "action", "poster", "data"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/")), (tag, attrs)
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_ids_are_unique_and_references_lead_somewhere(written: tuple[Path, Page, str]) -> None:
    _, page, text = written
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)


def test_curves_show_what_the_records_hold(written: tuple[Path, Page, str]) -> None:
    _, page, _ = written
    text = page.text["curves"]
    for title in ("Loss", "Parts of the loss", "Scores at each evaluation", "perplexity at each evaluation"):
        assert title in text
    for title in ("Learning rate", "Gradient norm", "epoch 2", "best"):
        assert title in text
    assert sum(attrs.get("role") == "img" for tag, attrs in page.tags if tag == "svg") == 6 + 2  # curves, figures


def test_phases_are_folded_but_the_first(written: tuple[Path, Page, str]) -> None:
    _, page, text = written
    section = text[text.index('<section id="trainability">') : text.index('<section id="notes">')]
    assert re.findall(r"<details( open)?>", section) == [" open", ""]
    assert "500 of 1.5 k parameters train" in page.text["trainability"]
    assert "1.25e-4" in page.text["trainability"]


def test_what_cannot_be_drawn_is_named(written: tuple[Path, Page, str]) -> None:
    _, page, _ = written
    notes = page.text["headline"] + page.text["notes"]
    assert "7 files <b>skipped</b>" in notes
    assert "the split is stratified" in notes
    assert "figure 'Broken' could not be drawn: ValueError: no <b>data</b>" in notes
    assert "table 'Ragged' could not be drawn" in notes
    assert "picture 3 of 'Errors' could not be drawn" in notes
    assert "got str" in notes
    assert "Warning: the split" not in notes


def test_a_legend_lies_below_and_colors_follow_the_page(written: tuple[Path, Page, str]) -> None:
    folder, _, text = written
    assert "stroke: var(--plot-1, #1f5f8b)" in text
    assert "var(" not in (folder / "pictures/evil-labels.svg").read_text(encoding="utf-8")  # no page around it
    for name in re.findall(r"var\((--[\w-]+)", text):
        assert text.count(f"{name}:") == 2, name  # light and dark

    def drawn(ax: Any) -> None:
        for index in range(9):
            ax.plot([0, 1], [index, index], label=f"a name of {index}")
        ax.legend(loc="center")

    svg = render_figure(Figure("Many names", drawn))
    bottom = max(float(y) for y in re.findall(r'id="xtick_\d+">.*?y="([\d.]+)"', svg, re.DOTALL))
    legend = svg[svg.index('id="legend_1"') :]
    assert legend.count("a name of") >= 9
    assert min(float(y) for y in re.findall(r'<text[^>]*y="([\d.]+)"', legend)) > bottom - 30


def test_pictures_are_bounded_inside_and_kept_as_files(written: tuple[Path, Page, str]) -> None:
    folder, page, _ = written
    sources = [attrs["src"] or "" for tag, attrs in page.tags if tag == "img"]
    sizes = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size for source in sources]
    assert sizes == [(900, 450), (32, 32)]  # few pictures, so larger ones
    files = [attrs["data-file"] for _, attrs in page.tags if "data-file" in attrs]
    assert files == [
        "pictures/errors-1.png",
        "pictures/errors-2.png",
    ]  # what a click enlarges, where they lie beside it
    many = [("x", Image.new("RGB", (3000, 1500)))] * 13
    text = write_report(folder / "many", {}, (), [Pictures("Many", many)]).read_text(encoding="utf-8")
    first = re.search(r"data:image/jpeg;base64,([^\"]+)", text)
    assert first is not None
    assert Image.open(io.BytesIO(base64.b64decode(first[1]))).size == (420, 210)
    there = [path for path in folder.rglob("*") if path.is_file() and "many" not in path.parts]
    names = sorted(path.relative_to(folder).as_posix() for path in there)
    assert names == [
        "pictures/errors-1.png",
        "pictures/errors-2.png",
        "pictures/evil-labels.svg",
        "pictures/out-of-here.svg",
        "report.html",
    ]
    assert Image.open(folder / "pictures/errors-1.png").size == (2000, 1000)
    labels = ElementTree.parse(folder / "pictures/evil-labels.svg").getroot().itertext()
    assert EVIL in "".join(labels)  # well-formed XML of its own, with the name as text


def test_any_key_may_be_missing(tmp_path: Path) -> None:
    report = full_report()
    for key in report:
        less = {name: value for name, value in report.items() if name != key}
        Page(write_report(tmp_path, less).read_text(encoding="utf-8"))
    nothing = Page(write_report(tmp_path, {}).read_text(encoding="utf-8"))
    assert nothing.count("section") == 0
    Page(write_report(tmp_path, dict.fromkeys(report)).read_text(encoding="utf-8"))


def test_records_may_lack_anything(tmp_path: Path) -> None:
    odd = [{}, {"kind": "train"}, {"kind": "val", "step": 1}, {"kind": "train", "step": 2, "loss": math.inf}]
    page = Page(write_report(tmp_path, {}, odd).read_text(encoding="utf-8"))
    assert page.count("svg") == 0


def test_a_long_run_makes_no_huge_file(tmp_path: Path) -> None:
    long = [{"step": s, "epoch": s / 100, "kind": "train", "loss": s % 7} for s in range(1, 30_001)]
    assert write_report(tmp_path, {}, long).stat().st_size < 300_000


def test_columns_of_numbers_are_set_to_the_right() -> None:
    rows = [["a 1", "66.7%", "1,024", None, "1.0e-3", 3], ["7", "0.0%", "-3.5", "12 px", "-", 0.5]]
    assert task_table(Table("t", list("abcdef"), rows)).right == [False, True, True, True, True, True]


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(tmp_path, {"task": "first"})
    before = path.read_bytes()

    def refuse(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("visiontl.report.page.os.replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, {"task": "second"})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_figure_is_one_element_and_leaves_matplotlib_as_it_was() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    svg = render_figure(Figure("One", lambda ax: ax.plot([1, 2])))
    assert dict(matplotlib.rcParams) == before
    assert svg.startswith("<svg ")
    assert "<metadata" not in svg
    with pytest.raises(ValueError, match="no <b>"):
        render_figure(Figure("Broken", broken))


@pytest.mark.parametrize(
    ("text", "name"),
    [("Most confident errors", "most-confident-errors"), ("../..", "item"), ("日本", "item")],
)
def test_slugs_are_safe(text: str, name: str) -> None:
    assert slug(text) == name
    assert len(slug("x" * 500)) <= 60


def test_equal_titles_get_files_of_their_own() -> None:
    taken: set[str] = set()
    assert [slug("A b", taken), slug("a/B", taken)] == ["a-b", "a-b-2"]


def test_a_large_picture_is_shown_large_and_two_wide_ones_in_a_row():
    assert picture_height((300, 300)) == 11.0
    assert picture_height((1000, 1000)) == 24.0
    tall = picture_height((1400, 560))  # two panels beside each other
    assert 11 < tall < 24
    assert 2 * tall * 1400 / 560 < 88 - 4  # of the widest page, in rem
    assert picture_height((4000, 10)) == 11.0
