"""The process that holds the model, and its handle in the server's. They speak JSON and bytes over a pipe."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from visiontl import errors
from visiontl.errors import CheckpointError, VisionTLError

LONGEST = 1 << 30  # bytes of one message
LOADING = 600.0  # seconds that a model may take to be there


class Gone(Exception):
    """The process died, or took longer than it may and was ended; its text says which."""


def work(pipe: Connection, model: str, threads: int, pixels: int, shows: bool) -> None:
    """The whole life of the process. Ends when the server does, for the pipe is closed then. shows: for a page."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to answer
    from visiontl.serving.answering import answer_each, ready

    try:
        made = ready(model, threads)
        about, answer = made.about(), answer_each
        if shows:
            from visiontl.serving.showing import facts_of, shown_each

            about, answer = facts_of(made), shown_each
    except VisionTLError as error:
        with contextlib.suppress(OSError):
            send(pipe, {"failed": type(error).__name__, "error": str(error)})
        return
    with tempfile.TemporaryDirectory(prefix="visiontl-serve-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder  # uploads, so that none is left where one ends the process
        with contextlib.suppress(EOFError, OSError):  # the server is gone
            send(pipe, {"ready": about, "named": made.named(), "folder": folder})
            while True:
                asked = json.loads(pipe.recv_bytes(LONGEST))
                uploads = [(suffix, pipe.recv_bytes(LONGEST)) for suffix in asked["suffixes"]]
                send(pipe, {"answers": answer(made, uploads, asked["options"], pixels)})


def send(pipe: Connection, value: Mapping[str, Any]) -> None:
    pipe.send_bytes(json.dumps(value, allow_nan=False).encode("ascii"))


class Worker:
    """A process with the model, from the moment that it is ready. Used by one thread at a time."""

    def __init__(self, model: str, threads: int, pixels: int, loading: float = LOADING, shows: bool = False):
        """loading: seconds that the model may take. shows: options and answers are those of `showing.shown_each`.

        Raises VisionTLError, as loading the model does, and Gone."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=work, args=(theirs, model, threads, pixels, shows), name="model", daemon=True
        )
        self.folder: str | None = None
        self.process.start()
        theirs.close()
        try:
            with self.ended_after(loading, "loading the model"):
                told = self.received()
            if "failed" in told:
                kind = getattr(errors, told["failed"], CheckpointError)
                raise kind(told["error"])
        except BaseException:
            self.close()
            raise
        self.about: dict[str, Any] = told["ready"]
        self.named: dict[str, list[str]] = told["named"]
        self.folder = told["folder"]

    def ask(
        self, uploads: Sequence[tuple[str, bytes]], options: Mapping[str, Any], seconds: float
    ) -> list[dict[str, Any]]:
        """uploads: (suffix, content) -> `answering.answer_each` of them. Raises Gone, after which this worker is of no
        more use."""
        with self.ended_after(seconds, "answering"):
            send(self.pipe, {"suffixes": [suffix for suffix, _ in uploads], "options": options})
            for _, content in uploads:
                self.pipe.send_bytes(content)
            return self.received()["answers"]

    def received(self) -> dict[str, Any]:
        return json.loads(self.pipe.recv_bytes(LONGEST))

    @contextlib.contextmanager
    def ended_after(self, seconds: float, what: str) -> Iterator[None]:
        """Ends the process where the block takes longer: a pipe that nobody reads, too, is left by that alone."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode
            died = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            raise Gone(
                f"{what} took longer than {seconds:g} s" if late.is_set() else f"{what} ended by {died}"
            ) from None
        finally:
            timer.cancel()

    def alive(self) -> bool:
        return self.process.is_alive()

    def close(self) -> None:
        self.pipe.close()
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        if self.folder is not None and os.path.isdir(self.folder):  # of a process that was ended in the middle
            shutil.rmtree(self.folder, ignore_errors=True)
