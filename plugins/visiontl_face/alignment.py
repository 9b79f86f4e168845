"""Crops in which eyes, nose and mouth stand in fixed places, from five landmarks per image. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from visiontl import DataError
from visiontl.kit.tables import read_table
from visiontl.kit.words import refusal, told

# ArcFace's template (Deng et al. 2019; the same in insightface's code): x, y in pixels of a 112 x 112 crop, whose first
# pixel's middle is 0: the eye on the left of the picture, the one on the right, nose tip, left and right mouth corner.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
SIDE = 112  # pixels of the template's crop
COLUMNS = tuple(f"{axis}{number}" for number in range(1, 6) for axis in "xy")
FAR_OFF = 20.0  # pixels in the crop, root mean square: eyes and mouth exchanged give 40, a half profile some 8


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 3): the rotation, scale and shift, without mirroring, that bring source nearest to target by least squares
    (Umeyama 1991, eq. 40 to 43). source, target: (N, 2). Raises ValueError where all source points are one."""
    mean, aim = source.mean(0), target.mean(0)
    centered = source - mean
    variance = (centered**2).sum() / len(source)
    if variance < 1e-12:
        raise ValueError("all points are in one place")
    covariance = (target - aim).T @ centered / len(source)  # (2, 2)
    left, values, right = np.linalg.svd(covariance)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right)) or 1.0])
    rotation = left @ np.diag(signs) @ right
    scale = float((values * signs).sum() / variance)
    return np.column_stack([scale * rotation, aim - scale * rotation @ mean])


def align(image: Image.Image, landmarks: np.ndarray, side: int = SIDE) -> Image.Image:
    """The face as a side x side crop. landmarks: (5, 2) x, y in the image's pixels, in the template's order.

    Raises ValueError for landmarks that cannot be those of a face.
    """
    target = (TEMPLATE + 0.5) * side / SIDE - 0.5
    matrix = similarity_transform(landmarks, target)
    moved = landmarks @ matrix[:, :2].T + matrix[:, 2]
    off = float(np.sqrt(((moved - target) ** 2).sum(1).mean())) * SIDE / side
    if off > FAR_OFF:
        raise ValueError(
            f"the landmarks are {off:.0f} pixels from where a face has them; is their order left eye, right eye, nose, "
            "left and right corner of the mouth, as seen in the picture?"
        )
    scale = float(np.sqrt(np.linalg.det(matrix[:, :2])))
    if scale < 0.5:  # bilinear sampling alone would skip pixels
        factor = int(1 / scale)
        image = image.reduce(factor)
        shrink = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2]])  # pixels of the small one
        matrix = np.column_stack([matrix[:, :2] @ shrink[:, :2], matrix[:, :2] @ shrink[:, 2] + matrix[:, 2]])
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    # Pillow counts from the corner of the first pixel, the landmarks from its middle
    inverse[:, 2] += 0.5 - inverse[:, :2] @ np.array([0.5, 0.5])
    return image.transform(
        (side, side), Image.Transform.AFFINE, tuple(inverse.flatten().tolist()), Image.Resampling.BILINEAR
    )


def read_landmarks(path: Path) -> dict[str, np.ndarray]:
    """A table `file,x1,y1,...,x5,y5` -> {file: (5, 2)}. Raises DataError naming every bad line."""
    table = read_table(path, ("file", *COLUMNS))
    problems = list(table.problems)
    found: dict[str, np.ndarray] = {}
    lines: dict[str, int] = {}
    for line, record in table.records:
        name = str(PurePosixPath(record["file"].replace("\\", "/")))
        if not record["file"] or name.startswith("/") or ".." in PurePosixPath(name).parts:
            problems.append(
                f"line {line}: file {told(record['file'])!r}; a path inside the images' folder was expected"
            )
            continue
        if name in lines:
            problems.append(f"line {line}: {told(name)} stands on line {lines[name]} already; one face per image")
            continue
        try:
            points = np.array([float(record[column]) for column in COLUMNS]).reshape(5, 2)
        except ValueError:
            problems.append(f"line {line}: {told(name)} has a landmark that is no number")
            continue
        if not np.isfinite(points).all():
            problems.append(f"line {line}: {told(name)} has a landmark that is not finite")
            continue
        found[name], lines[name] = points, line
    if problems:
        raise refusal(path, problems)
    if not found:
        raise DataError(f"{path}: the table has a header and no landmarks")
    return found


def crop_names(files: Sequence[str]) -> dict[str, str]:
    """file -> its crop's name, a PNG. Raises DataError where two files would get one name."""
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for file in files:
        name = str(PurePosixPath(file).with_suffix(".png"))
        if name in taken:
            raise DataError(f"{told(taken[name])} and {told(file)} would both become {told(name)}; rename one")
        names[file], taken[name] = name, file
    return names
