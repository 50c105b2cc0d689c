"""Kernels in CUDA run on a CPU, a lane at a time: `execute` takes the place of a launch."""

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import jax
import numpy as np

from seqcells.engines.kernels import _cuda

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
FOLDER = tempfile.TemporaryDirectory(prefix="emulator-")  # of what is compiled, until the end
LAUNCHED = []  # the kernels that ran
LOCK = threading.Lock()


def execute(kernel, members, args, out):
    """Compute what `cluster.execute` does, on a CPU."""
    layout = kernel.layout

    def call(*arrays):
        arrays = [np.ascontiguousarray(a) for a in arrays]
        arrays += [np.empty(one.shape, one.dtype) for one in out]
        count = len(arrays)
        sizes = (ctypes.c_int * count)(*(a.itemsize for a in arrays))
        nbytes = (ctypes.c_size_t * count)(*(a.nbytes for a in arrays))
        pointers = (ctypes.c_void_p * count)(*(a.ctypes.data for a in arrays))
        run = _library(kernel.source).run
        run.restype = ctypes.c_char_p
        with LOCK:
            LAUNCHED.append(kernel)
            grid = members * kernel.tiles, layout.threads, layout.shared_bytes // 4, len(LAUNCHED)
            failure = run(*grid, count, len(out), sizes, nbytes, pointers)
        if failure:
            raise RuntimeError(f"emulator: {failure.decode()}")
        return arrays[-len(out) :]

    return jax.pure_callback(call, list(out), *args)


def _library(source):
    """Compile a kernel for a CPU."""
    device = (_cuda.HERE / "device.cuh").read_text("utf-8")
    assert device in source
    source = source.replace(device, (HERE / "emulator.cuh").read_text("utf-8"))
    return build(source + (HERE / "entry.cu").read_text("utf-8"))


@functools.cache
def build(source):
    """Compile C++, once."""
    stem = Path(FOLDER.name) / hashlib.sha256(source.encode()).hexdigest()
    stem.with_suffix(".cpp").write_text(source, encoding="utf-8")
    options = ["-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-ffp-contract=off"]
    files = [stem.with_suffix(".cpp"), "-o", stem.with_suffix(".so")]
    subprocess.run([COMPILER, *options, *files], check=True)
    return ctypes.CDLL(str(stem.with_suffix(".so")))
