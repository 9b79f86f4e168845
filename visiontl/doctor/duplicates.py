"""Which images are the same, and which look alike. Works on digests and hashes; opens nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BITS_APART = 7  # of 128: copies that were saved as JPEG again or shrunk lie within, other photos beyond 20
BANDS = 8  # two hashes that differ in at most 7 bits agree in at least one of 8 parts
CROWD = 64  # hashes with an equal part that are compared with each other; beyond it pairs may be missed


def equal(digests: Sequence[bytes]) -> list[list[int]]:
    """Groups of two and more indices with the same digest; empty digests are passed over."""
    places: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        if digest:
            places.setdefault(digest, []).append(index)
    return [group for group in places.values() if len(group) > 1]


def alike(hashes: Sequence[bytes]) -> list[tuple[int, int]]:
    """Pairs of indices, smaller first, whose 128-bit hashes differ in at most BITS_APART bits, in order.

    Empty hashes are passed over. Takes N log N time, and memory for at most BANDS * CROWD pairs a hash: only hashes
    that agree in one of BANDS parts are compared. Give each hash once: N equal ones are N * CROWD pairs.
    """
    known = np.array([index for index, one in enumerate(hashes) if one], dtype=np.int64)  # (N,)
    bits = np.frombuffer(b"".join(hashes[i] for i in known), dtype=np.uint8).reshape(len(known), 16)
    pairs = np.zeros(0, dtype=np.int64)  # each as smaller * N + larger
    for part in np.ascontiguousarray(bits).view(np.uint16).T:  # (N,) each
        order = np.argsort(part, kind="stable")
        found = [pairs]
        for step in range(1, min(CROWD, len(order) - 1) + 1):
            first, second = order[:-step], order[step:]
            same = part[first] == part[second]
            if not same.any():
                break
            first, second = first[same], second[same]
            apart = np.unpackbits(bits[first] ^ bits[second], axis=1).sum(axis=1)
            near = apart <= BITS_APART
            first, second = first[near], second[near]
            found.append(np.minimum(first, second) * len(known) + np.maximum(first, second))
        pairs = np.unique(np.concatenate(found))
    if not len(pairs):
        return []
    return list(zip(known[pairs // len(known)].tolist(), known[pairs % len(known)].tolist(), strict=True))
