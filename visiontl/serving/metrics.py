"""Numbers of a server, as Prometheus reads them."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds of a request
TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Metrics:
    """requests: by status. pictures: by what came of them. Sums are of seconds."""

    requests: Counter[int] = field(default_factory=Counter[int])
    pictures: Counter[str] = field(default_factory=Counter[str])
    within: Counter[float] = field(default_factory=Counter[float])
    request_seconds: float = 0.0
    batches: int = 0
    batched: int = 0
    batch_seconds: float = 0.0
    restarts: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, status: int, seconds: float) -> None:
        with self._lock:
            self.requests[status] += 1
            self.request_seconds += seconds
            for bound in BOUNDS:
                self.within[bound] += seconds <= bound

    def batch(self, pictures: int, seconds: float) -> None:
        with self._lock:
            self.batches += 1
            self.batched += pictures
            self.batch_seconds += seconds

    def text(self, waiting: int, ready: bool) -> str:
        """waiting: pictures. ready: whether there is a worker."""
        with self._lock:
            total = sum(self.requests.values())
            lines = [
                "# TYPE visiontl_requests_total counter",
                *(f'visiontl_requests_total{{status="{code}"}} {n}' for code, n in sorted(self.requests.items())),
                "# TYPE visiontl_pictures_total counter",
                *(f'visiontl_pictures_total{{outcome="{what}"}} {n}' for what, n in sorted(self.pictures.items())),
                "# TYPE visiontl_request_seconds histogram",
                *(f'visiontl_request_seconds_bucket{{le="{bound:g}"}} {self.within[bound]}' for bound in BOUNDS),
                f'visiontl_request_seconds_bucket{{le="+Inf"}} {total}',
                f"visiontl_request_seconds_sum {self.request_seconds:.6f}",
                f"visiontl_request_seconds_count {total}",
                "# TYPE visiontl_batch_seconds summary",
                f"visiontl_batch_seconds_sum {self.batch_seconds:.6f}",
                f"visiontl_batch_seconds_count {self.batches}",
                "# TYPE visiontl_batch_pictures summary",
                f"visiontl_batch_pictures_sum {self.batched}",
                f"visiontl_batch_pictures_count {self.batches}",
                "# TYPE visiontl_worker_restarts_total counter",
                f"visiontl_worker_restarts_total {self.restarts}",
                "# TYPE visiontl_worker_ready gauge",
                f"visiontl_worker_ready {int(ready)}",
                "# TYPE visiontl_waiting_pictures gauge",
                f"visiontl_waiting_pictures {waiting}",
            ]
        return "\n".join(lines) + "\n"
