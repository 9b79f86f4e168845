"""Tiles of procedural texture, and the palettes that color them. Imports no torch.

A tile is a (512, 512) uint8 picture of one gray channel that continues at its edges. Everything comes from whole
numbers, sums, products and a table of sines that is rounded, so that processors agree on each value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]  # sRGB 0..255
Palette = tuple[Color, ...]  # from the dark of a texture to its light

SIDE = 512  # pixels of a tile
SINES = np.round(np.sin(np.arange(4096) * (2 * np.pi / 4096)) * 32768) / 32768


def sine(turns: np.ndarray) -> np.ndarray:
    """Sine of an angle in full turns, from a table of 4096 entries: the same on every processor."""
    return SINES[np.floor(turns * 4096).astype(np.int64) & 4095]


def cosine(turns: np.ndarray) -> np.ndarray:
    return sine(turns + 0.25)


def direction(turn: float) -> tuple[float, float]:
    """Cosine and sine of one angle in full turns."""
    angle = np.array([turn])
    return float(cosine(angle)[0]), float(sine(angle)[0])


def upwards(number: int) -> np.ndarray:
    """0, 1, ..., number - 1 as float64."""
    return np.arange(number, dtype=np.float64)


def noise(seed: int, cells: int, octaves: int = 4, cells_down: int | None = None) -> np.ndarray:
    """(512, 512) float64 0..1: value noise, each octave twice as fine and half as strong as the one before.

    cells: of the coarsest octave, across; cells_down: down, where the grain is longer one way."""
    rng = np.random.default_rng([seed, cells])
    total, weight, sum_of_weights = np.zeros((SIDE, SIDE)), 1.0, 0.0
    across, down = cells, cells_down or cells
    for _ in range(octaves):
        grid = rng.integers(0, 256, (down, across)).astype(np.float32)
        wrapped = np.pad(grid, 2, mode="wrap")  # so that the cubic curve goes on over the edges
        unit_x, unit_y = SIDE / across, SIDE / down
        box = (2.0, 2.0, 2.0 + across, 2.0 + down)
        if unit_x >= 1 and unit_y >= 1:
            fine = Image.fromarray(wrapped).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
            total += weight * np.asarray(fine, dtype=np.float64)
            sum_of_weights += weight
        weight, across, down = weight / 2, across * 2, down * 2
    return stretched(np.round(total / sum_of_weights * 64) / 64)


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low)


def cells_of(seed: int, number: int, jitter: float = 0.8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Worley's cells, number x number of them: squared distances to the nearest and second nearest point in cells,
    and a value 0..1 of the nearest; (512, 512) each."""
    rng = np.random.default_rng([seed, number, 7])
    points = 0.5 + (rng.random((number, number, 2)) - 0.5) * jitter
    own = rng.random((number, number))
    line = upwards(SIDE) * (number / SIDE)
    x, y, cell = line[None, :], line[:, None], line.astype(np.int64)
    first = np.full((SIDE, SIDE), 9.0)
    second, value = first.copy(), np.zeros((SIDE, SIDE))
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            r, c = cell + down, cell + right
            there = np.ix_(r % number, c % number)
            away_x = points[there][..., 0] + (c - x)
            away_y = points[there][..., 1] + (r[:, None] - y)
            distance = away_x * away_x + away_y * away_y
            value = np.where(distance < first, own[there], value)
            second = np.minimum(second, np.maximum(first, distance))
            first = np.minimum(first, distance)
    return first, second, value


def grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y of a tile's pixels, 0..1, (512, 512) each."""
    line = upwards(SIDE) / SIDE
    x, y = np.meshgrid(line, line)
    return x, y


def smooth_step(values: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    share = ((values - low) / (high - low)).clip(0, 1)
    return share * share * (3 - 2 * share)


def made_stripes() -> np.ndarray:
    x, _ = grid()
    bent = 12 * x + 1.1 * noise(11, 4, 2)
    return smooth_step(sine(bent), -0.35, 0.35) * 0.85 + 0.15 * noise(12, 32, 3)


def made_bands() -> np.ndarray:
    x, _ = grid()
    return smooth_step(sine(7 * x + 0.35 * noise(13, 6, 2)), -0.75, 0.5) * 0.8 + 0.2 * noise(14, 24, 3)


def made_spots() -> np.ndarray:
    near, _, size = cells_of(21, 13, 0.6)
    return smooth_step(near, 0.06 + 0.06 * size, 0.11 + 0.08 * size) * 0.85 + 0.15 * noise(22, 24, 3)


def made_eyes() -> np.ndarray:
    near, _, size = cells_of(23, 9, 0.5)
    ring = smooth_step(near, 0.03, 0.05) - 0.9 * smooth_step(near, 0.09, 0.12) + smooth_step(near, 0.17, 0.2)
    return stretched(ring + 0.15 * size + 0.2 * noise(24, 24, 3))


def made_scales() -> np.ndarray:
    x, y = grid()
    number = 20
    best = np.zeros((SIDE, SIDE))
    for level in range(3):  # a row of discs lies over the row behind it
        row = np.floor(y * number) - level + 1
        shift = np.where(row.astype(np.int64) % 2 == 0, 0.0, 0.5)
        away = (x * number + shift) % 1.0 - 0.5
        down = y * number - row + 0.35
        distance = away * away * 1.5 + down * down * 0.55
        best = np.where(best > 0, best, np.where(distance < 0.36, 0.25 + 2.0 * (0.36 - distance), 0))
    return stretched(best + 0.25 * noise(31, 16, 3))


def made_plates() -> np.ndarray:
    near, far, value = cells_of(33, 7, 0.45)
    return 0.25 + 0.75 * smooth_step(far - near, 0.03, 0.22) * (0.65 + 0.35 * value) - 0.2 * noise(34, 32, 3)


def made_fur() -> np.ndarray:
    return stretched(0.6 * noise(41, 64, 3, 12) + 0.4 * noise(42, 8, 3))


def made_marble() -> np.ndarray:
    x, _ = grid()
    return stretched(sine(4 * x + 2.5 * noise(43, 4, 5)) + noise(44, 32, 3))


def made_plain() -> np.ndarray:
    return stretched(noise(45, 8, 3) + 0.35 * noise(46, 64, 3))


def made_wood() -> np.ndarray:
    x, y = grid()
    board = np.floor(y * 6).astype(np.int64)
    shifts = np.random.default_rng(51).random(6)
    rings = noise(52, 3, 4, 24) * 5 + x + shifts[board]
    seam = smooth_step(np.minimum((y * 6) % 1.0, 1 - (y * 6) % 1.0), 0.0, 0.035)
    tone = np.random.default_rng(53).random(6)[board]
    return stretched((0.5 + 0.18 * sine(2 * rings) + 0.3 * noise(54, 8, 3, 128) + 0.25 * tone) * (0.35 + 0.65 * seam))


def made_bricks() -> np.ndarray:
    x, y = grid()
    rows, columns = 12, 6
    row = np.floor(y * rows).astype(np.int64)
    along = x * columns + np.where(row % 2 == 0, 0.0, 0.5)
    column = np.floor(along).astype(np.int64) % columns
    tone = np.random.default_rng(55).random((rows, columns))[row, column]
    edge_y, edge_x = (y * rows) % 1.0, along % 1.0
    rough = 0.04 * noise(56, 32, 3)
    edge = np.minimum(np.minimum(edge_y, 1 - edge_y), 2 * np.minimum(edge_x, 1 - edge_x)) - rough
    return smooth_step(edge, 0.02, 0.09) * (0.4 + 0.4 * tone) + 0.2 * noise(57, 64, 3)


def made_grass() -> np.ndarray:
    """Blades, each lighter at its tip, the nearer ones over those behind."""
    rng = np.random.default_rng(58)
    picture = np.zeros((SIDE, SIDE)) + 0.1
    count, steps = 2600, 26
    x, y = rng.random(count) * SIDE, rng.random(count) * SIDE
    lean, tone = rng.random(count) * 1.2 - 0.6, 0.35 + 0.65 * rng.random(count)
    for step in range(steps):
        share = step / steps
        px = np.floor(x + lean * share * share * 26).astype(np.int64) % SIDE
        py = np.floor(y - share * 30).astype(np.int64) % SIDE
        value = tone * (0.25 + 0.75 * share)
        for beside in (0, 1) if share < 0.75 else (0,):
            picture[py, (px + beside) % SIDE] = value
    return stretched(picture + 0.25 * noise(59, 6, 3))


def made_foliage() -> np.ndarray:
    """Many small leaves, the upper ones lighter."""
    rng = np.random.default_rng(60)
    image = Image.new("L", (SIDE, SIDE), 25)
    pen = ImageDraw.Draw(image)
    for step in range(5200):
        x, y = (int(v) for v in rng.integers(0, SIDE, 2))
        rx, ry = (int(v) for v in rng.integers(4, 9, 2))
        tone = int(40 + 175 * step / 5200 + rng.integers(-30, 31))
        for dx in (0, SIDE) if x < 10 else (0, -SIDE) if x > SIDE - 10 else (0,):
            for dy in (0, SIDE) if y < 10 else (0, -SIDE) if y > SIDE - 10 else (0,):
                pen.ellipse((x + dx - rx, y + dy - ry, x + dx + rx, y + dy + ry), fill=tone)
    return stretched(np.asarray(image, dtype=np.float64) / 255 + 0.25 * noise(60, 6, 3))


def made_cloth() -> np.ndarray:
    x, y = grid()
    over = (np.floor(x * 64) + np.floor(y * 64)).astype(np.int64) % 2 == 0
    thread = np.where(over, np.abs(sine(32 * x)), np.abs(sine(32 * y)))
    return stretched(0.55 * thread + 0.25 * over + 0.5 * noise(61, 4, 3) + 0.15 * noise(62, 64, 2))


def made_pebbles() -> np.ndarray:
    near, far, value = cells_of(63, 16, 0.9)
    return smooth_step(far - near, 0.02, 0.4) * (0.45 + 0.55 * value) * (1 - 0.35 * near) + 0.15 * noise(64, 64, 3)


def made_sand() -> np.ndarray:
    _, y = grid()
    ripples = sine(11 * y + 1.5 * noise(65, 4, 3))
    return stretched(0.5 * ripples + 0.5 * noise(66, 16, 3) + 1.2 * noise(67, 128, 2))


def made_bark() -> np.ndarray:
    ridges = np.abs(noise(68, 20, 4, 4) - 0.5)
    return stretched(smooth_step(ridges, 0.0, 0.2) + 0.5 * noise(69, 64, 3, 16))


def made_water() -> np.ndarray:
    near, far, _ = cells_of(71, 9, 0.9)
    return stretched(1 - smooth_step(far - near, 0.0, 0.3) + 1.2 * noise(72, 4, 3) + 0.3 * noise(73, 24, 3, 48))


def made_litter() -> np.ndarray:
    near, far, value = cells_of(74, 11, 1.0)
    vein = np.abs(sine(noise(75, 20, 2) * 3 + value))
    return stretched(smooth_step(far - near, 0.0, 0.15) * (0.35 + 0.8 * value) + 0.15 * vein + 0.2 * noise(76, 64, 3))


def made_stone() -> np.ndarray:
    cracks = np.abs(noise(77, 5, 5) - 0.5)
    return stretched(0.7 * noise(78, 6, 6) + 0.35 * smooth_step(cracks, 0.0, 0.03) + 0.3 * noise(79, 128, 2))


def made_clouds() -> np.ndarray:
    return smooth_step(noise(81, 4, 6, 6), 0.35, 0.85)


SKINS = ("stripes", "bands", "spots", "eyes", "scales", "plates", "fur", "marble", "plain")  # of things
GROUNDS = ("wood", "bricks", "grass", "cloth", "pebbles", "sand", "bark", "water", "litter", "stone")

MAKERS: dict[str, Callable[[], np.ndarray]] = {
    name.removeprefix("made_"): made for name, made in list(globals().items()) if name.startswith("made_")
}


@cache
def tile(name: str) -> Image.Image:
    """A texture by its name, four copies of the tile side by side: (1024, 1024) pixels of mode L. Raises KeyError."""
    values = np.round(MAKERS[name]().clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(np.tile(values, (2, 2)))


@lru_cache(maxsize=4096)
def ramp(palette: Palette) -> np.ndarray:
    """(256, 3) uint8: the palette's colors, from the first at 0 to the last at 255."""
    places = np.arange(256) * (len(palette) - 1)
    low = np.minimum(places // 255, len(palette) - 2)
    share = (places - low * 255)[:, None]
    colors = np.array(palette, dtype=np.int64)
    return ((colors[low] * (255 - share) + colors[low + 1] * share + 127) // 255).astype(np.uint8)


def hexes(text: str) -> Palette:
    """ "102030 405060" -> two colors."""
    return tuple((int(one[:2], 16), int(one[2:4], 16), int(one[4:], 16)) for one in text.split())


COATS = [
    hexes(text)
    for text in (
        "2b1b12 b5651d f3d9a4",
        "1d1f2b c8402e f2c14e",
        "14213d 2a7f9e bfe3e0",
        "1b2a1f 4f7f3a d7d98c",
        "201a2b 7a4f9a e6c3e0",
        "2a1714 9c2f2a f0a58a",
        "15252b 3f8f7f e4efc0",
        "241d16 7d6a55 e8dcc8",
        "101820 d98324 fff1c9",
        "1c1c22 5b6b8c d6deea",
        "2b2414 a08a2c f4e9a1",
        "171a12 2f5d3a f2b84b",
        "22130f d1603d 2e86ab",
        "11151c e0b1a0 8d3b72",
        "1a1a1a 8a8d91 f5f5f0",
        "0f2027 1f6f8b f6c667",
        "2d132c c72c41 ee9572",
        "0b132b 3a506b 5bc0be",
        "231709 6b4226 d9b382",
        "1e1e24 92140c fff8f0",
    )
]

EARTHS = {
    name: [hexes(one) for one in texts]
    for name, texts in {
        "wood": ("3a2416 8a5a33 c99b66", "2e2622 75685a b7a68f", "4a2c1a a5673a e0b07a"),
        "bricks": ("b9aea0 8e3b2b b5573f", "cfc9be 7d6f66 a2948a", "8f8a80 9a4a35 c98a6a", "d8d2c4 b08d57 cdb384"),
        "grass": ("14230f 3f6b27 8fb04f", "1d2410 66702b b9b163", "0f2418 2d6a45 7fbf86"),
        "cloth": (
            "3b2f4a 8c6f9c d9c6df",
            "1f3340 4f7d8c bcd6d8",
            "5a1f1f a84e45 e3b29f",
            "3b3a36 8b8778 dcd6c2",
            "20304f 5570a8 b9c8e8",
        ),
        "pebbles": ("2b2926 7d776c c9c2b2", "332a24 8c7560 d8c4a8", "20262b 66727a bcc8cc"),
        "sand": ("7d6342 c2a36f ecd9ac", "6b5b50 a8947f dccbb4", "8a6f52 d1b38a f6e6c4"),
        "bark": ("1d1610 5d4836 9c8368", "23201c 6b6459 aba392", "2a1a10 6f4427 a97c50"),
        "water": ("0d2a3a 2b6b85 9fd0d6", "10302a 2f7568 a5d8c3", "17203f 3d5b9a b3c6ee"),
        "litter": ("2a190e 8f5a27 d9a04e", "1f1a12 6b5a33 b6a36a", "301812 93402a d88a55"),
        "stone": ("3a3a3c 85858a c9c9cc", "45403a 8f8778 cdc3b0", "2f353a 6d7a80 b4c0c2"),
    }.items()
}


def skin(rng: np.random.Generator) -> str:
    return SKINS[int(rng.integers(len(SKINS)))]


def picked(rng: np.random.Generator, some: Sequence[Palette]) -> Palette:
    return some[int(rng.integers(len(some)))]
