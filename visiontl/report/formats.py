"""How numbers and names are written: in lines, tables and pages. Imports no torch."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, cast

RATES = ("lr", "peak lr", "learning rate")  # columns whose values span decades
SPELLED = {
    "auc": "AUC",
    "eer": "EER",
    "iou": "IoU",
    "map": "mAP",
    "miou": "mIoU",
    "psnr": "PSNR",
    "rmse": "RMSE",
    "ssim": "SSIM",
}


def human(count: float) -> str:
    """A count with three significant digits and a unit: 3504872 -> '3.5 M'."""
    if not math.isfinite(count):
        return str(count)
    for unit in ("", " k", " M", " G", " T"):
        short = f"{count:.3g}" if abs(count) < 999.5 else ""
        if short or unit == " T":
            return (short or f"{count:,.0f}") + unit
        count /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds -> 'm:ss', or 'h:mm:ss' from an hour on."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def scientific(value: float, digits: int = 1) -> str:
    """0.001 -> '1.0e-3': `digits` after the point, no padding in the exponent."""
    if not math.isfinite(value):
        return str(value)
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def number(value: float, digits: int = 4) -> str:
    """A measured number with `digits` significant digits from 1 on, as many decimals below, and
    in scientific notation where those would show nothing. Integers get thousands separators."""
    if isinstance(value, int):
        return f"{value:,}"
    value = float(value)
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    size = abs(value)
    if size < 10**-digits or size >= 1e9:
        return scientific(value, max(0, digits - 2))
    decimals = digits if size < 1 else max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"


def cell(value: Any, column: str = "") -> str:
    """Anything that stands in a table -> text. None and NaN are '-'; learning rates keep their digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and column in RATES and math.isfinite(value) and 0 < abs(value) < 0.1:
        short = scientific(value, 2)
        return short.replace("0e", "e")  # 1.00e-3 -> 1.0e-3
    if isinstance(value, int | float):
        return {math.inf: "infinite", -math.inf: "-infinite"}.get(value) or number(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        value = cast(Mapping[Any, Any], value)
        return ", ".join(f"{key}: {cell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, Sequence):
        value = cast(Sequence[Any], value)
        return ", ".join(cell(item) for item in value) or "-"
    item = getattr(value, "item", None)  # a NumPy or torch scalar
    return cell(item()) if callable(item) and getattr(value, "ndim", None) == 0 else str(value)


def titled(name: str) -> str:
    """A score's or a column's name for people: 'miou_per_image' -> 'mIoU per image'."""
    return " ".join(SPELLED.get(word, word) for word in name.replace("_", " ").split(" "))


def columns_wide(text: str) -> int:
    """How many columns of a terminal the text takes."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def labeled(name: str, value: float) -> str:
    """One value of a progress line: 'loss 0.4312', 'lr 1.0e-3', 'grad 0.82'."""
    if name == "lr" or name.startswith("lr_"):
        return f"{name} {scientific(value)}"
    if name == "grad_norm":
        return f"grad {number(float(value), 2)}"
    return f"{name} {number(value)}"
