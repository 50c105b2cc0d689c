"""Fixed points of a net whose input is held: where its memory does not move."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple, Self, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer
from seqcells._model import Model, as_arrays, carry_shapes, like
from seqcells._static import exported
from seqcells._trees import closed_over, select
from seqcells._types import Carry, Inputs, Params
from seqcells.diagnostics._reading import same_lead

Method = Literal["newton", "adam"]
Residual = Callable[[jax.Array], jax.Array]

STEPS = {"newton": 200, "adam": 5000}
RATE = 0.01  # of Adam, at first, in units of the carry
STUCK = 1e8  # damping at which Newton's method ends: no step lowers the speed


@exported
class FixedPoints(NamedTuple):
    """Fixed and slow points, the slowest first; NumPy arrays with one row for each of N points.

    S is the size of the carry, as one vector, leaf after leaf in tree order.
    """

    carry: Carry  # [N, ...], as the model's
    speed: np.ndarray  # float[N], |F(h) - h|^2 / 2
    jacobian: np.ndarray  # float[N, S, S], dF/dh; row i belongs to the i-th entry of F
    eigenvalues: np.ndarray  # complex[N, S], of the Jacobian, the largest modulus first
    converged: np.ndarray  # bool[N], speed <= tol; the others are slow points
    starts: np.ndarray  # int[N], how many starts ended at the point
    failed: int  # starts that ended nowhere: too fast, or not finite
    far: int  # starts that ended at a point beyond `within`

    @property
    def unstable(self) -> np.ndarray:
        """Number of unstable directions, int[N]: eigenvalues with a modulus above 1."""
        return np.sum(np.abs(self.eigenvalues) > 1, axis=-1)

    @property
    def kinds(self) -> np.ndarray:
        """Which of stable, saddle and unstable each is, str[N]; a saddle has directions of both."""
        size = self.eigenvalues.shape[-1]
        saddle = np.where(self.unstable == size, "unstable", "saddle")
        return np.where(self.unstable == 0, "stable", saddle)

    @property
    def time_constants(self) -> np.ndarray:
        """Steps for a factor e along each direction, float[N, S]: 1 / abs(ln abs(lambda))."""
        with np.errstate(divide="ignore"):
            return 1 / np.abs(np.log(np.abs(self.eigenvalues)))

    def pick(self, rows: np.ndarray) -> Self:
        """Return some of the points, by their indices or by bool[N]."""
        names = ("carry", "speed", "jacobian", "eigenvalues", "converged", "starts")
        parts = {name: getattr(self, name) for name in names}
        return self._replace(**jax.tree.map(lambda a: a[np.asarray(rows)], parts))


def fixed_points(
    model: Model,
    params: Params,
    x: Inputs,
    starts: Carry,
    *,
    method: Method = "newton",
    tol: float | None = None,
    slow: float | None = None,
    max_steps: int | None = None,
    distinct: float = 1e-3,
    within: float | None = None,
) -> FixedPoints:
    """Find the carries that a step leaves where they are (Sussillo & Barak 2013).

    With F(h) the carry after a step from h with the input x, the speed ::

        q(h) = |F(h) - h|^2 / 2

    is 0 at a fixed point. From every start at once, q is minimised. Points that coincide are
    merged, and starts that end nowhere are counted. Near a point h*, a step is
    h - h* -> J (h - h*), so the eigenvalues of J say what the net does there: a modulus below 1
    attracts, one above 1 repels, one near 1 keeps, and an angle turns.

    `method="newton"` solves F(h) = h by steps h - (J - I)^-1 (F(h) - h), damped where such a step
    would not lower q (Levenberg 1944). It finds unstable points as well as stable ones, in 10 to
    50 steps of S^3 operations for each start. `method="adam"` takes gradient steps (Kingma & Ba
    2015, rate 0.01 which falls to 0) of S^2 operations. It needs thousands, and also ends at local
    minima of q, the slow points. In float32 most saddles of a trained net have q below 1e-12; for
    sharper points use `in_float64(fixed_points)`.

    Args:
        model: any cell or layer that can step and has a real carry.
        params: its parameters.
        x: float[D]; the input, which is held.
        starts: carries [*M, ...], where the search begins, with any number of leading axes: a
            trajectory, or `draw_starts` of it.
        method: "newton" or "adam".
        tol: the largest speed of a fixed point; 128 S eps^2 of the carry's dtype if None, which is
            2e-12 S in float32.
        slow: the largest speed of a slow point, above tol; none are kept if None.
        max_steps: steps of the search; 200 of Newton, 5000 of Adam, if None.
        distinct: points closer than this are one point, of which the slowest is kept; the Euclidean
            distance, in units of the carry.
        within: the largest distance of a point from the closest start, in units of the root mean
            square distance of the starts from their mean; points beyond are left out. Not limited
            if None.

    Returns:
        The points, in NumPy arrays, because their number depends on values. So this function cannot
        be jitted.

    Raises:
        TypeError: if an argument has the wrong type, or the carry is complex.
        ValueError: if x or the starts have the wrong shape, or a number is out of range.

    >>> import jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(2, bias="none")
    >>> w = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    >>> params = sc.RNNParams(jnp.zeros((1, 2)), w, None)
    >>> starts = jnp.array([[1.0, -0.5], [0.1, 0.1], [-1.0, 0.5]])
    >>> points = fixed_points(cell, params, jnp.zeros(1), starts)
    >>> sorted(round(float(h[0]), 4) for h in points.carry), sorted(points.kinds.tolist())
    ([-0.9575, 0.0, 0.9575], ['saddle', 'stable', 'stable'])
    """
    _check.instance("model", model, (Cell, Layer), "GRU(64)")
    _check.choice("method", method, get_args(Method))
    x, batch = _check.inputs("x", x, model.x_ndim, model.x_dtypes, "*B")
    if batch:
        one = "one input without batch axes, which is held"
        raise ValueError(f"x: expected {one}, got {_check.describe(x)}; call once for each")
    params, model = as_arrays(params), model.resolve(x)
    model.check_params(params, model.input_size(x))
    shapes = carry_shapes(model, x, params)
    rows, size = _rows(shapes, starts, x), sum(leaf.size for leaf in jax.tree.leaves(shapes))
    tol = 128 * size * _eps(model, shapes) ** 2 if tol is None else _check.nonnegative("tol", tol)
    if slow is not None:
        slow = _check.number("slow", slow, f"a number above tol = {tol:.1e}", lambda a: a > tol)
    distinct = _check.nonnegative("distinct", distinct)
    within = math.inf if within is None else _check.positive("within", within)
    steps = STEPS[method] if max_steps is None else _check.size("max_steps", max_steps, least=0)
    found = _search(model, method, params, x, rows, tol, steps)
    first, ends, speeds, slopes = map(np.asarray, found)
    limits = tol, slow or tol, distinct, within
    return _gather(first, ends, speeds, slopes, shapes, limits)


def draw_starts(
    key: jax.Array, carries: Carry, count: int, noise: float = 0.0, *, axes: int = 2
) -> Carry:
    """Draw carries from trajectories, with Gaussian noise: starts for `fixed_points`.

    Args:
        key: one random key.
        carries: [T, *B, ...], as `sc.trajectory` returns them.
        count: M, how many to draw, with replacement.
        noise: the standard deviation of the noise, in units of the carry.
        axes: the number of axes to draw from, time and batch.

    Returns:
        Carries [M, ...].

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> draw_starts(jax.random.key(0), jnp.ones((5, 2, 3)), 4).shape
    (4, 3)
    """
    _check.key("key", key)
    count, noise = _check.size("count", count, least=1), _check.nonnegative("noise", noise)
    leaves, lead = same_lead("carries", carries, axes)
    k_row, *k_noise = jax.random.split(key, 1 + len(leaves))
    chosen = jax.random.randint(k_row, (count,), 0, math.prod(lead))
    drawn = [leaf.reshape(-1, *leaf.shape[len(lead) :])[chosen] for leaf in leaves]
    moved = [
        a + noise * jax.random.normal(k, a.shape, a.dtype)
        for a, k in zip(drawn, k_noise, strict=True)
    ]
    return jax.tree.structure(carries).unflatten(moved)


def _eps(model: Model, shapes: Carry) -> float:
    """Return the spacing of numbers near 1 in the carry, or raise if it is not real."""
    dtype = jnp.result_type(*jax.tree.leaves(shapes))
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"model: expected one with a real carry, got {model} with {dtype}")
    return float(jnp.finfo(dtype).eps)


def _rows(shapes: Carry, starts: Carry, x: Inputs) -> Carry:
    """Return the starts as carries [M, ...], given the shapes of one."""
    leaves, wanted = jax.tree.leaves(starts), jax.tree.leaves(shapes)
    lead = jnp.shape(leaves[0])[: jnp.ndim(leaves[0]) - wanted[0].ndim] if leaves else ()
    many = jax.tree.map(lambda a: jax.ShapeDtypeStruct((*lead, *a.shape), a.dtype), shapes)
    starts = like("starts", starts, many, x)
    if not math.prod(lead) or not lead:
        raise ValueError(f"starts: expected one carry or more, got {_check.describe(starts)}")
    return jax.tree.map(lambda a, one: a.reshape(-1, *one.shape), starts, shapes)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _search(
    model: Model,
    method: Method,
    params: Params,
    x: Inputs,
    starts: Carry,
    tol: jax.Array,
    steps: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Search from every start; return starts and ends [M, S], speeds [M], Jacobians [M, S, S]."""
    rows = jax.vmap(lambda carry: ravel_pytree(carry)[0])(starts)
    unflat = ravel_pytree(jax.tree.map(lambda a: a[0], starts))[1]
    held, back = closed_over(params)

    def residual(h: jax.Array) -> jax.Array:
        """Return F(h) - h."""
        return ravel_pytree(model.advance(back(held), unflat(h), x)[0])[0] - h

    search = _newton if method == "newton" else _adam
    ends = search(residual, rows, tol, steps)
    left = jax.vmap(residual)(ends)
    slopes = jax.vmap(jax.jacfwd(residual))(ends) + jnp.eye(rows.shape[1], dtype=rows.dtype)
    return rows, ends, _speed(left), slopes


def _speed(residual: jax.Array) -> jax.Array:
    return jnp.sum(residual**2, axis=-1) / 2


class _Damped(NamedTuple):
    """The state of Newton's method at one start."""

    h: jax.Array  # [S]
    speed: jax.Array  # []
    damping: jax.Array  # [], in units of the mean square of a column of dF/dh - I


def _newton(residual: Residual, rows: jax.Array, tol: jax.Array, steps: jax.Array) -> jax.Array:
    """Take the better one of Newton's step and of a damped one, where it lowers the speed."""

    def step(state: _Damped) -> _Damped:
        h, speed, damping = state
        left, a = residual(h), jax.jacfwd(residual)(h)
        square = a.T @ a
        shift = damping * jnp.trace(square) / len(h)
        damped = jnp.linalg.solve(square + shift * jnp.eye(len(h), dtype=h.dtype), a.T @ left)
        tried = h - jnp.stack([jnp.linalg.solve(a, left), damped])
        speeds = jax.vmap(lambda h: _speed(residual(h)))(tried)
        speeds = jnp.where(jnp.isnan(speeds), jnp.inf, speeds)
        best = jnp.argmin(speeds)
        better = speeds[best] < speed
        damping = jnp.where(better, damping / 8, damping * 4)
        return _Damped(
            jnp.where(better, tried[best], h), jnp.where(better, speeds[best], speed), damping
        )

    def goes_on(state: _Damped) -> jax.Array:
        return (state.speed > tol) & (state.damping < STUCK)

    def some(state: tuple[_Damped, jax.Array]) -> jax.Array:
        return jnp.any(goes_on(state[0])) & (state[1] < steps)

    def all_rows(state: tuple[_Damped, jax.Array]) -> tuple[_Damped, jax.Array]:
        rows, i = state
        return select(goes_on(rows), jax.vmap(step)(rows), rows), i + 1

    speeds = _speed(jax.vmap(residual)(rows))
    start = _Damped(rows, speeds, jnp.full_like(speeds, 0.01))
    return jax.lax.while_loop(some, all_rows, (start, jnp.zeros((), int)))[0].h


def _adam(residual: Residual, rows: jax.Array, tol: jax.Array, steps: jax.Array) -> jax.Array:
    """Descend by the gradient of the speed, at a rate that falls to 0."""

    def step(i: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        h, first, second = state
        left, pull = jax.vjp(residual, h)
        slope = pull(left)[0]
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        mean, size = first / (1 - 0.9 ** (i + 1)), jnp.sqrt(second / (1 - 0.999 ** (i + 1)))
        moved = h - RATE * (1 - i / steps) * mean / (size + 1e-8)
        return select(_speed(left) > tol, (moved, first, second), state)

    def one(row: jax.Array) -> jax.Array:
        zero = jnp.zeros_like(row)
        return jax.lax.fori_loop(0, steps, step, (row, zero, zero))[0]

    return jax.vmap(one)(rows)


def _gather(
    starts: np.ndarray,
    ends: np.ndarray,
    speeds: np.ndarray,
    slopes: np.ndarray,
    shapes: Carry,
    limits: tuple[float, float, float, float],
) -> FixedPoints:
    """Keep what is slow and near, and one of those that coincide."""
    tol, slow, distinct, within = limits
    ended = speeds <= slow
    spread = np.sqrt(np.mean(np.sum((starts - starts.mean(axis=0)) ** 2, axis=-1)))
    near = np.array([np.min(_distances(starts, end)) <= within * spread for end in ends])
    left = [i for i in np.argsort(speeds, kind="stable") if ended[i] and near[i]]
    kept, counts = [], []
    while left:
        same = _distances(ends[left], ends[left[0]]) <= distinct
        kept.append(left[0])
        counts.append(int(same.sum()))
        left = [i for i, gone in zip(left, same, strict=True) if not gone]
    values = np.full((len(kept), ends.shape[1]), np.nan, complex)
    known = np.all(np.isfinite(slopes[kept]), axis=(1, 2))
    values[known] = np.linalg.eigvals(slopes[kept][known])
    order = np.argsort(-np.abs(values), axis=-1, kind="stable")
    leaves, structure = jax.tree.flatten(shapes)
    cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = zip(np.split(ends[kept], cuts, axis=-1), leaves, strict=True)
    return FixedPoints(
        carry=structure.unflatten([a.reshape(-1, *leaf.shape) for a, leaf in parts]),
        speed=speeds[kept],
        jacobian=slopes[kept],
        eigenvalues=np.take_along_axis(values, order, axis=-1),
        converged=speeds[kept] <= tol,
        starts=np.array(counts, int),
        failed=int(np.sum(~ended)),
        far=int(np.sum(ended & ~near)),
    )


def _distances(rows: np.ndarray, row: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows - row, axis=-1)
