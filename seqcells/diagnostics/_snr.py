"""How much of a batch's gradient is signal."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check


class GradientSNR(NamedTuple):
    """Signal and noise of a gradient, each a tree as the parameters, with a scalar a leaf."""

    signal: Any  # ||E g||^2, in squared units of the gradient; unbiased, so at times below 0
    noise: Any  # tr Cov(g) of one example, in the same units; unbiased
    ratio: Any  # signal / noise, dimensionless


def gradient_snr(gradients: Any) -> GradientSNR:
    """Estimate ||E g||^2 / tr Cov(g) a parameter leaf from the gradients of single examples.

    The product of the mean gradients of a batch's two halves is unbiased for ||E g||^2, which the
    square of one mean is not; the mean of that product over all ways to split the batch is::

        signal = (|sum_i g_i|^2 - sum_i |g_i|^2) / (N (N - 1)) = |mean g|^2 - noise / N
        noise  = sum_i |g_i - mean g|^2 / (N - 1)

    A batch of N examples has a signal to noise ratio of N times the ratio.

    Args:
        gradients: a tree of float[N, ...] with an example a row, N >= 2, as
            `jax.vmap(jax.grad(loss), (None, 0))(params, examples)` makes it.

    Returns:
        Signal, noise and their ratio; signal and noise are unbiased, their ratio nearly so. It is
        NaN where both are 0.

    Raises:
        TypeError: on a leaf that is not floating.
        ValueError: on fewer than two examples.

    >>> import jax.numpy as jnp
    >>> snr = gradient_snr({"w": jnp.array([[1.0, 0.0], [3.0, 0.0]])})
    >>> [round(float(part["w"]), 6) for part in snr]
    [3.0, 2.0, 1.5]
    """

    def leaf(g: Any) -> GradientSNR:
        g = _check.array("gradients", g, "a tree of float[N, ...]")
        _check.floating("gradients", g.dtype, "take those of floating parameters")
        if g.ndim < 1 or len(g) < 2:
            raise ValueError(
                f"gradients: expected float[N, ...] of N >= 2 single examples, got {list(g.shape)};"
                " take jax.vmap(jax.grad(loss), (None, 0)) of a batch"
            )
        mean = jnp.mean(g, axis=0)
        noise = jnp.sum(jnp.square(g - mean)) / (len(g) - 1)
        signal = jnp.sum(jnp.square(mean)) - noise / len(g)
        return GradientSNR(signal, noise, signal / noise)

    leaves, structure = jax.tree.flatten(gradients)
    parts = [leaf(g) for g in leaves]
    return GradientSNR(*(jax.tree.unflatten(structure, part) for part in zip(*parts, strict=True)))
