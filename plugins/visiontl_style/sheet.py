"""Photos and results side by side, in one picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

from visiontl import ConfigError, Console, DataError
from visiontl.kit.drawing import font, sheet, shortened
from visiontl.kit.images import open_image
from visiontl_style.commands import SheetOptions
from visiontl_style.pictures import pictures_in

GAP, TITLE, LETTERS = 6, 26, 16  # pixels: between cells, of the line of titles, of its letters


def command(arguments: argparse.Namespace) -> int:
    """`visiontl style sheet`: a row for each photo, a column for each folder of results."""
    options: SheetOptions = arguments.options
    if arguments.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"{arguments.out}: expected a name that ends in .png or .jpg")
    photos, _ = pictures_in(arguments.photos, "PHOTO")
    columns = [("photo", {Path(photo).stem: photo for photo in photos})]
    for title, folder in options.columns.items():
        files, _ = pictures_in([folder], f"columns.{title}")
        found = {Path(file).stem: file for file in files if "previews" not in Path(file).parts}
        if not any(Path(photo).stem in found for photo in photos):
            raise DataError(f"columns.{title}: {folder}: holds no result of any of the photos; names must match")
        columns.append((title, found))
    shape = open_image(photos[0]).size
    width, height = options.side, max(16, round(options.side * min(2.0, shape[1] / shape[0])))

    def cell(file: str | None) -> Image.Image | None:
        if file is None:
            return None
        picture = open_image(file)
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
        return picture.crop((0, 0, width, min(height, picture.height)))

    pictures = sheet(
        [[cell(found.get(Path(photo).stem)) for _, found in columns] for photo in photos], (width, height), GAP
    )
    made = Image.new("RGB", (pictures.width, TITLE + pictures.height), "white")
    made.paste(pictures, (0, TITLE))
    pen = ImageDraw.Draw(made)
    for x, (title, _) in enumerate(columns):
        text = shortened(title, LETTERS, width - 4)
        pen.text((x * (width + GAP) + 4, 4), text, fill="black", font=font(text, LETTERS))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    made.save(arguments.out)
    Console().say(f"{arguments.out}: {made.width} x {made.height} pixels")
    return 0
