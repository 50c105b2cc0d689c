"""Matrix products of cells: operands in one dtype, results in at least float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells._trees import as_rows


def wide(dtype: DTypeLike) -> jnp.dtype:
    """Return the dtype of carries and accumulators: float32, or float64 when computing in it."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 64 else jnp.dtype(jnp.float64)


def affine(x: jax.Array, w: jax.Array, b: jax.Array | None, dtype: DTypeLike) -> jax.Array:
    """Compute x @ w + b: the product of operands in `dtype`, the sum and the result in wide(dtype).

    Args:
        x: float[*B, I].
        w: float[I, O].
        b: float[O], or None for no bias.
        dtype: the dtype of computation.

    Returns:
        float[*B, O] in wide(dtype).
    """
    if x.ndim < 1 or x.shape[-1] != w.shape[0]:
        raise ValueError(f"x: expected [..., {w.shape[0]}] for weights {w.shape}, got {x.shape}")
    contraction = (((x.ndim - 1,), (0,)), ((), ()))
    out = jax.lax.dot_general(
        x.astype(dtype), w.astype(dtype), contraction, preferred_element_type=wide(dtype)
    )
    return out if b is None else out + as_rows(b.astype(out.dtype), out)


def affine_by_head(
    x: jax.Array, w: jax.Array, b: jax.Array | None, heads: int, dtype: DTypeLike
) -> jax.Array:
    """Compute `affine` with a matrix for each gate that has a block for each head, and else zeros.

    Args:
        x: float[*B, H], head by head.
        w: float[H/heads, G*H], the rows of a head's block, and its columns gate by gate, head by
            head.
        b: float[G*H], or None for no bias.
        heads: the number of heads.
        dtype: the dtype of computation.

    Returns:
        float[*B, G*H] in wide(dtype).
    """
    if heads == 1:
        return affine(x, w, b, dtype)
    width, columns = w.shape
    count = columns // (heads * width)
    rows = x.astype(dtype).reshape(*x.shape[:-1], heads, width)
    blocks = w.astype(dtype).reshape(width, count, heads, width)
    out = jnp.einsum("...kp,pgkq->...gkq", rows, blocks, preferred_element_type=wide(dtype))
    out = out.reshape(*x.shape[:-1], columns)
    return out if b is None else out + as_rows(b.astype(out.dtype), out)


def of_all_gates(b: jax.Array | None, width: int) -> jax.Array | None:
    """Return a bias [width], with zeros in front if only the last gate has one."""
    return b if b is None or b.shape[-1] == width else jnp.pad(b, (width - b.shape[-1], 0))


def gates(a: jax.Array, n: int) -> tuple[jax.Array, ...]:
    """Cut the last axis into n equal gates."""
    return tuple(jnp.split(a, n, axis=-1))
