"""The machine and the commit of a measurement."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

from seqcells.engines._machine import cpuinfo

VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}  # in Linux's names, the widest first


def cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # available on Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def processor() -> str:
    """Return the processor and its widest vectors, such as "AMD EPYC, AVX-512"."""
    name = cpuinfo("model name") or platform.processor() or platform.machine()
    flags = cpuinfo("flags").split()
    widest = [vectors for flag, vectors in VECTORS.items() if flag in flags]
    return ", ".join([name, *widest[:1]])


def today() -> str:
    """Return the date, UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def commit(*paths: str) -> str:
    """Return the commit, with a + if these paths have changed since."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        line = ["git", "-C", str(root), *arguments]
        return subprocess.run(
            line, capture_output=True, encoding="utf-8", check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *paths)
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # not a git clone
