"""The checks of the contract on one process. Each takes a Case and raises AssertionError with a sentence."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import torch

from visiontl import plugins
from visiontl.config.resolve import resolve, with_task_data
from visiontl.engine.evaluate import evaluate
from visiontl.engine.model import export, load_model
from visiontl.engine.predict import Predictor, load, parse_options
from visiontl.engine.prepare import Run
from visiontl.engine.reporting import Photos
from visiontl.engine.rows import gather_rows
from visiontl.engine.train import finish, fit, train
from visiontl.freezing.layout import HEAD, backbone_prefix, trainable
from visiontl.hookspecs import hookimpl
from visiontl.processes.seeds import generator
from visiontl.report.items import Figure, Finding, Seen, Table
from visiontl.runtime.written import stored
from visiontl.testing import answers, steps
from visiontl.testing.case import Case, same, stage_states, state
from visiontl.testing.double import in_double
from visiontl.testing.explaining import CHECKS as OF_EXPLANATIONS

POLICIES = (
    "none",
    "all",
    "{first: 2}",
    "{until: stage3}",
    "{gradual: 1}",
    "{schedule: {0: all, 1: stage2}}",
    "{schedule: {0: none, 1: all}}",
    "norm_and_bias",
)


def describes_itself(case: Case) -> None:
    """Name, best score and picklable parts (loader processes may be spawned)."""
    resolved = case.resolved()
    task = resolved.task
    assert task.best[1] in ("max", "min"), f"best must be (score, 'max' or 'min'); got {task.best}"
    found = task.data(resolved.cfg, case.run().built.backbone.spec, None)
    for name, split in found.splits().items():
        try:
            copy = pickle.loads(pickle.dumps(split))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise AssertionError(f"data: {name} cannot be pickled, as spawned loader processes need: {error}") from None
        assert len(copy) == len(split.names), f"{name}: {len(copy)} samples and {len(split.names)} names"
    pickle.loads(pickle.dumps((task.collate, resolved.cfg)))
    json.dumps(found.meta, allow_nan=False)


def gives_the_same_sample_for_the_same_seed(case: Case) -> None:
    """data: `split[id, seed]` is a function of both: everything random is drawn from the seed."""
    run = case.run()
    split = run.data.train
    assert split is not None
    for id, seed in itertools.product(range(min(4, len(split))), (0, 1, 12345)):
        first, torch_state = split[id, seed], torch.get_rng_state()
        torch.rand(3)
        again = split[id, seed]
        assert _equal(first, again), f"data: train[{id}, {seed}] gave two different samples; draw from the seed alone"
        torch.set_rng_state(torch_state)


def sees_photos_alike_in_prediction_and_validation(case: Case) -> None:
    """`sample(photo)` equals the val split's sample bit for bit, and carries the photo's own size."""
    run = case.run()
    task, built = run.resolved.task, run.built
    split = run.data.val or run.data.test
    assert split is not None, "the example data has neither val nor test"
    prepare = task.sample(run.resolved.cfg, built.backbone.spec, built.meta)
    for id in range(min(3, len(split))):
        photo = split.image(id)
        made, given = prepare(photo), split[id, 0]
        assert torch.equal(made["image"], given["image"]), f"sample(photo {id}) is not what evaluation sees"
        assert tuple(made["size"]) == (photo.height, photo.width), "a sample must carry the photo's (H, W) as `size`"


def collates_as_a_function_of_its_generator(case: Case) -> None:
    """collate: what is drawn for a batch comes from the generator that it is given."""
    run = case.run()
    task, cfg, meta = run.resolved.task, run.resolved.cfg, run.built.meta
    split = run.data.train
    assert split is not None
    batches = []
    for _ in range(2):
        samples = [split[i, i] for i in range(4)]
        batches.append(task.collate(cfg, samples, generator(7), meta))
        torch.rand(1)
    assert _equal(*batches), "collate gave two batches for one generator seed"


def trains_what_the_policy_says(case: Case) -> None:
    """Frozen parameters and statistics keep their bits in each phase; what is declared trainable moves."""
    for policy in case.policies(POLICIES):
        # not a function of the run's length
        run = case.run(f"freeze.policy={policy}", "optim.schedule=constant")
        entries = {epoch: epoch * run.steps_per_epoch for epoch, _ in run.phases}  # updates before each phase
        run.total = max(entries.values()) + 2
        seen = _Seen(run, [*entries.values(), *(entry + 2 for entry in entries.values())])
        with _watching(seen):
            fit(run)
        for epoch, modes in run.phases:
            before, after = seen.states[entries[epoch]], seen.states[entries[epoch] + 2]
            for stage in before:
                moved = same(before[stage], after[stage])
                if stage == HEAD or modes.get(stage, "frozen") != "frozen":
                    assert moved, f"{policy}, epoch {epoch}: stage {stage} is declared trainable and did not move"
                else:
                    assert not moved, f"{policy}, epoch {epoch}: frozen stage {stage} moved: {moved[:3]}"


def keeps_norm_statistics_where_they_are_fixed(case: Case) -> None:
    """Under `freeze.norm_stats: fixed` and norm_and_bias no statistics of the backbone move."""
    settings = ["freeze.norm_stats=fixed", "freeze.policy=norm_and_bias"]
    for setting in settings[: 1 if case.refusal("norm_and_bias") else 2]:
        run = case.run(setting, limit=2)
        names = [name for name, _ in run.built.backbone.named_buffers() if "running" in name]
        prefix = backbone_prefix(run.built.model, run.built.backbone)
        before = state(run)
        fit(run)
        moved = [name for name in names if not torch.equal(before[prefix + name], state(run)[prefix + name])]
        assert names, "the bundled backbone has no norm statistics to watch"
        assert not moved, f"{setting}: norm statistics moved: {moved[:3]}"


def optimizes_every_trainable_parameter_once(case: Case) -> None:
    """The optimizer holds each parameter that ever trains, once, and no other."""
    for policy in case.policies(POLICIES):
        run = case.run(f"freeze.policy={policy}")
        names = {parameter: name for name, parameter in run.built.model.named_parameters()}
        grouped = [names[parameter] for group in run.optimizer.param_groups for parameter in group["params"]]
        ever = {name for _, modes in run.phases for name in trainable(run.layout, modes)}
        assert len(grouped) == len(set(grouped)), f"{policy}: a parameter is in two groups"
        assert set(grouped) == ever, f"{policy}: {len(ever ^ set(grouped))} parameters are missing or too many"


def resumes_with_the_same_bits(case: Case) -> None:
    """A run cut off in the middle and resumed ends with the weights, average and metrics of one that was not."""
    resumes(case, None, "optim.name=adamw", "train.channels_last=false")
    for optimizer in ("sgd", "adamw"):  # whose state must come back in the memory layout of its parameters
        resumes(case, (3,), f"optim.name={optimizer}", "train.channels_last=true")


def resumes(case: Case, cuts: Sequence[int] | None, *settings: str) -> None:
    """The same. cuts: after which updates a run ends; None: the first, an epoch's, the last but one."""
    settings = (
        *settings,
        "train.ema={decay: 0.9}",
        "train.checkpoint_every=1 step",
        f"freeze.policy={case.policies(['{gradual: 1}', *POLICIES])[0]}",
        "train.accumulate=2",
    )
    whole = case.run(*settings)
    fit(whole)
    for cut in cuts or (1, whole.steps_per_epoch, whole.total - 1):
        broken = case.run(*settings)
        with _watching(_StopAt(cut)), suppress(_Cut):
            fit(broken)
        resumed = case.run(*settings, f"resume={broken.folder}")
        fit(resumed)
        assert resumed.folder == broken.folder
        differing = same(state(whole), state(resumed))
        assert not differing, f"cut at step {cut}: weights differ: {differing[:3]}"
        assert whole.ema is not None
        assert resumed.ema is not None
        differing = same(whole.ema.model.state_dict(), resumed.ema.model.state_dict())
        assert not differing, f"cut at step {cut}: averaged weights differ: {differing[:3]}"
        ours, theirs = _metrics(whole.folder), _metrics(resumed.folder)
        assert ours == theirs, f"cut at step {cut}: metrics differ"


def does_not_depend_on_the_number_of_workers(case: Case) -> None:
    """None, one or two loader processes, forked or spawned: the same bits."""
    default = multiprocessing.get_start_method(allow_none=True)
    states = {}
    try:
        for method, workers in (("fork", 0), ("fork", 1), ("fork", 2), ("spawn", 1)):
            if method in multiprocessing.get_all_start_methods():
                multiprocessing.set_start_method(method, force=True)
                run = case.run(f"loader.workers={workers}", limit=3)
                fit(run)
                states[f"{workers} workers, started by {method}"] = state(run)
    finally:
        multiprocessing.set_start_method(default, force=True)
    (first, expected), *others = states.items()
    for how, other in others:
        differing = same(expected, other)
        assert not differing, f"{first} and {how} end with other weights: {differing[:3]}"


def caches_features_without_changing_the_head(case: Case) -> None:
    """Where the features can be cached, a head trained on them is the one trained on images, up to rounding."""
    if case.refusal("all"):
        return  # features are kept of a frozen backbone only
    settings = ["freeze.policy=all", "features.views=2"]
    kept = ["features.cache=disk", f"features.folder={case.folder / 'features'}"]
    with in_double():
        plain, cached = case.run(*settings), case.run(*settings, *kept)
        if not cached.caches:
            assert any("not cached" in note for note in cached.console.notes), "no cached features, and no word of why"
            return
        for run in (plain, cached):
            fit(run)
    for name, tensor in state(plain).items():
        assert torch.allclose(tensor, state(cached)[name], rtol=1e-9, atol=1e-9), f"{name} differs with cached features"


def scores_a_saved_run_as_in_training(case: Case) -> None:
    """evaluate(run), from the files alone, gives the numbers of the run's own report."""
    report = train(case.resolved())
    again = evaluate(report["run"])
    assert again["scores"] == report["scores"], "evaluate(run) gives other scores than the run's report"


def predicts_from_the_exported_folder_alone(case: Case) -> None:
    """One JSON-able dict per photo, in order, from `model/` copied elsewhere; the same singly and together."""
    report = train(case.resolved("train.epochs=1"))
    place = case.folder / "elsewhere"
    shutil.copytree(checkpoint_folder(report), place)
    run = case.run()
    split = run.data.test or run.data.val
    assert split is not None
    photos = [split.image(id) for id in range(min(5, len(split)))]
    predictor = load(place)
    together = predictor.predict(photos)
    assert len(together) == len(photos), f"{len(together)} predictions for {len(photos)} photos"
    single = predictor.predict(photos[0])
    assert single.keys() == together[0].keys(), "one photo alone gives other keys than among others"
    task = predictor.built.resolved.task
    if task.draw is not None:
        drawn = task.draw(photos[0], single, predictor.meta)
        assert drawn.width >= photos[0].width, f"draw shrank a {photos[0].size} photo to {drawn.size}"


def keeps_its_preprocessing(case: Case) -> None:
    """Mean and deviation are saved with the weights and win over the architecture's own."""
    run = case.run()
    run.built.backbone.mean.fill_(0.123)
    export(case.folder / "other-mean", run.built, run.built.model.state_dict())
    assert float(load_model(case.folder / "other-mean").backbone.mean.flatten()[0]) == torch.tensor(0.123).item()


def refuses_a_change_that_changes_nothing(case: Case) -> None:
    """A phase that a policy declares, and that changes nothing, is an error."""
    from visiontl.errors import ConfigError, PolicyError

    refusals = ConfigError if case.refusal("schedule") else PolicyError
    try:
        case.run("freeze.policy={schedule: {0: all, 1: all}}")
    except refusals:
        return
    raise AssertionError("a declared phase that changes nothing was accepted")


def says_what_it_found_in_its_data(case: Case) -> None:
    """`check`, where a task has one, answers with findings and tables, finds no error in the example, and bears an
    image that cannot be read."""
    run = case.run()
    task, splits = run.resolved.task, run.data.splits()
    if task.check is None:
        return
    sizes: dict[str, list[tuple[int, int] | None]] = {}
    for name, split in splits.items():
        photos = [split.image(id) for id in range(len(split))]
        sizes[name] = [(photo.height, photo.width) for photo in photos]
    arguments = (run.resolved.cfg, run.data, run.built.meta)
    found = task.check(*arguments, Seen(sizes))
    for item in found:
        assert isinstance(item, Finding | Table), f"check gave a {type(item).__name__}; expected Finding or Table"
        json.dumps(asdict(item), allow_nan=False)
        assert not isinstance(item, Finding) or item.level in ("error", "warning", "note"), f"no level {item.level!r}"
    errors = [item.what for item in found if isinstance(item, Finding) and item.level == "error"]
    assert not errors, f"check finds errors in the example data: {errors}"
    sizes["train"][0] = None
    duplicates = [[("train", 1), ("train", 2)]]
    task.check(*arguments, Seen(sizes, duplicates))


def shows_its_answers(case: Case) -> None:
    """report, preview, draw, files: each gives what can be shown and written, of the rows and predictions of the
    example; a figure can be drawn."""
    run = case.run()
    built, task, cfg = run.built, run.resolved.task, run.resolved.cfg
    split, _ = steps.judged(run)
    if task.report is not None or task.preview is not None:
        rows = gather_rows(run.accelerator, built, split, run.console, "val")
        before = pickle.dumps(rows)
        items = list(task.report(cfg, rows, built.meta, Photos(split))) if task.report is not None else []
        if task.preview is not None:
            items.append(task.preview(cfg, rows, built.meta, Photos(split)))
        for item in items:
            _can_be_shown(item)
        assert pickle.dumps(rows) == before, "report: it changes the rows; work on a copy"
    if task.draw is None and task.files is None:
        return
    photo = split.image(0)
    (answer,) = Predictor(built, run.accelerator).stream([photo], parse_options(task, {}))
    if task.draw is not None:
        task.draw(photo, answer, built.meta)
    if task.files is not None:
        place = case.folder / "predicted"
        place.mkdir()
        task.files(cfg, [("photo.jpg", stored(answer, place, "photo", {}))], built.meta)  # as predict writes it


def _can_be_shown(item: Any) -> None:
    assert item.title, f"report: a {type(item).__name__} without a title"
    if isinstance(item, Figure):
        from matplotlib.figure import Figure as Canvas

        try:
            item.draw(Canvas().subplots())
        except Exception as error:  # a stranger's function
            raise AssertionError(f"report: figure {item.title!r} ends in {type(error).__name__}: {error}") from None
    elif isinstance(item, Table):
        ragged = [row for row in item.rows if len(row) != len(item.columns)]
        assert not ragged, f"report: table {item.title!r}: a row of {len(ragged[0])} for {len(item.columns)} columns"
    else:
        odd = [one for one in item.items if len(one) != 2 or not hasattr(one[1], "convert")]
        assert not odd, f"report: pictures {item.title!r}: an item is {odd[0]!r:.80}; expected (caption, PIL image)"


def finishes_with_a_report(case: Case) -> None:
    """A run leaves its report, its numbers, its config and its model."""
    run = case.run("train.epochs=1")
    report = finish(run, fit(run))
    for name in (
        "report.json",
        "report.html",
        "metrics.jsonl",
        "metrics.csv",
        "config.yaml",
        "model/model.safetensors",
    ):
        assert (run.folder / name).exists(), f"the run folder has no {name}"
    assert report["environment"]["processes"] == 1
    assert resolve(run.folder / "config.yaml").config.task == run.resolved.config.task


def reads_the_samples_that_it_writes(case: Case) -> None:
    """Each format of `samples` has something to train and to judge on, and in new/ pictures of no split. Written where
    it is there already, it stays as it is."""
    resolved = case.resolved()
    task = resolved.task
    if not task.samples:
        return
    spec = case.run().built.backbone.spec
    for form, write in task.samples.items():
        folder = case.folder / "samples" / form
        section = write(folder)
        assert "data" in section, f"samples[{form!r}] gave {section}; expected a mapping with `data`"
        files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        assert write(folder) == section, f"samples[{form!r}]: other keys where the folder is there already"
        again = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        assert files == again, f"samples[{form!r}]: written anew where the folder is there already"
        found = task.data(with_task_data(resolved, section["data"], section).cfg, spec, None).splits()
        for split in ("train", "val"):
            assert len(found.get(split, ())), f"samples[{form!r}]: no picture in {split}"
        new = {path.read_bytes() for path in files if path.parent == folder / "new"}
        assert new, f"samples[{form!r}]: new/ holds no picture to predict"
        copies = sum(path.read_bytes() in new for path in files)
        assert copies == len(new), f"samples[{form!r}]: a picture of new/ is in the data too"


CHECKS: list[Callable[[Case], None]] = [
    describes_itself,
    gives_the_same_sample_for_the_same_seed,
    sees_photos_alike_in_prediction_and_validation,
    collates_as_a_function_of_its_generator,
    trains_what_the_policy_says,
    keeps_norm_statistics_where_they_are_fixed,
    optimizes_every_trainable_parameter_once,
    resumes_with_the_same_bits,
    does_not_depend_on_the_number_of_workers,
    caches_features_without_changing_the_head,
    scores_a_saved_run_as_in_training,
    predicts_from_the_exported_folder_alone,
    keeps_its_preprocessing,
    refuses_a_change_that_changes_nothing,
    says_what_it_found_in_its_data,
    reads_the_samples_that_it_writes,
    shows_its_answers,
    *OF_EXPLANATIONS,
    finishes_with_a_report,
    *steps.CHECKS,
    *answers.CHECKS,
]
# those that train many times
LONG = (
    trains_what_the_policy_says,
    resumes_with_the_same_bits,
    does_not_depend_on_the_number_of_workers,
    caches_features_without_changing_the_head,
    scores_a_saved_run_as_in_training,
    predicts_from_the_exported_folder_alone,
    reads_the_samples_that_it_writes,
    finishes_with_a_report,
    answers.scores_more_for_the_right_images,
)


class _Cut(BaseException):  # what else a watcher raises stops no run
    pass


class _StopAt:
    """A watcher that ends the run at a step, as a kill would after the metrics of that step were written."""

    def __init__(self, step: int):
        self.step = step

    @hookimpl
    def visiontl_logged(self, step: int, values: dict[str, float]) -> None:
        if step == self.step + 1:
            raise _Cut


class _Seen:
    """A watcher that keeps the states of the stages after so many updates."""

    def __init__(self, run: Run, steps: Sequence[int]):
        self.run, self.steps = run, frozenset(steps)
        self.states = {0: stage_states(run)}

    @hookimpl
    def visiontl_logged(self, step: int, values: dict[str, float]) -> None:
        if step in self.steps:
            self.states[step] = stage_states(self.run)


@contextmanager
def _watching(watcher: Any) -> Iterator[None]:
    plugins.register(watcher, f"watcher-{id(watcher)}")
    try:
        yield
    finally:
        plugins.manager().unregister(watcher)


def checkpoint_folder(report: dict[str, Any]) -> str:
    return f"{report['run']}/model"


def _metrics(folder: Any) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("images_per_second", "memory")} for line in lines]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)
