"""The module behind `visiontl.kit.kerasmodels`: a Keras model's weights as torch's, and its passes."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from visiontl.backbone import Backbone, Features
from visiontl.errors import BackboneError, did_you_mean, first_line
from visiontl.kit.stages import partition
from visiontl.spec import ImageSpec

# layers that change where a map lies or what training sees, and are no place to leave a map at
BETWEEN = ("ZeroPadding2D", "Cropping2D", "InputLayer")
SEEDS = "seed_generator_state"


class Graph:
    """A Keras model and its layers. Copies of a body share it, for it holds no weights that are used."""

    def __init__(self, name: str, model: Any):
        check(name, model)
        self.keras = library()
        self.model = self.keras.Model(model.inputs, embedding(model))  # without the layers of a classifier at the end
        self.model.trainable = True  # what trains is for freeze.policy to say
        self.layers = named(self.model)
        check_layers(name, self.layers)
        self.modes = [takes_training(layer) for layer in self.layers.values()]
        self.cut: dict[tuple[int, ...], Any] = {}

    def __deepcopy__(self, _memo: Any) -> Graph:
        return self

    def until(self, ends: Sequence[Any]) -> Any:
        """The model that computes these symbolic outputs and nothing further."""
        key = tuple(map(id, ends))
        if key not in self.cut:
            self.cut[key] = self.keras.Model(self.model.inputs, list(ends))
        return self.cut[key]


class Unit(nn.Module):
    """The weights of one layer; its `training` says how Keras runs that layer."""

    def __init__(self, layer: Any):
        super().__init__()
        self.variables: list[tuple[str, Any]] = []
        taken: dict[str, int] = {}
        for one in layer.variables:
            if one.name == SEEDS:
                continue
            inside = one.path.split("/")
            inside = inside[inside.index(layer.name) + 1 :] if layer.name in inside[:-1] else [one.name]
            name = plain("_".join(inside))
            taken[name] = taken.get(name, 0) + 1
            name = name if taken[name] == 1 else f"{name}_{taken[name]}"
            value = one.value.detach().cpu().clone()
            if one.trainable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
            self.variables.append((name, one))


class Body(nn.Module):
    """A Keras model whose weights are this module's: a child for each layer, by its name."""

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph = graph
        for name, layer in graph.layers.items():
            self.add_module(name, Unit(layer))

    def unit(self, name: str) -> Unit:
        found: Any = self.get_submodule(name)
        return found

    def units(self) -> Iterator[tuple[Unit, Any]]:
        for name, layer in self.graph.layers.items():
            yield self.unit(name), layer

    def forward(self, x: Tensor, ends: Sequence[Any]) -> list[Tensor]:
        """x: (B, C, H, W) -> what Keras gives at these symbolic tensors, (B, h, w, C) each."""
        held = [(one, getattr(unit, name)) for unit, _ in self.units() for name, one in unit.variables]
        seeds = [one for _, layer in self.units() for one in layer.variables if one.name == SEEDS]
        if self.any_training():  # from torch's generator, which the engine sets for every step and process
            held += [(one, torch.randint(1 << 31, (2,)).to(x.device, one.value.dtype)) for one in seeds]
        keras, model = self.graph.keras, self.graph.until(ends)
        with keras.device(str(x.device)), self.in_modes(), keras.StatelessScope(state_mapping=held) as scope:
            found: Any = model(x.permute(0, 2, 3, 1).contiguous())
            moved = [(unit, name, scope.get_current_value(one)) for unit, name, one in self.statistics()]
        with torch.no_grad():
            for unit, name, value in moved:
                kept = getattr(unit, name)
                if unit.training and value is not None and value is not kept:
                    kept.copy_(value)
        return [found] if isinstance(found, Tensor) else list(found)

    def any_training(self) -> bool:
        return any(unit.training for unit, _ in self.units())

    def statistics(self) -> Iterator[tuple[Unit, str, Any]]:
        for unit, _ in self.units():
            buffers = dict(unit.named_buffers())
            yield from ((unit, name, one) for name, one in unit.variables if name in buffers)

    def in_modes(self) -> Modes:
        units = zip(self.units(), self.graph.modes, strict=True)
        return Modes([(layer, unit.training) for (unit, layer), takes in units if takes])


class Modes:
    """Within the block each layer runs in the mode of its unit: Keras has one for the whole model."""

    def __init__(self, layers: list[tuple[Any, bool]]):
        self.layers = layers

    def __enter__(self) -> None:
        for layer, training in self.layers:
            vars(layer)["call"] = in_mode(call_of(layer), layer, training)

    def __exit__(self, *_: Any) -> None:
        for layer, _training in self.layers:
            del vars(layer)["call"]


def in_mode(call: Any, layer: Any, training: bool) -> Any:
    """A layer's `call` that is always given this mode."""

    def called(*given: Any, **named: Any) -> Any:
        return call(layer, *given, **{**named, "training": training})

    return called


class KerasModelBackbone(Backbone):
    """A `keras.Model` on torch. Its parameters are LAYER.WEIGHT, below `body.`.

    Maps are what the last layer of each stride gives, channels first; pooled is what the classifier at the end reads,
    or the mean of the last map where the model ends in one.
    """

    def __init__(self, name: str, model: Any, spec: ImageSpec, in_channels: int, size: tuple[int, int] | None):
        super().__init__(name, spec, in_channels)
        self.body = Body(Graph(name, model))
        height, width, channels = model.inputs[0].shape[1:]
        if channels != in_channels:
            raise BackboneError(f"{name} takes images of {channels} channels; {in_channels} were asked for")
        native = (height or spec.size[0], width or spec.size[1])
        size = size or native
        fixed = height is not None or width is not None
        if fixed and size != native:
            raise BackboneError(
                f"{name} takes images of {native[0]} x {native[1]} pixels only; {size[0]} x {size[1]} was asked for; "
                "leave backbone.image_size out, or make the model with None for both"
            )
        self.end = self.body.graph.model.outputs[0]
        self.ends, shapes = self.levels(size)
        self.channels = tuple(shape[1] for shape in shapes)
        self.strides = tuple(nearest(size[0] / shape[2]) for shape in shapes)
        parts = partition(self.body, lambda body: self.views(body, size))
        self.stages, self.stage_of = parts.stages, parts.stage_of
        sizing = {"sizing": "fixed", "pad_to": 1} if fixed else {"sizing": "multiple", "pad_to": max(self.strides)}
        self.set_spec(replace(spec, size=size, **sizing))

    def levels(self, size: tuple[int, int]) -> tuple[list[Any], list[tuple[int, ...]]]:
        """(the symbolic map of each stride, shallow first, their shapes (1, C, h, w) for an image of that size)"""
        model, weighted = self.body.graph.model, False
        seen: list[Any] = []
        for layer in model.layers:
            weighted = weighted or bool(layer.trainable_variables)
            end = output_of(layer) if weighted and type(layer).__name__ not in BETWEEN else None
            if end is not None and len(end.shape) == 4:
                seen.append(end)
        with torch.no_grad():
            x = torch.zeros(1, self.in_channels, *size)
            try:
                found = self.body.eval()(x, [*seen, self.end])
            except Exception as error:  # of Keras, of torch, or of a layer's own code
                raise BackboneError(
                    f"{self.name}: Keras cannot compute an image of {size[0]} x {size[1]} pixels "
                    f"({type(error).__name__}: {first_line(error)}); another backbone.image_size may do"
                ) from error
        self.embed_dim = pooled_of(found[-1]).shape[1]
        last: dict[int, tuple[Any, Tensor]] = {}
        for end, value in zip(seen, found, strict=False):
            if value.shape[1] > 1 and value.shape[2] > 1:
                last[nearest(size[0] / value.shape[1])] = (end, value)
        if not last:
            raise BackboneError(
                f"{self.name}: no layer gives a map (B, h, w, C); features of images are read from maps"
            )
        chosen = [last[stride] for stride in sorted(last)]
        return [end for end, _ in chosen], [tuple(value.permute(0, 3, 1, 2).shape) for _, value in chosen]

    def views(self, body: Any, size: tuple[int, int]) -> tuple[list[Tensor], Tensor]:
        device = next(body.parameters()).device
        *maps, last = body(torch.zeros(1, self.in_channels, *size, device=device), [*self.ends, self.end])
        return maps, pooled_of(last)

    def extract(self, x: Tensor, maps: tuple[int, ...], pooled: bool, layers: tuple[str, ...]) -> Features:
        known = {plain(layer.name): layer for layer in self.body.graph.model.layers}
        for layer in layers:
            if layer not in known or output_of(known[layer]) is None:
                raise BackboneError(f"{self.name} has no layer {layer!r} of one output{did_you_mean(layer, known)}")
        ends = [self.ends[i] for i in maps] + ([self.end] if pooled else [])
        found = self.body(x, [*ends, *(output_of(known[layer]) for layer in layers)])
        named = {layer: first_channels(one) for layer, one in zip(layers, found[len(ends) :], strict=True)}
        embedded = pooled_of(found[len(maps)]) if pooled else None
        return Features([first_channels(one) for one in found[: len(maps)]], embedded, named)

    def library_names(self) -> dict[str, str]:
        return {f"body.{name}": name for name in self.body.state_dict()}

    def adopt_names(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Files that Keras wrote name arrays LAYER/0, LAYER/1: what trains of a layer, or of a model that is one, comes
        before what does not."""
        own: dict[str, list[tuple[bool, str]]] = {}
        units = {id(layer): unit for unit, layer in self.body.graph.layers.items()}
        for path, layer in leaves(self.body.graph.model):
            unit = units[id(layer)]
            names = [name for name, _ in self.body.unit(unit).variables]
            trains = [one.trainable for _, one in self.body.unit(unit).variables]
            own.setdefault(path[0], []).extend(zip(trains, (f"{unit}.{name}" for name in names), strict=True))
        found: dict[str, Tensor] = {}
        rest = dict(state)
        for above, held in own.items():
            for index, (_, name) in enumerate(sorted(held, key=lambda one: not one[0])):
                if f"{above}/{index}" in rest:
                    found[name] = rest.pop(f"{above}/{index}")
        return ({**found, **rest}, [f"layers of {self.name}, by the names of Keras' file"]) if found else (state, [])


def leaves(model: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(names on the way, layer), those of models inside included, in the order of computing."""
    for layer in model.layers:
        if isinstance(layer, library().Model):
            yield from leaves(layer, (*above, layer.name))
        elif type(layer).__name__ != "InputLayer":
            yield (*above, layer.name), layer


def named(model: Any) -> dict[str, Any]:
    """Each layer once, by a name that a module can have and no other has: two may differ in a sign that torch knows
    not, or have the name of what a module has anyway."""
    taken, found = set(dir(Body)) | {"graph", "training"}, dict[str, Any]()
    for path, layer in leaves(model):
        if any(layer is one for one in found.values()):  # it stands in two models, and has one set of weights
            continue
        own = plain("/".join(path))
        while own in taken:
            own += "_"
        taken.add(own)
        found[own] = layer
    return found


def check(name: str, model: Any) -> None:
    """Raises BackboneError for a model that is no graph of one image and one output."""
    inputs, outputs = (getattr(model, side, None) for side in ("inputs", "outputs"))
    if not inputs or not outputs:
        raise BackboneError(
            f"{name}: a functional or sequential keras.Model was expected; a subclass has no graph to cut"
        )
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4:
        raise BackboneError(
            f"{name}: a model of one image (B, H, W, C) and one output was expected; it has {len(inputs)} of "
            f"{[tuple(one.shape) for one in inputs]} and {len(outputs)}"
        )
    places = [layer.data_format for _, layer in leaves(model) if getattr(layer, "data_format", None) is not None]
    if "channels_first" in places:
        raise BackboneError(f"{name}: a model with the channels last was expected (data_format of its layers)")


def check_layers(name: str, layers: Mapping[str, Any]) -> None:
    """Raises BackboneError where nothing could train, or a layer computes in another precision, which a head would meet
    as a clash of types."""
    if not any(layer.trainable_variables for layer in layers.values()):
        raise BackboneError(f"{name}: the model has no weights that could train")
    for own, layer in layers.items():
        if layer.weights and layer.compute_dtype != "float32":
            raise BackboneError(
                f"{name}: layer {own} computes in {layer.compute_dtype}; float32 was expected: make the model under "
                "Keras' policy float32, and let train.precision say the rest"
            )


def embedding(model: Any) -> Any:
    """The symbolic tensor that a classifier at the end reads, else the model's output."""
    end, layers = model.outputs[0], list(model.layers)
    while layers and type(layers[-1]).__name__ in ("Activation", "Softmax"):
        layers.pop()
    if layers and type(layers[-1]).__name__ == "Dense" and len(end.shape) == 2:
        try:
            require_one_call(layers[-1])
            return layers[-1].input
        except Exception as error:
            raise BackboneError(f"what the classifier at the end reads cannot be told ({first_line(error)})") from None
    return end


def takes_training(layer: Any) -> bool:
    """Whether a layer does something else in training, as its `call` says."""
    return "training" in inspect.signature(call_of(layer)).parameters


def call_of(layer: Any) -> Any:
    """As its class defines it."""
    return layer.__class__.call


def require_one_call(layer: Any) -> None:
    """Raises ValueError for a layer that is called at several places: Keras gives what the first of them reads and
    gives, which another model may hold."""
    if (count := len(layer._inbound_nodes)) > 1:
        raise ValueError(f"layer {layer.name} is called {count} times")


def output_of(layer: Any) -> Any:
    """A layer's one symbolic output; None where it has several or is called twice."""
    try:
        require_one_call(layer)
        # of the call, where a model is the layer, whose own `output` is inside of it
        end = library().Operation.output.fget(layer)
    except Exception:  # as Keras says that there is no one output
        return None
    return end if hasattr(end, "shape") else None


def first_channels(value: Tensor) -> Tensor:
    """(B, h, w, C) -> (B, C, h, w); of other dimensions as it is."""
    return value.permute(0, 3, 1, 2) if value.dim() == 4 else value


def pooled_of(value: Tensor) -> Tensor:
    """(B, D), (B, n, D) or (B, h, w, D) -> (B, D)"""
    return value if value.dim() == 2 else value.flatten(1, -2).mean(1)


def nearest(ratio: float) -> int:
    """The power of two nearest to a ratio of sides, 1 or more."""
    return 2 ** max(round(math.log2(ratio)), 0)


def library() -> Any:
    """Keras on torch. Raises BackboneError where it is not installed, or computes by something else already."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"  # as Keras wants to be told before it is imported
    try:
        keras: Any = importlib.import_module("keras")
    except ImportError as error:
        raise BackboneError(f"Keras models need Keras 3 ({error}): pip install 'visiontl[keras]'") from None
    if not hasattr(keras, "backend") or keras.backend.backend() != "torch":
        raise BackboneError(
            "Keras computes by another library than torch here: set KERAS_BACKEND=torch before Python starts"
        )
    return keras


def plain(name: str) -> str:
    """A name of Keras as one of torch's, which have no dots or slashes."""
    return re.sub(r"[./:]", "_", name)
