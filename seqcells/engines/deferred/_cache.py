"""The caches of this processor."""

from __future__ import annotations

import functools
from pathlib import Path

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # on Linux


@functools.cache
def level_2() -> int | None:
    """Return the bytes of a core's second cache; None where nothing says so."""
    try:
        for folder in CACHES.glob("index*"):
            if (folder / "level").read_text("ascii").strip() == "2":
                return int((folder / "size").read_text("ascii").strip().removesuffix("K")) * 1024
    except (OSError, ValueError):  # a container may hide them
        pass
    return None
