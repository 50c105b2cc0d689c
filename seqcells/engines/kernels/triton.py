"""GPU kernels in Pallas and Triton: one launch for all steps."""

from __future__ import annotations

import dataclasses
import warnings
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from seqcells.engines.deferred.shapes import StepShapes
from seqcells.engines.kernels import _blocks, _nvidia, _products, _time_loop
from seqcells.engines.kernels._blocks import Blocks, Sizes
from seqcells.engines.kernels._engine import LEAST_EXACT, KernelEngine, default_precision
from seqcells.engines.kernels._loops import Kernels, cast_matrices, with_dot
from seqcells.engines.kernels._tiles import StepSpec
from seqcells.engines.kernels._time_loop import TimeLoop

PRODUCTS = {  # the operands' dtype, the precision of JAX's product, and the bytes of an operand
    "bfloat16": (jnp.bfloat16, None, 2),
    "tf32": (jnp.float32, jax.lax.DotAlgorithmPreset.TF32_TF32_F32, 4),
    "tf32x3": (jnp.float32, jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3, 8),
    "float32": (jnp.float32, jax.lax.DotAlgorithmPreset.F32_F32_F32, 16),  # through registers
}
LEAST = 16  # units of a product
TILE = 16  # rows of a block, the minimum of a product: with more, registers do not suffice
CONFIGURED = {  # by `jax_default_matmul_precision`; other values mean "float32"
    "tf32": (*LEAST_EXACT, "high", "tensorfloat32", "TF32_TF32_F32"),
    "tf32x3": ("bfloat16_3x", "BF16_BF16_F32_X3", "BF16_BF16_F32_X6", "TF32_TF32_F32_X3"),
}


@dataclasses.dataclass(frozen=True)
class PallasTriton(KernelEngine):
    """Run all steps of GRU, LSTM, MGU or RNN in one GPU kernel; the backward pass in another.

    Each block of the kernel runs some rows of the batch through every step. The recurrent matrices
    stay on its multiprocessor, so no step needs a launch, and no block waits for another. Input
    projections and weight gradients are single large products outside of the kernel, as in
    `Deferred`. Any batch, length and size works if the matrices fit; small sizes are padded.
    Forward-mode and second derivatives run a scan.

    Gates and the carry are float32; `precision` concerns only the products.

    Args:
        precision: the precision of the recurrent product: "float32", "tf32x3" (three products of
            tf32, close to float32), "tf32" or "bfloat16". None chooses "bfloat16" for cells that
            compute in it, else at least that of `jax_default_matmul_precision`.
        chunk: steps per launch, at least 1; need not divide T. None chooses by size.
        interpret: whether to run the kernel in plain JAX operations on any device, for tests; slow.

    Raises:
        ValueError: on another precision, or a chunk below 1.
        TypeError: on an argument of the wrong type.
    """

    PLATFORM: ClassVar[str] = "gpu"
    PRECISIONS: ClassVar[tuple[str, ...]] = tuple(PRODUCTS)
    MEMORY: ClassVar[str] = "multiprocessor"

    def why_not_device(self) -> str | None:
        """Return that the device is not an NVIDIA GPU of Ampere or later, or None."""
        return _nvidia.why_not(8.0)

    def room(self, step: StepShapes, precision: str) -> tuple[int, int, int]:
        """Return the padded units, the bytes of their matrices, and the limit of bytes."""
        gates, units = _products.sizes(step)
        width = _width(units)
        column = width * PRODUCTS[precision][2] + TILE * 4  # of a matrix, and of its product
        return width, gates * width * column, _nvidia.shared_bytes()

    def choose_precision(self, dtype: jnp.dtype) -> str:
        """Choose a precision that is at least what JAX is configured to use."""
        if dtype == jnp.bfloat16:
            return "bfloat16"
        return next(
            (name for name, values in CONFIGURED.items() if default_precision() in values),
            "float32",
        )

    def loops(self, precision: str) -> Kernels:
        """Return the loops of this engine in a precision."""
        return _TritonLoops(precision, interpret=self.interpret)


@dataclasses.dataclass(frozen=True)
class _TritonLoops(Kernels):
    precision: str
    interpret: bool

    def launch(self, loop: TimeLoop, spec: StepSpec, inputs: Blocks, out: Blocks) -> Blocks:
        """Run a kernel: a block for some rows and all steps."""
        like = out.steps[0]
        length, rows, units = like.shape
        width = _width(units)
        operand, precision, _ = PRODUCTS[self.precision]
        operand, spec = with_dot(spec, operand, precision, like, interpret=self.interpret)

        def kernel(inputs: Blocks, outputs: Blocks) -> None:
            state = _time_loop.steps(loop, spec, inputs, outputs, loop.init(inputs))
            _time_loop.store(outputs.rows, state if outputs.rows is not None else None)

        return _blocks.call(
            loop.name,
            kernel,
            inputs=cast_matrices(inputs, operand),
            out=out,
            sizes=Sizes(length, -(-rows // TILE) * TILE, width),
            cut={
                "steps": lambda shape: pl.BlockSpec((length, TILE, width), lambda i: (0, i, 0)),
                "code": lambda shape: pl.BlockSpec((length, TILE, 1), lambda i: (0, i, 0)),
                "rows": lambda shape: pl.BlockSpec((TILE, width), lambda i: (i, 0)),
                "whole": lambda shape: pl.BlockSpec(shape, lambda i: (0,) * len(shape)),
            },
            grid=(-(-rows // TILE),),
            interpret=self.interpret,
            compiler_params=None if self.interpret else self._compiler_params(width),
        )

    def _compiler_params(self, width: int) -> object:
        from jax.experimental.pallas import triton

        # Deprecated since jax 0.11, which has no replacement yet that lowers a loop of products.
        # The warning comes later, when a program is lowered, so it cannot be caught here.
        warnings.filterwarnings("ignore", ".*Pallas Triton backend is dep", DeprecationWarning)
        few = width <= 64 and self.precision != "float32"
        return triton.CompilerParams(num_warps=4 if few else 8, num_stages=1)


def _width(size: int) -> int:
    return max(LEAST, 1 << (size - 1).bit_length())
