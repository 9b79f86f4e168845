"""Photos and results side by side, in one picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from visiontl import ConfigError, DataError
from visiontl.kit.images import open_image
from visiontl_style.commands import SheetOptions
from visiontl_style.pictures import pictures_in

GAP, TITLE = 6, 26  # pixels


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
    sheet = Image.new("RGB", (len(columns) * (width + GAP), TITLE + len(photos) * (height + GAP)), "white")
    pen, face = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for x, (title, found) in enumerate(columns):
        pen.text((x * (width + GAP) + 4, 4), title, fill="black", font=face)
        for y, photo in enumerate(photos):
            if Path(photo).stem in found:
                picture = open_image(found[Path(photo).stem])
                picture = picture.resize(
                    (width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS
                )
                sheet.paste(
                    picture.crop((0, 0, width, min(height, picture.height))),
                    (x * (width + GAP), TITLE + y * (height + GAP)),
                )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.out)
    print(f"{arguments.out}: {sheet.width} x {sheet.height} pixels")
    return 0
