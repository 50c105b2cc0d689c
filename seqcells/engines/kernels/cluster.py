"""Kernels for a GPU in CUDA: matrices are cut over multiprocessors, which march in step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from seqcells._cell import Cell
from seqcells._flags import Flags
from seqcells.cells._dense import DenseCell
from seqcells.engines._platform import varying
from seqcells.engines.kernels import _blocks, _nvidia
from seqcells.engines.kernels._blocks import Blocks, Sizes
from seqcells.engines.kernels._cuda import Kernel, Plan, padded_units, write
from seqcells.engines.kernels._engine import KernelEngine, computed_in, default_precision
from seqcells.engines.kernels._loops import Kernels, Scanned, cast, multiplied
from seqcells.engines.kernels._march import March
from seqcells.engines.kernels._tiles import Rule

ROUGH = ("bfloat16", "BF16_BF16_F32", "fastest")  # `jax_default_matmul_precision`


@dataclasses.dataclass(frozen=True)
class CUDACluster(KernelEngine):
    """Run GRU, LSTM, MGU or RNN over all of time in one GPU kernel, larger than one block holds.

    Up to eight blocks of a kernel, a cluster, take some rows of the batch through every step. Each
    holds the columns of the matrices that make its own units, in registers and in its
    multiprocessor's memory; what is multiplied they exchange between those memories, with one
    barrier a step. The rest is as in `PallasTriton`. It multiplies in bfloat16, sums and computes
    in float32, and its carry is float32.

    It is compiled from CUDA C++ where a program is traced. It was compiled for an H200, and its
    source was run on a CPU, a lane at a time; no device has run it.

    Args:
        precision: of the operands of the recurrent product: "bfloat16". Where None, a cell that
            computes in a wider dtype is refused, unless `jax_default_matmul_precision` asks for no
            more.
        chunk: steps of one launch, at least 1; need not divide T. Chosen by size where None.
        interpret: whether the kernel is run as a plain scan instead, on any device.

    Raises:
        ValueError: on another precision, or a chunk below 1.
        TypeError: on an argument of the wrong type.
    """

    PLATFORM: ClassVar[str] = "gpu"
    PRECISIONS: ClassVar[tuple[str, ...]] = ("bfloat16",)
    MEMORY: ClassVar[str] = "multiprocessor"

    def why_not(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say which limit stands in the way, or return None."""
        reason = super().why_not(cell, xs, flags)
        if reason is not None or self.precision is not None:
            return reason
        if computed_in(cell, xs) == jnp.bfloat16 or default_precision() in ROUGH:
            return None
        return 'it multiplies in bfloat16; say precision="bfloat16" to have that'

    def why_not_device(self) -> str | None:
        """Say why the device cannot run it, or return None."""
        return _nvidia.why_not(9.0) or _nvidia.why_no_compiler()

    def room(self, cell: DenseCell, precision: str) -> tuple[int, int, int]:
        """Return the units that a kernel computes, the bytes that they take, and the most."""
        x = jax.ShapeDtypeStruct((1, 1), "float32")
        leaves = len(jax.tree.leaves(jax.eval_shape(cell.init_carry, x)))
        gates, width = len(cell.GATES), padded_units(cell.hidden_size)
        reads = leaves * (1 + leaves + gates)  # a cotangent, and slopes of each leaf by all
        back = Plan(width, gates, gates, 8 * reads + 12 * leaves)
        return width, back.shared_bytes, _nvidia.shared_bytes()

    def product(self, dtype: Any) -> str:
        """Choose how operands are multiplied."""
        return "bfloat16"

    def kernels(self) -> Kernels:
        """Return the loops of this engine."""
        return _ClusterLoops(self.interpret)


@dataclasses.dataclass(frozen=True)
class _ClusterLoops(Kernels):
    interpret: bool

    def launch(self, march: March, rule: Rule, read: Blocks, made: Blocks) -> Blocks:
        """Run a kernel, a cluster for some rows and all steps."""
        if self.interpret:
            _, rule = multiplied(rule, jnp.bfloat16, None, made.steps[0], interpret=True)
            return Scanned().launch(march, rule, read, made)
        length, rows, units = made.steps[0].shape
        sizes = Sizes(length, rows, padded_units(units))
        given = _blocks.pad(cast(read, jnp.bfloat16), sizes)
        padded = _blocks.padded(made, sizes)
        kernel = write(march, rule, given, padded, sizes, units)
        shapes, structure = jax.tree.flatten(padded)

        @jax.custom_batching.custom_vmap
        def members(*given: jax.Array) -> Sequence[jax.Array]:
            """Run on arrays with an axis before all others, one member of which is a run."""
            count = len(given[0])
            out = [jax.ShapeDtypeStruct((count, *one.shape), one.dtype) for one in shapes]
            if count == 0:
                return [jnp.zeros(one.shape, one.dtype) for one in out]
            return execute(kernel, count, given, out)

        @members.def_vmap
        def _(size: int, batched: Sequence[bool], *given: jax.Array) -> Any:
            whole = [
                a if one else jnp.broadcast_to(a, (size, *a.shape))
                for a, one in zip(given, batched, strict=True)
            ]
            count = size * whole[0].shape[1]
            found = members(*(a.reshape(count, *a.shape[2:]) for a in whole))
            back = [a.reshape(whole[0].shape[:2] + a.shape[1:]) for a in found]
            return back, [True] * len(found)

        # A checked shard_map takes a result for the same on all devices, unless it is told.
        found = members(*varying([a[None] for a in jax.tree.leaves(given)], given))
        found = jax.tree.unflatten(structure, varying([a[0] for a in found], given))
        return _blocks.crop(found, made)


def execute(
    kernel: Kernel, members: int, given: Sequence[jax.Array], out: Sequence[jax.ShapeDtypeStruct]
) -> Sequence[jax.Array]:
    """Launch a kernel on a GPU."""
    plan = kernel.plan
    call = jax.ffi.ffi_call("__gpu$xla.gpu.ptx", out, custom_call_api_version=4)
    blocks = {"x": members * kernel.tiles * plan.blocks, "y": 1, "z": 1}
    threads = {"x": plan.threads, "y": 1, "z": 1}
    return call(
        *given,
        name=kernel.name,
        kernel_type="ptx",
        kernel_data=_nvidia.compile_ptx(kernel.source),
        shared_mem_bytes=np.int32(plan.shared_bytes),
        **{f"grid_{axis}": np.int32(n) for axis, n in blocks.items()},
        **{f"block_{axis}": np.int32(n) for axis, n in threads.items()},
    )
