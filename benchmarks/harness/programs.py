"""From a function to what is timed: compiled programs, their memory and their compile time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.harness.problem import GATES, Shape

What = Literal["forward", "training"]
Forward = Callable[[Any, Any], Any]  # (params, xs) -> ys

BLOCK = 2**21  # entries of a product of the limit, 8 MiB: larger ones are mapped anew at each call


class Program(NamedTuple):
    """A contestant ready to run."""

    call: Callable[[], Any]  # returns when the result is there
    temp_mib: float = math.nan  # MiB of temporaries, where the framework tells
    compile_seconds: float = math.nan


def training(forward: Forward) -> Callable[[Any, Any], Any]:
    """Return (params, xs) -> the value and the gradient by params of mean(ys**2)."""

    def loss(params: Any, xs: Any) -> jax.Array:
        return jnp.mean(jnp.square(forward(params, xs)))

    return jax.value_and_grad(loss)


def compile_again(f: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """Compile a function twice; return the second program, and how long it took to make.

    The first time pays for what Python imports and JAX sets up once. Its caches are emptied
    between, so the second traces, lowers and compiles everything.
    """
    jax.jit(lambda *a: f(*a)).lower(*args).compile()
    jax.clear_caches()
    start = time.perf_counter()
    compiled = jax.jit(lambda *a: f(*a)).lower(*args).compile()
    return compiled, time.perf_counter() - start


def jax_program(f: Callable[..., Any], *args: Any) -> Program:
    """Compile a function for its arguments, which stay arguments: nothing is folded into it."""
    compiled, seconds = compile_again(f, *args)
    memory = compiled.memory_analysis()
    temp = math.nan if memory is None else memory.temp_size_in_bytes / 2**20
    return Program(lambda: jax.block_until_ready(compiled(*args)), temp, seconds)


def gemm_program(kind: str, shape: Shape) -> Program:
    """Make the limit: the multiplications of the forward pass as a few large matrix products.

    That is xs [T*B, D] by w_ih [D, G*H], and, as if no step waited for another, the carries
    [T*B, H] by w_hh [H, G*H]. Training is three such passes: the outputs, the gradient by the
    inputs, the gradient by the weights.
    """
    rows, width = shape.T * shape.B, GATES[kind] * shape.H
    pairs = [_factors(rows, size, width) for size in (shape.D, shape.H)]
    return jax_program(lambda pairs: [_product(*pair) for pair in pairs], pairs)


def _factors(rows: int, size: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Make float[blocks, rows of a block, size] and float[size, width]."""
    blocks = -(-rows // max(1, BLOCK // width))
    left = jax.random.normal(jax.random.key(0), (blocks, -(-rows // blocks), size))
    return left, jax.random.normal(jax.random.key(1), (size, width))


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """Multiply block by block; the last is returned, so that one output is written over again."""
    empty = jnp.zeros((left.shape[1], right.shape[1]), left.dtype)
    return jax.lax.scan(lambda _, block: (block @ right, None), empty, left)[0]
