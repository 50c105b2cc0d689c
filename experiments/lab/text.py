"""Numbers, shares and lists as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from experiments.lab.intervals import wilson


def interval(k: int, n: int) -> str:
    """Format the 95 % Wilson interval of a share."""
    low, high = wilson(k, n)
    return f"{low:.2f} to {high:.2f}"


def words(items: Sequence[str]) -> str:
    """Join items as in a sentence: a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def short(value: float) -> str:
    """Format a number with two significant digits: 0.012, 390, 1.7e-4."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    mantissa, exponent = f"{value:.1e}".split("e")
    if value == 0 or -3 <= int(exponent) < 4:
        return f"{float(f'{value:.2g}'):g}"
    return f"{float(mantissa):g}e{int(exponent)}"


def decimal(value: float) -> str:
    """Format a setting with three significant digits and no exponent: 0.0005, 0.000167."""
    return f"{float(f'{value:.3g}'):.12f}".rstrip("0").rstrip(".")


def brief(name: str, most: int = 20) -> str:
    """Write a name without its middle if it is longer than so many letters."""
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[:half]}...{name[-half:]}"
