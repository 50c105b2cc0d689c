"""Properties of a CPU that schedules depend on: caches, and the pages of memory."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # on Linux
MIB = 2**20
KEPT_BYTES = 24 * MIB  # of stored values: above about 32 MiB in all, every call maps memory again
HUGE_BYTES = 128 * MIB  # the same with huge pages or kept blocks; for more, too few may be free
KEEPING = ("mmap_threshold", "trim_threshold")  # settings of the C library
LARGE = 256 * MIB
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@functools.cache
def level_2() -> int | None:
    """Return the size of a core's L2 cache in bytes, or None if it is not known."""
    try:
        for folder in CACHES.glob("index*"):
            if _words(folder / "level") == ["2"]:
                return int(_words(folder / "size")[0].removesuffix("K")) * 1024
    except (OSError, ValueError):  # a container may hide them
        pass
    return None


@functools.cache
def huge_pages() -> bool:
    """Return whether large blocks of memory consist of huge pages.

    At every call, XLA allocates blocks of more than about 32 MiB from the system again, which maps
    them page by page. Linux uses huge pages for them if it is set to "always", or if the C library
    asks for them: set `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` before Python starts.
    """
    asked = re.search(r"glibc\.malloc\.hugetlb=([12])", os.environ.get("GLIBC_TUNABLES", ""))
    try:
        words = _words(PAGES)  # such as "always [madvise] never"
    except OSError:
        return False
    if asked is not None:
        return asked[1] == "2" or "[never]" not in words
    return "[always]" in words


@functools.cache
def keeps_blocks() -> bool:
    """Return whether the C library keeps freed blocks up to `LARGE` for the next call.

    By default it returns blocks of more than 32 MiB to the system. It keeps them if both numbers in
    `GLIBC_TUNABLES=glibc.malloc.mmap_threshold=N:glibc.malloc.trim_threshold=M` are large.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    sizes = [re.search(rf"glibc\.malloc\.{name}=(\d+)", tunables) for name in KEEPING]
    return all(size is not None and int(size[1]) >= LARGE for size in sizes)


def maps_cheaply() -> bool:
    """Return whether blocks of up to `HUGE_BYTES` take little time to allocate."""
    return huge_pages() or keeps_blocks()


def cpuinfo(field: str) -> str:
    """Return a field of /proc/cpuinfo for the first core; "" on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == field), "")


def _words(file: Path) -> list[str]:
    return file.read_text("ascii").split()
