"""What `train` and `evaluate` return: the report's values as a dict that a notebook shows as a page's first screen."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiontl.errors import VisionTLError
from visiontl.report import inline
from visiontl.report.console import Console
from visiontl.report.curves import points, thin
from visiontl.report.formats import cell, duration, is_number
from visiontl.report.headline import how_good
from visiontl.report.live import display
from visiontl.report.run import Report
from visiontl.report.tables import compared_scores, score_table
from visiontl.runs.files import read_lines

PAGE = 900  # pixels, the height of the whole report in a cell
BRIEF = 4  # scores of a split in one line


class Result(dict[str, Any]):
    """The report of a run or an evaluation: the values of report.json, which a notebook shows as scores, curves and a
    link. A plain dict in all else: `result["scores"]`, JSON, pickle. It stands for its run folder where a path is
    expected: `visiontl.load(result)`."""

    @property
    def run(self) -> Path:
        """The run folder, or that of the evaluation."""
        return Path(self["run"])

    @property
    def scores(self) -> Mapping[str, Mapping[str, Any]]:
        """{split: its scores}"""
        return self.get("scores") or {}

    @property
    def page(self) -> Path:
        """The report, report.html in the run folder; of a rehearsal it is gone."""
        return self.run / "report.html"

    def show(self) -> None:
        """The whole report: in the cell where a notebook runs, else in the browser."""
        if not self.page.is_file():
            raise VisionTLError(f"{self.page} is not there (any more); a rehearsal keeps nothing")
        show = display()
        if show is not None:
            show(_Markup(whole_page(self.page)))
            return
        import webbrowser

        webbrowser.open(self.page.absolute().as_uri())
        Console().say(f"report: {self.page}")

    def __fspath__(self) -> str:
        return str(self["run"])

    def __repr__(self) -> str:
        """`Result(runs/photos, finished: val accuracy 0.9530, test accuracy 0.9500)`"""
        said = [f"{split} {in_short(values)}" for split, values in self.scores.items()]
        return f"Result({self.get('run', '')}, {self.get('status', '')}: {', '.join(said) or 'no scores'})"

    def _repr_html_(self) -> str:
        return inline.card(title(self), facts(self), [headline(self), scores(self), curves(self), words(self)])


class _Markup:
    """HTML for a display."""

    def __init__(self, markup: str):
        self.markup = markup

    def __repr__(self) -> str:
        return "the report, as HTML"

    def _repr_html_(self) -> str:
        return self.markup


def whole_page(page: Path) -> str:
    """A report as an element that shares nothing with the notebook around it."""
    source = html.escape(page.read_text(encoding="utf-8", errors="replace"))
    look = f"width:100%;height:{PAGE}px;border:1px solid {inline.LINE};border-radius:6px"
    return f'<iframe srcdoc="{source}" sandbox="allow-scripts" style="{look}"></iframe>'


def in_short(values: Mapping[str, Any]) -> str:
    """'accuracy 0.9530': the first score of a split."""
    plain = [(name, value) for name, value in values.items() if is_number(value)]
    return f"{plain[0][0]} {cell(plain[0][1])}" if plain else "nothing measured"


def title(result: Result) -> str:
    return Path(str(result.get("run", ""))).name or "report"


def facts(result: Result) -> str:
    """'classification, finished in 1:05; resnet18, weights a1_in1k; train 120, val 45'"""
    backbone = result.get("backbone") or {}
    took = f" in {duration(result['seconds'])}" if is_number(result.get("seconds")) else ""
    images = ", ".join(f"{name} {cell(number)}" for name, number in (result.get("data") or {}).items())
    weights = f"{backbone.get('name', '')}, weights {backbone.get('weights', '')}" if backbone.get("name") else ""
    return "; ".join(filter(None, [f"{result.get('task', '')}, {result.get('status', '')}{took}", weights, images]))


def headline(result: Result) -> str:
    """The score that says how good the model is, on which split, and what it is compared with."""
    try:
        good = how_good(Report.from_json(result))
    except VisionTLError:  # values that somebody has changed; said below
        return ""
    if good is None:
        return ""
    big = f'<span style="font-size:1.8em;font-weight:600">{inline.text(good.value)}</span>'
    where = inline.soft(inline.text(f"({good.where})")) if good.where else ""
    others = [f"{one.name} {one.value}" for one in good.compared if one.name != good.split]
    beside = [" · ".join(others), good.words]
    lines = "".join(f"<div>{inline.soft(inline.text(line))}</div>" for line in beside if line)
    said = f"{big}&ensp;{inline.text(f'{good.split} {good.score}')} {where}{lines}"
    return f'<div style="margin:.2em 0">{said}</div>'


def scores(result: Result) -> str:
    """A row a score, a column a split."""
    try:
        found = score_table(compared_scores(Report.from_json(result)))
    except VisionTLError as error:  # values that somebody has changed
        return inline.bullets([str(error)])
    return inline.table(found.columns, found.rows, found.right) if found else ""


def curves(result: Result) -> str:
    """The loss, and the score that picks the weights, over the steps."""
    if not result.run.is_dir():
        return ""
    try:
        records, _ = read_lines(result.run)
    except OSError:
        return ""
    train = [one for one in records if one.get("kind") == "train"]
    val = [one for one in records if one.get("kind") == "val"]
    best = str((result.get("best") or {}).get("score") or "")
    charts = [inline.chart("loss", {"train": thin(*points(train, "loss")), "val": thin(*points(val, "loss"))})]
    if best:
        charts.append(inline.chart(f"val {best.replace('_', ' ')}", {best: thin(*points(val, best))}))
    made = "".join(charts)
    return f"<div>{made}</div>" if made else ""


def words(result: Result) -> str:
    """What to try next, where the report says it; warnings and notes; where everything lies."""
    notes = [str(note) for note in result.get("notes") or ()]
    warnings = [note.removeprefix("warning: ") for note in notes if note.startswith("warning: ")]
    others = [note for note in notes if not note.startswith("warning: ")]
    parts = [
        suggestions(result),
        f"<div><b>Warnings</b>{inline.bullets(warnings)}</div>" if warnings else "",
        inline.folded(f"{len(others)} notes" if len(others) > 1 else "1 note", inline.bullets(others, 30)),
    ]
    if result.page.is_file():
        parts.append(f"<div>{inline.link(result.page, 'report')}&ensp;{inline.soft(inline.text(result.run))}</div>")
    else:
        parts.append(inline.soft("nothing was kept: the folder of this run is not there"))
    return "".join(parts)


def suggestions(result: Result) -> str:
    """What to try next, drawn from what was measured, each with its command."""
    made: list[str] = []
    for one in result.get("suggestions") or ():
        said = f"{inline.text(one['what'])} {inline.soft(inline.text(one['why']))}"
        command = f'<code style="display:block;overflow-x:auto">{inline.text(one["command"])}</code>'
        made.append(f'<li style="margin:.25em 0">{said}{command if one["command"] else ""}</li>')
    if not made:
        return ""
    return f'<div><b>Try next</b><ul style="margin:.2em 0;padding-left:1.2em">{"".join(made)}</ul></div>'
