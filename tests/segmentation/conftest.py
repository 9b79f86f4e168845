"""What several tests of segmentation are run with."""

import pytest
from visiontl_segmentation import compiled


@pytest.fixture(params=["numba", "NumPy"])
def by(request, monkeypatch) -> str:
    """Compiled loops over pixels, and what stands in for them."""
    if request.param == "numba":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(compiled, "loops", lambda: None)
    return request.param
