"""`visiontl push`: a run's model as a repository of the hub, with a card that says what it is and what it may be used
for."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from visiontl import __version__, plugins
from visiontl.backbones.downloads import HUB
from visiontl.backbones.listing import preparation
from visiontl.backbones.weights import resolve as resolve_weights
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine.model import Built, load_model, model_folder
from visiontl.engine.wholes import names_a_run
from visiontl.errors import ConfigError, DataError, VisionTLError, first_line
from visiontl.kit.words import some
from visiontl.report.card import Card, page
from visiontl.report.console import Console
from visiontl.runs import hub, store
from visiontl.runs.files import read_text, writing
from visiontl.runtime.written import new_folder
from visiontl.spec import ImageSpec

FREE = (
    "apache-2.0",
    "mit",
    "bsd",
    "cc0",
    "unlicense",
    "cc-by-4.0",
    "isc",
)  # beginnings of licenses that ask for no more
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{1,60}")
DATASET = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")  # the oldest ones have no owner
PLACE = re.compile(r"""(?<=[\s'"\[:,{=])(?:~|/|[A-Za-z]:\\)[^\s'",\]}]*""")  # what a text of a config says of a machine
DEEP = 5  # runs that began with each other's weights


@dataclass(frozen=True)
class Wanted:
    """license: as the hub spells it, None for that of what the weights came from. data: what the data are called;
    datasets: their names on the hub. out: a folder to write to in place of the hub."""

    repository: str
    license: str | None = None
    data: str | None = None
    datasets: Sequence[str] = ()
    private: bool = False
    out: str | None = None


@dataclass(frozen=True)
class Origin:
    what: str
    license: str = "unknown"
    base: str = ""  # owner/name on the hub

    @property
    def free(self) -> bool:
        return self.license.startswith(FREE)

    @property
    def non_commercial(self) -> bool:
        return "nc" in self.license.split("-") or self.license in ("apple-amlr", "research-only")


def push(run: str | Path, wanted: Wanted) -> dict[str, Any]:
    """Write a run's model as a repository of the hub, or into `wanted.out`; nothing else is sent. Returns a mapping:
    repository, license, files, and folder or url.

    Raises ConfigError for a name or a license that is none, and where what the weights came from leaves the license to
    be said; CheckpointError for a run without a model; DataError where the hub refuses.
    """
    console = Console()
    if not hub.NAME.fullmatch(wanted.repository) or ".." in wanted.repository:
        raise ConfigError(f"{wanted.repository!r:.120}: the name of a repository was expected, as owner/name")
    for name in wanted.datasets:
        if not DATASET.fullmatch(name) or ".." in name:
            raise ConfigError(f"--datasets: names on the hub were expected, as owner/name; got {name!r:.80}")
    built, source = load_model(run), model_folder(run)
    card = card_of(built, Path(run), wanted)
    for line in filter(None, (card.told,)):
        console.say(line)
    with tempfile.TemporaryDirectory(prefix="visiontl-push-") as place:
        folder = new_folder(Path(wanted.out)) if wanted.out else Path(place)
        try:
            with writing(folder, "make room, then push again"):
                fill(folder, source, built.backbone.spec, page(card))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # half of a repository could be taken for one
            raise
        done: dict[str, Any] = {"repository": wanted.repository, "license": card.license}
        done["files"] = sorted(path.name for path in folder.iterdir())
        if wanted.out:
            console.say(f"written to {folder}; nothing was sent")
            return {**done, "folder": str(folder)}
        url = send(folder, wanted)
    console.say(f"pushed to {url}")
    return {**done, "url": url}


def fill(folder: Path, source: Path, spec: ImageSpec, text: str) -> None:
    """The model's own files, their manifest, the card, and its input as timm's files state it. No path of this machine
    stays in the config."""
    store.require(source)
    sums: dict[str, Any] = {}
    for name in json.loads((source / store.MANIFEST).read_text(encoding="utf-8"))["files"]:
        if name == "config.yaml":
            (folder / name).write_text(without_places(read_text(source / name)), encoding="utf-8")
        else:
            shutil.copyfile(source / name, folder / name)
        content = (folder / name).read_bytes()
        sums[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    resolve(folder / "config.yaml")  # still is one
    (folder / store.MANIFEST).write_text(json.dumps({"format": store.FORMAT, "files": sums}, indent=1))
    stated = {
        "input_size": [len(spec.mean), *spec.size], "mean": list(spec.mean), "std": list(spec.std),
        "interpolation": spec.interpolation, "crop_pct": spec.crop,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"library_name": "visiontl", "pretrained_cfg": stated}, indent=1))
    (folder / "README.md").write_text(text, encoding="utf-8", errors="backslashreplace")
    store.require(folder)


def without_places(text: str) -> str:
    """A config whose absolute paths are their last parts: where they lie on this machine is nobody's business."""
    return PLACE.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1] or ".", text)


def card_of(built: Built, run: Path, wanted: Wanted) -> Card:
    origins = list(dict.fromkeys(origins_of(built.resolved)))
    license, told = license_of(origins, wanted.license)
    report, meta = report_of(run), built.meta
    scores = {name: values for name, values in (report.get("scores") or {}).items() if isinstance(values, Mapping)}
    classes = meta.get("classes")
    named = [str(one) for one in classes] if isinstance(classes, list) else []
    counts = meta.get("counts")
    return Card(
        repository=wanted.repository,
        task=built.resolved.task.name,
        answers=answers_of(built),
        backbone=built.backbone.name,
        license=license,
        origins=[(one.what, one.license, one.base) for one in origins],
        scores=scores or ({"val": built.scores} if built.scores else {}),
        counts={name: n for name, n in (report.get("data") or {}).items() if isinstance(n, int)},
        classes=named,
        class_counts=counts if isinstance(counts, list) and all(isinstance(n, int) for n in counts) else (),
        input=preparation(built.backbone.spec),
        data=wanted.data or "data of its author",
        datasets=wanted.datasets,
        limits=built.resolved.task.limits,
        version=__version__,
        told=told,
    )


def report_of(run: Path) -> dict[str, Any]:
    """report.json of a run; empty where it has none, as a `model/` alone."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(read_text(run / "report.json"))
        return found if isinstance(found, dict) else {}
    return {}


def answers_of(built: Built) -> str:
    """The kind of answer that the task's own export states; "" for a task or model without."""
    task = built.resolved.task
    if task.export is None:
        return ""
    try:
        with torch.no_grad():
            options = None if task.options is None else task.options()
            return str(task.export(built.resolved.cfg, built.model, built.meta, options).answer.get("kind", ""))
    except VisionTLError:  # of options that no graph can hold
        return ""


def origins_of(resolved: Resolved, depth: int = 0) -> Iterator[Origin]:
    """What the weights of a run began with."""
    init, section = resolved.config.init, resolved.config.backbone
    if init is not None:
        if names_a_run(init) and depth < DEEP:
            try:
                yield from origins_of(resolve(model_folder(init) / "config.yaml"), depth + 1)
                return
            except VisionTLError:  # it is no longer there
                yield Origin(f"the run {Path(init).name}")
                return
        base = hub.repository_of(init).partition("@")[0] if hub.is_name(init) else ""
        yield Origin(base or (Path(init).name if os.path.exists(init) else init), base=base)
        return
    entry, _ = plugins.backbone_entry(section.name)
    try:
        kind, value = resolve_weights(entry, section.weights)
    except VisionTLError:
        kind, value = "file", str(section.weights)
    if kind == "none":
        return
    if kind == "tag":
        tag = next(one for one in entry.weights if one.tag == value)
        base = tag.source.removeprefix(HUB) if hub.is_name(tag.source) else ""
        yield Origin(f"{entry.name}, weights {value}", tag.license.lower(), base.partition("@")[0])
    elif kind == "hub":
        yield Origin(f"{entry.name}, weights {HUB}{value}", base=value.partition("@")[0])
    else:
        yield Origin(f"{entry.name}, weights of the file {Path(value).name}")


def license_of(origins: Sequence[Origin], given: str | None) -> tuple[str, str]:
    """(license, what is said of it). Raises ConfigError where it must be said with --license."""
    if given is not None and not LICENSE.fullmatch(given):
        raise ConfigError(f"--license: the hub's name of a license was expected, as apache-2.0; got {given!r:.80}")
    bound = [one for one in origins if not one.free]
    named = some([f"{one.what} ({one.license})" for one in bound])
    if any(one.non_commercial for one in bound):
        said = f"It came from weights that are not for commercial use, so neither is this model: {named}."
    elif bound:
        said = (
            f"It came from weights whose license asks for more than its own name to be kept, or is not known: {named}."
        )
    else:
        said = ""
    if given is None and bound:
        raise ConfigError(
            f"{said} Say under which license the model is to stand: --license NAME, as the hub spells it "
            "(cc-by-nc-4.0, other ...)"
        )
    if given is not None:
        return given, f"License: {given}. {said}".rstrip()
    if not origins:
        raise ConfigError("the model was trained from random weights: its license is yours to say, with --license NAME")
    first = origins[0].license
    return first, f"License: {first}, that of the weights it came from."


def send(folder: Path, wanted: Wanted) -> str:
    """The folder's files as one commit. Raises DataError, in words."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    api = HfApi(library_name="visiontl", library_version=__version__)
    try:
        api.create_repo(wanted.repository, private=wanted.private or None, exist_ok=True)
        api.upload_folder(
            repo_id=wanted.repository, folder_path=folder, commit_message=f"Model of visiontl {__version__}"
        )
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        hint = "; log in with `hf auth login`, or set HF_TOKEN" if status in (401, 403) else ""
        raise DataError(f"the hub refused {wanted.repository} ({first_line(error)}){hint}") from None
    except Exception as error:  # no network, no token: each has a kind of its own
        raise DataError(
            f"{wanted.repository} could not be sent ({type(error).__name__}: {first_line(error)})"
        ) from None
    return f"{api.endpoint}/{wanted.repository}"
