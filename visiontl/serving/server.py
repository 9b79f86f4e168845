"""`visiontl serve` and `visiontl demo`: from a model to a socket that answers."""

from __future__ import annotations

import importlib.util
import ipaddress
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from visiontl.errors import CheckpointError, ConfigError
from visiontl.serving.limits import Limits
from visiontl.serving.line import Line, Waiting
from visiontl.serving.metrics import Metrics
from visiontl.serving.worker import Gone, Worker

NEEDED = {  # modules of an extra, which is called as its command
    "serve": ("fastapi", "uvicorn", "python_multipart"),
    "demo": ("gradio", "fastapi", "uvicorn"),
}


@dataclass(frozen=True)
class Served:
    """What is served, and where. options: settled for every request; closed: requests bring none of their own.
    threads: of a prediction, 0: as the library chooses. port: 0 for a free one."""

    model: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    closed: bool = False
    threads: int = 0
    host: str = "127.0.0.1"
    port: int = 8000
    limits: Limits = field(default_factory=Limits)


def serve(served: Served, ready: Callable[[str], None]) -> None:
    """Answers until it is told to stop (Ctrl-C, SIGTERM). ready: called with the address once it answers.

    Raises ConfigError for a port that is taken or packages that are missing, and what loading the model raises.
    """
    require("serve")
    with lined(served) as (listening, line):
        from visiontl.serving.app import app_of

        require_known(line, served.options)
        app = app_of(line, served.options, served.closed, is_local(served.host))
        ready(address_of(served.host, listening))
        run(app, listening)


def demonstrate(served: Served, ready: Callable[[str], None]) -> None:
    """The page of a model, on this machine alone, until it is told to stop. As `serve`; options are none."""
    require("demo")
    temporary = tempfile.TemporaryDirectory(prefix="visiontl-demo-", ignore_cleanup_errors=True)
    with temporary as folder, lined(served, shows=True) as (listening, line):
        from visiontl.serving.demonstration import Demonstration
        from visiontl.serving.page import app_of

        answers = Path(folder, "answers")
        answers.mkdir()
        app = app_of(Demonstration(line, answers))
        ready(address_of(served.host, listening))
        run(app, listening, lifespan="on")


def require(extra: str) -> None:
    """Raises ConfigError where a package of the extra is missing, by looking at what is installed alone."""
    missing = [name for name in NEEDED[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"`visiontl {extra}` needs {', '.join(missing)}: pip install 'visiontl[{extra}]'")


@contextmanager
def lined(served: Served, shows: bool = False) -> Iterator[tuple[socket.socket, Line]]:
    """(the socket, the pictures that wait for the model) as long as the block lasts."""
    make = partial(Worker, served.model, served.threads, served.limits.pixels, shows=shows)
    with bound(served.host, served.port) as listening:
        try:
            line = Line(make, served.limits, Metrics())
        except Gone as gone:
            raise CheckpointError(f"{served.model}: {gone}; the lines above say why") from None
        try:
            yield listening, line
        finally:
            line.close()


def address_of(host: str, listening: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}"


def run(app: Any, listening: socket.socket, lifespan: Literal["on", "off"] = "off") -> None:
    import uvicorn

    settings = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        lifespan=lifespan,
        timeout_graceful_shutdown=5 if lifespan == "off" else 1,  # a page that is open keeps a connection
    )
    uvicorn.Server(settings).run(sockets=[listening])


def require_known(line: Line, options: Mapping[str, Any]) -> None:
    """Raises ConfigError for settled options that the model does not have, by asking it."""
    if not options:
        return
    one = Waiting("", b"", options, time.monotonic() + line.limits.seconds)
    line.put(one)
    answer = one.answer.result(line.limits.seconds + 5)
    if answer.get("kind") == "options":
        raise ConfigError(answer["error"])


def bound(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)  # at once, so that a port that is taken is told before the model is loaded
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--host {host} --port {port}: cannot be listened at ({reason}); --port 0 takes a free one"
        ) from None
    return found


def is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
