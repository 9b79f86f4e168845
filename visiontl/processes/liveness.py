"""Ranks that notice when another one fails or dies, say which and why, and end.

A collective waits for a rank that is gone until a timeout of many minutes. So every rank keeps a TCP connection to
rank 0 that carries nothing but news of failure. The kernel closes it with its process, however that ended (an
exception, SIGKILL, the out-of-memory killer), and keep-alive probes find a machine that vanished within half a minute.
A process that a signal has stopped keeps its connection; ranks of rank 0's machine look at each other's state for that.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from visiontl.errors import RankFailed, Stopped, TrainingError, VisionTLError
from visiontl.outlet import say
from visiontl.processes import ranks

CONNECT = 30.0  # seconds for all ranks to connect
HELLO = 5.0  # seconds for one that has connected to say which rank it is
NEWS = 3.0  # seconds in which the cause of a broken collective is told, before it is taken for this rank's own
TERM = 1.0  # seconds from SIGTERM to the end of a rank that nobody asked to save
GRACE = 3.0  # seconds for a rank to end by itself, once it knows; a collective may never return
KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # 30 s until a silent machine counts as gone
LOOK = 1.0  # seconds between two looks at whether a rank of this machine is stopped
STILL = 20  # looks in a row at which it is; they stand still themselves while all ranks are, as after Ctrl-Z
SILENT = "ended without a word (killed, perhaps by the system for want of memory, or its machine is gone)"
STANDS = f"stands still: a signal has stopped it (SIGSTOP), and it was not continued for {STILL * LOOK:.0f} s"
BROKEN = re.compile(r"gloo|nccl|peer|connection|socket|process ?group|store", re.IGNORECASE)


@contextmanager
def watched() -> Iterator[Links]:
    """Within the block an error or the death of one rank ends all of them within a minute, naming it; what stands
    in `advice` is added."""
    if not ranks.active():
        yield Links({})
        return
    links = _connect()
    try:
        with _news_first(links):
            yield links
        links.finish()
    except Stopped:  # by all ranks at the same step
        links.finish()
        raise
    except BaseException as error:
        told = links.news(NEWS) if _broken_collective(error) else None
        if told is not None:
            raise RankFailed(told + links.advice, links.said) from error
        links.tell({"rank": ranks.rank(), "cause": _cause(error)})
        raise
    finally:
        links.close()


@contextmanager
def _news_first(links: Links) -> Iterator[None]:
    """Within the block SIGTERM waits a second for news: a launcher that sees one rank dead sends it to the others,
    which would end before they have said who died."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        if links.news(TERM) is None:
            links.tell({"rank": ranks.rank(), "cause": "ended by SIGTERM before there was anything to save"})
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@dataclass
class Links:
    """On rank 0 the connections of all other ranks, elsewhere the one to rank 0. near: the process of each peer that is
    on this machine."""

    peers: dict[int, socket.socket]
    near: dict[int, int] = field(default_factory=dict)
    advice: str = ""
    failure: str | None = None
    said: bool = False  # the failure stands on this rank's stderr
    ending: bool = False
    working: set[int] = field(default_factory=set)  # peers that are not done
    known: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)  # all peers are done, or one has failed
    lock: threading.RLock = field(default_factory=threading.RLock)  # a signal may come while it is held

    def start(self) -> None:
        self.working = set(self.peers)
        for rank, peer in self.peers.items():
            threading.Thread(target=self._listen, args=(rank, peer), daemon=True).start()
        if self.near:
            threading.Thread(target=self._look, daemon=True).start()

    def tell(self, message: dict) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self.lock:
            for peer in self.peers.values():
                with suppress(OSError):  # that rank is gone: the thread that listens to it sees it
                    peer.sendall(line)

    def news(self, seconds: float) -> str | None:
        """What another rank's failure was, as soon as it is known; None when nothing comes."""
        self.known.wait(seconds)
        return self.failure

    def finish(self) -> None:
        """All ranks leave together: one whose peer ends right after the last collective may wait in it for ever."""
        if not self.peers:
            return
        if ranks.rank() != 0:
            self.tell({"done": True})
        self.over.wait()
        if self.failure is not None:
            raise RankFailed(self.failure + self.advice, self.said)
        self.ending = True
        if ranks.rank() == 0:
            self.tell({"done": True})

    def close(self) -> None:
        self.ending = True
        for peer in self.peers.values():
            with suppress(OSError):  # wakes the thread that listens; closing alone would not
                peer.shutdown(socket.SHUT_RDWR)
            peer.close()

    def _listen(self, rank: int, peer: socket.socket) -> None:
        try:
            with peer.makefile("r", encoding="utf-8") as lines:
                for line in lines:
                    message = json.loads(line)
                    if "cause" in message:
                        self._failed(message["rank"], message["cause"])
                        return
                    self.working.discard(rank)
                    if not self.working:
                        self.over.set()
        except (OSError, ValueError):
            pass
        if rank != 0 or rank in self.working:  # rank 0 is the last to be done, the others wait for it
            self._failed(rank, SILENT)

    def _look(self) -> None:
        still = dict.fromkeys(self.near, 0)
        while not self.over.wait(LOOK) and not self.ending:
            for rank, process in self.near.items():
                still[rank] = still[rank] + 1 if _stopped(process) else 0
                if still[rank] >= STILL:
                    self._failed(rank, STANDS)
                    return

    def _failed(self, rank: int, cause: str) -> None:
        with self.lock:
            if self.ending or self.failure is not None:
                return
            self.failure = f"rank {rank} {cause}" if cause in (SILENT, STANDS) else f"rank {rank} failed: {cause}"
            if cause in (SILENT, STANDS) and 0 in (rank, ranks.rank()):
                self._say()  # now: a launcher kills the ranks that are left a moment after it sees one dead
        self.known.set()
        self.over.set()
        if ranks.rank() == 0:
            self.tell({"rank": rank, "cause": cause})
        timer = threading.Timer(GRACE, self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        if self.ending:
            return
        if not self.said:
            self._say()
        os._exit(TrainingError.exit_code)  # the main thread sits in a collective that no exception reaches

    def _say(self) -> None:
        self.said = True
        who = f"rank {ranks.rank()}: " if ranks.rank() else ""
        say(f"{who}error: {self.failure}{self.advice}", sys.stderr)


def _connect() -> Links:
    """Collective. Without the connections training still works: that they could not be made is said."""
    rank, world = ranks.rank(), ranks.world()
    server = socket.create_server(("", 0), backlog=world) if rank == 0 else None
    me = {"rank": rank, "process": os.getpid(), "machine": _machine()}
    address = os.environ.get("MASTER_ADDR", "localhost")
    offer = (address, server.getsockname()[1], secrets.token_hex(), me) if server else None
    host, port, token, first = ranks.broadcast_object(offer)
    peers: dict[int, socket.socket] = {}
    known = {0: first}  # what each peer says of itself
    problem = ""
    try:
        if server is None:
            peers[0] = socket.create_connection((host, port), timeout=CONNECT)
            peers[0].sendall(json.dumps({"token": token, **me}).encode() + b"\n")
        else:
            server.settimeout(CONNECT)
            while len(peers) < world - 1:
                peer, _ = server.accept()
                other = _greeted(peer, token)
                if other is None:
                    peer.close()
                else:
                    peers[other["rank"]], known[other["rank"]] = peer, other
    except (OSError, ValueError) as error:
        problem = f"{host}:{port}: {error}"
    finally:
        if server is not None:
            server.close()
    problems = [text for text in ranks.gather_objects(problem) if text]
    if problems:
        for peer in peers.values():
            peer.close()
        if rank == 0:
            say(f"warning: the ranks cannot watch each other ({problems[0]})", sys.stderr)
        return Links({}, ending=True)
    for peer in peers.values():
        peer.settimeout(None)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEP_ALIVE.items():
            if hasattr(socket, option):
                peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    near = {one: known[one]["process"] for one in peers if me["machine"] and known[one]["machine"] == me["machine"]}
    links = Links(peers, near)
    links.start()
    return links


def _machine() -> list[str]:
    """What tells machines, and containers on one, apart: processes with the same can see each other. Empty where the
    system does not say."""
    try:
        return [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    except OSError:
        return []


def _stopped(process: int) -> bool:
    """Whether a signal has stopped a process of this machine; a debugger's stop is none."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # gone: its connection says so
        return False
    return status.rpartition(")")[2].split()[:1] == ["T"]


def _greeted(peer: socket.socket, token: str) -> dict[str, Any] | None:
    """What the rank behind a connection says of itself, or None where it is none of ours: anything may knock at an open
    port."""
    peer.settimeout(HELLO)
    try:
        hello = json.loads(_line(peer))
        if not secrets.compare_digest(str(hello["token"]), token):
            return None
        return {"rank": int(hello["rank"]), "process": int(hello["process"]), "machine": hello["machine"]}
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _line(peer: socket.socket) -> bytes:
    """Up to the first newline, byte by byte: nothing behind it may be swallowed."""
    line = b""
    while not line.endswith(b"\n") and len(line) < 1000:
        byte = peer.recv(1)
        if not byte:
            break
        line += byte
    return line


def _broken_collective(error: BaseException) -> bool:
    return not isinstance(error, VisionTLError) and bool(BROKEN.search(f"{type(error).__name__} {error}"))


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, VisionTLError) else f"{type(error).__name__}: {text[:300]}"
