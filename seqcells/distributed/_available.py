"""The number of cores that this process may use: its affinity, and its container's quota."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def count() -> int:
    """Return the number of cores, at least 1; on Linux that of this process, not of the machine."""
    affinity = getattr(os, "sched_getaffinity", None)  # only on Linux
    allowed = os.cpu_count() or 1 if affinity is None else len(affinity(0))
    return max(1, math.floor(min([allowed, *quotas()])))


def quotas() -> Iterator[float]:
    """Yield each limit on this process in cores: those of its control groups and their parents."""
    try:
        lines = OWN.read_text("utf-8").splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and "cpu" not in names.split(","):
            continue
        mount = GROUPS / names
        group = mount / path.strip("/")
        # Within a container the path may be that of the host, of which only the mount exists.
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                yield from _version_1(folder) if names else _version_2(folder)


def _version_2(folder: Path) -> Iterator[float]:
    words = _words(folder / "cpu.max")  # "max 100000" if there is no limit
    if len(words) == 2 and words[0] != "max":
        yield int(words[0]) / int(words[1])


def _version_1(folder: Path) -> Iterator[float]:
    quota, period = (_words(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota and period and int(quota[0]) > 0:  # -1 if there is no limit
        yield int(quota[0]) / int(period[0])


def _words(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8").split()
    except OSError:
        return []
