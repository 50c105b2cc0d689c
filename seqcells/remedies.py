"""What is done about gradients that vanish or explode, for any loop that uses Optax.

`omega` and `flossing` are terms to add to a loss; `project_spectral_norm` stands last in an
`optax.chain`. Clipping (Pascanu et al. 2013) is Optax's own, `optax.clip_by_global_norm`; how to
start is in `seqcells.initializers`: `Orthogonal`, `Identity`, `Chrono`, `Critical`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqcells import _check
from seqcells._cell import Carry, Cell, Params, SplitCell
from seqcells._flags import Flags
from seqcells._linear import wide
from seqcells._unroll import prepare, time_first, trajectory
from seqcells.diagnostics import carry_gradient, lyapunov_exponents
from seqcells.diagnostics._lag import norm

__all__ = ["flossing", "omega", "project_spectral_norm"]


class _Form(NamedTuple):
    power: int  # of the ratio of norms
    least: float  # steps at which ||d|| is below are left out
    average: bool  # over the steps that are left, else their sum


_FORMS = {"paper": _Form(1, 0.0, False), "code": _Form(2, 1e-10, True)}


def omega(
    cell: Cell,
    params: Params,
    xs: jax.Array,
    loss: Callable[[Any], jax.Array],
    carry: Carry = None,
    *,
    form: str = "paper",
) -> jax.Array:
    """Compute Omega, which is 0 where every step back keeps the gradient's norm (Pascanu 2013).

    With d_t = dL/dh_t as `carry_gradient` has it, and J_t = dh_t / dh_{t-1}::

        sum over t of (||d_t J_t||   / ||d_t||   - 1)^2     "paper": equation 9, for which alpha = 4
        mean over t of (||d_t J_t||^2 / ||d_t||^2 - 1)^2    "code": the authors', alpha = 2

    "paper" is summed over the steps and averaged over the sequences. "code" is averaged over both,
    those with ||d_t|| < 1e-10 left out; it depends on the scale of the loss there. Where d_t is 0
    neither counts.

    Its gradient is the immediate one (equation 10): d_t, h_t and the slopes of the gates are held,
    so only the weights that multiply the carry have one: w_hh. They are what `mix` of the cell
    reads, which is why it must be a `SplitCell`.

    Args:
        cell: a cell that can be split, such as `RNN(64)` or `GRU(64)`.
        params: its parameters.
        xs: float[T, *B, D].
        loss: ys [T, *B, H] -> scalar.
        carry: the initial carry; a fresh one where None.
        form: "paper" or "code".

    Returns:
        float[], dimensionless.

    Raises:
        ValueError: for a cell that cannot be split, with the reason; on another form; on nothing.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, "identity", w_hh_init=sc.initializers.Identity(0.5))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> float(omega(cell, params, jnp.ones((8, 2)), lambda ys: ys[-1].sum()))  # 8 * (0.5 - 1)^2
    2.0
    """
    _check.choice("form", form, _FORMS)
    _check.instance("cell", cell, Cell, "GRU(64)")
    why_not = cell.why_not_split() if isinstance(cell, SplitCell) else "it is no SplitCell"
    if why_not is not None:
        raise ValueError(f"cell: expected one that can be split, as GRU(64) is: {cell}: {why_not}")
    xs = _some(xs)
    cell, carry, _ = prepare(cell, params, xs, carry, Flags())
    assert isinstance(cell, SplitCell)  # settling a dtype does not change that
    held, xs, carry = jax.lax.stop_gradient((params, xs, carry))
    signal = jax.lax.stop_gradient(carry_gradient(cell, held, xs, loss, carry))
    after = trajectory(cell, held, xs, carry)
    before = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b])[:-1], carry, after)
    size = norm(_rows(signal, xs.ndim - 1))
    counts = size >= max(_FORMS[form].least, float(jnp.finfo(size.dtype).tiny))
    # Of unit length, so that no square underflows where the gradient has all but vanished.
    unit = jax.tree.map(lambda a: _times(a, 1 / jnp.where(counts, size, 1)), signal)
    drive = cell.project(held, xs)
    _, through_gate = jax.vjp(lambda c, m: cell.gate(c, drive, m), before, cell.mix(held, before))
    past_weights, to_weights = through_gate(unit)
    _, through_weights = jax.vjp(lambda c: cell.mix(params, c), before)  # not held: the one place
    back = jax.tree.map(jnp.add, past_weights, through_weights(to_weights)[0])
    ratio = norm(_rows(back, xs.ndim - 1))
    return _total(_FORMS[form], ratio, counts)


def _some(xs: jax.Array) -> jax.Array:
    """Return sequences, if there are any to take a mean of."""
    xs, _ = time_first(xs)
    if 0 in xs.shape[:-1]:
        raise ValueError(f"xs: expected one sequence of one step or more, got shape {xs.shape}")
    return xs


def _total(form: _Form, ratio: jax.Array, counts: jax.Array) -> jax.Array:
    """Add up (ratio^power - 1)^2 over steps and sequences [T, *B] as the form has it."""
    terms = jnp.where(counts, jnp.square(ratio**form.power - 1), 0)
    if not form.average:
        return jnp.mean(jnp.sum(terms, axis=0))
    return jnp.sum(terms) / jnp.maximum(jnp.sum(counts.astype(terms.dtype)), 1)


def _rows(tree: Any, axes: int) -> jax.Array:
    """Join what stands behind the first axes of all leaves, [T, *B, S]."""
    leaves = jax.tree.leaves(tree)
    return jnp.concatenate([a.reshape(*a.shape[:axes], -1) for a in leaves], axis=-1)


def _times(a: jax.Array, factor: jax.Array) -> jax.Array:
    return a * factor.reshape(*factor.shape, *[1] * (a.ndim - factor.ndim))


def flossing(
    cell: Cell,
    params: Params,
    xs: jax.Array,
    k: int | None = None,
    *,
    warmup: int = 0,
    carry: Carry = None,
) -> jax.Array:
    """Compute the sum of the squares of the leading k Lyapunov exponents (Engelken 2023).

    Driven to 0, it leaves k directions in which gradients neither vanish nor explode. The paper
    takes steps on it alone, before training and now and then during it; its code takes the mean
    over the k.

    Args:
        cell: any cell with a real carry.
        params: its parameters.
        xs: float[T, *B, D].
        k: how many exponents; all where None.
        warmup: steps at the start that are not counted.
        carry: the initial carry; a fresh one where None.

    Returns:
        float[], in (nats a step)^2, averaged over the sequences.

    Raises:
        As `seqcells.diagnostics.lyapunov_exponents`, which also says more of the arguments.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, "identity", w_hh_init=sc.initializers.Orthogonal(0.5))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> round(float(flossing(cell, params, jnp.ones((20, 2)), k=2)), 4)  # 2 (ln 0.5)^2
    0.9609
    """
    exponents = lyapunov_exponents(cell, params, _some(xs), k, warmup=warmup, carry=carry)
    return jnp.mean(jnp.sum(jnp.square(exponents), axis=-1))


def project_spectral_norm(
    max_norm: float | jax.Array = 1.0, where: str = "w_hh"
) -> optax.GradientTransformation:
    """Keep every recurrent matrix within a spectral norm, by projection after each update.

    Singular values above `max_norm` are set to it, which gives the nearest matrix that is within;
    a matrix that is within is left as it is. Each gate [H, H] of a matrix [H, G*H] is treated by
    itself; a vector, as in `IndRNN`, is a diagonal. With `max_norm=1` the gradient of a tanh RNN
    cannot explode; that it vanishes is not prevented.

    Put it last in `optax.chain`: it corrects the update that will be added to the parameters.

    Args:
        max_norm: float[]; the largest singular value, above 0.
        where: name of the parameters to project: all whose path ends with it, so that "w_hh" is
            also `rnn.w_hh`. A cell without names has numbers: "1".

    Returns:
        An Optax transformation without a state. Its update needs `params`, raises a ValueError
        without them, or where no parameter is called so or has that shape.

    Raises:
        ValueError: on a norm that is not above 0.

    >>> import jax, jax.numpy as jnp, optax, seqcells as sc
    >>> optimizer = optax.chain(optax.adam(0.1), project_spectral_norm(1.0))
    >>> params = sc.GRU(4).init(jax.random.key(0), input_size=2)
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)  # params: a gradient
    >>> w_n = optax.apply_updates(params, updates).w_hh[:, 8:]
    >>> bool(jnp.linalg.norm(w_n, 2) < 1 + 1e-6)
    True
    """
    if isinstance(max_norm, (int, float)) and not max_norm > 0:
        raise ValueError(f"max_norm: expected a number above 0, got {max_norm!r}")

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        if params is None:
            raise ValueError("params: expected the parameters, got None; update(g, state, params)")
        _check_where(where, params)

        def one(path: tuple[Any, ...], update: jax.Array, param: jax.Array) -> jax.Array:
            chosen = _is_called(where, _name(path))
            return _corrected(update, param, max_norm) if chosen else update

        return jax.tree_util.tree_map_with_path(one, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _corrected(update: jax.Array, param: jax.Array, bound: Any) -> jax.Array:
    """Change an update so that it ends within the bound; where it does, leave it bit for bit."""
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


# One after another: batches of LAPACK calls may wait for each other for ever, see `Orthogonal`.
@jax.custom_batching.sequential_vmap
def _nearest(matrix: jax.Array, bound: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Find the nearest matrix [H, H] of spectral norm `bound`, and whether this one is within."""
    left, values, right = jnp.linalg.svd(matrix)
    return (left * jnp.minimum(values, bound)) @ right, values[0] <= bound


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_called(where: str, name: str) -> bool:
    return f".{name}".endswith(f".{where}")


def _check_where(where: str, params: Any) -> None:
    """Raise unless some parameter is called so, and all that are can be projected."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    shapes = {_name(path): jnp.shape(leaf) for path, leaf in leaves}
    chosen = {name: shape for name, shape in shapes.items() if _is_called(where, name)}
    if not chosen:
        raise ValueError(f"where: expected one of {', '.join(shapes)}, or its end, got {where!r}")
    for name, shape in chosen.items():
        if not (len(shape) == 1 or (len(shape) == 2 and shape[0] and shape[1] % shape[0] == 0)):
            raise ValueError(
                f"where: expected parameters [H, G*H] or [H], got {name} {list(shape)}; "
                "vmap the update if the first axis is one of members"
            )
