"""`visiontl doctor`: reads everything that a config names before the first training second, and says what it found."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from visiontl import plugins
from visiontl.backbone import Backbone
from visiontl.backbones import weights
from visiontl.config.resolve import Resolved
from visiontl.config.write import to_plain
from visiontl.doctor.findings import Scale, inspect
from visiontl.doctor.scales import enlargement
from visiontl.engine import scan
from visiontl.engine.depth import with_depth
from visiontl.engine.example import with_example
from visiontl.engine.given import through_json
from visiontl.engine.init import backbone_like
from visiontl.engine.order import epoch_order
from visiontl.engine.wholes import names_a_run, with_start
from visiontl.errors import ConfigError, VisionTLError
from visiontl.kit.words import plural
from visiontl.report.console import Console
from visiontl.report.items import Finding, Table
from visiontl.runs.files import write_text
from visiontl.spec import ImageSpec
from visiontl.task import Data

LEVELS = {"error": "red", "warning": "yellow", "note": None}  # and their colors
ROWS = 20  # of a table on the console; half of them from its end
NAMES = 3  # of a finding on the console
NAME = 200  # characters of a name on the console


@dataclass
class Diagnosis:
    """What was found. unchecked: what a run could still stumble over. images_per_second: of reading them all."""

    findings: list[Finding] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    images: int = 0
    images_per_second: float = 0.0

    def count(self, level: str) -> int:
        return sum(finding.level == level for finding in self.findings)

    @property
    def exit_code(self) -> int:
        return 2 if self.count("error") else 0


def doctor(resolved: Resolved, json_file: str | Path | None = None) -> int:
    """Examine a run's config, backbone and data; print what was found. Returns the exit code: 2 with errors, else 0.

    json_file: where everything is written too. Nothing is trained, nothing is downloaded but what the task's own
    data asks for.
    """
    target = None if json_file is None else Path(json_file)
    if target is not None and (target.is_dir() or not target.absolute().parent.is_dir()):
        raise ConfigError(f"--json: {target} cannot be written: it is a folder, or its folder does not exist")
    console = Console()
    found = diagnose(resolved, console)
    if target is not None:
        write_text(target, json.dumps(to_json(found, resolved), indent=1) + "\n")
    show(found, console)
    return found.exit_code


def diagnose(resolved: Resolved, console: Console) -> Diagnosis:
    diagnosis = Diagnosis()
    try:
        resolved = with_start(resolved, console, fetch=False)
    except Exception as error:
        diagnosis.findings.append(failure(error, "the run stops here"))
        return diagnosis
    backbone = examine_backbone(resolved, diagnosis)
    spec = backbone.spec if backbone is not None else ImageSpec()
    diagnosis.unchecked.append(
        "the model, its loss and the freeze policy's phases (`visiontl train --dry-run` tries them)"
    )
    try:
        resolved = with_example(resolved, console)
        given = resolved
        data: Data = with_depth(resolved.config.data.depth, lambda: given.task.data(given.cfg, spec, None))
        meta = through_json(data.meta)
    except Exception as error:
        diagnosis.findings.append(failure(error, "the run stops here; no image was looked at"))
        return diagnosis
    examine_data(resolved, data, meta, spec, console, diagnosis)
    return diagnosis


def examine_backbone(resolved: Resolved, diagnosis: Diagnosis) -> Backbone | None:
    """The config's backbone as far as nothing has to be downloaded: weights of a local file or package are loaded."""
    section = resolved.config.backbone
    try:
        entry, _ = plugins.backbone_entry(section.name)
        if resolved.config.init is not None:
            backbone = backbone_like(resolved, entry)
            kind = "the run " if names_a_run(resolved.config.init) else ""
            diagnosis.facts.append(f"backbone {entry.name}, weights of {kind}{resolved.config.init}")
            return backbone
        kind, value = weights.resolve(entry, section.weights)
        here = weights.on_this_machine(entry, kind, value)
        if not here:
            diagnosis.unchecked.append(
                f"whether the weights {section.weights} of {entry.name} can be had: no download was made"
            )
        if kind == "tag" and not here:
            backbone = entry.build(
                spec=weights.tag_spec(entry, value),
                in_channels=section.in_channels,
                output_stride=section.output_stride,
                image_size=section.image_size,
            )
        else:
            backbone, loaded = weights.make_backbone(
                entry,
                "none" if kind == "hub" else section.weights,
                image_size=section.image_size,
                in_channels=section.in_channels,
                output_stride=section.output_stride,
                strict=section.strict,
            )
            if kind in ("file", "tag"):
                diagnosis.facts.append(str(loaded))
        given = section.preprocessing.given()
        if given:
            backbone.set_spec(replace(backbone.spec, **given))
    except Exception as error:
        diagnosis.findings.append(failure(error, "the run stops here"))
        return None
    height, width = backbone.spec.size
    diagnosis.facts.append(f"backbone {entry.name}, weights {section.weights}, input {width} x {height} pixels")
    return backbone


def examine_data(
    resolved: Resolved, data: Data, meta: dict[str, Any], spec: ImageSpec, console: Console, diagnosis: Diagnosis
) -> None:
    began = time.perf_counter()
    scans = scan.read_all(data.splits(), console, compare=True)
    diagnosis.images = sum(map(len, scans.values()))
    diagnosis.images_per_second = round(diagnosis.images / max(time.perf_counter() - began, 1e-6), 1)
    section = resolved.config.data
    items, seen = inspect(section, data, scans, spec, scale_of(resolved, spec, meta))
    if resolved.task.check is not None:
        try:
            items += resolved.task.check(resolved.cfg, data, meta, seen)
        except Exception as error:
            items.append(failure(error, f"the check of task {resolved.task.name} failed; the rest was looked at"))
    diagnosis.tables += [item for item in items if isinstance(item, Table)]
    findings = [item for item in items if isinstance(item, Finding)]
    said = tuple(finding.what for finding in findings)
    findings += [Finding("note", note) for note in data.notes if not note.startswith(said)]
    bad = scan.unreadable(scans)
    if section.on_bad == "skip" and not scan.too_many(section, data, bad):
        data = scan.remaining(data, bad)
    if data.train is not None:
        findings += examine_length(resolved, data, diagnosis)
    diagnosis.findings += findings


def scale_of(resolved: Resolved, spec: ImageSpec, meta: dict[str, Any]) -> Scale:
    """How many times the task enlarges a photo of a size, as it prepares photos to predict."""
    try:
        prepare = resolved.task.sample(resolved.cfg, spec, meta)
    except Exception:  # told where the run meets it
        return lambda size: None
    return lambda size: enlargement(prepare, size)


def examine_length(resolved: Resolved, data: Data, diagnosis: Diagnosis) -> list[Finding]:
    """How many optimizer updates the run would take."""
    train, world = resolved.config.train, resolved.config.run.processes or 1
    try:
        order = epoch_order(data, train.seed, 0, train.batch_size, train.accumulate, world)
    except Exception as error:
        return [failure(error, "the run stops here")]
    group = train.batch_size * train.accumulate * world
    diagnosis.facts.append(
        f"training: {len(order):,} {plural(len(order), 'update')} of {group} {plural(group, 'image')} an epoch, "
        f"{len(order) * train.epochs:,} in {train.epochs} {plural(train.epochs, 'epoch')}, "
        f"on {world} {plural(world, 'process')}"
    )
    if order.dropped:
        left = f"{order.dropped} {plural(order.dropped, 'image')} {plural(order.dropped, 'is')}"
        return [Finding("note", f"train: {left} left over in each epoch", "not used there; other ones every time")]
    return []


def failure(error: Exception, consequence: str) -> Finding:
    """Our own errors are sentences, those with several mistakes a line each; others are told with their kind."""
    text = str(error) if isinstance(error, VisionTLError) else f"{type(error).__name__}: {error}"
    first, *more = (line.strip().removeprefix("- ") for line in text.splitlines() if line.strip())
    return Finding("error", f"{first}: {'; '.join(more)}" if more else first, consequence)


def to_json(diagnosis: Diagnosis, resolved: Resolved) -> dict[str, Any]:
    return {
        "config": to_plain(resolved),
        "facts": diagnosis.facts,
        "images": diagnosis.images,
        "images_per_second": diagnosis.images_per_second,
        "tables": [asdict(table) for table in diagnosis.tables],
        "findings": [asdict(finding) for finding in diagnosis.findings],
        "unchecked": diagnosis.unchecked,
        "counts": {level: diagnosis.count(level) for level in LEVELS},
    }


def show(diagnosis: Diagnosis, console: Console) -> None:
    for fact in diagnosis.facts:
        console.say(fact)
    for table in diagnosis.tables:
        console.write("")
        rows = list(table.rows)
        if len(rows) > ROWS:
            gap = [f"... {len(rows) - ROWS:,} more", *[None] * (len(table.columns) - 1)]
            rows = [*rows[: ROWS // 2], gap, *rows[-(ROWS // 2) :]]
        console.table(table.title, table.columns, [[visible(value) for value in row] for row in rows])
        if table.caption:
            console.say(table.caption)
    for level, color in LEVELS.items():
        for finding in diagnosis.findings:
            if finding.level == level:
                console.write("")
                console.write(in_lines(finding), color)
    console.write("")
    for text in diagnosis.unchecked:
        console.say(f"not checked: {text}")
    counts = ", ".join(f"{diagnosis.count(level)} {plural(diagnosis.count(level), level)}" for level in LEVELS)
    read = (
        f"; {diagnosis.images:,} {plural(diagnosis.images, 'image')} read, {diagnosis.images_per_second:,.0f} a second"
        if diagnosis.images
        else ""
    )
    console.say(f"{counts}{read}")


def in_lines(finding: Finding) -> str:
    """A finding in a few lines: what, its consequence, and the first names."""
    lines = [f"{finding.level}: {visible(finding.what)}"]
    if finding.consequence:
        lines.append(f"  -> {visible(finding.consequence)}")
    lines += [f"     {shortened(name)}" for name in finding.names[:NAMES]]
    if len(finding.names) > NAMES:
        lines.append(f"     and {len(finding.names) - NAMES:,} more (--json FILE holds all)")
    return "\n".join(lines)


def visible(value: Any) -> Any:
    """Text on one line, in quotes where it begins or ends with a blank."""
    if not isinstance(value, str):
        return value
    line = value.replace("\n", "\\n").replace("\t", "\\t")
    return line if line == line.strip() else f"'{line}'"


def shortened(name: str) -> str:
    """One line of a name, whatever is in it; the middle of a long one is left out."""
    line = visible(name)
    return line if len(line) <= NAME else f"{line[: NAME // 2]}...{line[-NAME // 2 :]}"
