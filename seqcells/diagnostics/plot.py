"""Plots of the diagnostics. Matplotlib is imported when the first plot is drawn.

Every function draws on `ax`, or on new axes if it is None, and returns the axes. The colours are
those of Okabe & Ito (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._types import Carry
from seqcells.diagnostics import _axes
from seqcells.diagnostics._axes import GREY
from seqcells.diagnostics._fixed_points import FixedPoints

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OKABE_ITO = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#F0E442")

Curves = Mapping[str, ArrayLike] | ArrayLike


def gradient_by_lag(norms: Curves, ax: Axes | None = None) -> Axes:
    """Draw gradient norms by lag on a logarithmic axis; the band is the range over a batch.

    Args:
        norms: float[T, *B] by lag, as `gradient_by_lag` returns it; or several by name. The curve
            of a batch is the geometric mean. Norms that have underflowed to 0 are left out; where
            one is not finite, or so much larger than all others that it would flatten them, the
            curve has a gap, and its name says so.
        ax: where to draw; new axes if None.

    Returns:
        The axes.
    """
    theirs, ax = ax, _axes.make(ax)
    many = 0
    for look, name, values in _curves(norms, _axes.reach_of_growth, positive=True):
        rows = _rows("norms", values)
        known, many = np.isfinite(rows), max(many, len(rows))
        logs = np.log(np.where(known & (rows > 0), rows, np.nan))
        middle = np.where(np.all(known, axis=1), np.exp(_over(np.nanmean, logs)), np.nan)
        _band(ax, np.exp(logs), middle, look, name)
    _axes.use_log(ax, "y")
    _axes.show_whole(ax, 0, many - 1)
    _axes.label(ax, "lag k (steps)", r"$\|\partial L/\partial h_{T-1-k}\|_2$", grow=theirs is None)
    return ax


def singular_values_by_lag(
    log_values: ArrayLike, bound: ArrayLike | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the singular values of dh_T/dh_{T-k} by lag: median, quartiles and extremes.

    Args:
        log_values: float[T+1, *B, S], nats, as `jacobian_by_lag` returns it.
        bound: float[T+1], `pascanu_bound` of the lags 0 to T, drawn on top.
        ax: where to draw; new axes if None.

    Returns:
        The axes. The ordinate is the logarithm to base 10, which neither under- nor overflows.

    Raises:
        ValueError: if the bound is for other lags.
    """
    theirs, ax = ax, _axes.make(ax)
    rows = _rows("log_values", log_values) / np.log(10)
    top = _axes.reach(rows)
    lost = _axes.left_out(np.where(np.isneginf(rows), 0, rows), top)
    shown = np.isneginf(rows) | (np.isfinite(rows) & (np.abs(rows) <= top))
    rows = np.where(shown, rows, np.nan)
    known = ~np.any(np.isnan(rows), axis=1)
    rows = np.where(np.isfinite(rows) & known[:, None], rows, np.nan)
    lags = np.arange(len(rows))
    for low, high, label, alpha in ((0, 100, "all", 0.2), (25, 75, "middle half", 0.45)):
        lower, upper = (_over(np.nanpercentile, rows, q) for q in (low, high))
        ax.fill_between(lags, lower, upper, color=OKABE_ITO[0], alpha=alpha, lw=0, label=label)
    middle = _over(np.nanmedian, rows)
    ax.plot(lags, middle, color=OKABE_ITO[0], label=f"median{lost}", **_axes.alone(middle))
    if bound is not None:
        limit = np.asarray(bound, float)
        if limit.shape != lags.shape:
            raise ValueError(f"bound: expected float[{len(lags)}], got {list(limit.shape)}")
        logs = np.log10(np.where((limit > 0) & np.isfinite(limit), limit, np.nan))
        ax.plot(lags, logs, color=OKABE_ITO[2], ls="--", label="Pascanu's bound")
    _axes.show_whole(ax, 0, len(lags) - 1)
    _axes.label(
        ax,
        "lag k (steps)",
        r"$\log_{10}\,\sigma\,(\partial h_T/\partial h_{T-k})$",
        grow=theirs is None,
    )
    return ax


def gates(values: Curves, ax: Axes | None = None) -> Axes:
    """Draw a histogram of the values of each gate, in 40 equal bins from 0 to 1.

    Args:
        values: float[...], a gate, or several by name, as `gate_values` returns them.
        ax: where to draw; new axes if None.

    Returns:
        The axes.
    """
    theirs, ax = ax, _axes.make(ax)
    for look, name, one in _curves(values, _one):
        flat = np.ravel(one)
        shares, edges = np.histogram(flat[np.isfinite(flat)], bins=40, range=(0, 1))
        shares = shares / max(flat.size, 1)
        ax.stairs(shares, edges, color=look["color"], fill=True, alpha=0.2)
        ax.stairs(shares, edges, **look, lw=1.5, label=name)
    ax.set(xlim=(0, 1), ylim=(0, None))
    _axes.label(ax, "gate value", "share of steps and units", grow=theirs is None)
    return ax


def gate_means(values: Curves, ax: Axes | None = None) -> Axes:
    """Draw the mean gate of every unit, sorted, with its 1st to 9th decile over time and batch.

    Args:
        values: float[*A, H], a gate, or several by name, as `gate_values` returns them.
        ax: where to draw; new axes if None.

    Returns:
        The axes.
    """
    theirs, ax = ax, _axes.make(ax)
    count, most = len(values) if isinstance(values, Mapping) else 1, 1
    for i, (look, name, one) in enumerate(_curves(values, _one)):
        units = one.reshape(-1, one.shape[-1])
        units = units[:, np.argsort(units.mean(axis=0))]
        ranks = np.arange(1, units.shape[1] + 1) + 0.6 * ((i + 0.5) / count - 0.5)  # side by side
        low, high = np.percentile(units, (10, 90), axis=0)
        most = max(most, units.shape[1])
        ax.vlines(ranks, low, high, color=look["color"], alpha=0.35)
        ax.plot(ranks, units.mean(axis=0), "o", ms=4, color=look["color"], label=name)
    _axes.show_whole(ax, 1, most)
    ax.set_ylim(-0.02, 1.02)
    _axes.label(
        ax,
        "unit, by its mean",
        "gate value: mean, 1st to 9th decile",
        above=True,
        grow=theirs is None,
    )
    return ax


def timescales(steps: Curves, ax: Axes | None = None) -> Axes:
    """Draw the cumulative distribution of timescales over units, or over units and steps.

    Args:
        steps: float[...], steps, or several by name, as `timescales` returns them.
        ax: where to draw; new axes if None.

    Returns:
        The axes. The abscissa, time, is logarithmic.
    """
    theirs, ax = ax, _axes.make(ax)
    for look, name, one in _curves(steps, _axes.reach_of_growth, positive=True):
        ranked = np.sort(np.ravel(one))  # those that are not shown come last, as NaN
        shares = np.arange(1, ranked.size + 1) / max(ranked.size, 1)
        dots = _axes.alone(np.where(ranked > 0, ranked, np.nan))
        ax.step(ranked, shares, where="post", **look, label=name, **dots)
    _axes.use_log(ax, "x")
    ax.set_ylim(0, 1.02)
    _axes.label(ax, "timescale (steps)", "share at or below", grow=theirs is None)
    return ax


def lyapunov_spectrum(exponents: Curves, ax: Axes | None = None) -> Axes:
    """Draw Lyapunov exponents in falling order, and the line at 0 between growth and decay.

    Args:
        exponents: float[S], nats per step; or several by name.
        ax: where to draw; new axes if None.

    Returns:
        The axes.
    """
    theirs, ax = ax, _axes.make(ax)
    ax.axhline(0, color=GREY, lw=1)
    most = 1
    for look, name, one in _curves(exponents, _axes.reach):
        ranked = -np.sort(-np.ravel(one))  # NaN last
        most = max(most, ranked.size)
        ax.plot(np.arange(1, ranked.size + 1), ranked, marker="o", ms=3, lw=1, **look, label=name)
    _axes.show_whole(ax, 1, most)
    _axes.label(ax, "index i", r"Lyapunov exponent $\lambda_i$ (nats a step)", grow=theirs is None)
    return ax


def fixed_points(
    points: FixedPoints,
    carries: Carry,
    readout: ArrayLike | None = None,
    *,
    axes: int = 2,
    components: int = 2,
    ax: Axes | None = None,
) -> Axes:
    """Draw fixed points, the trajectories around them, and the readout, in principal components.

    Args:
        points: as `fixed_points` returns them. Slow points are hollow.
        carries: trajectories [T, *B, ...], whose first principal components are the axes; at most
            50 of them are drawn.
        readout: float[S, O], a linear readout; each column is an arrow from the mean carry.
        axes: the number of leading axes of `carries`, time and batch.
        components: 2, or 3 for a picture in space.
        ax: where to draw; new axes if None. For three components it must be made with
            `projection="3d"`.

    Returns:
        The axes.

    Raises:
        ValueError: if the shapes do not fit, or `components` is neither 2 nor 3.
    """
    if components not in (2, 3):
        raise ValueError(f"components: expected 2 or 3, got {components!r}")
    rows, lead = _states(carries, axes)
    mean = rows.mean(axis=0)
    _, spread, directions = np.linalg.svd(rows - mean, full_matrices=False)
    basis, share = directions[:components].T, spread**2 / max(np.sum(spread**2), 1e-300)
    theirs, ax = ax, _axes.make(ax, "3d" if components == 3 else None)
    paths = ((rows - mean) @ basis).reshape(lead[0], -1, basis.shape[1])
    for path in np.moveaxis(paths, 1, 0)[:50]:
        ax.plot(*path.T, color=GREY, lw=0.6, alpha=0.5)
    places = (_states(points.carry, 1)[0] - mean) @ basis
    for some, converged, (name, marker, colour) in _kinds_of(points):
        how = {"marker": marker, "s": 40, "edgecolors": colour, "zorder": 3}
        how["facecolors"] = colour if converged else "none"
        ax.scatter(*places[some].T, label=name, **how)
    if readout is not None:
        for arrow in _columns_of(readout, rows.shape[1]) @ basis * np.max(np.abs(paths)):
            ax.plot(*np.stack([0 * arrow, arrow]).T, color=OKABE_ITO[3], lw=1.5)
        ax.plot(*np.zeros((components, 1)), color=OKABE_ITO[3], lw=1.5, label="readout")
    names = [f"component {i + 1} ({100 * share[i]:.0f} %)" for i in range(components)]
    if components == 3:
        _axes.show_space(ax, names[2], places)
    _axes.label(ax, *names[:2], above=True, grow=theirs is None)
    return ax


def eigenvalues(points: FixedPoints, ax: Axes | None = None) -> Axes:
    """Draw the eigenvalues of the Jacobian at each point, and the unit circle.

    Directions inside the circle shrink, outside of it they grow; at an angle of 0 without turning.

    Args:
        points: as `fixed_points` returns them.
        ax: where to draw; new axes if None.

    Returns:
        The axes, of equal scale.
    """
    theirs, ax = ax, _axes.make(ax)
    turn = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(turn), np.sin(turn), color=GREY, lw=1)
    for some, converged, (name, marker, colour) in _kinds_of(points):
        flat = points.eigenvalues[some].ravel()
        how: dict[str, Any] = {"marker": marker, "color": colour, "ls": "none", "ms": 4}
        how["fillstyle"] = "full" if converged else "none"
        ax.plot(np.real(flat), np.imag(flat), alpha=0.6, label=name, **how)
    ax.set_aspect("equal", adjustable="datalim")
    _axes.label(ax, "real part", "imaginary part", above=True, grow=theirs is None)
    return ax


def trainability(
    x: ArrayLike,
    y: ArrayLike,
    share: ArrayLike,
    labels: tuple[str, str],
    theory: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of successful runs over two hyperparameters.

    Args:
        x: float[X], ascending; positions of the columns.
        y: float[Y], ascending; positions of the rows.
        share: float[Y, X], 0 to 1; the share of successful runs, NaN where there was no run.
        labels: names of x and y, with units.
        theory: float[X], y as a function of x, such as a predicted depth scale; drawn on top.
        ax: where to draw; new axes if None.

    Returns:
        The axes.

    Raises:
        ValueError: if the shapes do not fit.
    """
    x, y, share = (np.asarray(a, float) for a in (x, y, share))
    if share.shape != (*y.shape, *x.shape) or share.ndim != 2:
        raise ValueError(
            f"share: expected float[Y, X], {[*y.shape, *x.shape]} for these x and y, "
            f"got {list(share.shape)}"
        )
    ax = _axes.make(ax)
    share = np.where((share >= 0) & (share <= 1), share, np.nan)
    ax.set_facecolor("white")  # shows where there was no run, in any style
    corners = _axes.edges(x), _axes.edges(y)
    mesh = ax.pcolormesh(*corners, share, cmap="cividis", vmin=0, vmax=1)
    with _axes.without_latex():
        _axes.settle((bar := ax.figure.colorbar(mesh, ax=ax)).ax)
    bar.set_label("share of runs that succeeded", **_axes.PLAIN)
    if theory is not None:
        limits, curve = ax.get_ylim(), np.asarray(theory, float)
        curve = np.where(np.isfinite(curve), curve, np.nan)
        ax.plot(x, curve, color=OKABE_ITO[2], lw=2.5, label="theory", **_axes.alone(curve))
        ax.set_ylim(limits)
        _axes.legend(ax, loc="lower right", bbox_to_anchor=(1, 1))
    _axes.name(ax, *labels)
    return ax


def _curves(
    curves: Curves, reach: Callable[[np.ndarray], float], *, positive: bool = False
) -> Iterator[tuple[dict[str, Any], str, np.ndarray]]:
    """Yield the look, name and values of every curve; the name of a single one is empty.

    What is not finite, and what is larger than `reach` of all values, is NaN; a name says how many
    these are, and where the axis shows `positive` values alone, that all are 0.
    """
    named = curves if isinstance(curves, Mapping) else {"": curves}
    arrays = [np.asarray(values, float) for values in named.values()]
    top = reach(np.concatenate([np.ravel(one) for one in arrays])) if arrays else np.inf
    looks = (
        {"color": colour, "ls": dashes} for dashes in ("-", "--", ":") for colour in _colours()
    )
    for look, name, array in zip(itertools.cycle(looks), named, arrays, strict=False):
        shown = np.isfinite(array) & (np.abs(array) <= top)
        none = " (all 0)" if positive and array.size and not np.any(array) else ""
        text = f"{name}{none}{_axes.left_out(array, top)}".strip()
        yield look, text, np.where(shown, array, np.nan)


def _colours() -> tuple[str, ...]:
    """Return the colours of curves; on a dark ground, what would be black is as light as text."""
    text = _check.extra("matplotlib", "seqcells[plot]").rcParams["text.color"]
    return tuple(text if colour == "#000000" else colour for colour in OKABE_ITO)


def _kinds_of(points: FixedPoints) -> Iterator[tuple[np.ndarray, bool, tuple[str, str, str]]]:
    """Yield which points are of a kind, bool[N], whether they converged, and name, marker, colour.

    Kinds of which there is no point are left out.
    """
    whole = points.kinds == "unstable"
    kinds = {
        "stable": (points.unstable == 0, "o", 0),
        "saddle, 1 unstable direction": (~whole & (points.unstable == 1), "X", 2),
        "saddle, 2": (~whole & (points.unstable == 2), "X", 1),
        "saddle, 3 or more": (~whole & (points.unstable > 2), "X", 4),
        "unstable": (whole, "^", 6),
    }
    for kind, (those, marker, colour) in kinds.items():
        for converged in (True, False):
            some = those & (points.converged == converged)
            if some.any():
                name = f"{kind if converged else f'slow, {kind}'} ({int(some.sum())})"
                yield some, converged, (name, marker, _colours()[colour])


def _columns_of(readout: ArrayLike, size: int) -> np.ndarray:
    """Return the columns of a readout float[S, O] as rows of length 1, [O, S]."""
    weights = np.asarray(readout, float)
    if weights.ndim != 2 or len(weights) != size:
        raise ValueError(f"readout: expected float[{size}, O], got {list(weights.shape)}")
    return (weights / np.linalg.norm(weights, axis=0)).T


def _states(carries: Carry, axes: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return carries as float[N, S], and the sizes of their leading axes."""
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(carries)]
    leads = {leaf.shape[:axes] for leaf in leaves}
    if len(leads) != 1 or any(leaf.ndim < axes for leaf in leaves) or 0 in (lead := leads.pop()):
        wanted = f"leaves with the same first {axes} axes, none of size 0"
        raise ValueError(f"carries: expected {wanted}, got {_check.describe(carries)}")
    return np.concatenate([a.reshape(math.prod(lead), -1) for a in leaves], axis=-1), lead


def _one(values: np.ndarray) -> float:
    """Return the largest value of a gate, with room for rounding."""
    return 1 + 1e-6


def _rows(name: str, values: ArrayLike) -> np.ndarray:
    """Return float[T, N] for [T, ...]."""
    array = np.asarray(values, float)
    if array.ndim < 1 or array.size == 0:
        raise ValueError(f"{name}: expected float[T, ...] by lag, got {list(array.shape)}")
    return array.reshape(len(array), -1)


def _over(statistic: Callable[..., np.ndarray], rows: np.ndarray, *args: float) -> np.ndarray:
    """Apply a statistic that ignores NaN to every row; rows of NaN give NaN, without a warning."""
    result = np.full(len(rows), np.nan)
    some = ~np.all(np.isnan(rows), axis=1)
    result[some] = statistic(rows[some], *args, axis=1)
    return result


def _band(ax: Axes, rows: np.ndarray, middle: np.ndarray, look: dict[str, Any], name: str) -> None:
    lags = np.arange(len(rows))
    if rows.shape[1] > 1:
        lower, upper = _over(np.nanmin, rows), _over(np.nanmax, rows)
        ax.fill_between(lags, lower, upper, color=look["color"], alpha=0.2, lw=0)
    ax.plot(lags, middle, **look, lw=1.5, label=name, **_axes.alone(middle))
