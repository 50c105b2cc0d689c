"""What NVIDIA's GPUs offer, and the compiler that `jax[cuda13]` and `jax[cuda12]` bring along."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax

# The virtual architecture and the version of PTX that what is compiled needs, and no newer: the
# driver that reads it may be older than the compiler that writes it.
ARCHITECTURE, VERSION = "compute_90", "8.0"


class GPU(NamedTuple):
    """What is asked of a GPU, as JAX's devices call it."""

    compute_capability: str
    shared_memory_per_block_optin: int  # bytes


H200 = GPU("9.0", 227 * 1024)
LEAST = 99 * 1024  # bytes of memory that a block may use on any GPU since Ampere


def gpu() -> Any:
    """Return the GPU; where there is none, an H200 is described."""
    return jax.devices()[0] if jax.default_backend() == "gpu" else H200


def why_not(least: float) -> str | None:
    """Say that this is no NVIDIA GPU of a compute capability or above, or return None."""
    found = str(getattr(gpu(), "compute_capability", ""))
    if found[:1].isdecimal() and float(found) >= least:
        return None
    return f"it needs an NVIDIA GPU of compute capability {least} or above, got {found!r}"


def shared_bytes() -> int:
    """Return the bytes of a multiprocessor's memory that a block may use."""
    return getattr(gpu(), "shared_memory_per_block_optin", LEAST)


def why_no_compiler() -> str | None:
    """Say that the compiler is not there, or return None."""
    if _library() is not None:
        return None
    return "it needs NVRTC, which no installed package has: pip install 'jax[cuda13]'"


@functools.lru_cache(maxsize=256)
def compile_ptx(source: str) -> str:
    """Compile CUDA C++.

    Args:
        source: one file, which includes none.

    Returns:
        PTX.

    Raises:
        RuntimeError: with what the compiler says; or where it is not there.
    """
    library = _library()
    if library is None:
        raise RuntimeError(why_no_compiler())
    program = ctypes.c_void_p()
    made = library.nvrtcCreateProgram(
        *(ctypes.byref(program), source.encode(), b"march.cu", 0, None, None)
    )
    if made != 0:
        raise RuntimeError(f"NVRTC: nvrtcCreateProgram returned {made}")
    try:
        options = (ctypes.c_char_p * 1)(f"--gpu-architecture={ARCHITECTURE}".encode())
        failed = library.nvrtcCompileProgram(program, len(options), options)
        if failed:
            raise RuntimeError(f"NVRTC: {_text(library, 'ProgramLog', program)}")
        ptx = _text(library, "PTX", program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    return re.sub(r"(?m)^\.version .*$", f".version {VERSION}", ptx, count=1)


def _text(library: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, text)
    return text.value.decode()


def _version(path: str) -> tuple[int, ...]:
    """Return the version with which the name of a library ends."""
    return tuple(map(int, path.rsplit(".so.", 1)[1].split(".")))


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the library of an installed package, or else the system's."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [str(path) for folder in folders for path in Path(folder).glob("*/lib/libnvrtc.so.*")]
    system = ctypes.util.find_library("nvrtc")
    for name in [*sorted(found, key=_version, reverse=True), *([system] if system else [])]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
