"""The report of a run as one self-contained HTML file. Imports no torch, and matplotlib only to draw."""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from visiontl.report.console import cell, clean, duration, human, is_number
from visiontl.report.items import Figure, Pictures, Table

THUMBNAIL = 420  # pixels, longer side of a picture inside the report
PICTURE = 2000  # pixels, longer side of a picture's file
SHOWN = 60  # pictures of one grid inside the report; the others are files only
POINTS = 1500  # points of a curve; longer ones are averaged in equal groups
MANY_ROWS = 15  # a longer table starts folded
_NOT_SCORES = frozenset({"step", "epoch", "kind", "seconds", "images_per_second", "lr", "grad_norm"})
_BLUE, _ORANGE, _GRAY = "#1f5f8b", "#b8541a", "#8a8a8a"
_CYCLE = (_BLUE, _ORANGE, "#3b7d4f", "#7a4f9a", "#a83246", "#5c6b73")


def write_report(
    folder: Path,
    report: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]] = (),
    items: Iterable[Figure | Table | Pictures] = (),
) -> Path:
    """Writes folder/report.html, and each figure and picture as a file into folder/pictures/.

    report: what report.json holds; any key may be missing. metrics: the records of metrics.jsonl.
    items: what the task's `report` gave. One that cannot be drawn becomes a note, never a failure.
    """
    from jinja2 import Environment, FileSystemLoader

    folder = Path(folder)
    problems: list[str] = []
    names: set[str] = set()
    shown = [_item(item, folder / "pictures", names, problems) for item in items]
    curves = []
    for figure in training_figures(report, metrics):
        try:
            curves.append(render_figure(figure, f"curve{len(curves)}-"))
        except Exception as error:  # a curve is worth less than the report
            problems.append(f"warning: figure '{figure.title}' could not be drawn: {_why(error)}")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters.update(cell=cell, human=human, duration=duration)
    notes = [str(note) for note in report.get("notes") or ()] + problems
    page = environment.get_template("report.html.j2").render(
        report=report,
        title=_title(report),
        started=_moment(report.get("started")),
        best=_best(report),
        facts=_facts(report),
        score_table=score_table(_scores(report)),
        nested_tables=nested_tables(_scores(report)),
        curves=curves,
        phases=_phases(report),
        items=[item for item in shown if item],
        warnings=[note.removeprefix("warning: ") for note in notes if note.startswith("warning:")],
        notes=[note for note in notes if not note.startswith("warning:")],
        environment=_environment(report),
        many_rows=MANY_ROWS,
    )
    path = folder / "report.html"
    _write(path, page.encode("utf-8", "backslashreplace"))
    return path


def render_figure(figure: Figure, prefix: str = "") -> str:
    """The figure as an SVG element to stand inside an HTML page; `prefix` keeps its ids apart from others'.

    Text stays text, in the page's own font, and dollar signs in names are not read as formulas.
    Raises whatever `figure.draw` raises.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": figure.title,
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#777777",
        "axes.linewidth": 0.8,
        "axes.prop_cycle": cycler(color=_CYCLE),
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "grid.color": "#e4e4e4",
        "xtick.color": "#555555",
        "ytick.color": "#555555",
        "legend.frameon": False,
        "legend.fontsize": 9,
        "image.cmap": "Blues",
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)  # type: ignore
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has the glyph
        drawing = Drawing(figsize=figure.size, layout="constrained")
        FigureCanvasSVG(drawing)
        figure.draw(drawing.add_subplot())
        text = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        drawing.savefig(text, format="svg", transparent=True, metadata=nothing)
    return _inline(text.getvalue(), figure.title, prefix)


def _inline(svg: str, title: str, prefix: str) -> str:
    """A standalone SVG file -> an element that scales with the page and shares no id with another."""
    svg = clean(svg[svg.index("<svg") :])
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)

    def adapt(tag: re.Match[str]) -> str:
        text = re.sub(r'(\s)id="', rf'\1id="{prefix}', tag[0])
        text = re.sub(r'(href="|url\()#', rf"\1#{prefix}", text)
        return re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)  # the page's own

    svg = re.sub(r"<[^>]*>", adapt, svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)


def training_figures(report: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """A run's curves: loss and its parts, scores of each evaluation, learning rate, gradient norm."""
    train = [record for record in metrics if record.get("kind") == "train"]
    val = [record for record in metrics if record.get("kind") not in ("train", None)]
    edges = _phase_edges(report, metrics)
    best = report.get("best") or {}
    figures = []

    losses = {"training": _curve(train, "loss"), "validation": _curve(val, "loss")}
    _add(figures, "Loss", losses, edges, smooth=True)
    parts = {key: _curve(train, key) for key in _keys(train) if key != "loss" and not key.startswith("lr")}
    _add(figures, "Parts of the loss", dict(itertools.islice(parts.items(), 6)), edges, smooth=True)

    scores = [key for key in _keys(val) if key != "loss"]
    scores.sort(key=lambda key: key != best.get("score"))
    shares = [key for key in scores if all(0 <= y <= 1 for y in _curve(val, key)[1])]
    _add(
        figures,
        "Scores at each evaluation",
        {k: _curve(val, k) for k in shares[:6]},
        edges,
        marks=True,
        best=best,
    )
    for key in [key for key in scores if key not in shares][:4]:
        label = f"{key.replace('_', ' ')} at each evaluation"
        _add(figures, label, {key: _curve(val, key)}, edges, marks=True, best=best)
    _add(figures, "Learning rate of the head", {"lr": _curve(train, "lr")}, edges, scientific=True)
    norms = {"grad_norm": _curve(train, "grad_norm")}
    _add(figures, "Gradient norm", norms, edges, smooth=True)
    return figures


def _add(
    figures: list[Figure],
    title: str,
    curves: Mapping[str, tuple[list[float], list[float]]],
    edges: Sequence[tuple[float, Any]],
    smooth: bool = False,
    marks: bool = False,
    scientific: bool = False,
    best: Mapping[str, Any] | None = None,
) -> None:
    """Append a figure with the curves that have points; none where no curve has any.

    edges: (step, epoch) where a freezing phase begins. smooth: also a running mean over long curves.
    """
    curves = {name: xy for name, xy in curves.items() if xy[0]}
    if not curves:
        return

    def draw(ax: Any) -> None:
        for (name, (x, y)), color in zip(curves.items(), itertools.cycle(_CYCLE), strict=False):
            x, y = _thin(x, y)
            label = name.replace("_", " ")
            if smooth and len(x) >= 40:
                ax.plot(x, y, color=color, alpha=0.25, linewidth=0.8)
                x, y = x, _running_mean(y, max(3, len(y) // 25))
            dots = "o" if marks or len(x) < 2 else ""
            ax.plot(x, y, color=color, linewidth=1.5, marker=dots, markersize=3.5, label=label)
        if best and best.get("score") in curves and is_number(best.get("step")) and is_number(best.get("value")):
            ax.plot(
                [best["step"]],
                [best["value"]],
                marker="o",
                markersize=9,
                fillstyle="none",
                color=_BLUE,
                linestyle="",
                label="best",
            )
        for index, (step, epoch) in enumerate(edges):
            label = "phase edge" if index == 0 else None
            ax.axvline(step, color=_GRAY, linewidth=0.9, linestyle=(0, (4, 3)), label=label, zorder=0)
            ax.annotate(
                f"epoch {epoch}",
                (step, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -2),
                textcoords="offset points",
                rotation=90,
                va="top",
                fontsize=7.5,
                color="#666666",
            )
        if scientific:
            ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useOffset=False)
        ax.set_title(title)
        ax.set_xlabel("step (optimizer updates)")
        ax.locator_params(axis="x", integer=True)
        ax.grid(axis="y")
        if len(ax.get_legend_handles_labels()[1]) > 1:
            ax.legend()

    figures.append(Figure(title, draw, size=(5.6, 3.3)))


def score_table(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Scalar scores, one row each, one column per split."""
    names = list(dict.fromkeys(name for split in scores.values() for name, value in split.items() if _scalar(value)))
    if not names:
        return None
    rows = [
        [
            name.replace("_", " "),
            *(cell(split.get(name)) if _scalar(split.get(name)) else "-" for split in scores.values()),
        ]
        for name in names
    ]
    return {"columns": ["score", *scores], "rows": rows, "right": [False] + [True] * len(scores)}


def nested_tables(scores: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A table for each score that is a mapping of scalars (per class ...), one column per split."""
    names = dict.fromkeys(name for split in scores.values() for name, value in split.items() if _flat(value))
    tables = []
    for name in names:
        splits = {split: values[name] for split, values in scores.items() if _flat(values.get(name))}
        keys = dict.fromkeys(key for values in splits.values() for key in values)
        tables.append(
            {
                "title": name.replace("_", " "),
                "columns": ["", *splits],
                "rows": [[str(key), *(cell(values.get(key)) for values in splits.values())] for key in keys],
                "right": [False] + [True] * len(splits),
            }
        )
    return tables


def slug(text: str, taken: set[str] | None = None) -> str:
    """A file name of letters, digits and dashes, never empty; numbered where it is taken already."""
    base = re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-")[:60].strip("-") or "item"
    taken = set() if taken is None else taken
    name, count = base, 2
    while name in taken:
        name, count = f"{base}-{count}", count + 1
    taken.add(name)
    return name


def _item(item: Any, folder: Path, names: set[str], problems: list[str]) -> dict[str, Any] | None:
    """One item of the task's report, ready for the template, its files written. None if it fails."""
    title = str(getattr(item, "title", type(item).__name__))
    try:
        if isinstance(item, Figure):
            name = slug(title, names)
            svg = render_figure(item, f"{name}-")
            # A file of its own is XML, which allows no control characters and needs a declared namespace.
            _write(folder / f"{name}.svg", svg.encode("utf-8", "replace"))
            return {"kind": "figure", "title": title, "caption": item.caption, "svg": svg}
        if isinstance(item, Table):
            return {"kind": "table", "title": title, "caption": item.caption, "table": _table(item)}
        if isinstance(item, Pictures):
            return _pictures(item, folder, slug(title, names), problems)
        raise TypeError(f"expected a Figure, Table or Pictures of visiontl.report.items, got {type(item).__name__}")
    except Exception as error:  # the task's own code runs here; a report must not end a run that succeeded
        kind = type(item).__name__.lower()
        problems.append(f"warning: {kind} '{title}' could not be drawn: {_why(error)}")
        return None


def _pictures(item: Pictures, folder: Path, name: str, problems: list[str]) -> dict[str, Any]:
    shown = []
    width = len(str(len(item.items)))
    for index, (caption, image) in enumerate(item.items):
        try:
            image = _plain_mode(image)
            large = image.copy()
            large.thumbnail((PICTURE, PICTURE))
            data = io.BytesIO()
            large.save(data, "PNG")
            _write(folder / f"{name}-{index + 1:0{width}}.png", data.getvalue())
            if len(shown) < SHOWN:
                shown.append({"caption": str(caption), "uri": _thumbnail(large), "size": image.size})
        except Exception as error:
            problems.append(f"warning: picture {index + 1} of '{item.title}' could not be drawn: {_why(error)}")
    return {
        "kind": "pictures",
        "title": item.title,
        "caption": item.caption,
        "pictures": shown,
        "left_out": max(0, len(item.items) - SHOWN),
    }


def _plain_mode(image: Any) -> Any:
    """A PIL image in a mode that both PNG and a browser know."""
    mode = image.mode if image.mode in ("L", "RGB", "RGBA", "P") else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _thumbnail(image: Any) -> str:
    """Data URI of a JPEG with a longer side of at most THUMBNAIL pixels; PNG if tiny or see-through."""
    image = image.copy()
    small = max(image.size) <= 64
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    kind = "PNG" if small or image.mode == "RGBA" else "JPEG"
    data = io.BytesIO()
    image.save(data, kind, **({"quality": 82} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def _table(item: Table) -> dict[str, Any]:
    columns = [str(column) for column in item.columns]
    rows = [[cell(value, name) for name, value in zip(columns, row, strict=True)] for row in item.rows]
    right = [all(is_number(row[i]) or row[i] is None for row in item.rows) for i in range(len(columns))]
    return {"columns": columns, "rows": rows, "right": right}


def _phases(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trainability tables, each with the counts of its phase."""
    names = {
        "stage": "stage",
        "mode": "mode",
        "parameters": "parameters",
        "trainable": "trainable",
        "lr": "learning rate",
    }
    phases = []
    for phase in report.get("trainability") or ():
        rows = phase.get("rows") or ()
        keys = [key for key in names if any(key in row for row in rows)]
        counts = {
            key: sum(row[key] for row in rows if is_number(row.get(key)))
            for key in ("parameters", "trainable")
            if key in keys
        }
        summary = (
            f"{human(counts['trainable'])} of {human(counts['parameters'])} parameters train"
            if len(counts) == 2
            else ""
        )
        phases.append(
            {
                "title": f"From epoch {phase['epoch']}" if "epoch" in phase else "Stages",
                "summary": summary,
                "columns": [names[key] for key in keys],
                "rows": [
                    [cell(row.get(key) or (None if key == "lr" else row.get(key)), names[key]) for key in keys]
                    for row in rows
                ],
                "right": [key in ("parameters", "trainable", "lr") for key in keys],
            }
        )
    return phases


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The headline's second line: what was trained on what, and how."""
    facts = []
    if data := report.get("data"):
        facts.append(("data", ", ".join(f"{name} {cell(count)}" for name, count in data.items())))
    if backbone := report.get("backbone"):
        if not isinstance(backbone, Mapping):
            backbone = {"name": backbone}
        facts.append(("backbone", cell(backbone.get("name"))))
        weights = [cell(backbone["weights"])] if backbone.get("weights") is not None else []
        matched = None if backbone.get("weights") == "none" else backbone.get("matched")  # random: nothing to match
        if is_number(matched):
            weights.append("all of it matched" if matched == 1 else f"{matched:.1%} of it matched")
        elif matched is not None:
            weights.append(cell(matched))
        if weights:
            facts.append(("weights", ", ".join(weights)))
        if is_number(backbone.get("parameters")):
            facts.append(("parameters", f"{human(backbone['parameters'])} in the backbone"))
    if report.get("policy") is not None:
        facts.append(("freeze policy", cell(report["policy"])))
    if is_number(report.get("seconds")):
        facts.append(("time", duration(report["seconds"])))
    if report.get("seed") is not None:
        facts.append(("seed", str(report["seed"])))
    return facts


def _environment(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("command", report.get("command")),
        ("run folder", report.get("run")),
        ("visiontl", report.get("visiontl")),
    ]
    rows += [(key.replace("_", " "), value) for key, value in (report.get("environment") or {}).items()]
    return [(key, str(value) if key == "seed" else cell(value)) for key, value in rows if value is not None]


def _best(report: Mapping[str, Any]) -> dict[str, str] | None:
    best = report.get("best") or {}
    if best.get("value") is None:
        return None
    where = [f"epoch {best['epoch']:.4g}"] if is_number(best.get("epoch")) else []
    where += [f"step {best['step']}"] if is_number(best.get("step")) else []
    return {
        "score": str(best.get("score", "score")).replace("_", " "),
        "value": cell(best["value"]),
        "where": ", ".join(where),
    }


def _title(report: Mapping[str, Any]) -> str:
    run = str(report.get("run") or "").rstrip("/\\")
    return re.split(r"[/\\]", run)[-1] or str(report.get("task") or "report")


def _moment(text: Any) -> str:
    """ISO date and time -> '2025-11-24 01:59'; anything else as it is."""
    try:
        return datetime.fromisoformat(str(text)).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return str(text) if text else ""


def _scores(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """{split: its scores}, and beside each split what it had before the first update, where that was measured."""
    scores, before = report.get("scores") or {}, report.get("scores_at_start") or {}
    found: dict[str, Mapping[str, Any]] = {}
    for name, values in scores.items():
        if isinstance(values, Mapping):
            found[str(name)] = values
            if isinstance(before.get(name), Mapping):
                found[f"{name}, at the start"] = before[name]
    return found


def _scalar(value: Any) -> bool:
    return is_number(value) or isinstance(value, str | bool)


def _flat(value: Any) -> bool:
    """True for a mapping of scalars with at least one entry."""
    return isinstance(value, Mapping) and bool(value) and all(_scalar(item) or item is None for item in value.values())


def _keys(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the numbers that any of the records holds, in order of appearance."""
    found = (key for record in records for key, value in record.items() if is_number(value) and key not in _NOT_SCORES)
    return list(dict.fromkeys(found))


def _curve(records: Iterable[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """(steps, values) of the records that hold a finite number under the key."""
    x: list[float] = []
    y: list[float] = []
    for record in records:
        step, value = record.get("step"), record.get(key)
        if isinstance(step, int | float) and isinstance(value, int | float) and math.isfinite(value):
            x.append(step)
            y.append(value)
    return x, y


def _phase_edges(report: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> list[tuple[float, Any]]:
    """(step, epoch) of each phase after the first, by the pace that the records show."""
    known = [r for r in metrics if is_number(r.get("step")) and is_number(r.get("epoch")) and r["epoch"] > 0]
    if not known:
        return []
    pace = known[-1]["step"] / known[-1]["epoch"]  # updates per epoch: the same in every epoch
    epochs = [phase.get("epoch") for phase in report.get("trainability") or ()]
    return [(epoch * pace, epoch) for epoch in epochs if is_number(epoch) and 0 < epoch <= known[-1]["epoch"]]


def _thin(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """At most POINTS points, each the mean of equally many neighbors."""
    group = -(-len(x) // POINTS)
    if group <= 1:
        return x, y
    parts = range(0, len(x), group)
    return [_mean(x[i : i + group]) for i in parts], [_mean(y[i : i + group]) for i in parts]


def _running_mean(values: list[float], width: int) -> list[float]:
    """Mean over up to `width` neighbors, as many before as after."""
    sums = [0.0, *itertools.accumulate(values)]
    half = width // 2
    spans = [(max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values))]
    return [(sums[end] - sums[begin]) / (end - begin) for begin, end in spans]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _visible(value: Any) -> Any:
    """Text with control characters, and those that turn the writing direction, written out. Markup passes."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else clean(value)


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _write(path: Path, content: bytes) -> None:
    """The whole file or none: written beside it, then moved into its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp's files are their owner's alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
