"""GPU kernels in CUDA, with matrices that are distributed over several multiprocessors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from seqcells._cell import Cell
from seqcells._flags import Flags
from seqcells._types import Inputs
from seqcells.engines._platform import varying
from seqcells.engines.deferred.shapes import StepShapes
from seqcells.engines.kernels import _blocks, _nvidia, _products
from seqcells.engines.kernels._blocks import Blocks, Sizes
from seqcells.engines.kernels._cuda import Kernel, Layout, padded_units, write
from seqcells.engines.kernels._engine import KernelEngine, compute_dtype, default_precision
from seqcells.engines.kernels._loops import Kernels, PlainKernels, cast_matrices, with_dot
from seqcells.engines.kernels._tiles import StepSpec
from seqcells.engines.kernels._time_loop import TimeLoop

ROUGH = ("bfloat16", "BF16_BF16_F32", "fastest")  # `jax_default_matmul_precision`


@dataclasses.dataclass(frozen=True)
class CUDACluster(KernelEngine):
    """Run all steps of GRU, LSTM, MGU or RNN in one GPU kernel, with matrices on several blocks.

    A cluster of up to eight blocks runs some rows of the batch through every step. Each block holds
    the columns of the matrices for its own units, in registers and shared memory. The blocks
    exchange the operands of each product through shared memory, with one barrier per step. The rest
    is as in `PallasTriton`. Operands of products are bfloat16; sums, gates and the carry are
    float32.

    The kernel is compiled from CUDA C++ when a program is traced. It was tested and timed on an
    H200. Its source is also tested on a CPU, one lane at a time, which reveals races.

    Args:
        precision: the dtype of the operands of the recurrent product: "bfloat16". None rejects a
            cell that computes in a wider dtype, unless `jax_default_matmul_precision` allows
            bfloat16.
        chunk: steps per launch, at least 1; need not divide T. None chooses by size.
        interpret: whether to run the kernel as a plain scan, on any device.

    Raises:
        ValueError: on another precision, or a chunk below 1.
        TypeError: on an argument of the wrong type.
    """

    PLATFORM: ClassVar[str] = "gpu"
    PRECISIONS: ClassVar[tuple[str, ...]] = ("bfloat16",)
    MEMORY: ClassVar[str] = "multiprocessor"

    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return the first limit that the cell or the inputs exceed, or None."""
        reason = super().why_not(cell, xs, flags)
        if reason is not None or self.precision is not None:
            return reason
        if compute_dtype(cell, xs) == jnp.bfloat16 or default_precision() in ROUGH:
            return None
        return 'it multiplies in bfloat16; to allow that, pass precision="bfloat16"'

    def why_not_device(self) -> str | None:
        """Return why the device cannot run it, or None."""
        return _nvidia.why_not(9.0) or _nvidia.why_no_compiler()

    def room(self, step: StepShapes, precision: str) -> tuple[int, int, int]:
        """Return the padded units, the bytes that they need, and the limit of bytes."""
        leaves = len(jax.tree.leaves(step.carry))
        gates, units = _products.sizes(step)
        width = padded_units(units)
        reads = leaves * (1 + leaves + gates)  # a cotangent, and slopes of each leaf by all
        back = Layout(width, gates, gates, 8 * reads + 12 * leaves)
        return width, back.shared_bytes, _nvidia.shared_bytes()

    def choose_precision(self, dtype: jnp.dtype) -> str:
        """Return the only precision."""
        return "bfloat16"

    def loops(self, precision: str) -> Kernels:
        """Return the loops of this engine."""
        return _ClusterLoops(interpret=self.interpret)


@dataclasses.dataclass(frozen=True)
class _ClusterLoops(Kernels):
    interpret: bool

    def launch(self, loop: TimeLoop, spec: StepSpec, inputs: Blocks, out: Blocks) -> Blocks:
        """Run a kernel: a cluster for some rows and all steps."""
        like = out.steps[0]
        if self.interpret:
            _, spec = with_dot(spec, jnp.dtype(jnp.bfloat16), None, like, interpret=True)
            return PlainKernels().launch(loop, spec, inputs, out)
        length, rows, units = like.shape
        sizes = Sizes(length, rows, padded_units(units))
        inputs = _blocks.pad(cast_matrices(inputs, jnp.dtype(jnp.bfloat16)), sizes)
        padded = _blocks.padded(out, sizes)
        kernel = write(loop, spec, inputs, padded, sizes, units)
        shapes, structure = jax.tree.flatten(padded)
        # A checked shard_map assumes that outputs are the same on all devices, unless marked.
        members = varying([a[None] for a in jax.tree.leaves(inputs)], inputs)
        outputs = _run_members(kernel, shapes)(*members)
        outputs = jax.tree.unflatten(structure, varying([a[0] for a in outputs], inputs))
        return _blocks.crop(outputs, out)


def _run_members(
    kernel: Kernel, shapes: Sequence[jax.ShapeDtypeStruct]
) -> Callable[..., Sequence[jax.Array]]:
    """Return a function of arrays with a leading axis, whose members are independent runs.

    `jax.vmap` makes that axis longer, so a batch is still one launch.
    """

    @jax.custom_batching.custom_vmap
    def members(*args: jax.Array) -> Sequence[jax.Array]:
        count = len(args[0])
        out = [jax.ShapeDtypeStruct((count, *one.shape), one.dtype) for one in shapes]
        if count == 0:
            return [jnp.zeros(one.shape, one.dtype) for one in out]
        return execute(kernel, count, args, out)

    @members.def_vmap
    def _(
        size: int, batched: Sequence[bool], *args: jax.Array
    ) -> tuple[Sequence[jax.Array], Sequence[bool]]:
        whole = [
            a if one else jnp.broadcast_to(a, (size, *a.shape))
            for a, one in zip(args, batched, strict=True)
        ]
        count = size * whole[0].shape[1]
        outputs = members(*(a.reshape(count, *a.shape[2:]) for a in whole))
        outputs = [a.reshape(whole[0].shape[:2] + a.shape[1:]) for a in outputs]
        return outputs, [True] * len(outputs)

    return members


def execute(
    kernel: Kernel, members: int, args: Sequence[jax.Array], out: Sequence[jax.ShapeDtypeStruct]
) -> Sequence[jax.Array]:
    """Launch a kernel on a GPU."""
    layout = kernel.layout
    call = jax.ffi.ffi_call("__gpu$xla.gpu.ptx", out, custom_call_api_version=4)
    blocks = {"x": members * kernel.tiles * layout.blocks, "y": 1, "z": 1}
    threads = {"x": layout.threads, "y": 1, "z": 1}
    return call(
        *args,
        name=kernel.name,
        kernel_type="ptx",
        kernel_data=_nvidia.compile_ptx(kernel.source),
        shared_mem_bytes=np.int32(layout.shared_bytes),
        **{f"grid_{axis}": np.int32(n) for axis, n in blocks.items()},
        **{f"block_{axis}": np.int32(n) for axis, n in threads.items()},
    )
