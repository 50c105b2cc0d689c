"""The style that pictures share."""

from __future__ import annotations

import functools

from experiments import lab

INK, PALE = "#111111", "#BBBBBB"
STYLE: dict[str, bool | float | str] = {
    **{"font.size": 9.5, "axes.titlesize": 11, "axes.titlelocation": "left"},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False},
}
styled = functools.partial(lab.styled, style=STYLE)
