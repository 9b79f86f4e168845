"""The photo's own colors on a stylized picture."""

from __future__ import annotations

from PIL import Image


def with_colors_of(photo: Image.Image, result: Image.Image) -> Image.Image:
    """Brightness of the result, color of the photo (luminance-only transfer: Gatys et al. 2016, Preserving color in
    neural artistic style transfer, section 4). Both RGB and of one size."""
    brightness = result.convert("YCbCr").getchannel("Y")
    _, blue, red = photo.convert("YCbCr").split()
    return Image.merge("YCbCr", (brightness, blue, red)).convert("RGB")
