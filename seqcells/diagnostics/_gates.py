"""The gates of a cell: their values, the share that is closed, and the timescales they imply."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._cell import Cell
from seqcells._inputs import time_back
from seqcells._static import exported
from seqcells._trees import silence
from seqcells._types import Carry, Inputs, Params
from seqcells.diagnostics._nan import share
from seqcells.diagnostics._reading import Reading, before, begin


@exported
class GateShares(NamedTuple):
    """Statistics of the gate of each unit, over time and batch."""

    closed: jax.Array  # [H], share of values < 0.05
    open: jax.Array  # [H], share of values > 0.95
    mean: jax.Array  # [H]


@exported
class Timescales(NamedTuple):
    """Timescales of a unit that overwrites a share z of its carry at every step."""

    exact: jax.Array  # shaped like z, steps in which a value decays by e: -1 / ln(1 - z)
    tallec: jax.Array  # shaped like z, steps: 1 / z (Tallec & Ollivier 2018)


def gate_values(
    cell: Cell, params: Params, xs: Inputs, carry: Carry = None, **reading: Unpack[Reading]
) -> dict[str, jax.Array]:
    """Compute the gates of every step.

    Args:
        cell: a cell with gates, such as `GRU`, `LSTM`, `MGU` or `MinGRU`, also inside a wrapper; or
            your own cell that defines `gates`.
        params: its parameters.
        xs: float[T, *B, D].
        carry: the initial carry; a fresh one if None.
        **reading: `lengths`, `mask`, `resets`, `reset_carry`, `reverse` and `time_axis`, as in
            `unroll`.

    Returns:
        A dict from each gate's name in the cell's equations to float[T, *B, H]: r and z for GRU, i,
        f and o for LSTM, f for MGU, z for MinGRU. z and MGU's f are the share that is written;
        LSTM's f is the share that is kept. Gates are 0 at padding, so pass the mask to
        `gate_shares`.

    Raises:
        TypeError: if the cell has no gates.
        ValueError: as `unroll`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.GRU(3)
    >>> values = gate_values(cell, cell.init(jax.random.key(0), 2), jnp.zeros((4, 2)))
    >>> {name: value.shape for name, value in values.items()}
    {'r': (4, 3), 'z': (4, 3)}
    """
    _check.instance("cell", cell, Cell, "GRU(64)")
    begun = begin(cell, params, xs, carry, reading)
    assert isinstance(begun.model, Cell)  # `begin` only sets the dtype
    valid = begun.flags.valid
    drive = begun.model.project(params, silence(valid, begun.xs))
    values = begun.model.gates(params, before(begun, params), drive)
    if not values:
        raise TypeError(
            f"cell: expected a cell with gates, such as GRU(64), got {cell}; "
            "your own cell must return them from `gates`"
        )
    return time_back(silence(valid, values), begun.axis)


def gate_shares(values: ArrayLike, mask: ArrayLike | None = None) -> GateShares:
    """Compute how often the gate of each unit is closed or open, and its mean.

    Args:
        values: float[*A, H]; one gate, as `gate_values` returns it, over time and batch.
        mask: bool[*A]; False excludes a step.

    Returns:
        The share of values below 0.05, the share above 0.95, and the mean, [H] each; NaN if an
        included value is NaN, or the mask excludes every step.

    Raises:
        TypeError: if the values are not floating, or the mask is not bool.
        ValueError: if the mask has another shape.

    >>> import jax.numpy as jnp
    >>> shares = gate_shares(jnp.array([[0.01, 0.5], [0.99, 0.5]]))
    >>> [round(float(share), 2) for share in shares.closed]
    [0.5, 0.0]
    """
    values = _floats("values", values)
    return GateShares(
        _mean(share(values < 0.05, values), mask),
        _mean(share(values > 0.95, values), mask),
        _mean(values, mask),
    )


def saturation(
    carries: ArrayLike, threshold: float = 0.95, mask: ArrayLike | None = None
) -> jax.Array:
    """Compute the share of `|h| > threshold` for each unit, over time and batch.

    Args:
        carries: float[*A, H], as `trajectory` or `unroll` returns them.
        threshold: the threshold for `|h|`, dimensionless; at 0.95 the slope of tanh is 0.1.
        mask: bool[*A]; False excludes a step.

    Returns:
        float[H], from 0 to 1; NaN if an included value is NaN, or the mask excludes every step.

    Raises:
        TypeError: if the carries are not floating, or the mask is not bool.
        ValueError: if the mask has another shape.
    """
    carries = _floats("carries", carries)
    return _mean(share(jnp.abs(carries) > threshold, carries), mask)


def timescales(z: ArrayLike) -> Timescales:
    """Compute how many steps a unit remembers if it overwrites a share z of its carry at each step.

    Pass the gates of every step for the timescales on your data. For the timescales of the bias
    alone, pass the gates at zero input and a fresh carry, as in the example. An LSTM has z = 1 - f.

    Args:
        z: float[...], from 0 to 1; the share that is written.

    Returns:
        In steps: -1 / ln(1 - z), in which a value decays by a factor of e, and 1 / z, the mean age
        of a value (Tallec & Ollivier 2018); inf at z = 0, and NaN if z is not from 0 to 1.

    Raises:
        TypeError: if z is not floating.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.GRU(3, b_ih_init=(sc.initializers.zeros, lambda k, s, d: jnp.full(s, -2.0, d),
    ...                             sc.initializers.zeros))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> z = gate_values(cell, params, jnp.zeros((1, 2)))["z"][0]
    >>> [round(float(steps[0]), 2) for steps in timescales(z)]
    [7.88, 8.39]
    """
    z = _floats("z", z)
    z = jnp.where((z >= 0) & (z <= 1), jnp.abs(z), jnp.nan)  # -0 is 0
    return Timescales(-1 / jnp.log1p(-z), 1 / z)


def _floats(name: str, values: ArrayLike) -> jax.Array:
    """Return a floating array, or raise."""
    array = _check.array(name, values, "an array")
    _check.floating(name, array.dtype, "cast it")
    return array


def _mean(values: jax.Array, mask: ArrayLike | None) -> jax.Array:
    """Average over all axes but the last, where the mask is True."""
    if mask is None:
        return jnp.mean(values, axis=tuple(range(values.ndim - 1)))
    mask = jnp.asarray(mask)
    if mask.dtype != jnp.bool_:
        raise TypeError(f"mask: expected bool{list(values.shape[:-1])}, got dtype {mask.dtype}")
    if mask.shape != values.shape[:-1]:
        raise ValueError(
            f"mask: expected bool{list(values.shape[:-1])}, all axes but the last, "
            f"got shape {mask.shape}"
        )
    return jnp.mean(values, axis=tuple(range(values.ndim - 1)), where=mask[..., None])
