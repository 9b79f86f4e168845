"""Painting one photo by optimizing its pixels: Gatys et al. 2016, Image style transfer using convolutional neural
networks. Needs a backbone of the registry and no trained run."""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from visiontl import Backbone, ConfigError, Console, DataError, load_backbone
from visiontl.kit.images import open_image, to_tensor
from visiontl_style.colors import with_colors_of
from visiontl_style.commands import JudgeSection, OptimizeOptions
from visiontl_style.formulas import content_distance, gram, gram_distance, total_variation
from visiontl_style.loss_network import Layers, LossNetwork, choose_layers, drawn_shift, shifted
from visiontl_style.pictures import open_style, sized, to_pil
from visiontl_style.tiles import reduced

LEAST_DISTANCE = 1e-3  # of the plain photo from the style, by which a layer's distance is divided
SLOWER = 0.75  # share of the steps after which Adam's rate is a tenth


@dataclass(frozen=True)
class Settings:
    """Weights of the loss, and how it is minimized. lr: None is 0.03 (adam) or 1 (lbfgs)."""

    content_weight: float = 1.0
    style_weight: float = 4.0
    tv_weight: float = 3.0
    optimizer: str = "adam"
    steps: int = 150
    lr: float | None = None
    jitter: int = 8
    start: str = "photo"
    seed: int = 0


Watcher = Callable[[int, Mapping[str, float], Tensor], None]


def optimize(
    judge: LossNetwork, photo: Tensor, styles: Sequence[Tensor], settings: Settings, watch: Watcher | None = None
) -> Tensor:
    """The picture whose content is the photo's and whose Gram matrices are the mean of the styles'.

    photo: (1, 3, H, W) 0..1; styles: (1, 3, h, w) each; watch: called with (step, parts of the loss, picture) after
    each evaluation. Each layer's style distance counts relative to the plain photo's, so the style term starts at 1.
    """
    layers, random = judge.layers, torch.Generator().manual_seed(settings.seed)
    judge.requires_grad_(False).eval()
    with torch.no_grad():
        seen = [judge(style, tuple(layers.style)) for style in styles]
        wanted = {name: torch.stack([gram(one[name]) for one in seen]).mean(0) for name in layers.style}
        plain = judge(photo, layers.judged)
        first = {
            name: gram_distance(gram(plain[name]), wanted[name]).clamp(min=LEAST_DISTANCE) for name in layers.style
        }
    adam = settings.optimizer == "adam"
    room = settings.jitter if adam else 0  # L-BFGS compares losses, which must not change under it
    noise = torch.rand(photo.shape, generator=random).to(photo)
    picture = (photo if settings.start == "photo" else noise).clone().contiguous().requires_grad_()

    def losses() -> dict[str, Tensor]:
        made, given = shifted([picture, photo], drawn_shift(room, random), room)
        found = judge(made, layers.judged)
        target = plain
        if room > 1:
            with torch.no_grad():
                target = judge(given, tuple(layers.content))
        content = sum(w * content_distance(found[n], target[n]) for n, w in layers.content.items())
        parts = {n: gram_distance(gram(found[n]), wanted[n]) / first[n] for n in layers.style}
        style = sum(w * parts[n] for n, w in layers.style.items())
        tv = total_variation(picture)
        total = settings.content_weight * content + settings.style_weight * style + settings.tv_weight * tv
        named = {"loss": total, "content": content, "style": style, "tv": tv}
        return {name: value.sum() for name, value in {**named, **{f"style.{n}": v for n, v in parts.items()}}.items()}

    step = 0

    def evaluated() -> Tensor:
        nonlocal step
        optimizer.zero_grad()
        with torch.enable_grad():
            found = losses()
            found["loss"].backward()
        assert picture.grad is not None
        picture.grad = picture.grad.contiguous()  # L-BFGS views it as one row
        step += 1
        if watch is not None:
            watch(step, {name: float(value.detach()) for name, value in found.items()}, picture.detach())
        return found["loss"].detach()

    if adam:
        rate = 0.03 if settings.lr is None else settings.lr
        optimizer: torch.optim.Optimizer = torch.optim.Adam([picture], lr=rate)
        while step < settings.steps:
            for group in optimizer.param_groups:
                group["lr"] = rate if step < SLOWER * settings.steps else rate / 10
            evaluated()
            optimizer.step()
            with torch.no_grad():
                picture.clamp_(0, 1)
    else:
        optimizer = torch.optim.LBFGS(
            [picture],
            lr=1.0 if settings.lr is None else settings.lr,
            max_iter=settings.steps,
            max_eval=settings.steps,
            history_size=20,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(evaluated)
    result = picture.detach().clamp(0, 1)
    if not torch.isfinite(result).all():
        raise ConfigError("the picture has values that are not finite; try a smaller lr or style_weight")
    return result


def layers_of(backbone: Backbone, content: Sequence[str] | None, style: Sequence[str] | None) -> Layers:
    """The layers that a command line names; None: as the config's `auto`."""
    contents, styles = (dict.fromkeys(names, 1.0) if names else "auto" for names in (content, style))
    return choose_layers(backbone, contents, styles)


def judge_of(options: JudgeSection) -> LossNetwork:
    backbone = load_backbone(options.backbone, options.weights)
    judge = LossNetwork(backbone, layers_of(backbone, options.content_layers, options.style_layers))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return judge.to(device).requires_grad_(False).eval()


def command(arguments: argparse.Namespace) -> int:
    """`visiontl style optimize`: NAME.png, losses.csv and previews/step-*.jpg in DIR."""
    options: OptimizeOptions = arguments.options
    if arguments.preview_every < 0:
        raise ConfigError(f"--preview-every {arguments.preview_every} is below 0")
    if arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir())):
        raise DataError(f"{arguments.out} is there already and not an empty folder; nothing is overwritten")
    photo = open_image(arguments.photo)
    if min(photo.size) < 16:
        raise DataError(f"{arguments.photo}: has {photo.width} x {photo.height} pixels; 16 are needed on each side")
    styles = []
    for file in options.style:
        picture, notes = open_style(file, "style")
        for note in notes:
            Console().say(note)
        styles.append(sized(picture, options.style_size or options.size))
    judge = judge_of(options)
    device = next(judge.buffers()).device
    scale = options.size / max(photo.size)
    alpha = photo.info.get("alpha")
    photo = photo.resize((max(16, round(photo.width * scale)), max(16, round(photo.height * scale))))
    pixels = reduced(to_tensor(photo), max(photo.size)).to(device)  # (1, 3, H, W)
    keys = ("content_weight", "style_weight", "tv_weight", "optimizer", "steps", "lr", "jitter", "start", "seed")
    settings = Settings(**{key: getattr(options, key) for key in keys})
    arguments.out.mkdir(parents=True, exist_ok=True)
    began, lines = time.perf_counter(), []

    def watch(step: int, parts: Mapping[str, float], picture: Tensor) -> None:
        lines.append({"step": step, **parts})
        if arguments.preview_every and step % arguments.preview_every == 0:
            previews = arguments.out / "previews"
            previews.mkdir(exist_ok=True)
            to_pil(picture[0]).save(previews / f"step-{step:06d}.jpg", quality=90)
        if step % max(1, settings.steps // 10) == 0 or step == settings.steps:
            seconds = time.perf_counter() - began
            shown = "  ".join(f"{name} {parts[name]:.4f}" for name in ("loss", "content", "style", "tv"))
            left = seconds / step * (settings.steps - step)
            print(f"step {step}/{settings.steps}  {shown}  {seconds:.0f} s, {left:.0f} s to go", flush=True)

    made = optimize(judge, pixels, [reduced(to_tensor(s), max(s.size)).to(device) for s in styles], settings, watch)
    result = to_pil(made[0])
    if options.keep_colors:
        result = with_colors_of(photo, result)
    if alpha is not None:
        result.putalpha(alpha.resize(result.size))
    target = arguments.out / f"{Path(arguments.photo).stem}.png"
    result.save(target)
    with (arguments.out / "losses.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    Console().say(f"{target}: {result.width} x {result.height} pixels in {time.perf_counter() - began:.1f} s")
    return 0
