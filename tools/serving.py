"""`visiontl serve` under load, against the model alone: requests per second, median and 99th percentile of their time.

    python tools/serving.py runs/flowers runs/flowers/export-onnx/model.onnx --photo photo.jpg --seconds 10

The model alone is asked for the same picture in one process, from the file's bytes to JSON, one after the other. The
server is asked by 1, 4 and 16 clients, each of which waits for its answer before it asks again. Clients, server and
model share this machine. A Markdown table is printed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from tools.campaigns.uploads import served
from visiontl.serving.answering import answer_each, ready

CLIENTS = (1, 4, 16)
HEAD = ["model", "asked by", "requests/s", "median, ms", "p99, ms", "pictures a batch"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    content = given.photo.read_bytes()
    print("".join(f"| {' | '.join(line)} |\n" for line in (HEAD, ["---"] * len(HEAD))), end="")
    for model in given.models:
        for line in measured(model, content, given.seconds, given.threads):
            print(f"| {' | '.join(line)} |", flush=True)


def measured(model: str, content: bytes, seconds: float, threads: int) -> list[list[str]]:
    kind = "model.onnx" if model.endswith(".onnx") else "the run"
    lines = [[kind, "the model alone", *figures(alone(model, content, seconds, threads), seconds), ""]]
    with served(model, "--threads", str(threads)) as (address, _):
        asked(address, content, 1.0, 1)  # warm
        for clients in CLIENTS:
            before = batches(address)
            times = asked(address, content, seconds, clients)
            pictures, count = (then - now for then, now in zip(batches(address), before, strict=True))
            lines.append([kind, f"{clients} clients", *figures(times, seconds), f"{pictures / max(count, 1):.1f}"])
    return lines


def figures(times: list[float], seconds: float) -> list[str]:
    ordered = sorted(times)
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99)]
    return [f"{len(times) / seconds:.1f}", *(f"{1000 * one:.1f}" for one in at)]


def alone(model: str, content: bytes, seconds: float, threads: int) -> list[float]:
    made = ready(model, threads)
    answer_each(made, [("", content)], {}, 10**9)
    times, until = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        [answer] = answer_each(made, [("", content)], {}, 10**9)
        json.dumps(answer)
        times.append(time.perf_counter() - began)
    return times


def asked(address: str, content: bytes, seconds: float, clients: int) -> list[float]:
    """Seconds of each request."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        while (began := time.perf_counter()) < until:
            connection.request("POST", "/predict", content, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                sys.exit(f"{answer.status}: {body[:200]!r}")
            times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return times


def batches(address: str) -> tuple[float, float]:
    """(pictures, batches) so far."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request("GET", "/metrics")
    lines = dict(
        line.rsplit(" ", 1) for line in connection.getresponse().read().decode().splitlines() if line[:1] != "#"
    )
    return float(lines["visiontl_batch_pictures_sum"]), float(lines["visiontl_batch_pictures_count"])


if __name__ == "__main__":
    main()
