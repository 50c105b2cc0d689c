"""Convolution of images, whose transposes are matrix products.

In a loop on a CPU, XLA's transposes of a convolution take 5 times (by the image) and 40 times (by
the kernel) as long as those of a matrix product of the same size. A convolution is the product of
the patch at each pixel with the kernel, so the transposes of that product take their place here.
As a primitive, it keeps the image for the backward pass, and not its patches, which are larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.typing import DTypeLike

from seqcells._linear import affine, wide
from seqcells._trees import as_rows


def convolve(x: jax.Array, w: jax.Array, b: jax.Array | None, dtype: DTypeLike) -> jax.Array:
    """Convolve images with a kernel and add a bias: `affine` of the patch at each pixel.

    Images are padded with zeros to keep their size, as `padding="SAME"` of `jax.lax` does.

    Args:
        x: float[*B, H, W, I].
        w: float[kh, kw, I, O].
        b: float[O], or None for no bias.
        dtype: the dtype of computation, as in `affine`.

    Returns:
        float[*B, H, W, O] in wide(dtype).
    """
    if x.ndim < 3 or x.shape[-1] != w.shape[2]:
        wanted = f"[..., H, W, {w.shape[2]}]"
        raise ValueError(f"x: expected {wanted} for a kernel {w.shape}, got {x.shape}")
    out = _convolution_p.bind(x.astype(dtype), w.astype(dtype))
    return out if b is None else out + as_rows(b.astype(out.dtype), out)


def _convolve(x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve with one batch axis; with more, which may be sharded, multiply patches."""
    if x.ndim > 4:
        return _multiply_patches(x, w)
    out = jax.lax.conv_general_dilated(
        x if x.ndim == 4 else x[None],
        w,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=wide(x.dtype),
    )
    return out if x.ndim == 4 else out[0]


def _multiply_patches(x: jax.Array, w: jax.Array) -> jax.Array:
    """Multiply the patch at each pixel by the kernel, for any number of batch axes."""
    (rows, columns), (height, width) = w.shape[:2], x.shape[-3:-1]
    edges = [((n - 1) // 2, n // 2) for n in (rows, columns)]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [*edges, (0, 0)])
    shifted = [
        padded[..., i : i + height, j : j + width, :] for i in range(rows) for j in range(columns)
    ]
    patches = jnp.concatenate(shifted, axis=-1)
    return affine(patches, w.reshape(-1, w.shape[-1]), None, x.dtype)


def _abstract(x: ShapedArray, w: ShapedArray) -> ShapedArray:
    return jax.make_jaxpr(_convolve)(x, w).out_avals[0]


# JAX passes undefined primals to the transposes, hence `Any`.


def _transpose_x(cotangent: jax.Array, x: Any, w: jax.Array) -> jax.Array:
    return jax.linear_transpose(lambda x: _multiply_patches(x, w), x.aval)(cotangent)[0]


def _transpose_w(cotangent: jax.Array, x: jax.Array, w: Any) -> jax.Array:
    return jax.linear_transpose(lambda w: _multiply_patches(x, w), w.aval)(cotangent)[0]


def _batch(args: Sequence[jax.Array], axes: Sequence[int | None]) -> tuple[jax.Array, int]:
    x, w = args
    if axes[1] is None and axes[0] is not None:
        return _convolution_p.bind(jnp.moveaxis(x, axes[0], 0), w), 0
    return jax.vmap(_multiply_patches, tuple(axes))(x, w), 0


_convolution_p = Primitive("seqcells_convolution")
_convolution_p.def_impl(jax.jit(_convolve))
_convolution_p.def_abstract_eval(_abstract)
ad.defbilinear(_convolution_p, _transpose_x, _transpose_w)
batching.primitive_batchers[_convolution_p] = _batch
mlir.register_lowering(_convolution_p, mlir.lower_fun(_convolve, multiple_results=False))
