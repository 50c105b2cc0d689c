"""Normalisation of each step's features."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._linear import wide
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells.layers._each import TypedStep

KINDS = ("rms", "layer")


@exported
class NormParams(NamedTuple):
    """Parameters of `Norm`."""

    scale: jax.Array  # [D], starts at 1
    shift: jax.Array | None  # [D], starts at 0; None for "rms" and for bias="none"


@dataclasses.dataclass(frozen=True, repr=False)
class Norm(TypedStep):
    """Normalisation of each step's features over the features.

    "layer" is y = (x - mean) / sqrt(variance + eps) * scale + shift (Ba, Kiros & Hinton 2016), and
    "rms" is y = x / sqrt(mean of squares + eps) * scale (Zhang & Sennrich 2019), with means over
    the features of a step. Both compute in at least float32.

    Args:
        kind: "rms" or "layer".
        eps: the constant under the root; above 0, because padded inputs are zero.
        bias: "single" (the shift of "layer"; "rms" has none) or "none".
        heads: groups of features that are normalised each by itself; a divisor of their number.
            Group norm (Wu & He 2018) has the features of one step in groups so.
        dtype: dtype of the output; that of the input if None.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on an unknown kind or bias, an `eps` that is not above 0, or heads that do not
            divide the number of features.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> norm = sc.Norm("rms")
    >>> carry, y = norm.step(norm.init(jax.random.key(0), 2), (), jnp.array([30.0, -30.0]))
    >>> y
    Array([ 1., -1.], dtype=float32)
    """

    kind: str
    eps: float = 1e-6
    _: dataclasses.KW_ONLY
    bias: str = "single"
    heads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("kind", self.kind, KINDS)
        _check.number("eps", self.eps, "a number above 0", lambda eps: eps > 0)
        _check.choice("bias", self.bias, ("single", "none"))
        _check.size("heads", self.heads, least=1)

    def init(self, key: jax.Array, input_size: int) -> NormParams:
        """Make a scale of 1 and a shift of 0 in `param_dtype`."""
        _check.key("key", key)
        ones = jnp.ones(_check.size("input_size", input_size, least=1), self.param_dtype)
        _check.divisor("heads", self.heads, input_size, "input_size")
        shifted = self.kind == "layer" and self.bias == "single"
        return NormParams(ones, jnp.zeros_like(ones) if shifted else None)

    def apply(self, params: NormParams, xs: jax.Array, key: jax.Array | None) -> jax.Array:
        """Normalise the last axis. xs: float[..., D]. Returns float[..., D]."""
        x = self._by_head(xs.astype(wide(xs.dtype)))
        if self.kind == "layer":
            x = centred(x)
        scale, shift = params
        shift = None if shift is None else self._by_head(shift)
        y = scaled(x, self._by_head(scale), shift, self.eps)
        return y.reshape(xs.shape).astype(self.compute_dtype(xs))

    def _by_head(self, a: jax.Array) -> jax.Array:
        """Put the features of each head on an axis of their own, [..., heads, D/heads]."""
        if self.heads == 1:
            return a
        return a.reshape(*a.shape[:-1], self.heads, a.shape[-1] // self.heads)


def centred(x: jax.Array) -> jax.Array:
    """Subtract the mean. x: float[..., D]. Returns float[..., D]."""
    return x - jnp.mean(x, axis=-1, keepdims=True)


def scaled(x: jax.Array, scale: jax.Array, shift: jax.Array | None, eps: float) -> jax.Array:
    """Compute x / sqrt(mean of squares + eps) * scale + shift, in the dtype of x float[..., D]."""
    y = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + eps)
    y = y * as_rows(scale.astype(y.dtype), y)
    return y if shift is None else y + as_rows(shift.astype(y.dtype), y)
