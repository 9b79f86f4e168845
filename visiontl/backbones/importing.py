"""Tensors out of a checkpoint whose pickle holds more than that, as a .safetensors file: in a process of its own, with
limits, and without importing, calling or building anything that the file names."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from visiontl.backbones import arrays, bounds, pickles
from visiontl.backbones.arrays import Array
from visiontl.backbones.pickles import Made, Named, Stored, Unreadable
from visiontl.errors import WeightsError, first_line
from visiontl.kit.words import some

SECONDS = 900  # of the process that converts
MEMORY = 4 << 30  # bytes that it may take beside ten times the file's size
DEEPEST, MOST = 60, 200_000  # levels of nesting, tensors
# parts of a checkpoint that hold no weights, but tensors as large as they
TRAINING = (
    "optimizer",
    "optimizers",
    "optimizer_states",
    "optim",
    "lr_scheduler",
    "lr_schedulers",
    "scheduler",
    "scaler",
)
BEGINNINGS = {
    b"\x89HDF": "an HDF5 file (Keras)",
    b"TF_": "a TensorFlow file",
    b"\x08": "an ONNX or protocol buffer file",
    b"<": "a web page",
    b"version ": "a pointer of Git LFS in place of the file: fetch it with `git lfs pull`",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
}


@dataclass(frozen=True)
class Imported:
    """tensors, values: what was written. training: tensors of optimizers, left out. left: what else was, in words."""

    path: Path
    tensors: int
    values: int
    training: int
    left: tuple[str, ...]


def import_weights(source: Path, target: Path) -> Imported:
    """Write the tensors of a checkpoint under their dotted names to `target` (.safetensors): whole, or not at all.

    Raises WeightsError, saying why, where that cannot be done.
    """
    from visiontl.backbones.export import check_target

    check_target(target)
    if not source.is_file():
        raise WeightsError(f"{source}: {'is a folder; name the file in it' if source.is_dir() else 'no such file'}")
    temporary = target.with_name(f".writing-{os.getpid()}-{target.name}")
    try:
        said = _converted(source, temporary)
        _check_written(source, temporary, said)
        check_target(target)  # nobody came first
        temporary.replace(target)
    except OSError as error:
        raise WeightsError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Imported(target, said["tensors"], said["values"], said["training"], tuple(said["left"]))


def _converted(source: Path, temporary: Path) -> dict[str, Any]:
    """What the process that converts says of its work."""
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", "visiontl.backbones.importing", str(source), str(temporary)]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(f"{source}: not converted: reading it took more than {SECONDS} seconds") from None
    try:
        said = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise WeightsError(
            f"{source}: not converted: the process that reads it was ended ({last[:200]}); it may use {SECONDS} "
            f"seconds and {MEMORY >> 30} GiB beside ten times the file's size"
        ) from None
    if "refused" in said:
        raise WeightsError(f"{source}: not converted: {said['refused']}")
    return said


def _check_written(source: Path, temporary: Path, said: dict[str, Any]) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(temporary, framework="numpy") as written:
            count = len(written.keys())
    except SafetensorError as error:
        raise WeightsError(f"{source}: not converted: what was written reads back damaged ({error})") from None
    if count != said["tensors"]:
        raise WeightsError(f"{source}: not converted: {said['tensors']} tensors were written and {count} read back")
    with temporary.open("rb") as file:
        os.fsync(file.fileno())


# --------------------------------------------------------------------------------------- in the process that converts


def main(source: str, target: str) -> None:
    """Convert, and say as the last line what came of it, as JSON."""
    try:
        _limit(Path(source).stat().st_size)
        said = convert(Path(source), Path(target))
    except Unreadable as error:
        said = {"refused": str(error)}
    except MemoryError:
        said = {"refused": f"it needs more memory than {MEMORY >> 30} GiB beside ten times the file's size"}
    except RecursionError:
        said = {"refused": "its contents are nested too deeply"}
    except OSError as error:
        said = {"refused": f"{error.strerror or error}"}
    print(json.dumps(said))


def _limit(size: int) -> None:
    """Bound the memory, the time and the output of this process, where the system can."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    bounds = {
        "RLIMIT_AS": MEMORY + 10 * size,
        "RLIMIT_CPU": SECONDS,
        "RLIMIT_FSIZE": (1 << 30) + 4 * size,
        "RLIMIT_CORE": 0,
    }
    for name, value in bounds.items():
        number = getattr(resource, name, None)
        if number is not None:
            hard = resource.getrlimit(number)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            try:
                resource.setrlimit(number, (value, hard))
            except (ValueError, OSError):  # a system that lets nobody bound this
                continue


def convert(source: Path, target: Path) -> dict[str, Any]:
    """Write the tensors of `source`; what was written and what was left. Raises Unreadable."""
    found = Found()
    try:
        with source.open("rb") as file:
            head = file.read(8)
            file.seek(0)
            if head.startswith(b"PK"):
                _read_zip(file, found)
            else:
                _read_pickle(file, head, found)
    except Unreadable:
        raise
    except (ValueError, OverflowError, TypeError, KeyError, IndexError, struct.error, zlib.error) as error:
        raise Unreadable(f"it is damaged ({first_line(error)})") from None
    if not found.tensors:
        raise Unreadable(f"it holds no tensors{found.others()}")
    write(target, found.tensors)
    values = sum(int(np.prod(one.shape, dtype=np.int64)) for one in found.tensors.values())
    return {"tensors": len(found.tensors), "values": values, "training": found.training, "left": found.words()}


def write(target: Path, tensors: Mapping[str, Array]) -> None:
    """A .safetensors file: the length of its header, the header as JSON, the values; the widest first, so that all lie
    where their width divides the place."""
    order = sorted(tensors.items(), key=lambda one: -arrays.BYTES[one[1].kind])
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, one in order:
        ends = [place, place + len(one.data)]
        header[name] = {"dtype": arrays.CODES[one.kind], "shape": list(one.shape), "data_offsets": ends}
        place = ends[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with target.open("xb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, one in order:
            file.write(one.data)


class Found:
    """What a walk through a checkpoint meets."""

    def __init__(self) -> None:
        self.tensors: dict[str, Array] = {}
        self.training = 0
        self.objects: dict[str, int] = {}

    def add(self, name: str, tensor: Array) -> None:
        if name == "__metadata__" or (name in self.tensors and self.tensors[name] != tensor):
            raise Unreadable(f"it holds two tensors that would both be called {name!r}")
        if len(self.tensors) >= MOST:
            raise Unreadable(f"it holds more than {MOST:,} tensors")
        self.tensors[name] = tensor

    def leave(self, name: str) -> None:
        self.objects[name] = self.objects.get(name, 0) + 1

    def words(self) -> list[str]:
        return [f"{count} x {name}" if count > 1 else name for name, count in self.objects.items()]

    def others(self) -> str:
        return f", but {some(self.words())}" if self.objects else ""


def _read_zip(file: IO[bytes], found: Found) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            bounds.check_sizes(archive, file.seek(0, io.SEEK_END), bounds.ROOM)
            pickled = [
                name for name in names if name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)
            ]
            if not pickled and names and all(name.endswith(".npy") for name in names):
                return _read_npz(archive, found)
            if len(pickled) != 1:
                raise Unreadable(
                    f"it is a zip archive that holds {some(names)}, and no one data.pkl as torch writes it"
                )
            place = pickled[0].removesuffix("data.pkl")
            if f"{place}byteorder" in names and archive.read(f"{place}byteorder").strip() == b"big":
                raise Unreadable("it was written on a machine whose bytes are in the other order")
            root = pickles.read(io.BytesIO(archive.read(pickled[0])))
            known = set(names)

            def stored(key: str) -> bytes:
                if f"{place}data/{key}" not in known:
                    raise Unreadable(f"its storage {key!r} is not in the archive")
                return archive.read(f"{place}data/{key}")

            walk(root, "", found, stored)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OSError) as error:
        raise Unreadable(f"its archive is damaged ({error})") from None


def _read_npz(archive: zipfile.ZipFile, found: Found) -> None:
    """Arrays as numpy.savez writes them, without those of objects."""
    for name in archive.namelist():
        try:
            with archive.open(name) as member:
                value = np.lib.format.read_array(io.BytesIO(member.read()), allow_pickle=False)
        except ValueError:
            found.leave(f"an array of objects ({name})")
            continue
        kind = arrays.NUMPY.get(value.dtype.str[1:])
        if kind is None:
            found.leave(f"an array of {value.dtype}")
        else:
            plain = value.astype(value.dtype.newbyteorder("<"))
            found.add(name.removesuffix(".npy"), Array(kind, value.shape, plain.tobytes()))


def _read_pickle(file: IO[bytes], head: bytes, found: Found) -> None:
    """A bare pickle, or torch's format of before 1.6: three pickles, the object, the keys, and then the storages."""
    for beginning, what in BEGINNINGS.items():
        if head.startswith(beginning):
            raise Unreadable(f"it is no checkpoint of torch but {what}")
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if bounds.is_tar(file):
        raise Unreadable("it is a tar archive, as torch wrote before 0.2: load and save it again with that version")
    outside: list[Stored] = []
    root = pickles.read(file, outside)
    if root != bounds.LEGACY:
        walk(root, "", found, _nothing_stored)
        return
    protocol, system = pickles.read(file), pickles.read(file)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise Unreadable("it was written on a machine whose bytes are in the other order")
    root, keys = pickles.read(file, outside), pickles.read(file)
    if not isinstance(protocol, int) or not isinstance(keys, list):
        raise Unreadable("its pickle is damaged (no list of storages behind it)")
    places = _places(file, size, keys, outside)

    def stored(key: str) -> bytes:
        if key not in places:
            raise Unreadable(f"its storage {key!r} is not in the file")
        start, count = places[key]
        file.seek(start)
        return file.read(count)

    walk(root, "", found, stored)


def _places(file: IO[bytes], size: int, keys: list[Any], outside: list[Stored]) -> dict[str, tuple[int, int]]:
    """{key: (where its values begin, bytes)} of the storages behind the pickles, each led by its number of values."""
    widths = {}
    for one in outside:
        if isinstance(one.id, tuple) and len(one.id) > 2 and isinstance(one.id[1], Named):
            kind = arrays.STORAGES.get(one.id[1].name.rpartition(".")[2], "uint8")
            widths[str(one.id[2])] = arrays.BYTES[kind]
    places = {}
    for key in map(str, keys):
        count = int.from_bytes(file.read(8), "little") * widths.get(key, 1)
        if file.tell() + count > size:
            raise Unreadable(f"it is cut off within its storage {key!r}")
        places[key] = file.tell(), count
        file.seek(count, io.SEEK_CUR)
    return places


def _nothing_stored(key: str) -> bytes:
    raise Unreadable(f"its storage {key!r} is not in the file")


def walk(node: Any, name: str, found: Found, stored: arrays.Storages, above: tuple[int, ...] = ()) -> None:
    """Add every tensor below `node` under the names that lead to it."""
    if len(above) > DEEPEST:
        raise Unreadable(f"its contents are nested more than {DEEPEST} deep")
    if id(node) in above:
        return
    above = (*above, id(node))
    if isinstance(node, Made):
        tensor = arrays.tensor(node, stored)
        if tensor is not None:
            found.add(name or "tensor", tensor)
            return
        children = list(_parts(node))
        if not children and not _harmless(node):
            found.leave(node.name)
    elif isinstance(node, dict):
        children = list(node.items())
    elif isinstance(node, list | tuple):
        children = list(enumerate(node))
    else:
        return
    for key, value in children:
        if not isinstance(key, str | int) or isinstance(value, str | int | float | bool | bytes | None):
            continue
        inner = f"{name}.{key}" if name else str(key)
        if inner in TRAINING:
            found.training += _count(value)
        else:
            walk(value, inner, found, stored, above)


def _parts(node: Made) -> Iterator[tuple[Any, Any]]:
    """(name, part) of an object: what was put into it, and its state; a module's parameters by their own names."""
    yield from node.pairs
    yield from enumerate(node.items)
    if _is_table(node):  # its arguments may hold the pairs; its state is bookkeeping
        for pair in (
            node.args[0] if isinstance(node.args, tuple) and node.args and isinstance(node.args[0], list) else ()
        ):
            if isinstance(pair, list | tuple) and len(pair) == 2:
                yield pair[0], pair[1]
        return
    state = node.state[0] if isinstance(node.state, tuple) and node.state else node.state
    if not isinstance(state, dict):
        return
    modules = "_modules" in state and "_parameters" in state
    for key, value in state.items():
        if modules and key in ("_parameters", "_buffers", "_modules"):
            passing = state.get("_non_persistent_buffers_set")
            skipped = passing if key == "_buffers" and isinstance(passing, set) else ()
            inside = list(value.items()) if isinstance(value, dict) else value.pairs if isinstance(value, Made) else []
            yield from ((k, v) for k, v in inside if k not in skipped)
        elif not modules:
            yield key, value


def _is_table(node: Made) -> bool:
    return node.name.rpartition(".")[2] in ("OrderedDict", "defaultdict", "dict", "Counter")


def _harmless(node: Made) -> bool:
    """Whether nothing is lost with it: an empty table, a layer without parameters, a number, a type."""
    layer = isinstance(node.state, dict) and "_modules" in node.state
    return layer or _is_table(node) or node.name.endswith((".scalar", "numpy.dtype", "torch.Size", ".set"))


def _count(node: Any, depth: int = 0) -> int:
    """Tensors below a node, by what their pickles call."""
    if depth > DEEPEST:
        return 0
    if isinstance(node, Made):
        if "_rebuild_" in node.name:
            return 1
        inside = [value for _, value in _parts(node)]
    elif isinstance(node, dict):
        inside = list(node.values())
    elif isinstance(node, list | tuple):
        inside = list(node)
    else:
        return 0
    return sum(_count(value, depth + 1) for value in inside)


if __name__ == "__main__":
    main(*sys.argv[1:])
