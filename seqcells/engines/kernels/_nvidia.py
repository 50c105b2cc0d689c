"""Limits of NVIDIA GPUs, and the CUDA compiler that `jax[cuda13]` and `jax[cuda12]` install."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

import jax

# The virtual architecture and PTX version of compiled kernels, as old as possible, because the
# driver that reads PTX may be older than the compiler that writes it.
ARCHITECTURE, VERSION = "compute_90", "8.0"


class GPU(NamedTuple):
    """The properties of a GPU that are used here, named as in `jax.Device`."""

    compute_capability: str
    shared_memory_per_block_optin: int  # bytes


H200 = GPU("9.0", 227 * 1024)
LEAST = 99 * 1024  # bytes of shared memory that a block may use on every GPU since Ampere


def gpu() -> object:
    """Return the GPU, or the properties of an H200 if there is none."""
    return jax.devices()[0] if jax.default_backend() == "gpu" else H200


def why_not(least: float) -> str | None:
    """Return that this is not an NVIDIA GPU of at least a compute capability, or None."""
    capability = str(getattr(gpu(), "compute_capability", ""))
    if capability[:1].isdecimal() and float(capability) >= least:
        return None
    return f"it needs an NVIDIA GPU of compute capability {least} or above, got {capability!r}"


def shared_bytes() -> int:
    """Return the bytes of shared memory that a block may use."""
    return getattr(gpu(), "shared_memory_per_block_optin", LEAST)


def why_no_compiler() -> str | None:
    """Return that the compiler is missing, or None."""
    if _library() is not None:
        return None
    return 'it needs NVRTC, which no installed package contains: pip install "jax[cuda13]"'


@functools.lru_cache(maxsize=256)
def compile_ptx(source: str) -> str:
    """Compile CUDA C++.

    Args:
        source: one file without includes.

    Returns:
        PTX.

    Raises:
        RuntimeError: with the log of the compiler; or if there is no compiler.
    """
    library = _library()
    if library is None:
        raise RuntimeError(why_no_compiler())
    program = ctypes.c_void_p()
    code = library.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"time_loop.cu", 0, None, None
    )
    if code != 0:
        raise RuntimeError(f"NVRTC: nvrtcCreateProgram returned {code}")
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
    """Return the version at the end of a library's file name."""
    return tuple(map(int, path.rsplit(".so.", 1)[1].split(".")))


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Load the library of an installed package, or else that of the system."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    paths = [str(path) for folder in folders for path in Path(folder).glob("*/lib/libnvrtc.so.*")]
    system = ctypes.util.find_library("nvrtc")
    for name in [*sorted(paths, key=_version, reverse=True), *([system] if system else [])]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
