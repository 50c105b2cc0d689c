"""Compiled programs of functions, with their memory and compile time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled

from benchmarks.harness.problem import GATES, Inputs, Params, Shape
from benchmarks.harness.timing import Call

What = Literal["forward", "training"]
Forward = Callable[..., Any]  # (params, xs) -> ys

TOLERANCE = 1e-4  # of outputs that are compared
BLOCK = 2**21  # entries of a product of the limit, 8 MiB; larger ones are mapped at each call


class Program(NamedTuple):
    """A contestant that is ready to run."""

    call: Call
    temp_mib: float = math.nan  # MiB of temporaries, if the framework reports them
    compile_seconds: float = math.nan


def training(forward: Forward) -> Callable[[Params, Inputs], tuple[jax.Array, Params]]:
    """Return (params, xs) -> the value of mean(ys**2) and its gradient by params."""

    def loss(params: Params, xs: Inputs) -> jax.Array:
        return jnp.mean(jnp.square(forward(params, xs)))

    return jax.value_and_grad(loss)


def compare(ways: dict[str, Forward], params: Params, xs: Inputs) -> None:
    """Raise unless all functions (params, xs) -> ys compute the outputs of the first."""
    first, *others = ways
    wanted, *found = (np.asarray(jax.jit(way)(params, xs)) for way in ways.values())
    for name, ys in zip(others, found, strict=True):
        if not np.allclose(ys, wanted, rtol=TOLERANCE, atol=TOLERANCE):
            worst = np.max(np.abs(ys - wanted))
            raise ValueError(f"{name}: expected the outputs of {first}, got others by {worst:.1e}")


def compile_again(f: Callable, *args: object) -> tuple[Compiled, float]:
    """Compile a function twice; return the second program and its compile time in seconds.

    The first compilation includes imports and JAX's setup. JAX's caches are cleared in between, so
    the second one traces, lowers and compiles everything.
    """
    jax.jit(lambda *a: f(*a)).lower(*args).compile()
    jax.clear_caches()
    start = time.perf_counter()
    compiled = jax.jit(lambda *a: f(*a)).lower(*args).compile()
    return compiled, time.perf_counter() - start


def jax_program(f: Callable, *args: object) -> Program:
    """Compile a function of `args`; they remain arguments, so that XLA folds no constants."""
    compiled, seconds = compile_again(f, *args)
    memory = compiled.memory_analysis()
    temp = math.nan if memory is None else memory.temp_size_in_bytes / 2**20
    return Program(lambda: jax.block_until_ready(compiled(*args)), temp, seconds)


def gemm_program(kind: str, shape: Shape) -> Program:
    """Build the limit: the multiplications of the forward pass as a few large matrix products.

    The products are xs [T*B, D] by w_ih [D, G*H], and the carries [T*B, H] by w_hh [H, G*H], as if
    no step depended on another. Training counts three such passes: outputs, gradient by inputs, and
    gradient by weights.
    """
    rows, width = shape.T * shape.B, GATES[kind] * shape.H
    pairs = [_factors(rows, size, width) for size in (shape.D, shape.H)]
    return jax_program(lambda pairs: [_product(*pair) for pair in pairs], pairs)


def _factors(rows: int, size: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Draw float[blocks, rows of a block, size] and float[size, width]."""
    blocks = -(-rows // max(1, BLOCK // width))
    left = jax.random.normal(jax.random.key(0), (blocks, -(-rows // blocks), size))
    return left, jax.random.normal(jax.random.key(1), (size, width))


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """Multiply block by block; return the last product, so that all blocks share one output."""
    empty = jnp.zeros((left.shape[1], right.shape[1]), left.dtype)
    return jax.lax.scan(lambda _, block: (block @ right, None), empty, left)[0]
