"""What a pickled checkpoint claims, held against what its file holds, before a byte of it is allocated: a file of a few
megabytes may claim gigabytes, by compression, by storages that it does not have, by tensors that repeat one value, or
by calls that make bytes out of a number. Imports no torch by itself."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from visiontl.backbones import arrays, pickles
from visiontl.backbones.pickles import Made, Named, Stored, Unreadable
from visiontl.kit.words import some

ROOM = 1 << 28  # bytes that all tensors together may claim beyond their storages, by repeating values
STEPS = 5_000_000  # opcodes of a pickle; a state dict has about 30 for a tensor
LEGACY = 0x1950A86A20F9469CFC6C  # the number that torch's files of before 1.6 begin with
WIDTHS = {"ComplexFloatStorage": 8, "ComplexDoubleStorage": 16, "QInt32Storage": 4}  # beside those of `arrays`
DAMAGE = (  # what zipfile raises of damaged directories and names
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(NotImplementedError, EOFError, RuntimeError, ValueError, LookupError, OverflowError),
)
MAKERS = ("bytearray", "bytes", "Parameter")  # and classes of tensors and storages


class Inflated(Unreadable):
    """What claims more than its file holds."""


def check(path: Path) -> None:
    """Raises Inflated, in words, for a checkpoint of `torch.save` that claims more than the file holds, Unreadable for
    one that is damaged, and OSError for one that cannot be read."""
    with path.open("rb") as file:
        head, size = file.read(2), file.seek(0, io.SEEK_END)
        file.seek(0)
        if head == b"PK":
            _check_zip(file, size)
        elif head[:1] == b"\x80":
            _check_pickle(file, size)


def check_views(found: Any) -> None:
    """Raises Inflated where the tensors of a checkpoint have far more values than lie in memory: each may repeat a few
    by strides of 0, and who copies or converts it has them all."""
    import torch

    beyond, seen, left = 0, set[int](), [found]
    while left:
        node = left.pop()
        if isinstance(node, torch.Tensor):
            if node.layout == torch.strided and not node.is_meta:
                beyond += max(0, node.numel() * node.element_size() - node.untyped_storage().nbytes())
            if beyond > ROOM:
                raise Inflated(
                    f"a tensor of shape {tuple(node.shape)} repeats the {node.untyped_storage().nbytes():,} bytes of "
                    "its storage; save it as it is meant: tensor.contiguous()"
                )
        elif id(node) not in seen and isinstance(node, Mapping | list | tuple | set):
            seen.add(id(node))
            left += node.values() if isinstance(node, Mapping) else node


def is_tar(file: IO[bytes]) -> bool:
    """Whether it is a tar archive, as torch wrote before 0.2; the file stands at its beginning then."""
    file.seek(257)
    found = file.read(5) == b"ustar"
    file.seek(0)
    return found


def check_sizes(archive: zipfile.ZipFile, size: int, room: int = 0) -> None:
    """Raises Inflated where the entries of an archive of `size` bytes hold more than it, and `room`."""
    entries = archive.infolist()
    whole = sum(entry.file_size for entry in entries)
    if whole > size + room:
        packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        how = f"compressed ({some(packed)})" if packed else "that lie one above the other"
        raise Inflated(
            f"its archive of {size:,} bytes would become {whole:,}: it holds entries {how}, and torch.save stores each "
            "as it is. Load it where you trust it, and save it again with torch.save"
        )


def _check_zip(file: IO[bytes], size: int) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
                return  # TorchScript, which is refused unread
            check_sizes(archive, size)
            pickled = [name for name in names if name.rpartition("/")[2] == "data.pkl" and name.count("/") < 2]
            if not pickled:
                raise Unreadable(f"it is a zip archive that holds {some(names)}, and no data.pkl as torch writes it")
            place = pickled[0].removesuffix("data.pkl")
            sizes = {name.removeprefix(f"{place}data/"): archive.getinfo(name).file_size for name in names}
            outside: list[Stored] = []
            calls: list[Made] = []
            pickles.read(io.BytesIO(archive.read(pickled[0])), outside, calls, STEPS)
            _check_claims(outside, calls, sizes, size)
    except Unreadable:
        raise
    except DAMAGE as error:
        raise Unreadable(f"its archive is damaged ({error})") from None


def _check_pickle(file: IO[bytes], size: int) -> None:
    """A bare pickle, or torch's format of before 1.6: three pickles, the object, the keys, and then the storages."""
    outside: list[Stored] = []
    calls: list[Made] = []
    root = pickles.read(file, outside, calls, STEPS)
    if root == LEGACY:
        for objects in (None, None, outside, None):  # protocol, system, the object, the keys
            pickles.read(file, objects, calls, STEPS)
    _check_claims(outside, calls, None, size)


def _check_claims(outside: Sequence[Stored], calls: Sequence[Made], sizes: Mapping[str, int] | None, size: int) -> None:
    """sizes: {key of a storage: its bytes}; None where a storage may have all of the file."""
    claimed: dict[str, int] = {}
    for key, count in _storages(outside):
        there = size if sizes is None else sizes.get(key)
        if there is None:
            raise Unreadable(f"its storage {key!r} is not in the archive")
        if not 0 <= count <= there:
            raise Inflated(f"its storage {key!r} claims {count:,} bytes, and {there:,} are there")
        claimed[key] = max(count, claimed.get(key, 0))
    if sizes is None and sum(claimed.values()) > size:
        raise Inflated(f"its storages claim {sum(claimed.values()):,} bytes, and the file has {size:,}")
    for call in calls:
        _check_call(call, size)


def _storages(outside: Sequence[Stored]) -> Iterator[tuple[str, int]]:
    """(key, bytes) that a pickle states of its storages. Those of a kind that is not known have a byte a value."""
    for one in outside:
        if not isinstance(one.id, tuple) or len(one.id) < 5:
            continue  # what it is, torch's reader says
        _, of, key, _, count = one.id[:5]
        name = of.name.rpartition(".")[2] if isinstance(of, Named) else ""
        width = WIDTHS.get(name) or arrays.BYTES[arrays.STORAGES.get(name, "uint8")]
        if isinstance(key, str | int) and isinstance(count, int):
            yield str(key), count * width


def _check_call(call: Made, size: int) -> None:
    """Raises Inflated for what makes bytes out of a number, such as bytearray(10**10)."""
    name = call.name.rpartition(".")[2]
    if name not in MAKERS and not name.endswith(("Storage", "Tensor")):
        return
    arguments = call.args if isinstance(call.args, tuple) else ()
    numbers = [one for one in arguments if isinstance(one, int)]
    if numbers and len(numbers) == len(arguments) and math.prod(map(abs, numbers)) > size:
        raise Inflated(f"its pickle makes {name} of {' x '.join(f'{n:,}' for n in numbers)} values out of nothing")
