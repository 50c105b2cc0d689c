"""The style that pictures share."""

from __future__ import annotations

from matplotlib.typing import RcKeyType

INK, PALE = "#111111", "#BBBBBB"
STYLE: dict[RcKeyType, bool | float | str] = {
    **{"font.size": 9.5, "axes.titlesize": 11, "axes.titlelocation": "left"},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False},
}
