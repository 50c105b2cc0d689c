"""Kernels for a GPU in Pallas, by way of Triton: all of time in one launch."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from seqcells.cells._dense import DenseCell
from seqcells.engines.kernels import _blocks, _march, _nvidia
from seqcells.engines.kernels._blocks import Blocks, Sizes
from seqcells.engines.kernels._engine import LEAST_EXACT, KernelEngine, default_precision
from seqcells.engines.kernels._loops import Kernels, cast, multiplied
from seqcells.engines.kernels._march import March
from seqcells.engines.kernels._tiles import Rule

PRODUCTS = {  # the operands' dtype, how JAX is to multiply them, and the bytes that one takes
    "bfloat16": (jnp.bfloat16, None, 2),
    "tf32": (jnp.float32, jax.lax.DotAlgorithmPreset.TF32_TF32_F32, 4),
    "tf32x3": (jnp.float32, jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3, 8),
    "float32": (jnp.float32, jax.lax.DotAlgorithmPreset.F32_F32_F32, 16),  # through registers
}
LEAST = 16  # of units of a product
TILE = 16  # rows of a block, the least of a product: with more, registers do not suffice
ASKED = {  # by `jax_default_matmul_precision`; whatever else it says, "float32"
    "tf32": (*LEAST_EXACT, "high", "tensorfloat32", "TF32_TF32_F32"),
    "tf32x3": ("bfloat16_3x", "BF16_BF16_F32_X3", "BF16_BF16_F32_X6", "TF32_TF32_F32_X3"),
}


@dataclasses.dataclass(frozen=True)
class PallasTriton(KernelEngine):
    """Run GRU, LSTM, MGU or RNN over all of time in one GPU kernel, and back in another.

    A block of the kernel takes some rows of the batch through every step: the matrices of the
    recurrence stay on its multiprocessor, so nothing is launched, and no block waits for another.
    What is left, inputs before it and the gradients of weights after it, are single large products,
    as in `Deferred`. Any batch, length and size that fits: what is smaller is padded. Forward-mode
    derivatives, and second ones, take a scan.

    It computes in float32 with a float32 carry, and multiplies as `precision` says.

    Args:
        precision: of the operands of the recurrent product: "float32", "tf32x3" (three products of
            tf32, close to float32), "tf32" or "bfloat16". Where None: "bfloat16" for cells that
            compute in it, else at least as exact as `jax_default_matmul_precision` says.
        chunk: steps of one launch, at least 1; need not divide T. Chosen by size where None.
        interpret: whether the kernel is run in plain JAX operations instead, on any device: slow,
            to check it.

    Raises:
        ValueError: on another precision, or a chunk below 1.
        TypeError: on an argument of the wrong type.
    """

    PLATFORM: ClassVar[str] = "gpu"
    PRECISIONS: ClassVar[tuple[str, ...]] = tuple(PRODUCTS)
    MEMORY: ClassVar[str] = "multiprocessor"

    def why_not_device(self) -> str | None:
        """Say that this is no NVIDIA GPU of Ampere or later, or return None."""
        return _nvidia.why_not(8.0)

    def room(self, cell: DenseCell, precision: str) -> tuple[int, int, int]:
        """Return the units that a kernel computes, the bytes of their matrices, and the most."""
        width = _width(cell.hidden_size)
        column = width * PRODUCTS[precision][2] + TILE * 4  # of a matrix, and of its product
        return width, len(cell.GATES) * width * column, _nvidia.shared_bytes()

    def product(self, dtype: Any) -> str:
        """Choose how operands are multiplied: at least as exactly as JAX is asked to."""
        if dtype == jnp.bfloat16:
            return "bfloat16"
        return next(
            (name for name, asked in ASKED.items() if default_precision() in asked), "float32"
        )

    def kernels(self) -> Kernels:
        """Return the loops of this engine."""
        assert self.precision is not None
        return _TritonLoops(self.precision, self.interpret)


@dataclasses.dataclass(frozen=True)
class _TritonLoops(Kernels):
    precision: str
    interpret: bool

    def launch(self, march: March, rule: Rule, read: Blocks, made: Blocks) -> Blocks:
        """Run a kernel, a block for some rows and all steps."""
        shape = made.steps[0]
        length, rows, units = shape.shape
        width = _width(units)
        operand, precision, _ = PRODUCTS[self.precision]
        operand, rule = multiplied(rule, operand, precision, shape, self.interpret)

        def kernel(read: Blocks, made: Blocks) -> None:
            state = _march.steps(march, rule, read, made, march.start(read))
            _march.store(made.rows, state if made.rows is not None else None)

        return _blocks.call(
            march.name,
            kernel,
            *(cast(read, operand), made),
            Sizes(length, -(-rows // TILE) * TILE, width),
            {
                "steps": lambda shape: pl.BlockSpec((length, TILE, width), lambda i: (0, i, 0)),
                "code": lambda shape: pl.BlockSpec((length, TILE, 1), lambda i: (0, i, 0)),
                "rows": lambda shape: pl.BlockSpec((TILE, width), lambda i: (i, 0)),
                "whole": lambda shape: pl.BlockSpec(shape, lambda i: (0,) * len(shape)),
            },
            grid=(-(-rows // TILE),),
            interpret=self.interpret,
            compiler_params=None if self.interpret else self._compiler_params(width),
        )

    def _compiler_params(self, width: int) -> Any:
        from jax.experimental.pallas import triton

        # Since jax 0.11, which has nothing else yet that lowers a loop of products. It warns when a
        # program is lowered, which is out of sight here.
        warnings.filterwarnings("ignore", ".*Pallas Triton backend is dep", DeprecationWarning)
        few = width <= 64 and self.precision != "float32"
        return triton.CompilerParams(num_warps=4 if few else 8, num_stages=1)


def _width(size: int) -> int:
    return max(LEAST, 1 << (size - 1).bit_length())
