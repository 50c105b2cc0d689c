"""Initialisers that compare by value, so that equal cells are traced once.

Each is called as `init(key, shape, dtype)`, like those of `jax.nn.initializers`, which you can use
too. A cell initialises each gate [in, H] separately, never the fused [in, 3H] matrix: if that were
orthogonal, every gate would have a spectral radius near 0.6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_init
from jax.typing import DTypeLike

from seqcells import _check
from seqcells._linear import wide
from seqcells._mean_field import critical_weight_std
from seqcells._model import is_function
from seqcells._static import FUNCTIONS, Named
from seqcells._types import Shape

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

Initializer = Callable[[jax.Array, Shape, DTypeLike], jax.Array]  # (key, shape, dtype) -> array
GateInitializers = Initializer | tuple[Initializer, ...]  # one for all gates, or one for each

zeros = jax_init.zeros
ones = jax_init.ones
FUNCTIONS.update(zeros=zeros, ones=ones)


@dataclasses.dataclass(frozen=True)
class Orthogonal(Named):
    """Orthogonal matrix times `scale` (Saxe et al. 2014), computed in at least float32.

    Under `vmap` the matrices are drawn one after another. On a CPU with few cores, the batched QR
    decomposition of jaxlib 0.10.2 waits for threads of the pool that it runs on, so two of them in
    one program can deadlock.

    Args:
        scale: dimensionless; every singular value of a square matrix.
    """

    scale: float = 1.0

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
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

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        """Return an array of `shape` and `dtype`; the key is not used."""
        return (self.scale * jnp.eye(*shape, dtype=wide(dtype))).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Normal(Named):
    """Normal entries N(0, std^2).

    Args:
        std: the standard deviation of an entry.
    """

    std: float = 0.01

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        return jax_init.normal(self.std)(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Sparse(Named):
    """Sparse square matrix (Martens & Sutskever 2011), scaled to a spectral radius.

    The defaults are those of Pascanu et al. (2013).

    The nonzero entries of a column, the weights of one unit's inputs, are normal before scaling.
    Scaling needs all eigenvalues, which JAX computes only on a CPU.

    Args:
        count: nonzero entries in each column, or all of them if the matrix has fewer rows.
        radius: the largest absolute value of an eigenvalue.

    Raises:
        ValueError: if the shape is not square.
    """

    count: int = 15
    radius: float = 0.95

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        """Draw an array of `shape`, which must be square, and `dtype`."""
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"Sparse: expected a square shape, got {tuple(shape)}")

        @jax.custom_batching.sequential_vmap  # as in `Orthogonal`
        def draw(key: jax.Array) -> jax.Array:
            k_place, k_value = jax.random.split(key)
            ranks = jnp.argsort(jax.random.uniform(k_place, shape), axis=0)
            values = jax.random.normal(k_value, shape, wide(dtype))
            return with_radius(jnp.where(ranks < self.count, values, 0), self.radius)

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

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        u = jax.random.uniform(key, shape, wide(dtype), minval=self.low, maxval=self.high)
        return u.astype(dtype)


@dataclasses.dataclass(frozen=True)
class Glorot(Named):
    """Uniform on +-sqrt(6 / (in + out)) (Glorot & Bengio 2010); `out` is the width of one gate."""

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        return jax_init.glorot_uniform()(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Lecun(Named):
    """Truncated normal of variance `scale` / in (LeCun et al. 1998), the default of Flax and Haiku.

    Args:
        scale: dimensionless; the variance of a sum over inputs of variance 1.
    """

    scale: float = 1.0

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        draw = jax_init.variance_scaling(self.scale, "fan_in", "truncated_normal")
        return draw(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Chrono(Named):
    """Bias of a gate that forgets slowly, ln U[1, t_max - 1] (Tallec & Ollivier 2018).

    If a gate is the fraction that is written, such as z of the GRU here, its bias is -ln U. If it
    is the fraction that is kept, such as f of `LSTM` and `JANET`, its bias is ln U, as in the
    paper. If the rest of the gate's sum is zero, the timescale of a unit, 1 + U steps, is uniform
    on [2, t_max]. Use it for one gate: `GRU(64, b_ih_init=(zeros, Chrono(100), zeros))`, in the
    order r|z|n, or `JANET(64, b_init=(Chrono(100, kept=True), zeros))`.

    Args:
        t_max: the longest timescale, in steps; at least 2.
        kept: whether the gate's value is the fraction that is kept.

    Raises:
        ValueError: if `t_max` is below 2.
        TypeError: if `kept` is not a bool.
    """

    t_max: float
    kept: bool = False

    def __post_init__(self) -> None:
        if not self.t_max >= 2:
            raise ValueError(f"t_max: expected at least 2 steps, got {self.t_max!r}")
        _check.flag("kept", self.kept)

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        u = jax.random.uniform(key, shape, wide(dtype), minval=1.0, maxval=self.t_max - 1.0)
        bias = jnp.log(u)
        return (bias if self.kept else -bias).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Critical(Named):
    """Normal entries N(0, sw^2 / in), with the sw at which gradients of a tanh RNN keep their norm.

    `seqcells.diagnostics.critical_weight_std` computes sw by mean-field theory (Chen, Pennington &
    Schoenholz 2018), so the norm is kept on average and in wide nets. Use it for `RNN(H, "tanh")`.

    Args:
        input_var: variance of W_x x_t + b, which the input and the bias add to a unit's sum; at
            least 0. With `Lecun`, the default, it is the mean square of the input's features.

    Raises:
        ValueError: if `input_var` is below 0.
    """

    input_var: float

    def __post_init__(self) -> None:
        if not self.input_var >= 0:
            raise ValueError(f"input_var: expected at least 0, got {self.input_var!r}")

    def __call__(self, key: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
        """Draw an array of `shape` and `dtype`."""
        std = critical_weight_std(jnp.asarray(self.input_var, wide(dtype))) / shape[0] ** 0.5
        return (std * jax.random.normal(key, shape, wide(dtype))).astype(dtype)


def per_gate(
    name: str, init: GateInitializers, key: jax.Array, shape: Shape, n: int, dtype: DTypeLike
) -> jax.Array:
    """Initialise n gates of `shape` one by one and join them along the last axis.

    Args:
        name: the argument's name, for error messages.
        init: one initialiser for all gates, or a tuple with one for each.
        key: one random key.
        shape: the shape of one gate.
        n: the number of gates.
        dtype: the dtype of the result.

    Returns:
        dtype[*shape[:-1], n * shape[-1]].

    Raises:
        ValueError: if an initialiser returns another shape.
    """
    inits = init if isinstance(init, tuple) else (init,) * n
    keys = jax.random.split(key, n) if n > 1 else (key,)
    if 0 in shape:  # no features: nothing to draw, and no fan-in to divide by
        return jnp.zeros((*shape[:-1], n * shape[-1]), dtype)
    blocks = [f(k, shape, dtype) for f, k in zip(inits, keys, strict=True)]
    for block in blocks:
        if jnp.shape(block) != shape:
            raise ValueError(
                f"{name}: expected an initialiser that makes {shape}, got {jnp.shape(block)}"
            )
    return blocks[0] if n == 1 else jnp.concatenate(blocks, axis=-1)


def with_radius(
    values: jax.Array, radius: float, held: Callable[[jax.Array], jax.Array] = lambda a: a
) -> jax.Array:
    """Scale `values` [H, H] so that the spectral radius of `held(values)` is `radius`.

    If it is 0, so that no scale would do, return `values`. `held` is homogeneous: it scales as its
    argument does.
    """

    @jax.custom_batching.sequential_vmap  # as in `Orthogonal`
    def scale(matrix: jax.Array) -> jax.Array:
        now = jnp.max(jnp.abs(jnp.linalg.eigvals(matrix)))
        return jnp.where(now > 0, radius / jnp.where(now > 0, now, 1), 1)

    return values * scale(held(values))


def check(name: str, init: object, n: int) -> None:
    """Raise unless `init` is an initialiser or a tuple of n of them."""
    inits = init if isinstance(init, tuple) else (init,)
    if isinstance(init, tuple) and len(init) != n:
        raise ValueError(f"{name}: expected one initialiser or a tuple of {n}, got {len(init)}")
    for f in inits:
        if not is_function(f):
            raise TypeError(f"{name}: expected (key, shape, dtype) -> array, got {f!r}")
