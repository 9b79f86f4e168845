"""From the images of a data set, all of them read, to what should be known of them before training."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from visiontl.config.schema import DataConfig
from visiontl.doctor import duplicates
from visiontl.engine import scan
from visiontl.engine.scan import Photo, Scans
from visiontl.kit import depths
from visiontl.kit.images import Stored, suffixes
from visiontl.kit.names import alike_findings
from visiontl.kit.words import count, plural
from visiontl.report.items import Finding, Seen, Table
from visiontl.spec import ImageSpec
from visiontl.task import Data

ENLARGED = 1.01  # from which a picture counts as enlarged
TINY = 16  # pixels of the shorter side, below which hardly anything is to be seen
STRIP = 4.0  # long side / short side, from which a center crop shows less than a quarter
LARGE = 4.0  # median shorter side / the input's, from which most of the reading is thrown away again
ONE_FILE = "on systems that do not tell such names apart, one file would take the place of the other"

MODES = {
    "1": "black and white",
    "L": "gray",
    "LA": "gray",
    "P": "palette",
    "PA": "palette",
    "RGBA": "RGB",
    "F": "gray, floating point",
    "I": "gray, more than 8 bits",
}  # others as Pillow calls them
TREATED = {
    "1": "the same in all three channels",
    "L": "the same in all three channels",
    "LA": "the same in all three channels",
    "P": "palette looked up",
    "PA": "palette looked up",
    "CMYK": "converted to RGB without its color profile",
    "F": "scaled to 8 bits (data.depth), the same in all three channels",
    "I": "scaled to 8 bits (data.depth), the same in all three channels",
}
SAME = {"MPO": "JPEG"}  # a JPEG with more pictures behind the first


Scale = Callable[[tuple[int, int]], float | None]
"""(H, W) of a photo -> how many times it is enlarged on its way to the model; None where that cannot be measured."""


@dataclass(frozen=True)
class Album:
    """All readable images of all splits in one row, with the names to call them by."""

    data: Data
    scans: Scans
    places: list[tuple[str, int]] = field(default_factory=list)  # (split, id)
    photos: list[Photo] = field(default_factory=list)

    def name(self, index: int) -> str:
        split, id = self.places[index]
        return str(self.data.splits()[split].names[id])

    def of(self, split: str) -> list[int]:
        return [index for index, (its, _) in enumerate(self.places) if its == split]

    def where(self, test: Callable[[Photo], bool]) -> list[str]:
        return [self.name(index) for index, photo in enumerate(self.photos) if test(photo)]


def album(data: Data, scans: Scans) -> Album:
    made = Album(data, scans)
    for split, found in scans.items():
        for id, one in enumerate(found):
            if isinstance(one, Photo):
                made.places.append((split, id))
                made.photos.append(one)
    return made


def inspect(
    section: DataConfig, data: Data, scans: Scans, spec: ImageSpec, scale: Scale
) -> tuple[list[Finding | Table], Seen]:
    """Tables and findings that hold for every task, and what a task's own check is told."""
    shown = album(data, scans)
    groups = duplicates.equal([photo.pixels for photo in shown.photos])
    items: list[Finding | Table] = [split_table(data, scans)]
    if shown.photos:
        items.append(stored_table(shown))
    items += unreadable(section, data, scans)
    items += depth(shown, section.depth)
    items += copies(shown, groups)
    items += lookalikes(shown)
    if has_fixed_input(shown, spec):
        items += odd_sizes(shown, spec, scale)
    items += odd_files(shown)
    items += alike_findings("image", map(shown.name, range(len(shown.photos))), ONE_FILE)
    items += splits(data)
    return items, scan.seen(scans, [[shown.places[index] for index in group] for group in groups])


def split_table(data: Data, scans: Scans) -> Table:
    rows = []
    for name in data.splits():
        photos = [one for one in scans[name] if isinstance(one, Photo)]
        sides = [span([photo.size[axis] for photo in photos]) for axis in (1, 0)]
        rows.append([name, len(scans[name]), len(scans[name]) - len(photos), *sides])
    return Table("images", ["split", "images", "unreadable", "width, pixels", "height, pixels"], rows)


def span(values: Sequence[int]) -> str:
    if not values:
        return "-"
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}, median {median(values):g}"


def stored_table(shown: Album) -> Table:
    """How the files are stored, and what becomes of each kind; then what is peculiar to some of them."""
    formats = Counter(kind_of(photo.stored) for photo in shown.photos)
    odd = Counter(kind for photo in shown.photos for kind in peculiarities(photo))
    rows = [[kind, number, treated] for (kind, treated), number in [*formats.most_common(), *odd.most_common()]]
    return Table("stored as", ["kind", "images", "in the run"], rows)


def kind_of(stored: Stored | None) -> tuple[str, str]:
    """(format and mode, what becomes of it)"""
    if stored is None:
        return "no file of its own", "as the data set gives it"
    mode = "I" if stored.mode.startswith("I") else stored.mode
    words = "16-bit gray" if stored.mode.startswith("I;16") else MODES.get(mode, mode)
    return f"{stored.format} {words}", TREATED.get(mode, "as it is")


def peculiarities(photo: Photo) -> Iterator[tuple[str, str]]:
    """(what is peculiar, what becomes of it)"""
    levels, stored = photo.levels, photo.stored
    if levels is not None:
        becomes = "its lowest value black, its highest white" if levels.own else f"{levels} become black to white"
        yield "of these with more than 8 bits", becomes
    if stored is not None and stored.transparent:
        yield "of these with transparency", "put on white"
    if stored is not None and stored.turned:
        yield "of these turned by EXIF", "turned upright"
    if stored is not None and stored.animated:
        yield "of these with several frames", "only the first is used"


def depth(shown: Album, asked: depths.Depth) -> list[Finding]:
    """Pictures of more than 8 bits that are read so that little of them is seen, or unequally."""
    said = depths.doubts([photo.levels for photo in shown.photos if photo.levels is not None], asked)
    return [Finding("warning", *one.split(": ", 1)) for one in said]


def unreadable(section: DataConfig, data: Data, scans: Scans) -> list[Finding]:
    bad = scan.unreadable(scans)
    refused = scan.too_many(section, data, bad)
    findings = []
    for name, found in bad.items():
        if not found:
            continue
        what = f"{name}: {count(len(found), 'image')} of {len(scans[name]):,} cannot be read"
        stop = next((text for text in refused if text.startswith(f"{name}:")), "")
        if section.on_bad == "error":
            consequence = "the run stops at the first one it meets, unless data.on_bad=skip"
            if stop:
                least = scan.least_share(len(found), len(scans[name]))
                consequence += f" and data.max_bad={least:g}" if len(found) < len(scans[name]) else "; mend some"
            findings.append(Finding("error", what, consequence, list(found.values())))
        elif stop:
            consequence = f"the run stops: more than data.max_bad: {section.max_bad:g} allows"
            findings.append(Finding("error", what, consequence, list(found.values())))
        else:
            findings.append(Finding("warning", what, "left out of the run", list(found.values())))
    return findings


def copies(shown: Album, groups: Sequence[Sequence[int]]) -> list[Finding]:
    """Equal pixels, between splits and within one."""
    findings = []
    for first, second in pairs_of_splits(shown):
        leaked = []
        for group in groups:
            there = [index for index in group if shown.places[index][0] == first]
            here = [index for index in group if shown.places[index][0] == second]
            leaked += [f"{shown.name(index)} = {shown.name(there[0])}" for index in here if there]
        if leaked:
            findings.append(
                Finding(
                    "warning",
                    f"{second}: {are(len(leaked))} also in {first}, pixel for pixel",
                    leak(first, second, len(leaked)),
                    leaked,
                )
            )
    for name in shown.scans:
        inside = [[index for index in group if shown.places[index][0] == name] for group in groups]
        inside = [group for group in inside if len(group) > 1]
        extra = sum(len(group) - 1 for group in inside)
        if extra:
            effect = "each epoch shows" if name == "train" else "its scores count"
            findings.append(
                Finding(
                    "note",
                    f"{name}: {count(extra, 'image')} are copies of another one there, pixel for pixel"
                    if extra > 1
                    else f"{name}: 1 image is a copy of another one there, pixel for pixel",
                    f"{effect} those pictures more than once",
                    [" = ".join(map(shown.name, group)) for group in inside],
                )
            )
    return findings


def lookalikes(shown: Album) -> list[Finding]:
    """Pictures that look alike without being equal: a hint, from a hash."""
    groups = by_look(shown)
    near = duplicates.alike([shown.photos[group[0]].look for group in groups])
    neighbors = [[place] for place in range(len(groups))]
    for a, b in near:
        neighbors[a].append(b)
        neighbors[b].append(a)
    findings = []
    kinds = [*pairs_of_splits(shown), *((name, name) for name in shown.scans)]
    for first, second in kinds:
        partner = partners(shown, groups, neighbors, first, second)
        if not partner:
            continue
        effect = leak(first, second, len(partner)) if first != second else "perhaps copies that were saved again"
        place = f"in {first}" if first != second else "there"
        findings.append(
            Finding(
                "warning" if first != second else "note",
                f"{second}: {count(len(partner), 'image')} look{'s' * (len(partner) == 1)} almost like one {place} "
                "(a hint: look at them)",
                effect if first == second else f"if they are the same pictures, {effect}",
                [f"{shown.name(one)} ~ {shown.name(other)}" for one, other in sorted(partner.items())],
            )
        )
    return findings


def by_look(shown: Album) -> list[list[int]]:
    """Places of the photos with one hash, in order, those without one left out."""
    groups: dict[bytes, list[int]] = {}
    for place, photo in enumerate(shown.photos):
        if photo.look:
            groups.setdefault(photo.look, []).append(place)
    return list(groups.values())


def partners(
    shown: Album, groups: Sequence[Sequence[int]], neighbors: Sequence[Sequence[int]], first: str, second: str
) -> dict[int, int]:
    """{photo of `second`: the first photo of `first` that looks like it without being equal}; within one split a photo
    before it. Of a thousand equal photos two others are looked at, so copies cost no more than their number."""
    chosen: list[list[int]] = []  # of each group the first two of `first` with different pixels
    for group in groups:
        different: dict[bytes, int] = {}
        for place in group:
            if shown.places[place][0] == first and len(different) < 2:
                different.setdefault(shown.photos[place].pixels, place)
        chosen.append(list(different.values()))
    found: dict[int, int] = {}
    for number, group in enumerate(groups):
        others = sorted(place for near in neighbors[number] for place in chosen[near])
        for one in (place for place in group if others and shown.places[place][0] == second):
            pixels = shown.photos[one].pixels
            unlike = (other for other in others if shown.photos[other].pixels != pixels)
            partner = next(unlike, None)
            if partner is not None and (first != second or partner < one):
                found[one] = partner
    return found


def pairs_of_splits(shown: Album) -> list[tuple[str, str]]:
    return list(itertools.combinations(shown.scans, 2))


def leak(first: str, second: str, number: int) -> str:
    it = "it" if number == 1 else "them"
    if first == "train":
        return f"{second} scores count {it} although the model was trained on {it}"
    return f"{first} picks the best weights with {it}, and {second} scores count {it}"


def has_fixed_input(shown: Album, spec: ImageSpec) -> bool:
    """Whether the task brings every photo to the backbone's own input size, judged by the first one."""
    if not shown.places:
        return False
    split, id = shown.places[0]
    image = shown.data.splits()[split][id, 0].get("image")
    return image is None or tuple(image.shape[-2:]) == tuple(spec.size)


def odd_sizes(shown: Album, spec: ImageSpec, scale: Scale) -> list[Finding]:
    findings = []
    height, width = spec.size
    sides = [min(photo.size) for photo in shown.photos]
    factors = {
        size: scale(size) for size in {photo.size for photo in shown.photos} if size[0] < height or size[1] < width
    }
    enlarged = [
        factor for photo in shown.photos if (factor := factors.get(photo.size)) is not None and factor > ENLARGED
    ]
    if enlarged:
        findings.append(
            Finding(
                "note",
                f"{'all ' * (len(enlarged) == len(sides) > 1)}{are(len(enlarged))} smaller than the input of {width} x "
                f"{height} pixels",
                f"brought to it, the typical one is enlarged {median(enlarged):.3g} times, which adds no detail",
            )
        )
    if sides and median(sides) >= LARGE * min(height, width):
        findings.append(
            Finding(
                "note",
                f"half of the images are at least {median(sides) / min(height, width):.2g} times as large as the input "
                f"of {width} x {height} pixels",
                "reading them may take longer than training on them; shrink them once, beforehand",
            )
        )
    tiny = shown.where(lambda photo: min(photo.size) < TINY)
    if tiny:
        findings.append(
            Finding(
                "warning", f"{are(len(tiny))} less than {TINY} pixels wide or high", "icons, or failed downloads?", tiny
            )
        )
    strips = shown.where(lambda photo: max(photo.size) >= STRIP * min(photo.size))
    if strips:
        findings.append(
            Finding(
                "note",
                f"{are(len(strips))} at least {STRIP:g} times as long as wide",
                "a center crop shows a quarter of such a picture, or less",
                strips,
            )
        )
    plain = shown.where(lambda photo: photo.plain)
    if plain:
        findings.append(
            Finding(
                "warning", f"{are(len(plain))} one color all over", "nothing can be learned from such a picture", plain
            )
        )
    return findings


def odd_files(shown: Album) -> list[Finding]:
    findings = []

    wrong = []
    for index, photo in enumerate(shown.photos):
        if photo.stored is not None:
            format = photo.stored.format
            if suffixes().get(Path(photo.stored.file).suffix.lower(), format) not in (format, SAME.get(format)):
                wrong.append(f"{shown.name(index)} ({format})")
    if wrong:
        findings.append(
            Finding(
                "note",
                f"{count(len(wrong), 'image')} {plural(len(wrong), 'has')} the extension of another format",
                "read by what is inside; other programs may refuse",
                wrong,
            )
        )
    odd = [shown.name(index) for index in range(len(shown.photos)) if not shown.name(index).isprintable()]
    if odd:
        findings.append(
            Finding(
                "note",
                f"{count(len(odd), 'image')} {plural(len(odd), 'has')} a name with line breaks or other unprintable "
                "characters",
                "lists and tables show them escaped",
                odd,
            )
        )
    return findings


def splits(data: Data) -> list[Finding]:
    if data.train is None:
        return [
            Finding("warning", "there is no train split", "`visiontl train` stops; `visiontl evaluate` can measure")
        ]
    if data.val is None:
        return [Finding("warning", "there is no val split", "no score picks the best weights: the last ones are kept")]
    if data.test is None:
        return [
            Finding("note", "there is no test split", "val picks the best weights, so their score on val is flattered")
        ]
    return []


def are(number: int) -> str:
    return f"{count(number, 'image')} {plural(number, 'is')}"
