"""Which key is meant by a word that is none: other programs call things otherwise, and a section is soon forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from visiontl.errors import closest, respelled

Keys = tuple[str, ...]
"""A key's place: ("optim", "lr")."""

# What the schema cannot know: the key, and the words that other programs have for it. Those of `task` count where the
# task has the key.
CALLED = {
    "train.epochs": "num_epochs n_epochs max_epochs nb_epochs num_train_epochs epoch e ep",
    "train.batch_size": "batch bs b batchsize train_batch_size per_device_train_batch_size",
    "train.eval_batch_size": "val_batch_size test_batch_size per_device_eval_batch_size",
    "train.accumulate": "accum grad_accum accumulation_steps gradient_accumulation_steps accumulate_grad_batches",
    "train.seed": "random_seed manual_seed random_state s",
    "train.precision": "amp dtype mixed_precision half fp16 bf16 fp32",
    "train.early_stop": "patience early_stopping early_stopping_patience",
    "train.best": "monitor metric metric_for_best_model",
    "train.log_every": "print_freq log_interval logging_steps log_freq",
    "train.checkpoint_every": "save_every save_freq save_steps save_period save_interval",
    "train.evaluate_every": "eval_every val_interval eval_steps eval_freq validate_every",
    "optim.lr": "learning_rate lr0 base_lr max_lr rate",
    "optim.name": "optim optimizer opt",
    "optim.weight_decay": "wd decay",
    "optim.schedule": "scheduler lr_scheduler lr_schedule sched lr_scheduler_type",
    "optim.warmup": "warmup_epochs warmup_steps",
    "optim.clip_norm": "clip grad_clip clip_grad max_grad_norm gradient_clip_val",
    "backbone.name": "backbone model arch architecture net network encoder m a model_name timm_model",
    "backbone.weights": "pretrained checkpoint ckpt pretrained_weights",
    "backbone.image_size": "imgsz img_size input_size image_sz resolution",
    "freeze.policy": "freeze frozen freeze_backbone freeze_layers",
    "features.cache": "cache cache_features",
    "features.views": "cache_views",
    "loader.workers": "num_workers n_workers j jobs dataloader_num_workers",
    "run.folder": "output out output_dir out_dir outdir save_dir log_dir logdir runs o project",
    "run.name": "name run_name experiment exp exp_name",
    "run.trackers": "tracker logger loggers wandb tensorboard mlflow report_to",
    "run.processes": "nproc nproc_per_node num_processes world_size",
    "resume": "resume_from resume_from_checkpoint continue r",
    "init": "init_from finetune_from start_from",
    "task.name": "task t",
    "task.data": "data dataset data_dir data_path data_root datadir dataset_path train_dir images d root",
}
MEANT = {word: key for key, words in CALLED.items() for word in words.split()}

DEVICE = (
    "no key chooses the device: a run takes the GPU where torch sees one; ACCELERATE_USE_CPU=1 in front of the command "
    "keeps it on the CPU, CUDA_VISIBLE_DEVICES=1 shows it the second GPU alone (docs/distributed.md)"
)
GPUS = (
    "no key chooses how many GPUs there are: the launcher starts a process for each, as in `accelerate launch "
    "--multi_gpu --num_processes 8 -m visiontl train CONFIG` (docs/distributed.md)"
)
ABOUT_DEVICE = "device devices gpu gpu_id gpu_ids cuda cpu no_cuda use_cpu use_gpu use_cuda mps accelerator"
ABOUT_GPUS = "gpus num_gpus n_gpu ngpus distributed ddp multi_gpu local_rank"
# What no key does, and what does it
ELSEWHERE = {**dict.fromkeys(ABOUT_DEVICE.split(), DEVICE), **dict.fromkeys(ABOUT_GPUS.split(), GPUS)}


def keys_called(word: str, known: Iterable[str]) -> list[str]:
    """The keys of `known` (train.epochs, task.data ...) that are called so: by the whole, also with other separators
    (train_epochs), by what other programs call them, by the name behind the last dot. The likeliest first."""
    word, known = plain(word), list(known)
    same = [key for key in known if key.replace(".", "_") == word.replace(".", "_")]
    leaf = word.rpartition(".")[2]
    if same:
        return same
    if "." in word and (inside := [key for key in known if key.endswith(f".{word}")]):  # ema.decay of train
        return inside
    if (key := MEANT.get(leaf)) in known:
        return [key]
    return sorted((key for key in known if key.rpartition(".")[2] == leaf), key=lambda key: key.count("."))


def keys_near(word: str, known: Iterable[str]) -> list[str]:
    """The keys whose last name is spelled most like the word's; empty where none is near."""
    leaf, known = plain(word).rpartition(".")[2], list(known)
    near = closest(leaf, {key.rpartition(".")[2] for key in known}, 1) if len(leaf) > 2 else []
    return [key for key in known if key.rpartition(".")[2] in near]


def plain(word: str) -> str:
    """--Batch-Size -> batch_size"""
    return respelled(word.strip().lstrip("-").lower().replace("-", "_"))


def elsewhere(word: str) -> str | None:
    """The sentence for a word that no key answers to, and that people look for; or None."""
    return ELSEWHERE.get(plain(word))


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from models_in(inner)


def settable(model: type[BaseModel], prefix: Keys = (), depth: int = 0) -> Iterator[tuple[Keys, FieldInfo]]:
    """Each key that takes a plain value, with its field: those without keys below them, and sections whose own
    validators read a shorthand (`task.data=photos`)."""
    for name, info in model.model_fields.items():
        inner = list(models_in(info.annotation)) if depth < 6 else []
        if not inner or any(isinstance(one, BeforeValidator) for one in info.metadata):
            yield (*prefix, name), info
        for one in inner:
            yield from settable(one, (*prefix, name), depth + 1)
