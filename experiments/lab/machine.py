"""Where something was measured, and of which code."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def today() -> str:
    """The date, UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def commit(*paths: str) -> str:
    """Return the commit, with a + where these paths were changed since."""
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
        return "unknown"  # no clone
