"""Whether a forecast beyond its horizon has the attractor and the rhythm of a system."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check


def state_space_divergence(
    data: ArrayLike, generated: ArrayLike, bins: int = 30, *, smoothing: float = 1e-5
) -> jax.Array:
    """Compare where two trajectories spend their time: D_stsp of Koppe et al. 2019, by bins.

    The range of the data, in each variable, is cut into bins of equal size. With shares p of the
    data and q of what was generated, each smoothed by adding `smoothing` to every bin ::

        D = sum over bins of p ln (p / q)

    0 is the same distribution. What was generated outside of the range counts in the bins at its
    edge.

    Args:
        data: float[N, S], states of the system.
        generated: float[M, S], states of the model; NaN gives NaN.
        bins: bins in each variable; there are bins^S in all, at most 2^24.
        smoothing: what is added to each bin's share before they are normalised, above 0.

    Returns:
        float[], nats.

    Raises:
        ValueError: if the shapes do not fit, or there are too many bins.
    """
    data, generated = _two("data", data, "generated", generated)
    size, bins = data.shape[-1], _check.size("bins", bins, least=1)
    smoothing = _check.positive("smoothing", smoothing)
    if bins**size > 2**24:
        most = int(2 ** (24 / size))
        raise ValueError(f"bins: expected at most {most} for {size} variables, got {bins}")
    low, high = jnp.min(data, axis=0, keepdims=True), jnp.max(data, axis=0, keepdims=True)
    width = jnp.where(high > low, high - low, jnp.ones_like(low))

    def shares(states: jax.Array) -> jax.Array:
        places = jnp.clip((states - low) / width * bins, 0, bins - 1).astype(jnp.int32)
        index = jnp.ravel_multi_index(tuple(places.T), (bins,) * size, mode="clip")
        counts = jnp.zeros(bins**size, data.dtype).at[index].add(1.0)
        smoothed = counts / len(states) + smoothing
        return smoothed / jnp.sum(smoothed)

    p, q = shares(data), shares(generated)
    spoiled = jnp.any(jnp.isnan(data)) | jnp.any(jnp.isnan(generated))
    return jnp.where(spoiled, jnp.nan, jnp.sum(p * jnp.log(p / q)))


def power_spectrum_error(
    data: ArrayLike, generated: ArrayLike, *, smoothing: float = 0.0
) -> jax.Array:
    """Compare the rhythms of two trajectories: Hellinger's distance of their power spectra.

    For each variable, the power at every frequency above 0 is smoothed by a Gaussian and divided by
    its sum, which gives f and g; then ::

        H = sqrt(1 - sum of sqrt(f g))

    and the result is the mean over the variables (Mikhaeil et al. 2022). 0 is the same spectrum, 1
    a disjoint one.

    Args:
        data: float[T, S], states of the system, at equal intervals.
        generated: float[T, S], states of the model at the same ones; NaN gives NaN.
        smoothing: the standard deviation of the Gaussian, in frequencies 1 / T; 0 for none.

    Returns:
        float[], from 0 to 1.

    Raises:
        ValueError: if the shapes are not equal, or T is below 4.
    """
    data, generated = _two("data", data, "generated", generated)
    if data.shape != generated.shape or len(data) < 4:
        wanted = f"float{list(data.shape)}, like data, with at least 4 steps"
        raise ValueError(f"generated: expected {wanted}, got {generated.shape}")
    smoothing = _check.nonnegative("smoothing", smoothing)

    def spectrum(states: jax.Array) -> jax.Array:
        centred = states - jnp.mean(states, axis=0, keepdims=True)
        power = jnp.abs(jnp.fft.rfft(centred, axis=0))[1:] ** 2
        if smoothing:
            reach = jnp.arange(-len(power) + 1, len(power), dtype=power.dtype)
            kernel = jnp.exp(-((reach / smoothing) ** 2) / 2)
            power = jax.vmap(lambda a: jnp.convolve(a, kernel, "valid"), 1, 1)(
                jnp.pad(power, ((len(power) - 1,) * 2, (0, 0)))
            )
        return power / jnp.sum(power, axis=0, keepdims=True)

    overlap = jnp.sum(jnp.sqrt(spectrum(data) * spectrum(generated)), axis=0)
    return jnp.mean(jnp.sqrt(jnp.maximum(1 - overlap, 0.0)))


def _two(name: str, a: ArrayLike, other: str, b: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Return two sets of states as float[N, S], or raise unless S is the same."""
    first, second = jnp.asarray(a), jnp.asarray(b)
    for key, value in ((name, first), (other, second)):
        if value.ndim != 2 or 0 in value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(f"{key}: expected float[N, S], got {_check.describe_one(value)}")
    if first.shape[1] != second.shape[1]:
        wanted = f"float[M, {first.shape[1]}], as many variables as {name}"
        raise ValueError(f"{other}: expected {wanted}, got {second.shape}")
    return first, second
