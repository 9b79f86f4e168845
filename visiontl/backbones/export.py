"""A backbone's weights as one file under their own library's names: as they came, they leave."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from visiontl.backbone import Backbone, OriginalHead
from visiontl.errors import BackboneError, WeightsError, first_line
from visiontl.kit.words import some

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Exported:
    """tensors: how many the file holds. classes: of the classifier among them, 0: none is.
    call: Python that makes `model`, which takes them strictly; "" where no library is known for it."""

    path: Path
    tensors: int
    classes: int
    call: str


def check_target(path: Path) -> None:
    """Raise WeightsError, in words, for a file that will not be written."""
    if path.suffix != SUFFIX:
        raise WeightsError(f"{path}: weights are written as {SUFFIX}; name the file {path.with_suffix(SUFFIX).name}")
    if os.path.lexists(path):
        raise WeightsError(f"{path} exists already and is never overwritten; choose another name")
    if not path.absolute().parent.is_dir():
        raise WeightsError(f"{path}: there is no folder {path.parent}")


def write_backbone(path: Path, backbone: Backbone, head: OriginalHead | None = None) -> Exported:
    """Write the backbone's tensors, and those of its own classifier where one is given, named as in their library.

    The file's metadata say the backbone's name, the preprocessing (an ImageSpec as JSON), the classes of the classifier
    and the Python that makes the model. The file is whole or not there. Raises WeightsError for a path that cannot be
    written, BackboneError for a backbone of which a part is gone.
    """
    check_target(path)
    tensors = library_tensors(backbone, head)
    classes = head.num_classes if head is not None and head.names else 0
    call = backbone.library_call(classes)
    metadata = {
        "format": "pt",
        "backbone": backbone.name,
        "preprocessing": json.dumps(backbone.spec.to_json()),
        "classes": str(classes),
        "model": call,
    }
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        save_file(tensors, temporary, metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        check_target(path)  # nobody came first
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written ({first_line(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Exported(path, len(tensors), classes, call)


def library_tensors(backbone: Backbone, head: OriginalHead | None = None) -> dict[str, Tensor]:
    """{the library's name: tensor, on the CPU} of a whole backbone and its own classifier, if it is given."""
    there = {name for name, _ in backbone.named_modules()}
    there |= {name for name, _ in backbone.named_parameters(remove_duplicate=False)}
    there |= {name for name, _ in backbone.named_buffers(remove_duplicate=False)}
    gone = [name for name in backbone.stage_of if name not in there]
    if gone:
        raise BackboneError(
            f"{backbone.name}: its task cut off what it does not read ({some(gone)}); what is left is no "
            f"{backbone.name} any more and cannot be exported"
        )
    tensors = _named(backbone.state_dict(), backbone.library_names())
    if head is not None:
        tensors |= _named(head.state_dict(), head.library_names())
    return tensors


def _named(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {theirs: state[own].detach().cpu().clone().contiguous() for own, theirs in names.items()}
