"""Remedies against gradients that vanish or explode, for any training loop that uses Optax.

`omega` and `flossing` are terms to add to a loss; `project_spectral_norm` is the last link of an
`optax.chain`. For clipping (Pascanu et al. 2013) use `optax.clip_by_global_norm`. Initialisers that
help are in `seqcells.initializers`: `Orthogonal`, `Identity`, `Chrono`, `Critical`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from seqcells import _check
from seqcells._cell import Carry, Cell, Params, SplitCell
from seqcells._linear import wide
from seqcells._model import Model, leading
from seqcells._trees import silence
from seqcells._types import Inputs, PyTree
from seqcells.diagnostics._lag import gradient, norm
from seqcells.diagnostics._lyapunov import growth, mean
from seqcells.diagnostics._nan import finite
from seqcells.diagnostics._reading import Begun, OneWay, Reading, before, begin

__all__ = ["flossing", "omega", "project_spectral_norm"]


class _Form(NamedTuple):
    power: int  # of the ratio of norms
    least: float  # steps with a smaller ||d|| are left out
    average: bool  # mean over the remaining steps, else their sum


_FORMS = {"paper": _Form(1, 0.0, average=False), "code": _Form(2, 1e-10, average=True)}


def omega(
    cell: Cell,
    params: Params,
    xs: jax.Array,
    loss: Callable[[jax.Array], jax.Array],
    carry: Carry = None,
    *,
    form: str = "paper",
    **reading: Unpack[Reading],
) -> jax.Array:
    """Compute Omega, which is 0 if every step back keeps the gradient's norm (Pascanu 2013).

    With d_t = dL/dh_t as `carry_gradient` returns it, and J_t = dh_t / dh_{t-1}::

        sum over t of (||d_t J_t||   / ||d_t||   - 1)^2     "paper": equation 9, for which alpha = 4
        mean over t of (||d_t J_t||^2 / ||d_t||^2 - 1)^2    "code": the authors', alpha = 2

    "paper" is summed over the steps and averaged over the sequences. "code" is averaged over both
    and leaves out the steps with ||d_t|| < 1e-10, so it depends on the scale of the loss. Both
    leave out steps at which d_t is 0.

    The gradient is the immediate one (equation 10): d_t, h_t and the derivatives of the gates are
    constants. Only the weights that multiply the carry, w_hh, have a gradient. These are the
    weights that the cell's `mix` reads, so the cell must be a `SplitCell`.

    Args:
        cell: a cell that can be split, such as `RNN(64)` or `GRU(64)`.
        params: its parameters.
        xs: float[T, *B, D].
        loss: ys [T, *B, H] -> scalar.
        carry: the initial carry; None means `cell.init_carry`.
        form: "paper" or "code".
        **reading: `lengths`, `mask`, `resets`, `reset_carry`, `reverse` and `time_axis`, as in
            `unroll`.

    Returns:
        float[], dimensionless. Padding does not count, and steps do not reach over a reset.

    Raises:
        ValueError: the cell cannot be split, the form is unknown, or `xs` is empty.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, "identity", w_hh_init=sc.initializers.Identity(0.5))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> float(omega(cell, params, jnp.ones((8, 2)), lambda ys: ys[-1].sum()))  # 8 * (0.5 - 1)^2
    2.0
    """
    _check.choice("form", form, _FORMS)
    _check.instance("cell", cell, Cell, "GRU(64)")
    why_not = cell.why_not_split()
    if why_not is not None:
        raise ValueError(
            f"cell: expected one that can be split, such as GRU(64), got {cell}: {why_not}"
        )
    begun = begin(cell, params, xs, carry, reading)
    held = jax.lax.stop_gradient((begun.xs, begun.carry, begun.flags))
    begun = begun._replace(xs=held[0], carry=held[1], flags=held[2])
    assert isinstance(begun.model, SplitCell)  # `begin` sets the dtype alone
    constant, cell = jax.lax.stop_gradient(params), begun.model
    axes = len(leading(cell, begun.xs))
    _check_not_empty(begun)
    d = jax.lax.stop_gradient(gradient(begun, constant, loss))
    old = before(begun, constant)
    size = norm(_rows(d, axes))
    counts = ~(size < max(_FORMS[form].least, float(jnp.finfo(size.dtype).tiny)))  # NaN counts
    # Unit vectors, so that no square underflows where the gradient has nearly vanished.
    unit = jax.tree.map(lambda a: _times(a, 1 / jnp.where(counts, size, 1)), d)
    drive = cell.project(constant, silence(begun.flags.valid, begun.xs))
    _, gate_vjp = jax.vjp(lambda c, m: cell.gate(c, drive, m), old, cell.mix(constant, old))
    by_carry, by_mixed = gate_vjp(unit)
    _, mix_vjp = jax.vjp(lambda c: cell.mix(params, c), old)  # the one use of params with grads
    back = jax.tree.map(jnp.add, by_carry, mix_vjp(by_mixed)[0])
    ratio = jnp.where(jnp.isfinite(size), norm(_rows(back, axes)), jnp.nan)
    return _total(_FORMS[form], ratio, counts)


def _check_not_empty(begun: Begun) -> None:
    """Raise if there are no sequences to average over."""
    steps = leading(begun.model, begun.xs)
    if 0 in steps:
        raise ValueError(f"xs: expected one sequence of one step or more, got shape {steps}")


def _total(form: _Form, ratio: jax.Array, counts: jax.Array) -> jax.Array:
    """Reduce (ratio^power - 1)^2 over steps and sequences [T, *B], according to the form."""
    terms = jnp.where(counts, jnp.square(ratio**form.power - 1), 0)
    if not form.average:
        return jnp.mean(jnp.sum(terms, axis=0))
    return jnp.sum(terms) / jnp.maximum(jnp.sum(counts.astype(terms.dtype)), 1)


def _rows(tree: PyTree, axes: int) -> jax.Array:
    """Flatten and join the leaves after their first `axes` axes, [T, *B, S]."""
    leaves = jax.tree.leaves(tree)
    return jnp.concatenate([a.reshape(*a.shape[:axes], -1) for a in leaves], axis=-1)


def _times(a: jax.Array, factor: jax.Array) -> jax.Array:
    return a * factor.reshape(*factor.shape, *[1] * (a.ndim - factor.ndim))


def flossing(
    cell: Model,
    params: Params,
    xs: Inputs,
    k: int | None = None,
    *,
    warmup: int = 0,
    carry: Carry = None,
    **reading: Unpack[OneWay],
) -> jax.Array:
    """Compute the sum of the squares of the leading k Lyapunov exponents (Engelken 2023).

    If it is 0, gradients neither vanish nor explode in k directions. The paper minimises it alone
    before training and at intervals during training; its code takes the mean over the k.

    A step that loses a direction, as with dead units of a ReLU net, adds ln 0 to an exponent. Here
    it adds the logarithm of the smallest normal number instead, -87 in float32, which is visible
    and has no gradient, so the other directions are still trained.

    Args:
        cell: any cell or layer that can step and has a real carry.
        params: its parameters.
        xs: float[T, *B, D].
        k: number of exponents; None means all.
        warmup: steps at the start that are left out.
        carry: the initial carry; None means `cell.init_carry`.
        **reading: `lengths`, `mask`, `reverse` and `time_axis`, as in `unroll`.

    Returns:
        float[], in (nats per step)^2, averaged over the sequences that are longer than the warm-up.

    Raises:
        As `seqcells.diagnostics.lyapunov_exponents`, which describes the arguments in detail.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, "identity", w_hh_init=sc.initializers.Orthogonal(0.5))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> round(float(flossing(cell, params, jnp.ones((20, 2)), k=2)), 4)  # 2 (ln 0.5)^2
    0.9609
    """
    _check_not_empty(begin(cell, params, xs, carry, reading, OneWay))
    lengths, counts = growth(cell, params, xs, k, warmup, carry, reading)
    some = jnp.any(counts, axis=0)
    counts |= ~some[None]  # left out of the mean below, but not NaN
    exponents = mean(jnp.log(jnp.maximum(lengths, jnp.finfo(lengths.dtype).tiny)), counts)
    return jnp.mean(jnp.sum(jnp.square(exponents), axis=-1), where=some)


def project_spectral_norm(
    max_norm: float | jax.Array = 1.0, where: str = "w_hh"
) -> optax.GradientTransformation:
    """Bound the spectral norm of every recurrent matrix, by projection after each update.

    Singular values above `max_norm` are set to it, which gives the nearest matrix within the bound;
    a matrix within the bound does not change. Each gate [H, H] of a matrix [H, G*H] is projected
    separately; a vector, as in `IndRNN`, is a diagonal. With `max_norm=1` the gradient of a tanh
    RNN cannot explode; it can still vanish.

    Put it last in `optax.chain`: it corrects the update that will be added to the parameters.

    Args:
        max_norm: float[]; the largest singular value, above 0.
        where: name of the parameters to project, or the end of their path: "w_hh" also matches
            `rnn.w_hh`. Parameters without names have numbers: "1".

    Returns:
        An Optax transformation without a state. Its update raises a ValueError without `params`,
        or if no parameter has this name and such a shape.

    Raises:
        ValueError: the norm is not above 0.

    >>> import jax, jax.numpy as jnp, optax, seqcells as sc
    >>> optimizer = optax.chain(optax.adam(0.1), project_spectral_norm(1.0))
    >>> params = sc.GRU(4).init(jax.random.key(0), input_size=2)
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)  # params: a gradient
    >>> w_n = optax.apply_updates(params, updates).w_hh[:, 8:]
    >>> bool(jnp.linalg.norm(w_n, 2) < 1 + 1e-6)
    True
    """
    if not isinstance(max_norm, Tracer) and not np.all(np.asarray(max_norm) > 0):
        raise ValueError(f"max_norm: expected a number above 0, got {max_norm!r}")

    def update(
        updates: optax.Updates, state: optax.OptState, params: Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        if params is None:
            raise ValueError("params: expected the parameters, got None; update(g, state, params)")
        _check_where(where, params)

        def one(path: jax.tree_util.KeyPath, update: jax.Array, param: jax.Array) -> jax.Array:
            matches = _matches(where, _name(path))
            return _corrected(update, param, max_norm) if matches else update

        return jax.tree_util.tree_map_with_path(one, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _corrected(update: jax.Array, param: jax.Array, bound: float | jax.Array) -> jax.Array:
    """Return an update that ends within the bound; one that already does is unchanged."""
    wanted = (param + update.astype(param.dtype)).astype(wide(param.dtype))
    bound = jnp.asarray(bound, wanted.dtype)
    if wanted.ndim == 1:
        nearest = jnp.clip(wanted, -bound, bound)
        within = jnp.abs(wanted) <= bound
    else:
        gates = wanted.reshape(wanted.shape[0], -1, wanted.shape[0])  # [H, G, H]
        nearest, within = jax.vmap(_nearest, (1, None), (1, 0))(gates, bound)
        nearest = nearest.reshape(wanted.shape)
        within = jnp.repeat(within, wanted.shape[0])
    return jnp.where(within, update, (nearest - param.astype(wanted.dtype)).astype(update.dtype))


# One after another: batched LAPACK calls may deadlock, see `Orthogonal`.
@jax.custom_batching.sequential_vmap
def _nearest(matrix: jax.Array, bound: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the nearest matrix [H, H] within the bound, and whether the given one is within."""
    left, values, right = jnp.linalg.svd(finite(matrix))
    return (left * jnp.minimum(values, bound)) @ right, values[0] <= bound


def _name(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _matches(where: str, name: str) -> bool:
    return f".{name}".endswith(f".{where}")


def _check_where(where: str, params: Params) -> None:
    """Raise unless `where` matches some parameters, and all of these can be projected."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    shapes = {_name(path): jnp.shape(leaf) for path, leaf in leaves}
    matching = {name: shape for name, shape in shapes.items() if _matches(where, name)}
    if not matching:
        raise ValueError(f"where: expected one of {', '.join(shapes)}, or its end, got {where!r}")
    for name, shape in matching.items():
        if not (len(shape) == 1 or (len(shape) == 2 and shape[0] and shape[1] % shape[0] == 0)):
            raise ValueError(
                f"where: expected parameters [H, G*H] or [H], got {name} {list(shape)}; "
                "vmap the update if the first axis is a batch of models"
            )
