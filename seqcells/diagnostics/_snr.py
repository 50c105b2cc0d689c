"""The signal-to-noise ratio of a batch's gradient."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._linear import wide
from seqcells._static import exported
from seqcells._types import PyTree


@exported
class GradientSNR(NamedTuple):
    """Signal and noise of a gradient: trees like the parameters, with a scalar for each leaf."""

    signal: PyTree  # ||E g||^2, in squared units of the gradient; unbiased, so sometimes below 0
    noise: PyTree  # tr Cov(g) of one example, in the same units; unbiased
    ratio: PyTree  # signal / noise, dimensionless


def gradient_snr(gradients: PyTree) -> GradientSNR:
    """Estimate ||E g||^2 / tr Cov(g) of each parameter leaf from gradients of single examples.

    The product of the mean gradients of a batch's two halves is an unbiased estimate of ||E g||^2;
    the square of one mean is not. The mean of that product over all ways to split the batch is::

        signal = (|sum_i g_i|^2 - sum_i |g_i|^2) / (N (N - 1)) = |mean g|^2 - noise / N
        noise  = sum_i |g_i - mean g|^2 / (N - 1)

    The signal-to-noise ratio of a batch of N examples is N times the ratio returned.

    Args:
        gradients: a tree of float[N, ...], one row for each example, N >= 2, as
            `jax.vmap(jax.grad(loss), (None, 0))(params, examples)` returns it.

    Returns:
        Signal, noise and their ratio. Signal and noise are unbiased, and their ratio nearly so. The
        ratio is NaN if both are 0; all three are NaN if a gradient is not finite. The ratio is
        correct even if the gradients' squares under- or overflow.

    Raises:
        TypeError: if a leaf is not floating.
        ValueError: if there are fewer than two examples.

    >>> import jax.numpy as jnp
    >>> snr = gradient_snr({"w": jnp.array([[1.0, 0.0], [3.0, 0.0]])})
    >>> [round(float(part["w"]), 6) for part in snr]
    [3.0, 2.0, 1.5]
    """

    def leaf(gradient: ArrayLike) -> GradientSNR:
        g = _check.array("gradients", gradient, "a tree of float[N, ...]")
        _check.floating("gradients", g.dtype, "take those of floating parameters")
        if g.ndim < 1 or len(g) < 2:
            raise ValueError(
                f"gradients: expected float[N, ...] of N >= 2 single examples, got {list(g.shape)};"
                " take jax.vmap(jax.grad(loss), (None, 0)) of a batch"
            )
        g = g.astype(wide(g.dtype))
        peak = jnp.max(jnp.abs(g), initial=0)  # scale, so that no square underflows
        g = g / jnp.where(peak == 0, jnp.ones_like(peak), peak)
        mean = jnp.mean(g, axis=0)
        noise = jnp.sum(jnp.square(g - mean)) / (len(g) - 1)
        signal = jnp.sum(jnp.square(mean)) - noise / len(g)
        return GradientSNR(signal * peak * peak, noise * peak * peak, signal / noise)

    leaves, structure = jax.tree.flatten(gradients)
    parts = [leaf(g) for g in leaves]
    return GradientSNR(*(jax.tree.unflatten(structure, part) for part in zip(*parts, strict=True)))
