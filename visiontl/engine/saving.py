"""What a run leaves on disk while it trains, and how it goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from visiontl import __version__
from visiontl.config.resolve import ranked
from visiontl.config.write import config_hash
from visiontl.engine import deciding, moments
from visiontl.engine.adapting import write_adapter
from visiontl.engine.given import through_json
from visiontl.engine.model import export
from visiontl.engine.prepare import Run
from visiontl.engine.state import read_state, require_end, require_fit
from visiontl.engine.wrapping import load_model_state, load_optimizer_state, model_state, optimizer_state
from visiontl.errors import CheckpointError
from visiontl.methods.lora import merged, unmerged
from visiontl.processes import ranks
from visiontl.runs import folders, store, unchanged
from visiontl.task import Data

LAST_TRIES = 11  # to save the end of a run
PAUSE = 30.0  # seconds between them; the other ranks wait, which must end before their collective's limit (10 minutes)


@dataclass
class Progress:
    """All that a run knows of its past. JSON in a checkpoint; everything else is a function of the step."""

    step: int = 0
    best: dict[str, Any] | None = None
    start: dict[str, Any] | None = None  # scores by split before the first update (train.evaluate_start)
    without_gain: int = 0
    window: list[dict[str, list[float]]] = field(default_factory=list)  # per rank: [sum, samples] since the last line
    due: bool = False  # stopped between an update and the evaluation that belongs to it
    seconds: float = 0.0


def tried(run: Run, step: int, write: Callable[[], None], last: bool) -> bool:
    """Write on the main process; True on every rank when it was written. A full disk is said aloud; training goes on
    and the next interval tries again. last: there is no next interval, so it is tried again for some minutes, in which
    room can be made."""

    def attempts() -> bool:
        for left in reversed(range(LAST_TRIES if last else 1)):
            try:
                require_there(run.folder)
                write()
                return True
            except (OSError, CheckpointError) as error:
                then = f"trying again for {left * PAUSE:.0f} s: make room" if left else "given up"
                then = then if last else "training goes on"
                run.console.warn(f"step {step} could not be saved ({error}); {then}")
            if left:
                time.sleep(PAUSE)
        return False

    return ranks.on_main(attempts)


def require_there(folder: Path) -> None:
    """Raise CheckpointError where the run's folder is no longer the one it began in: another would be made, without
    what makes a run of it."""
    if not (folder / "config.yaml").is_file():
        raise CheckpointError(f"{folder} is gone, moved or emptied while the run went on: put it back")


def say_space(run: Run) -> None:
    """Warn before the first update where the disk has no room for what a run keeps."""
    model = store.size({"model.safetensors": model_state(run.built.model)})
    trainable = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    state = sum(2 * parameter.numel() * parameter.element_size() for parameter in trainable)  # AdamW's two moments
    # two checkpoints and the best model stay while the next of each is written
    needed = 3 * (model * (2 if run.ema else 1) + state) + 2 * model
    free = shutil.disk_usage(run.folder).free
    if free < needed:
        run.console.warn(
            f"{run.folder}: the disk has {free / 1e6:.1f} MB free, and checkpoints and the best model take up to "
            f"{needed / 1e6:.1f} MB: make room before they are written"
        )


def write_checkpoint(run: Run, progress: Progress) -> None:
    folder, scaler = run.folder / "checkpoints", run.accelerator.scaler
    state = {
        "visiontl": __version__,
        **asdict(progress),
        **conditions(run),
        "ema_updates": run.ema.updates if run.ema else 0,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "config_hash": config_hash(run.resolved),
        "data_fingerprint": fingerprint(run.data),
        "preprocessing": run.built.backbone.spec.to_json(),
        "method": run.method.started,
    }
    files: dict[str, store.Content] = {
        "model.safetensors": model_state(run.built.model),
        "optimizer.safetensors": optimizer_state(run.optimizer, run.built.model),
        **({"ema.safetensors": model_state(run.ema.model)} if run.ema else {}),
        "state.json": json.dumps(state, indent=1),
    }
    written = folder / f"step-{progress.step:08d}"
    store.write_folder(written, files)
    store.prune(folder, known=written)


def conditions(run: Run) -> dict[str, Any]:
    """What must be the same for a run to go on with the same bits."""
    return {"processes": ranks.world(), "precision": run.placement.precision, "cached": sorted(run.caches)}


def write_best(run: Run, scores: Mapping[str, Any] | None) -> None:
    """Export the weights that count as `model/` and `checkpoints/best`. scores: theirs on val."""
    export(run.folder / "model", run.built, merged(run.kept.model, model_state(run.kept.model)), scores)
    write_adapter(run.folder, run.kept)
    write_twin(run)


def write_twin(run: Run) -> None:
    """`checkpoints/best`, of what `model/` holds. That a full disk refuses it loses no weights, and is said."""
    twin = run.folder / "checkpoints" / "best"
    try:
        store.copy_folder(run.folder / "model", twin)
    except OSError as error:
        shutil.rmtree(twin, ignore_errors=True)  # older weights, which must not stand in for these
        run.console.warn(f"{twin} could not be written ({error}); {run.folder / 'model'} alone holds the best weights")


def resume(run: Run) -> Progress:
    """Where an unfinished run was, or the beginning. The newest checkpoint that verifies is taken."""
    fresh = Progress(due=run.resolved.config.train.evaluate_start)
    ranks.on_main(lambda: deciding.keep(run.folder, run.resolved, run.phases[0][1]))
    splits, seed = run.data.splits(), run.resolved.config.train.seed
    if run.resolved.config.resume is None:
        ranks.on_main(lambda: say_space(run))
        ranks.on_main(lambda: unchanged.keep(run.folder, splits, seed))
        return fresh
    checkpoints = run.folder / "checkpoints"
    ranks.on_main(lambda: put_right(run.folder))
    if not store.step_folders(checkpoints):
        run.console.say(f"{run.folder} ended before its first checkpoint: starts at the beginning", keep=True)
        ranks.on_main(lambda: unchanged.keep(run.folder, splits, seed))
        return fresh
    ranks.on_main(lambda: unchanged.compare(run.folder, splits, run.console))
    # one decision for all ranks, and every file is read once
    folder = ranks.on_main(lambda: store.newest_whole(checkpoints, run.console.warn))
    if folder is None:
        raise CheckpointError(f"{run.folder}: none of its checkpoints is whole, so it cannot be continued")
    state = read_state(folder)
    require_same_run(run, folder, state)
    require_end(folder, state, run.total, list(ranked(run.resolved.task, run.resolved.cfg)))
    read_weights(run, folder)
    if run.ema:
        run.ema.updates = state["ema_updates"]
    if run.accelerator.scaler is not None and state["scaler"]:
        run.accelerator.scaler.load_state_dict(state["scaler"])
    run.console.say(f"resumed from {folder} at step {state['step']} of {run.total}", keep=True)
    progress = Progress(**{name: state[name] for name in Progress.__dataclass_fields__})
    if progress.best is not None and not ranks.on_main(lambda: best_is_whole(run)):
        progress.best, progress.due = None, True
    return progress


def read_weights(run: Run, folder: Path) -> None:
    """The checkpoint's tensors into model, average and optimizer. Raises CheckpointError for those that do not fit."""
    for name, model in {"model.safetensors": run.built.model, "ema.safetensors": run.ema and run.ema.model}.items():
        if model is not None:
            tensors = store.read_tensors(folder, name)
            require_fit(folder, name, tensors, model_state(model))
            load_model_state(model, tensors, folder / name)
    state = store.read_tensors(folder, "optimizer.safetensors")
    weights = dict(run.built.model.named_parameters())
    kinds = {key.rpartition("|")[2] for key in state}
    names = [name for name in dict.fromkeys(key.rpartition("|")[0] for key in state) if name in weights]
    if run.resolved.config.optim.name == moments.NAME:
        shapes = moments.shapes(names, weights)
    else:
        shapes = {f"{name}|{kind}": weights[name] for name in names for kind in kinds}
    scalar = {key: value for key, value in state.items() if key in shapes and value.ndim == 0}  # a count of steps
    require_fit(folder, "optimizer.safetensors", state, shapes | scalar)
    load_optimizer_state(run.optimizer, run.built.model, state)


def require_same_run(run: Run, folder: Path, state: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless the checkpoint belongs to this very run: config, data, processes, precision."""
    same = (config_hash(run.resolved), config_hash(run.resolved, run.folder / "config.yaml"))
    if state["config_hash"] not in same:
        _, changed = folders.changes(run.folder, run.resolved)
        raise CheckpointError(
            f"{folder}: belongs to another config ({folders.listed(changed)}); resume continues a run exactly, so only "
            "run, loader and resume settings may differ"
        )
    if state["data_fingerprint"] != fingerprint(run.data):
        raise CheckpointError(f"{folder}: the data has changed since (other files or classes); start a new run")
    for key, value in conditions(run).items():
        if state[key] != value:
            raise CheckpointError(
                f"{folder}: the run had {key} {state[key]}, here it would be {value}, which is not the same run; "
                f"resume it as it was begun, or start a new one from its weights: init={run.folder}"
            )
    run.method.require_started(folder, state["method"])


def load_best(run: Run, model: nn.Module) -> None:
    """The best weights into the model."""
    if not best_is_whole(run):
        raise CheckpointError(f"{run.folder / 'model'}: the best weights were damaged while the run went on")
    file = run.folder / "model" / "model.safetensors"
    load_model_state(model, unmerged(model, store.read_tensors(file.parent, file.name)), file)


def best_is_whole(run: Run) -> bool:
    """Whether the best weights so far are still there. `model/` and its twin `checkpoints/best` stand in for each
    other; where both are damaged that is said, and the best from here on are kept."""
    twins = (run.folder / "model", run.folder / "checkpoints" / "best")
    reasons = [store.damage(twin) for twin in twins]
    if all(reasons):
        run.console.warn(
            f"the best weights so far are lost ({twins[0]} is damaged: {reasons[0]}; {twins[1].name} too: "
            f"{reasons[1]}); the best from here on are kept"
        )
        return False
    model, twin = twins
    if reasons[0]:
        store.copy_folder(twin, model)
        run.console.warn(f"{model} is damaged ({reasons[0]}) and is restored from {twin}")
    elif reasons[1]:
        if os.path.lexists(twin):  # a link to nothing is there, too
            run.console.warn(f"{twin} is damaged ({reasons[1]}) and is made again from {model}")
        write_twin(run)
    return True


def put_right(folder: Path) -> None:
    """What a kill in the middle of writing left in a run folder."""
    store.recover(folder)
    store.recover(folder / "checkpoints")
    store.prune(folder / "checkpoints")


def fingerprint(found: Data) -> str:
    """sha256 over meta and the names of every split."""

    content = [through_json(found.meta), {name: list(split.names) for name, split in found.splits().items()}]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
