"""Where a model looked: the heat of a photo behind a number of its answer, for any task that names one."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from visiontl.backbone import Backbone
from visiontl.config.asked import explain_options
from visiontl.config.overrides import parse_options
from visiontl.engine.device import to_device
from visiontl.engine.model import Built
from visiontl.errors import BackboneError, ConfigError, DataError, PluginError, VisionTLError, did_you_mean, first_line
from visiontl.kit.cam import SIDE, grad_cam, heat_of, overlay, share_by_place, side_by_side
from visiontl.kit.charts import file_of
from visiontl.kit.images import shown_part
from visiontl.kit.layers import modules_of
from visiontl.kit.words import count
from visiontl.report.items import Figure, Pictures, Scalar
from visiontl.task import SampleDataset

MISTAKES = 6  # pictures in a report
THUMBNAIL = 300  # pixels, longer side of photo and heat there
TITLE = "Where the model looked, in its worst mistakes"
CAPTION = (
    "Bright is what raised the number below the picture, on the network's own coarse grid: where it looked, not why, "
    "and not what would have been right (docs/explain.md)."
)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, repr=False)
class Explanation:
    """Where in a photo lies what raised a number of the model's answer.

    heat: (H, W) float32 of the photo's pixels, 0..1, 1 at the most; all 0 where nothing raised it. words: what the
    number is. score: the number. cam: (h, w) float32, 0 or more, the map that the heat is made of, on the network's own
    grid. shown: left, top, right, bottom in pixels of the photo: what the network saw of it. stages: of the backbone,
    where the maps are from that were looked at. method: gradcam or hirescam. box: x1 y1 x2 y2 in pixels of the photo,
    where the number is about a box.
    """

    photo: Image.Image
    heat: np.ndarray
    words: str
    score: float
    cam: np.ndarray
    shown: Box
    stages: tuple[str, ...]
    method: str
    box: Box | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing in the photo raised the number."""
        return not self.heat.any()

    @property
    def seen(self) -> Box | None:
        """What the network saw, within the photo; None where that is all of it."""
        whole = (0.0, 0.0, float(self.photo.width), float(self.photo.height))
        low, high = self.shown[:2], self.shown[2:]
        inside = (max(0.0, low[0]), max(0.0, low[1]), min(whole[2], high[0]), min(whole[3], high[1]))
        return None if all(abs(a - b) < 0.5 for a, b in zip(inside, whole, strict=True)) else inside

    @property
    def picture(self) -> Image.Image:
        """The photo under the heat, at its own size."""
        return overlay(self.photo, self.heat, self.seen)

    def beside(self, *lines: str, side: int = SIDE) -> Image.Image:
        """Photo and heat side by side, with words below: the lines, and what the number is. side: pixels, longer side
        of each."""
        words = f"{self.words}: nothing in the photo raises it" if self.empty else self.words
        return side_by_side(self.photo, self.heat, [*lines, words], self.seen, self.box, side)

    def __repr__(self) -> str:
        return f"Explanation({self.words})"

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.beside().save(data, "PNG")
        return data.getvalue()


@dataclass(frozen=True)
class Tap:
    """The module of a backbone whose output a pyramid level is. layout: nchw, nhwc, or tokens after `prefix` others."""

    level: int
    module: str
    stage: str
    layout: str
    prefix: int = 0

    def as_map(self, output: Tensor, grid: tuple[int, int]) -> Tensor:
        """(1, ...) -> (C, h, w)."""
        if self.layout == "nchw":
            return output[0]
        if self.layout == "nhwc":
            return output[0].permute(2, 0, 1)
        return output[0, self.prefix :].T.unflatten(1, grid)


@dataclass(frozen=True)
class Differentiated:
    """What is explained, with the maps (C_i, h_i, w_i) that it is computed from and its gradients by them, the deepest
    first."""

    scalar: Scalar
    taps: Sequence[Tap]
    maps: Sequence[Tensor]
    gradients: Sequence[Tensor]

    @property
    def dead(self) -> bool:
        """Whether no place of any map counts."""
        return not any(bool(gradient.any()) for gradient in self.gradients)


class Explainer:
    """Explains answers of one model, which it leaves as it was. Raises ConfigError where its task names no number.

    accelerator: of the passes that give the answers; None: they are float32.
    """

    def __init__(self, built: Built, accelerator: Accelerator | None = None):
        self.built = built
        self.accelerator = accelerator
        self.options = explain_options(built.resolved.task)
        self.device = next(built.model.parameters()).device
        self.taps: list[Tap] = []  # the deepest first; found at the first photo
        self.known: list[Tap] = []  # those that count

    def parse(self, values: Mapping[str, Any]) -> Any:
        """Options by name -> the validated ones. Raises ConfigError with all mistakes."""
        return parse_options(self.options, values, f"explain with task {self.built.resolved.task.name}")

    def explain(self, photo: Image.Image, options: Any, sample: Mapping[str, Any] | None = None) -> Explanation:
        """photo: RGB, upright. sample: of a split, where the photo is in one; else as for a prediction.

        Raises DataError where the photo has no such number, and BackboneError where the model has no map.
        """
        resolved, meta = self.built.resolved, self.built.meta
        if sample is None:
            sample = resolved.task.sample(resolved.cfg, self.built.backbone.spec, meta)(photo)
        batch = resolved.task.collate(resolved.cfg, [sample], None, meta)
        batch = to_device({**batch, "id": torch.tensor([0]), "step": 0, "progress": 1.0}, self.device)
        found = self.differentiated(batch, options)
        scalar, method = found.scalar, options.method or ("hirescam" if found.scalar.part else "gradcam")
        if method == "gradcam":
            cam, used = grad_cam(found.maps[0], found.gradients[0]), found.taps[:1]
        else:
            cam, used = share_by_place(found.maps, found.gradients), found.taps
        values = cam.float().cpu().numpy()
        if not (isfinite(scalar.score) and np.isfinite(values).all()):
            raise DataError("what is to be explained is not finite, or its gradients are not; are the weights whole?")
        size = (photo.height, photo.width)
        shown = scalar.shown or shown_part(size, self.built.backbone.spec)
        stages = tuple(dict.fromkeys(tap.stage for tap in used))
        heat = heat_of(values, shown, size)
        return Explanation(photo, heat, scalar.words, scalar.score, values, shown, stages, method, scalar.box)

    def differentiated(self, batch: dict[str, Any], options: Any) -> Differentiated:
        """What is explained, and the maps that it is computed from, by no other map in between.

        Of a transformer whose answer is read from a class token alone, that is no place of the last block's map: the
        block before is looked at then.
        """
        if not self.taps:
            self.taps = find_taps(self.built.backbone)
        if options.stage is not None:
            return self.through([self.of_stage(options.stage)], batch, options)
        if not self.known:
            left = self.taps
            found = self.through(left, batch, options)
            while found.dead and found.taps[0].layout == "tokens" and left[1:]:
                left = [tap for tap in left if tap.level < found.taps[0].level]
                found = self.through(left, batch, options)
            self.known = left
            return found
        return self.through(self.known, batch, options)

    def of_stage(self, wanted: str) -> Tap:
        """The last map of a stage."""
        found = next((tap for tap in self.taps if tap.stage == wanted), None)
        if found is None:
            stages = list(dict.fromkeys(tap.stage for tap in reversed(self.taps)))
            raise ConfigError(
                f"option stage: no map of {self.built.backbone.name} is from {wanted!r}"
                f"{did_you_mean(wanted, stages)}; there are {', '.join(stages)}"
            )
        return found

    def precision(self) -> AbstractContextManager[Any]:
        """That of the answers, so that the number is theirs; float32 in place of fp16, which loses small gradients."""
        if self.accelerator is None or self.accelerator.mixed_precision == "fp16":
            return nullcontext()
        return self.accelerator.autocast()

    def through(self, taps: Sequence[Tap], batch: dict[str, Any], options: Any) -> Differentiated:
        """What is explained, differentiated by the maps of these taps (the deepest first), each cut off from the ones
        before it. Raises BackboneError where it is computed from none of them."""
        task, model, backbone = self.built.resolved.task, self.built.model, self.built.backbone
        assert task.explain is not None
        with torch.enable_grad(), still(model), ExitStack() as cuts:
            passes = [cuts.enter_context(cut(backbone, tap)) for tap in taps]
            with self.precision():
                given = task.explain(self.built.resolved.cfg, model, batch, self.built.meta, options)
            scalar = whole(task.name, given)
            most = max(map(len, passes))
            if most > 1:
                raise BackboneError(
                    f"task {task.name}: `explain` runs the backbone {most} times with gradients; expected once"
                )
            met = [(tap, *leaves[0]) for tap, leaves in zip(taps, passes, strict=True) if leaves]
            slopes: Sequence[Tensor | None] = [None] * len(met)
            if scalar.value.requires_grad:
                slopes = torch.autograd.grad(scalar.value, [leaf for _, leaf, _ in met], allow_unused=True)
        found = [(tap, leaf.detach(), grid, slope) for (tap, leaf, grid), slope in zip(met, slopes, strict=True)]
        read = [(tap, leaf, grid, slope) for tap, leaf, grid, slope in found if slope is not None]
        if not read:
            stages = ", ".join(dict.fromkeys(tap.stage for tap in taps))
            raise BackboneError(f"{backbone.name}: what is to be explained is not computed from its maps ({stages})")
        return Differentiated(
            scalar,
            [tap for tap, *_ in read],
            [tap.as_map(leaf, grid).float() for tap, leaf, grid, _ in read],
            [tap.as_map(slope, grid).float() for tap, _, grid, slope in read],
        )


def whole(task: str, given: Any) -> Scalar:
    """What a task's `explain` gave. Raises PluginError where that is no number with words."""
    if not isinstance(given, Scalar):
        raise PluginError(f"task {task}: `explain` gave a {type(given).__name__}; expected visiontl.Scalar")
    if not isinstance(given.value, Tensor) or given.value.dim():
        shape = f"of shape {tuple(given.value.shape)}" if isinstance(given.value, Tensor) else f"({given.value!r})"
        kind = type(given.value).__name__
        raise PluginError(f"task {task}: `explain` gave a {kind} {shape} as value; expected a tensor of shape ()")
    if not isinstance(given.words, str) or not given.words.strip():
        raise PluginError(f"task {task}: `explain` gave {given.words!r} as words; expected what the number is")
    if given.shown is not None and not (given.shown[0] < given.shown[2] and given.shown[1] < given.shown[3]):
        raise PluginError(
            f"task {task}: `explain` gave {given.shown} as shown, which is without an extent; expected left, top, "
            "right, bottom in pixels"
        )
    return given


@contextmanager
def still(model: nn.Module) -> Generator[None, None, None]:
    """Within the block the model is in evaluation mode, and none of its parameters wants a gradient."""
    modes = [(module, module.training) for module in model.modules()]
    wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)
        for module, mode in modes:
            module.training = mode


@contextmanager
def cut(backbone: Backbone, tap: Tap) -> Generator[list[tuple[Tensor, tuple[int, int]]], None, None]:
    """Within the block the tapped module's output is cut off from what it was made of: a leaf for each pass with
    gradients, with the (h, w) of its map."""
    leaves: list[tuple[Tensor, tuple[int, int]]] = []
    inputs: list[tuple[int, int]] = []

    def enter(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        image = args[0] if args else named["image"]
        inputs.append((int(image.shape[2]), int(image.shape[3])))

    def leave(_module: nn.Module, _args: Any, output: Any) -> Any:
        if not torch.is_grad_enabled():
            return None
        whole = tensor_of(output)
        leaf = whole.detach().requires_grad_(True)
        leaves.append((leaf, grid_of(tap, leaf, inputs[-1], backbone.strides[tap.level])))
        passed = leaf.clone()  # what follows may work in place
        return (passed, *output[1:]) if isinstance(output, tuple) else passed

    handles = [
        backbone.register_forward_pre_hook(enter, with_kwargs=True),
        backbone.get_submodule(tap.module).register_forward_hook(leave),
    ]
    try:
        yield leaves
    finally:
        for handle in handles:
            handle.remove()


def tensor_of(output: Any) -> Any:
    """What a module gives; the first of several, which modules that pass a grid's size along give."""
    return output[0] if isinstance(output, tuple) and output else output


def grid_of(tap: Tap, output: Tensor, image: tuple[int, int], stride: int) -> tuple[int, int]:
    """(h, w) of a map. Tokens are those of an image (H, W) that is padded to whole patches."""
    if tap.layout != "tokens":
        height, width = output.shape[2:] if tap.layout == "nchw" else output.shape[1:3]
        return int(height), int(width)
    cells = output.shape[1] - tap.prefix
    height, width = -(-image[0] // stride), -(-image[1] // stride)
    if height * width != cells:
        raise BackboneError(f"{cells} tokens of {image[0]} x {image[1]} pixels are no grid of stride {stride}")
    return height, width


def find_taps(backbone: Backbone) -> list[Tap]:
    """The modules that the backbone's maps come out of, the deepest first.

    Seen in one pass over an image of many values: of a level, the first module whose output is its map, whatever its
    layout. Raises BackboneError where there is none.
    """
    if not backbone.channels:
        raise BackboneError(f"{backbone.name} gives one vector an image and no map: it has no places to be looked at")
    device = backbone.mean.device
    height, width = backbone.spec.size
    values = torch.arange(backbone.in_channels * height * width, device=device) * 2654435761 % 251
    image = values.view(1, backbone.in_channels, height, width).to(torch.uint8)
    given: list[tuple[str, Tensor, int]] = []
    channels = set(backbone.channels)

    def keep(name: str):
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            one = tensor_of(output)
            if isinstance(one, Tensor) and one.dim() in (3, 4) and channels & {one.shape[1], one.shape[-1]}:
                given.append((name, one, one._version))

        return hook

    modules = {name: module for name, module in modules_of(backbone).items() if name}
    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        with torch.no_grad(), still(backbone):
            maps = backbone(image, maps=range(len(backbone.channels)), pooled=True).maps
    finally:
        for handle in handles:
            handle.remove()
    calls = Counter(name for name, _, _ in given)
    once = [one for one in given if calls[one[0]] == 1]
    # what was changed in place since (by an activation that is no module) last of all, the nearest to that first
    kept = [(name, output) for name, output, version in once if output._version == version]
    kept += [(name, output) for name, output, version in reversed(once) if output._version != version]
    taps: list[Tap] = []
    for level, one in reversed(list(enumerate(maps))):
        for name, output in kept:
            layout = layout_of(output, one)
            if layout is not None:
                taps.append(Tap(level, name, stage_of(backbone, name), *layout))
                break
    if not taps:
        raise BackboneError(f"{backbone.name}: none of its maps is the output of one of its modules")
    return taps


def layout_of(output: Tensor, map: Tensor) -> tuple[str, int] | None:
    """How a module's output holds a map (1, C, h, w), and tokens before it; None where it does not."""
    if output.dim() == 4:
        if output.shape == map.shape and torch.equal(output, map):
            return "nchw", 0
        turned = output.permute(0, 3, 1, 2)
        return ("nhwc", 0) if turned.shape == map.shape and torch.equal(turned, map) else None
    prefix = output.shape[1] - map.shape[2] * map.shape[3]
    if output.shape[2] != map.shape[1] or prefix < 0:
        return None
    tokens = output[:, prefix:].transpose(1, 2)  # (1, C, h w)
    return ("tokens", prefix) if torch.equal(tokens, map.flatten(2)) else None


def stage_of(backbone: Backbone, module: str) -> str:
    """The stage that a module belongs to; of one that spans several the last."""
    known = backbone.stage_of.get(module)
    if known is not None:
        return known
    inside = [stage for name, stage in backbone.stage_of.items() if name.startswith(f"{module}.")]
    return max(inside, key=backbone.stages.index, default=backbone.stages[-1])


# --------------------------------------------------------------------------------------------------------- for a report


def explained_mistakes(
    built: Built, accelerator: Accelerator, rows: Sequence[Any], split: SampleDataset, image: Any
) -> list[Any]:
    """An item of a report: where the model looked in a split's worst mistakes; none where the task names none.

    image: id -> photo. What fails is a note of the report, never the end of a run.
    """
    task = built.resolved.task
    if task.explain is None or task.mistakes is None:
        return []
    try:
        chosen = list(task.mistakes(built.resolved.cfg, rows, built.meta))[:MISTAKES]
        return _explained(Explainer(built, accelerator), chosen, split, image) if chosen else []
    except Exception as error:
        return [Figure(TITLE, _failing(error))]


def _failing(error: Exception) -> Any:
    def draw(axes: Any) -> None:
        raise error

    return draw


def _explained(explainer: Explainer, chosen: Sequence[tuple[int, str]], split: SampleDataset, image: Any) -> list[Any]:
    """Of a task that compares two photos the mistakes come in twos, each the other's counterpart."""
    made: list[tuple[str, Any]] = []
    failed: list[str] = []
    pairs = "other" in explainer.options.model_fields
    for place, (id, words) in enumerate(chosen):
        try:
            against = {"other": image(chosen[place ^ 1][0])} if pairs else {}
            found = explainer.explain(image(id), explainer.parse(against), split[id, 0])
        except (VisionTLError, OSError) as error:
            failed.append(first_line(error))
            continue
        name = file_of(image, id)
        made.append((f"{name}: {words}" if name else words, found.beside(side=THUMBNAIL)))
    left = f"{count(len(failed), 'more image')} could not be explained: {failed[0]}" if failed else ""
    return [Pictures(TITLE, made, " ".join(filter(None, [CAPTION, left])))] if made or left else []
