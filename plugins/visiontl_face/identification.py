"""Who is it: rank-1 and rank-5 among known people, and open-set identification. NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RANKS = (1, 5)
FARS = (1e-1, 1e-2)
TOO_FEW = "not enough strangers"
CHUNK = 1024  # probes compared at a time


def gallery_and_probes(identities: Sequence[str], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the gallery, the first image (by name) of each person with two or more, and of the probes, the other
    images of these people; images of nobody known ("") are neither."""
    members: dict[str, list[int]] = {}
    for index in sorted((i for i in range(len(names)) if identities[i]), key=lambda i: names[i]):
        members.setdefault(identities[index], []).append(index)
    several = [found for _, found in sorted(members.items()) if len(found) > 1]
    gallery = np.array([found[0] for found in several], dtype=np.int64)
    probes = np.array([index for found in several for index in found[1:]], dtype=np.int64)
    return gallery, probes


def best_matches(probes: np.ndarray, gallery: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(P, k) indices into the gallery, most similar first, and (P, k) their similarities; k = min(count, G).

    probes: (P, d), gallery: (G, d), rows normalized. Ties go to the lower index.
    """
    count = min(count, len(gallery))
    places, values = [np.zeros((0, count), np.int64)], [np.zeros((0, count))]
    for start in range(0, len(probes), CHUNK):
        similarity = probes[start : start + CHUNK] @ gallery.T  # (<= CHUNK, G)
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
        places.append(order)
        values.append(np.take_along_axis(similarity, order, 1))
    return np.concatenate(places), np.concatenate(values)


def closed_set(
    embedding: np.ndarray, identities: np.ndarray, gallery: np.ndarray, probes: np.ndarray
) -> dict[str, float]:
    """rank1 and rank5: share of the probes whose person is among the 1 and 5 most similar of the gallery. Empty where
    nobody has two images, or there is one person alone."""
    if len(gallery) < 2 or len(probes) == 0:
        return {}
    places, _ = best_matches(embedding[probes], embedding[gallery], max(RANKS))
    right = identities[gallery][places] == identities[probes][:, None]  # (P, k)
    return {f"rank{rank}": float(right[:, :rank].any(1).mean()) for rank in RANKS}


def open_set(
    embedding: np.ndarray, identities: np.ndarray, gallery: np.ndarray, probes: np.ndarray
) -> dict[str, float | str]:
    """DIR at FAR (Phillips et al. 2011, open-set identification): the share of known people's probes that are nearest
    to their own gallery image and above the threshold at which a share FAR of the strangers' probes is taken for one.

    Half of the people (every second in the order of the gallery) are enrolled and the others are strangers; then the
    other way round; the mean of both. Empty where a half would have nobody.
    """
    if len(gallery) < 2:
        return {}
    found: dict[str, list[float]] = {}
    for half in (0, 1):
        enrolled = gallery[half::2]
        known = np.isin(identities[probes], identities[enrolled])  # (P,)
        places, values = best_matches(embedding[probes], embedding[enrolled], 1)
        right = identities[enrolled][places[:, 0]] == identities[probes]
        strangers = np.sort(values[~known, 0])[::-1]
        for far in FARS:
            allowed = int(far * len(strangers) + 1e-9)
            if allowed < 1 or not known.any():
                continue
            above = strangers[allowed] if allowed < len(strangers) else -np.inf  # taken only if more similar than it
            found.setdefault(f"{far:g}", []).append(float((right & (values[:, 0] > above))[known].mean()))
    return {
        f"{far:g}": float(np.mean(found[f"{far:g}"])) if len(found.get(f"{far:g}", ())) == 2 else TOO_FEW
        for far in FARS
    }
