"""A task's exported model as a file: by torch's exporters, and in fewer bits."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visiontl.backbone import Backbone
from visiontl.errors import ConfigError
from visiontl.export import Export
from visiontl.kit.suppression import onnx_translations

Size = tuple[int, int]
OPSET = 20  # of ONNX; the first in which all that torch 2.10 writes is there
STEADY = 32  # pixels; where sides are multiples, a backbone may compute nothing of them (its `steady`)
ROOMY = 384, 640  # pixels; a stride of 128 divides both
LEAST, MOST = 32, 1 << 14  # pixels of a side, where it varies
NEEDED = ("onnx", "onnxscript", "onnxruntime")


Traced = tuple[torch.export.ExportedProgram, tuple[str, ...]]


class Graph(nn.Module):
    """The module that is exported: image[, extent] -> its outputs as a tuple, in the order of their names."""

    def __init__(self, made: Export):
        super().__init__()
        self.module = made.module
        self.names: tuple[str, ...] = ()

    def forward(self, image: Tensor, extent: Tensor | None = None) -> tuple[Tensor, ...]:
        found = self.module(image) if extent is None else self.module(image, extent)
        self.names = tuple(found)
        return tuple(found.values())


def example(made: Export, size: Size, batch: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Random pictures as the graph takes them: half of them noise, half smooth."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((batch, 3, *size), generator=generator)
    coarse = torch.rand((batch, 3, 4, 4), generator=generator)
    image[::2] = nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)[::2]
    if not made.extent:
        return (image,)
    extent = torch.tensor([[max(1, size[0] - i), max(1, size[1] - 3 * i)] for i in range(batch)])
    return image, extent


def traced(
    made: Export, backbone: Backbone, size: Size, multiple: int | None
) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """(the graph of any batch, and of any H and W that are multiples of that many pixels; the names of its outputs).

    multiple: None where the graph takes one size. Raises ConfigError where torch.export cannot take the model apart.
    """
    graph = Graph(made).eval()
    with torch.no_grad():
        graph(*example(made, size, 1))  # tells the names
    names = graph.names
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    shapes: dict[int, Any] = {0: batch}
    if multiple is not None:
        least, most = -(-LEAST // multiple), MOST // multiple
        for axis, name in ((2, "height"), (3, "width")):
            side = torch.export.Dim(name, min=least, max=most)
            shapes[axis] = side if multiple == 1 else multiple * side
    dynamic: dict[str, Any] = {"image": shapes}
    if made.extent:
        dynamic["extent"] = {0: batch}
    given = example(made, size if multiple is None else roomy(size, multiple), 2)
    try:
        plain: Any = contextlib.nullcontext
        steady = getattr(backbone, "steady", plain) if multiple is not None and multiple % STEADY == 0 else plain
        with torch.no_grad(), quietly(), steady():
            program = torch.export.export(graph, given, dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # torch's own kinds, of which there are many
        wide = (
            "; without --dynamic the graph takes one size, which may go"
            if multiple is not None and not made.wanted
            else ""
        )
        raise ConfigError(f"torch.export cannot take this model apart ({in_short(error)}){wide}") from error
    return program, names


def roomy(size: Size, multiple: int) -> Size:
    """Large enough that no map of a pyramid is a single cell high or wide, for what is 1 in the example is taken to be
    1 for ever; and not square."""
    height, width = (-(-max(side, low) // multiple) * multiple for side, low in zip(size, ROOMY, strict=True))
    return height, width if width != height else width + multiple


def write_onnx(program: torch.export.ExportedProgram, made: Export, names: Sequence[str], path: Path) -> None:
    """Raises ConfigError where a package lacks, or ONNX cannot say what the model does."""
    require_packages()
    inputs = ["image", "extent"] if made.extent else ["image"]
    try:
        with torch.no_grad(), quietly():
            done = torch.onnx.export(
                program,
                input_names=inputs,
                output_names=list(names),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
                custom_translation_table=onnx_translations(),
            )
            assert done is not None
            done.save(str(path))
    except Exception as error:  # onnxscript's and torch's own kinds
        raise ConfigError(f"ONNX cannot hold this model ({in_short(error)})") from error


def require_packages() -> None:
    import importlib.util

    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        raise ConfigError(f"export to ONNX needs {', '.join(lacking)}: pip install 'visiontl[export]'")


def halved(source: Path, target: Path) -> None:
    """The graph in half precision; inputs and outputs stay float32, and so do the operators that would lose by it."""
    import onnx
    from onnxruntime.transformers import float16

    with quietly():
        model = onnx.load(str(source))
        onnx.save(float16.convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True), str(target))


def quantized(source: Path, target: Path, calibration: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Convolutions and matrix products in 8 bits, by static quantisation on inputs (`calibration`) of training photos:
    weights per channel, activations by their least and greatest value."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.coming = iter(calibration)

        def get_next(self) -> Any:
            return next(self.coming, None)

    with quietly():
        quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What exporters say of their own steps names nothing that a user could change; errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def in_short(error: BaseException) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"{type(error).__name__}: {' '.join(first.split())[:300]}"
