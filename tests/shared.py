"""Real photos and weights for tests, where they are present: VISIONTL_TEST_DATA, by default ../shared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared(relative: str) -> Path:
    """A path below the folder of test material; skips the test where it is absent."""
    base = Path(os.environ.get("VISIONTL_TEST_DATA", "../shared"))
    path = (base if base.is_absolute() else ROOT / base) / relative
    if not path.exists():
        pytest.skip(f"no test material at VISIONTL_TEST_DATA={base}: {relative} is absent")
    return path.resolve()
