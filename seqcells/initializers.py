"""Initialisers that are values: two equal ones compare equal, so two equal cells trace once.

Each is called as `init(key, shape, dtype)`, like those of `jax.nn.initializers`, which serve as
well. A cell calls its initialisers gate by gate, on [in, H], never on the fused [in, 3H] matrix:
an orthogonal 3H-wide matrix leaves every gate with a spectral radius near 0.6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_init

from seqcells._linear import wide
from seqcells._mean_field import critical_weight_std
from seqcells._static import Named

__all__ = [
    "Chrono",
    "Critical",
    "Glorot",
    "Identity",
    "Lecun",
    "Normal",
    "Orthogonal",
    "Sparse",
    "Uniform",
    "ones",
    "zeros",
]

Initializer = Callable[..., jax.Array]  # (key, shape, dtype) -> array
GateInitializers = Initializer | tuple[Initializer, ...]  # one for all gates, or one a gate

zeros = jax_init.zeros
ones = jax_init.ones


@dataclasses.dataclass(frozen=True)
class Orthogonal(Named):
    """Orthogonal matrix times `scale` (Saxe et al. 2014), computed in at least float32.

    Under vmap the matrices are made one after another: on a CPU with few cores a batched QR
    decomposition (jaxlib 0.10.2) waits for threads of the pool that it runs on, and two of them in
    one program wait for ever.

    Args:
        scale: dimensionless; every singular value of a square matrix.
    """

    scale: float = 1.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""

        @jax.custom_batching.sequential_vmap
        def draw(key: jax.Array) -> jax.Array:
            return jax_init.orthogonal(self.scale)(key, shape, wide(dtype))

        return draw(key).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Identity(Named):
    """Identity matrix times `scale`; with ReLU this is the IRNN (Le, Jaitly & Hinton 2015).

    Args:
        scale: dimensionless; the value on the diagonal.
    """

    scale: float = 1.0

    def __call__(self, key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
        """Make an array of `shape` and `dtype`; the key is not used."""
        return (self.scale * jnp.eye(*shape, dtype=wide(dtype))).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Normal(Named):
    """Normal entries N(0, std^2).

    Args:
        std: the standard deviation of an entry.
    """

    std: float = 0.01

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        return jax_init.normal(self.std)(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Sparse(Named):
    """Square matrix with few inputs a unit, scaled to a spectral radius (Martens & Sutskever 2011).

    The nonzero entries of a column, the weights of one unit's inputs, are normal before scaling.
    The radius is taken of all eigenvalues, which JAX computes on a CPU.

    Args:
        count: nonzero entries a column; all where the matrix has fewer rows.
        radius: the largest absolute value of an eigenvalue.
    """

    count: int = 15
    radius: float = 0.95

    def __call__(self, key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
        """Draw an array of `shape`, which is square, and `dtype`."""
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"Sparse: expected a square shape, got {tuple(shape)}")

        @jax.custom_batching.sequential_vmap  # for the reason that `Orthogonal` has
        def draw(key: jax.Array) -> jax.Array:
            k_place, k_value = jax.random.split(key)
            ranks = jnp.argsort(jax.random.uniform(k_place, shape), axis=0)
            values = jax.random.normal(k_value, shape, wide(dtype))
            values = jnp.where(ranks < self.count, values, 0)
            return values * (self.radius / jnp.max(jnp.abs(jnp.linalg.eigvals(values))))

        return draw(key).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Uniform(Named):
    """Uniform entries on [low, high).

    Args:
        low: the lower end.
        high: the upper end.
    """

    low: float = -0.01
    high: float = 0.01

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        u = jax.random.uniform(key, shape, wide(dtype), minval=self.low, maxval=self.high)
        return u.astype(dtype)


@dataclasses.dataclass(frozen=True)
class Glorot(Named):
    """Uniform on +-sqrt(6 / (in + out)) (Glorot & Bengio 2010), `out` being one gate's width."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        return jax_init.glorot_uniform()(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Lecun(Named):
    """Truncated normal of variance `scale` / in (LeCun et al. 1998); Flax's and Haiku's default.

    Args:
        scale: dimensionless; the variance of a sum over inputs of variance 1.
    """

    scale: float = 1.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        draw = jax_init.variance_scaling(self.scale, "fan_in", "truncated_normal")
        return draw(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Chrono(Named):
    """Bias -ln U[1, t_max - 1] of the update gate z (Tallec & Ollivier 2018).

    z is the fraction that is WRITTEN here, so the paper's log U stands with a minus sign. A unit's
    timescale 1/z = 1 + U, in steps, is then uniform on [2, t_max] where its other drive is zero.
    Use it for one gate: `GRU(64, b_ih_init=(zeros, Chrono(100), zeros))`, in the order r|z|n.

    Args:
        t_max: the longest timescale, in steps; at least 2.
    """

    t_max: float

    def __post_init__(self) -> None:
        if not self.t_max >= 2:
            raise ValueError(f"t_max: expected at least 2 steps, got {self.t_max!r}")

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        u = jax.random.uniform(key, shape, wide(dtype), minval=1.0, maxval=self.t_max - 1.0)
        return -jnp.log(u).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Critical(Named):
    """Normal entries N(0, sw^2 / in), at the sw at which gradients of a tanh RNN keep their norm.

    By mean-field theory (Chen, Pennington & Schoenholz 2018), so on average and in wide nets:
    `seqcells.diagnostics.critical_weight_std` says at which sw. It is for `RNN(H, "tanh")`.

    Args:
        input_var: variance of what the input and the bias add to a unit's sum, W_x x_t + b; at
            least 0. With `Lecun`, the default, it is the mean square of the input's features.
    """

    input_var: float

    def __post_init__(self) -> None:
        if not self.input_var >= 0:
            raise ValueError(f"input_var: expected at least 0, got {self.input_var!r}")

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        std = critical_weight_std(jnp.asarray(self.input_var, wide(dtype))) / shape[0] ** 0.5
        return (std * jax.random.normal(key, shape, wide(dtype))).astype(dtype)


def per_gate(
    name: str, init: GateInitializers, key: jax.Array, shape: tuple[int, ...], n: int, dtype: Any
) -> jax.Array:
    """Initialise n gates of `shape` one by one and join them along the last axis.

    Args:
        name: the argument that held `init`, for error messages.
        init: one initialiser for all gates, or a tuple with one a gate.
        key: one random key.
        shape: the shape of one gate.
        n: how many gates.
        dtype: of the result.

    Returns:
        dtype[*shape[:-1], n * shape[-1]].
    """
    inits = init if isinstance(init, tuple) else (init,) * n
    keys = jax.random.split(key, n) if n > 1 else (key,)
    if 0 in shape:  # an input without features: nothing to draw, and no fan-in to divide by
        return jnp.zeros((*shape[:-1], n * shape[-1]), dtype)
    blocks = [f(k, shape, dtype) for f, k in zip(inits, keys, strict=True)]
    for block in blocks:
        if jnp.shape(block) != shape:
            raise ValueError(
                f"{name}: expected an initialiser that makes {shape}, got {jnp.shape(block)}"
            )
    return blocks[0] if n == 1 else jnp.concatenate(blocks, axis=-1)


def check(name: str, init: Any, n: int) -> None:
    """Raise unless `init` is an initialiser or a tuple of n of them."""
    inits = init if isinstance(init, tuple) else (init,)
    if isinstance(init, tuple) and len(init) != n:
        raise ValueError(f"{name}: expected one initialiser or a tuple of {n}, got {len(init)}")
    for f in inits:
        if not callable(f):
            raise TypeError(f"{name}: expected (key, shape, dtype) -> array, got {f!r}")
