"""Hostile uploads against a server, one after the other and several at once: each must be answered in words, and after
all of them the server must be as it was.

    python tools/campaigns/uploads.py runs/photos/export-onnx/model.onnx --number 10000

Uploads are pictures that are cut off, damaged, none, or enormous when decoded; forms without an end, with other
boundaries, with too many parts; bodies that are shorter than they say. Counted are answers by status, those that are no
JSON, that name a place on this machine, that take longer than they may; and the memory of both processes before and
after. Exits with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import random
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from PIL import Image

LATE = 60.0  # seconds
NO_HTTP = b"Invalid HTTP request received."  # uvicorn's answer to what is none, before anything of ours sees it


@dataclass(frozen=True)
class Upload:
    """kind: what is wrong with it. length: what Content-Length says, where it is not the truth. fine: that it is to be
    answered with 200."""

    kind: str
    body: bytes
    content_type: str = "image/png"
    query: str = ""
    length: int | None = None
    fine: bool = False


def png(seed: int, side: int = 24) -> bytes:
    drawn = random.Random(seed)
    stream = io.BytesIO()
    Image.frombytes("RGB", (side, side), drawn.randbytes(3 * side * side)).save(stream, "PNG")
    return stream.getvalue()


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(png(seed))).save(stream, "JPEG")
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of one color, whose few kilobytes become width x height pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(bytes(1 + width)) for _ in range(min(height, 2000))) + packed.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def form(parts: list[tuple[str, bytes]], boundary: str = "edge", end: bool = True) -> bytes:
    made = b""
    for name, content in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="picture"; filename="{name}"\r\n\r\n'
        made += head.encode("utf-8", "surrogateescape") + content + b"\r\n"
    return made + (f"--{boundary}--\r\n".encode() if end else b"")


def damaged(content: bytes, drawn: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(drawn.randint(1, 12)):
        made[drawn.randrange(8, len(made))] = drawn.randrange(256)
    return bytes(made)


FORM = "multipart/form-data; boundary=edge"
NAMES = ("../../etc/passwd", "/etc/passwd", "a\\..\\b.png", "x" * 5000, "\udcff.png", "a.sh;rm", ".png", "con.svg")
OTHERS = (b"<html>no picture</html>", b"%PDF-1.4", b"PK\x03\x04" + bytes(60), b"GIF89a", b"\xff\xd8\xff", b"{}", b"\0")
TYPES = ("text/html", "image/png; " + "x" * 3000, "application/json", "multipart/form-data", "\xff", "image/../x")

KINDS: dict[str, Callable[[random.Random], Upload]] = {
    "a picture": lambda r: Upload("a picture", png(r.randrange(99)), fine=True),
    "cut off": lambda r: Upload("cut off", jpeg(r.randrange(99))[: r.randrange(1, 500)]),
    "damaged": lambda r: Upload("damaged", damaged(r.choice((png, jpeg))(r.randrange(99)), r)),
    "no picture": lambda r: Upload("no picture", r.choice(OTHERS) * r.randint(1, 50)),
    "noise": lambda r: Upload("noise", r.randbytes(r.randrange(1, 5000))),
    "nothing": lambda r: Upload("nothing", b"", r.choice(("image/png", FORM, ""))),
    "bomb": lambda r: Upload("bomb", bomb(r.choice((9_000, 60_000)), r.choice((9_000, 60_000)))),
    "other type": lambda r: Upload("other type", png(1), r.choice(TYPES)),
    "name": lambda r: Upload("name", form([(r.choice(NAMES), png(2))]), FORM),
    "form without end": lambda r: Upload("form without end", form([("a.png", png(3))], end=False), FORM),
    "other boundary": lambda r: Upload("other boundary", form([("a.png", png(4))], "other"), FORM),
    "many parts": lambda r: Upload("many parts", form([("a.png", b"x")] * r.randint(33, 400)), FORM),
    "noise in a form": lambda r: Upload("noise in a form", b"--edge\r\n" + r.randbytes(r.randrange(2000)), FORM),
    "options": lambda r: Upload(
        "options",
        png(5),
        query=r.choice(("?x=1", "?top_k=NaN", "?top_k=" + "[" * 900, "?top_k=-1", "?=&=", "?%ff=%00")),
    ),
    "too large": lambda r: Upload("too large", bytes(2_500_000)),
    "says too much": lambda r: Upload("says too much", png(6), length=10 ** r.randint(9, 30)),
    "gives up": lambda r: Upload("gives up", png(7), length=10**5),
}


def drawn_uploads(number: int, seed: int = 0) -> Iterator[Upload]:
    """Of every kind, in turn."""
    drawn, kinds = random.Random(seed), list(KINDS.values())
    for index in range(number):
        yield kinds[index % len(kinds)](drawn)


@dataclass
class Outcome:
    statuses: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    slowest: float = 0.0


def send(address: str, upload: Upload, hidden: tuple[str, ...], outcome: Outcome) -> None:
    """hidden: texts that no answer may hold."""
    began = time.monotonic()
    try:
        status, body = exchanged(address, upload)
    except (ConnectionError, http.client.HTTPException) as error:
        if upload.kind not in ("too large", "says too much"):  # closed before the rest was read
            outcome.wrong.append(f"{upload.kind}: {type(error).__name__}: {error}")
        outcome.statuses[f"{upload.kind}: closed"] += 1
        return
    except TimeoutError:
        outcome.wrong.append(f"{upload.kind}: no answer within {LATE:g} s")
        return
    outcome.slowest = max(outcome.slowest, time.monotonic() - began)
    if status is None:
        outcome.statuses[f"{upload.kind}: went away"] += 1
        return
    outcome.statuses[f"{upload.kind}: {status}"] += 1
    if upload.kind == "says too much" and body == NO_HTTP:
        return
    try:
        answer = json.loads(body)
    except ValueError:
        outcome.wrong.append(f"{upload.kind}: {status}, no JSON: {body[:80]!r}")
        return
    if status >= 500 or (status >= 400 and not isinstance(answer.get("error"), str)) or (upload.fine and status != 200):
        outcome.wrong.append(f"{upload.kind}: {status}: {body[:200]!r}")
    if found := [one for one in hidden if one in body.decode("utf-8", "replace")]:
        outcome.wrong.append(f"{upload.kind}: names {found}")


def exchanged(address: str, upload: Upload) -> tuple[int | None, bytes]:
    """(status, body); no status where the client was to go away before an answer."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), timeout=LATE) as connection:
        length = len(upload.body) if upload.length is None else upload.length
        lines = [f"POST /predict{upload.query} HTTP/1.1", f"Host: {place.netloc}", f"Content-Length: {length}"]
        lines += [f"Content-Type: {upload.content_type}"] if upload.content_type else []
        head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
        connection.sendall(head + upload.body)
        if upload.kind == "gives up":
            return None, b""
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read()


@contextmanager
def served(*words: str) -> Iterator[tuple[str, psutil.Process]]:
    """(address, process) of `visiontl serve` with these words, on a free port, until the end of the block."""
    command = [sys.executable, "-m", "visiontl", "serve", *words, "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the server ended with {process.wait()}")
        yield json.loads(line)["address"], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def megabytes(process: psutil.Process) -> float:
    """Of the server and the process with the model."""
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6


def campaign(model: str, number: int, at_once: int) -> tuple[Outcome, dict[str, float]]:
    outcome, uploads = Outcome(), list(drawn_uploads(number))
    hidden = (str(Path(model).absolute().parent), "/tmp/", "Traceback", "site-packages", str(Path.home()) + "/")
    with served(model, "--upload", "2", "--threads", "1") as (address, process):
        first = {one.pid for one in process.children(recursive=True)}
        with ThreadPoolExecutor(at_once) as pool:
            warm = uploads[: max(len(KINDS), number // 10)]
            list(pool.map(lambda one: send(address, one, hidden, outcome), warm))
            before = megabytes(process)
            list(pool.map(lambda one: send(address, one, hidden, outcome), uploads[len(warm) :]))
        after = megabytes(process)
        if {one.pid for one in process.children(recursive=True)} != first:
            outcome.wrong.append("the process with the model is another one")
        send(address, KINDS["a picture"](random.Random(0)), hidden, outcome)
    return outcome, {"MB before": round(before, 1), "MB after": round(after, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8)
    given = parser.parse_args()
    began = time.monotonic()
    outcome, memory = campaign(given.model, given.number, given.at_once)
    for what, count in sorted(outcome.statuses.items()):
        print(f"{count:6d}  {what}")
    for line in outcome.wrong[:50]:
        print(f"WRONG  {line}")
    print(json.dumps({"uploads": given.number, "wrong": len(outcome.wrong), **memory, "slowest s": outcome.slowest}))
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
