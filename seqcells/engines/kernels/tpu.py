"""TPU kernels in Pallas, which keep the carry in the core's memory from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from seqcells._types import PyTree, Shape
from seqcells.engines.deferred.shapes import StepShapes
from seqcells.engines.kernels import _blocks, _products, _time_loop
from seqcells.engines.kernels._blocks import Blocks, Sizes
from seqcells.engines.kernels._engine import LEAST_EXACT, KernelEngine, default_precision
from seqcells.engines.kernels._loops import Kernels, cast_matrices, with_dot
from seqcells.engines.kernels._tiles import STEP, StepSpec
from seqcells.engines.kernels._time_loop import TimeLoop

LANES = 128  # units of a register
ROWS = 8, 128  # rows of a tile: a multiple of the first, up to the second
STEPS = 16  # steps per block, at most; they are copied together
MATRIX_BYTES = 13 * 2**19  # half of 13 of a kernel's 16 MiB: every input is in memory twice
STEP_BYTES = 2**20  # of a block of steps, which is in memory twice as well
PRODUCTS = {  # the operands' dtype, and the precision of JAX's product
    "bfloat16": (jnp.bfloat16, None),
    "float32": (jnp.float32, jax.lax.Precision.HIGHEST),
}


@dataclasses.dataclass(frozen=True)
class PallasTPU(KernelEngine):
    """Run all steps of GRU, LSTM, MGU or RNN in one TPU kernel; the backward pass in another.

    Blocks of steps are copied to the core's memory in turn, while the carry and the recurrent
    matrices stay there. The rest is as in `PallasTriton`. It was compiled for a TPU v5e, but has
    not been run on a TPU.

    Args:
        precision: the dtype of the operands of the recurrent product: "float32" or "bfloat16". None
            chooses "bfloat16" for cells that compute in it, and if `jax_default_matmul_precision`
            allows it, as it does on a TPU by default; else "float32".
        chunk: steps per launch, at least 1; need not divide T. None chooses by size.
        interpret: whether to run the kernel in plain JAX operations on any device, for tests; slow.

    Raises:
        ValueError: on another precision, or a chunk below 1.
        TypeError: on an argument of the wrong type.
    """

    PLATFORM: ClassVar[str] = "tpu"
    PRECISIONS: ClassVar[tuple[str, ...]] = tuple(PRODUCTS)
    MEMORY: ClassVar[str] = "core"

    def room(self, step: StepShapes, precision: str) -> tuple[int, int, int]:
        """Return the padded units, the bytes of their matrices, and the limit of bytes."""
        gates, units = _products.sizes(step)
        width, item = _width(units), jnp.dtype(PRODUCTS[precision][0]).itemsize
        return width, gates * width * width * item, MATRIX_BYTES

    def choose_precision(self, dtype: jnp.dtype) -> str:
        """Choose a precision that is at least what JAX is configured to use."""
        low = dtype == jnp.bfloat16 or default_precision() in LEAST_EXACT
        return "bfloat16" if low else "float32"

    def loops(self, precision: str) -> Kernels:
        """Return the loops of this engine in a precision."""
        return _TPULoops(precision, interpret=self.interpret)


@dataclasses.dataclass(frozen=True)
class _TPULoops(Kernels):
    precision: str
    interpret: bool

    def launch(self, loop: TimeLoop, spec: StepSpec, inputs: Blocks, out: Blocks) -> Blocks:
        """Run a kernel: a block for some rows and some steps; blocks of steps run in order."""
        from jax.experimental.pallas import tpu

        like = out.steps[0]
        grid = _Grid.of(like, arrays=len(jax.tree.leaves((inputs.steps, out.steps))))
        if grid.length % grid.block and inputs.code is None:  # the added steps are padding
            code = jnp.full((grid.length, grid.rows, 1), STEP, jnp.int32)
            inputs = inputs._replace(code=code)
        operand, precision = PRODUCTS[self.precision]
        operand, spec = with_dot(spec, operand, precision, like, interpret=self.interpret)
        state = jax.eval_shape(loop.init, inputs)

        def kernel(inputs: Blocks, outputs: Blocks, *scratch: PyTree) -> None:
            @pl.when(pl.program_id(1) == 0)
            def _() -> None:
                _time_loop.store(scratch, loop.init(inputs))

            start = jax.tree.unflatten(jax.tree.structure(state), _time_loop.load(scratch))
            last = _time_loop.steps(loop, spec, inputs, outputs, start)
            _time_loop.store(scratch, last)
            _time_loop.store(outputs.rows, last if outputs.rows is not None else None)

        scratch = [tpu.VMEM((grid.tile, grid.width), a.dtype) for a in jax.tree.leaves(state)]
        params = tpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"))
        return _blocks.call(
            loop.name,
            kernel,
            inputs=cast_matrices(inputs, operand),
            out=out,
            sizes=Sizes(grid.blocks * grid.block, grid.tiles * grid.tile, grid.width),
            cut=grid.cut(reverse=loop.reverse),
            grid=(grid.tiles, grid.blocks),
            scratch_shapes=scratch,
            interpret=self.interpret,
            compiler_params=None if self.interpret else params,
        )


class _Grid(NamedTuple):
    """The blocks into which a problem is cut."""

    length: int  # steps
    rows: int
    width: int  # units, padded
    tile: int  # rows of a block
    block: int  # steps of a block

    @classmethod
    def of(cls, like: jax.ShapeDtypeStruct, arrays: int) -> _Grid:
        """Cut a problem whose kernel uses `arrays` arrays shaped like `like` [C, N, H]."""
        length, rows, units = like.shape
        width = _width(units)
        row_bytes = 4 * width * arrays
        most = min(max(STEP_BYTES // row_bytes // ROWS[0], 1) * ROWS[0], ROWS[1])
        tile = min(-(-rows // ROWS[0]) * ROWS[0], most)
        block = min(max(STEP_BYTES // row_bytes // tile, 1), STEPS, length)
        return cls(length, rows, width, tile, block)

    @property
    def blocks(self) -> int:
        """The number of blocks along time."""
        return -(-self.length // self.block)

    @property
    def tiles(self) -> int:
        """The number of blocks along rows."""
        return -(-self.rows // self.tile)

    def cut(self, *, reverse: bool) -> dict[str, Callable[[Shape], pl.BlockSpec]]:
        """Return the block spec of each kind."""

        def steps(shape: Shape) -> pl.BlockSpec:
            order = lambda t: self.blocks - 1 - t if reverse else t  # noqa: E731
            block = (self.block, self.tile, shape[-1])
            return pl.BlockSpec(block, lambda i, t: (order(t), i, 0))

        return {
            "steps": steps,
            "code": steps,
            "rows": lambda shape: pl.BlockSpec((self.tile, self.width), lambda i, t: (i, 0)),
            "whole": lambda shape: pl.BlockSpec(shape, lambda i, t: (0,) * len(shape)),
        }


def _width(size: int) -> int:
    """Return `size` rounded up to whole registers."""
    return -(-size // LANES) * LANES
