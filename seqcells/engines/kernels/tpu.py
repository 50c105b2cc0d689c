"""Kernels for a TPU in Pallas: the carry stays in the core's memory from step to step."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from seqcells.cells._dense import DenseCell
from seqcells.engines.kernels import _blocks, _march
from seqcells.engines.kernels._blocks import Blocks, Sizes
from seqcells.engines.kernels._engine import LEAST_EXACT, KernelEngine, default_precision
from seqcells.engines.kernels._loops import Kernels, cast, multiplied
from seqcells.engines.kernels._march import March
from seqcells.engines.kernels._tiles import STEP, Rule

LANES = 128  # units of a register
ROWS = 8, 128  # of a tile: a multiple of the first, up to the second
STEPS = 16  # of a block, at most; they pass through memory together
MATRIX_BYTES = 13 * 2**19  # half of 13 of the 16 MiB that a kernel has: all it reads is there twice
STEP_BYTES = 2**20  # of a block of steps, which is there twice as well
PRODUCTS = {  # the operands' dtype, and how JAX is to multiply them
    "bfloat16": (jnp.bfloat16, None),
    "float32": (jnp.float32, jax.lax.Precision.HIGHEST),
}


@dataclasses.dataclass(frozen=True)
class PallasTPU(KernelEngine):
    """Run GRU, LSTM, MGU or RNN over all of time in one TPU kernel, and back in another.

    Steps pass through the core's memory some at a time while the carry and the matrices of the
    recurrence stay there. The rest is as in `PallasTriton`. It was compiled for a TPU v5e, and has
    run on none.

    Args:
        precision: of the operands of the recurrent product: "float32" or "bfloat16". Where None:
            "bfloat16" for cells that compute in it, and where `jax_default_matmul_precision` asks
            for no more, as JAX does on a TPU; else "float32".
        chunk: steps of one launch, at least 1; need not divide T. Chosen by size where None.
        interpret: whether the kernel is run in plain JAX operations instead, on any device: slow,
            to check it.

    Raises:
        ValueError: on another precision, or a chunk below 1.
        TypeError: on an argument of the wrong type.
    """

    PLATFORM: ClassVar[str] = "tpu"
    PRECISIONS: ClassVar[tuple[str, ...]] = tuple(PRODUCTS)
    MEMORY: ClassVar[str] = "core"

    def room(self, cell: DenseCell, precision: str) -> tuple[int, int, int]:
        """Return the units that a kernel computes, the bytes of their matrices, and the most."""
        width = _width(cell.hidden_size)
        item = jnp.dtype(PRODUCTS[precision][0]).itemsize
        return width, len(cell.GATES) * width * width * item, MATRIX_BYTES

    def product(self, dtype: Any) -> str:
        """Choose how operands are multiplied: at least as exactly as JAX is asked to."""
        low = dtype == jnp.bfloat16 or default_precision() in LEAST_EXACT
        return "bfloat16" if low else "float32"

    def kernels(self) -> Kernels:
        """Return the loops of this engine."""
        assert self.precision is not None
        return _TPULoops(self.precision, self.interpret)


@dataclasses.dataclass(frozen=True)
class _TPULoops(Kernels):
    precision: str
    interpret: bool

    def launch(self, march: March, rule: Rule, read: Blocks, made: Blocks) -> Blocks:
        """Run a kernel, a block for some rows and some steps, which are taken in order."""
        from jax.experimental.pallas import tpu

        shape = made.steps[0]
        length, rows, units = shape.shape
        width = _width(units)
        row_bytes = 4 * width * len(jax.tree.leaves((read.steps, made.steps)))
        most = min(max(STEP_BYTES // row_bytes // ROWS[0], 1) * ROWS[0], ROWS[1])
        tile = min(-(-rows // ROWS[0]) * ROWS[0], most)
        block = min(max(STEP_BYTES // row_bytes // tile, 1), STEPS, length)
        blocks, tiles = -(-length // block), -(-rows // tile)
        if length % block and read.code is None:  # the steps that are added are padding
            read = read._replace(code=jnp.full((length, rows, 1), STEP, jnp.int32))
        operand, precision = PRODUCTS[self.precision]
        operand, rule = multiplied(rule, operand, precision, shape, self.interpret)
        state = jax.eval_shape(march.start, read)

        def kernel(read: Blocks, made: Blocks, *kept: Any) -> None:
            @pl.when(pl.program_id(1) == 0)
            def _() -> None:
                _march.store(kept, march.start(read))

            start = jax.tree.unflatten(jax.tree.structure(state), _march.load(kept))
            last = _march.steps(march, rule, read, made, start)
            _march.store(kept, last)
            _march.store(made.rows, last if made.rows is not None else None)

        def steps(shape: tuple[int, ...]) -> pl.BlockSpec:
            order = lambda t: blocks - 1 - t if march.back else t  # noqa: E731
            return pl.BlockSpec((block, tile, shape[-1]), lambda i, t: (order(t), i, 0))

        return _blocks.call(
            march.name,
            kernel,
            *(cast(read, operand), made),
            Sizes(blocks * block, tiles * tile, width),
            {
                "steps": steps,
                "code": steps,
                "rows": lambda shape: pl.BlockSpec((tile, width), lambda i, t: (i, 0)),
                "whole": lambda shape: pl.BlockSpec(shape, lambda i, t: (0,) * len(shape)),
            },
            grid=(tiles, blocks),
            scratch_shapes=[tpu.VMEM((tile, width), a.dtype) for a in jax.tree.leaves(state)],
            interpret=self.interpret,
            compiler_params=None
            if self.interpret
            else tpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        )


def _width(size: int) -> int:
    """Return the whole registers that hold `size` units."""
    return -(-size // LANES) * LANES
