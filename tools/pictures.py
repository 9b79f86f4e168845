"""The pictures of README.md and docs/gallery.md, made by visiontl from samples that it draws itself.

    python tools/pictures.py docs/pictures                  all; trains five quick starts, some minutes on two cores
    python tools/pictures.py docs/pictures --work FOLDER    keeps what is made on the way, and makes what is missing

The commands are those of docs/gallery.md, in their order. Pictures of pages need Chromium: where it is not there, they
are left as they are, and named.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from visiontl.kit.drawing import font

ROOT = Path(__file__).resolve().parents[1]
GALLERY = ROOT / "docs/gallery.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUALITY = 82  # of WebP
SIDE = 176  # pixels of a tile of the strip
GAP = 8  # pixels between pictures
WORDS = 15  # pixels of letters
HIGH = 240  # pixels of the gallery's pictures
PAPER, INK = (255, 255, 255), (60, 60, 60)
DESKTOP, PHONE = (1280, 1180), (390, 844)  # pixels of a window
PAGES = ("report.webp", "report-dark.webp", "comparison.webp")
SHOWN, WIDEST = 620, 960  # pixels: the height of windows beside each other, and the width of all


def commands(page: Path = GALLERY) -> list[list[str]]:
    """The words after `visiontl` of each line of the page's blocks."""
    lines = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("visiontl ")]


def result(words: Sequence[str], work: Path) -> Path:
    """What a command leaves: the report of its run, its --out, else what it printed."""
    named = next((word.partition("=")[2] for word in words if word.startswith("run.name=")), None)
    if words[0] == "train":
        return work / "runs" / str(named) / "report.json"
    if "--out" in words:
        return work / words[list(words).index("--out") + 1]
    return work / ("-".join(Path(word).stem for word in words) + ".txt")


def run(work: Path) -> None:
    """Every command of the gallery whose result is not there yet."""
    for words in commands():
        place = result(words, work)
        if place.exists():
            continue
        print(f"$ visiontl {shlex.join(words)}", flush=True)
        call = [sys.executable, "-m", "visiontl", *words]
        found = subprocess.run(call, cwd=work, check=True, stdout=subprocess.PIPE, text=True)
        if place.suffix == ".txt":
            place.write_text(found.stdout, encoding="utf-8")


def row(pictures: Sequence[Image.Image], height: int, words: Sequence[str] = ()) -> Image.Image:
    """Beside each other at one height, with words below each."""
    scaled = [one.convert("RGB").resize((round(one.width * height / one.height), height)) for one in pictures]
    line = round(WORDS * 1.6) if words else 0
    made = Image.new("RGB", (sum(one.width + GAP for one in scaled) - GAP, height + line), PAPER)
    pen, left = ImageDraw.Draw(made), 0
    for number, one in enumerate(scaled):
        made.paste(one, (left, 0))
        if words:
            pen.text((left, height + line // 5), words[number], INK, font(words[number], WORDS))
        left += one.width + GAP
    return made


def rows(parts: Sequence[Image.Image]) -> Image.Image:
    made = Image.new("RGB", (max(one.width for one in parts), sum(one.height + GAP for one in parts) - GAP), PAPER)
    top = 0
    for one in parts:
        made.paste(one, (0, top))
        top += one.height + GAP
    return made


def square(path: Path, side: int = SIDE) -> Image.Image:
    with Image.open(path) as picture:
        return ImageOps.fit(picture.convert("RGB"), (side, side))


def opened(folder: Path) -> dict[str, Image.Image]:
    """Stem -> picture, in the order of the names."""
    files = sorted(file for file in folder.iterdir() if file.suffix in (".jpg", ".png"))
    return {file.stem: Image.open(file).convert("RGB") for file in files}


def half_painted(photo: Path, painted: Path) -> Image.Image:
    """The photo on the left, what became of it on the right."""
    before, after = square(photo), square(painted)
    after.paste(before.crop((0, 0, SIDE // 2, SIDE)), (0, 0))
    return after


def screenshot(browser: str, page: Path, size: tuple[int, int], dark: bool) -> Image.Image:
    """A page as a window of (width, height) shows it; in a frame, because a window has a least width."""
    with tempfile.TemporaryDirectory() as folder:
        frame, shot = Path(folder) / "frame.html", Path(folder) / "shot.png"
        style = f"width:{size[0]}px;height:{size[1]}px;border:0"
        frame.write_text(f'<body style="margin:0"><iframe src="{page.resolve().as_uri()}" style="{style}"></iframe>')
        quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        look = [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--hide-scrollbars"]
        place = [f"--user-data-dir={folder}/profile", f"--window-size={max(size[0], 500)},{size[1]}"]
        call = [browser, "--headless", "--no-sandbox", "--disable-gpu", *quiet, *look, *place, f"--screenshot={shot}"]
        subprocess.run([*call, frame.as_uri()], check=True, capture_output=True)
        with Image.open(shot) as taken:
            return taken.convert("RGB").crop((0, 0, *size))


def save(picture: Image.Image, place: Path) -> None:
    picture.save(place, quality=QUALITY, method=6)
    print(f"{place.name}: {picture.width} x {picture.height}, {place.stat().st_size / 1024:.0f} KiB")


def drawn(work: Path, out: Path) -> None:
    """What models answered: a picture of each kind of creature, a few of the others."""
    places = ("classified", "explained", "boxes", "masks", "painted")
    shown = {place: opened(work / place / "pictures") for place in places}
    first = {place: [one for name, one in found.items() if name.endswith("_0")] for place, found in shown.items()}
    save(row(first["classified"], SIDE), out / "classification.webp")
    explained = first["explained"]
    save(rows([row(explained[i : i + 2], HIGH) for i in range(0, len(explained), 2)]), out / "explanation.webp")
    for place, name, number in (("boxes", "detection", 4), ("masks", "segmentation", 3), ("painted", "style", 2)):
        save(row(list(shown[place].values())[:number], HIGH), out / f"{name}.webp")
    pairs = [compared(work, words) for words in commands() if words[:2] == ["face", "compare"]]
    save(row([pair for pair, _ in pairs], SIDE, [said for _, said in pairs]), out / "faces.webp")
    save(strip(work, pairs[0][0]), out / "strip.webp")


def compared(work: Path, words: Sequence[str]) -> tuple[Image.Image, str]:
    """Two photos, and what `face compare` says of them in short."""
    printed = result(words, work).read_text(encoding="utf-8")
    found = re.search(r"similarity (\S+), threshold (\S+) .*?verdict: (.*)", printed, re.DOTALL)
    assert found, printed
    said = f"{found[3].strip()}: similarity {float(found[1]):.2f}, threshold {float(found[2]):.2f}"
    return row([square(work / place) for place in words[3:5]], SIDE), said


def strip(work: Path, pair: Image.Image) -> Image.Image:
    """One picture of each task, as the README shows them."""
    explained = Image.open(work / "explained/pictures/snail_0.jpg")  # photo and heat beside each other, words below
    side = explained.width // 2 - GAP
    heat = explained.convert("RGB").crop((explained.width - side, 0, explained.width, side)).resize((SIDE, SIDE))
    boxes, masks = (Image.open(work / place) for place in ("boxes/pictures/scene_2.jpg", "masks/pictures/scene_2.jpg"))
    masks = masks.crop((0, 0, masks.width, masks.width * 3 // 4))  # without the legend below
    painted = sorted((work / "painted/stylized").iterdir())[0]
    photo = next((work / "runs/samples-style/new").glob(f"{painted.stem}.*"))
    tiles = [heat, boxes, masks, pair, half_painted(photo, painted)]
    return row(tiles, SIDE, ["a class, and why", "boxes", "masks", "the same one?", "a style"])


def pages(work: Path, out: Path) -> None:
    """What a browser shows of a report and of a comparison."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"no Chromium ({', '.join(BROWSERS)}): left as they are: {', '.join(PAGES)}")
        return
    report = work / "runs/creatures/report.html"
    shots = [screenshot(browser, report, *window) for window in ((DESKTOP, False), (DESKTOP, True), (PHONE, False))]
    compared = screenshot(browser, work / "compare.html", DESKTOP, False)
    for name, picture in zip(PAGES, (shots[0], row(shots[1:], SHOWN), compared), strict=True):
        share = min(1.0, WIDEST / picture.width)
        size = (round(picture.width * share), round(picture.height * share))
        save(picture.resize(size, Image.Resampling.LANCZOS), out / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the pictures go")
    parser.add_argument("--work", type=Path, help="where runs are made, or are already")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    work = given.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    run(work)
    drawn(work, given.out)
    pages(work, given.out)
    if given.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
