"""Plots of the diagnostics. Matplotlib is imported when the first plot is drawn.

Every function draws on `ax`, or on new axes if it is None, and returns the axes. The colours are
those of Okabe & Ito (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

from seqcells import _check

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OKABE_ITO = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
GREY = "#808080"

# Labels of ours need no LaTeX, which a user's matplotlibrc may ask for where there is none.
PLAIN: dict[str, Any] = {"usetex": False, "parse_math": True}

Curves = Mapping[str, ArrayLike] | ArrayLike


def gradient_by_lag(norms: Curves, ax: Axes | None = None) -> Axes:
    """Draw gradient norms by lag on a logarithmic axis; the band is the range over a batch.

    Args:
        norms: float[T, *B] by lag, as `gradient_by_lag` returns it; or several by name. The curve
            of a batch is the geometric mean. Norms that have underflowed to 0 are left out; where
            one is not finite, the curve has a gap.
        ax: where to draw; new axes if None.

    Returns:
        The axes.
    """
    ax = _axes(ax)
    for look, name, values in _curves(norms):
        rows = _rows("norms", values)
        known = np.isfinite(rows)
        logs = np.log(np.where(known & (rows > 0), rows, np.nan))
        middle = np.where(np.all(known, axis=1), np.exp(_over(np.nanmean, logs)), np.nan)
        _band(ax, np.exp(logs), middle, look, name)
    ax.set_yscale("log")
    _label(ax, "lag k (steps)", r"$\|\partial L/\partial h_{T-1-k}\|_2$")
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
    ax = _axes(ax)
    rows = _rows("log_values", log_values) / np.log(10)
    lost = _not_finite(np.where(np.isneginf(rows), 0, rows))
    known = ~np.any(np.isnan(rows) | np.isposinf(rows), axis=1)
    rows = np.where(np.isfinite(rows) & known[:, None], rows, np.nan)
    lags = np.arange(len(rows))
    for low, high, label, alpha in ((0, 100, "all", 0.15), (25, 75, "middle half", 0.35)):
        lower, upper = (_over(np.nanpercentile, rows, q) for q in (low, high))
        ax.fill_between(lags, lower, upper, color=OKABE_ITO[0], alpha=alpha, lw=0, label=label)
    ax.plot(lags, _over(np.nanmedian, rows), color=OKABE_ITO[0], label=f"median{lost}")
    if bound is not None:
        limit = np.asarray(bound, float)
        if limit.shape != lags.shape:
            raise ValueError(f"bound: expected float[{len(lags)}], got {list(limit.shape)}")
        logs = np.log10(np.where(limit > 0, limit, np.nan))
        ax.plot(lags, logs, color=OKABE_ITO[2], ls="--", label="Pascanu's bound")
    _label(ax, "lag k (steps)", r"$\log_{10}\,\sigma\,(\partial h_T/\partial h_{T-k})$")
    return ax


def gates(values: Curves, ax: Axes | None = None) -> Axes:
    """Draw a histogram of the values of each gate, in 40 equal bins from 0 to 1.

    Args:
        values: float[...], a gate, or several by name, as `gate_values` returns them.
        ax: where to draw; new axes if None.

    Returns:
        The axes.
    """
    ax = _axes(ax)
    for look, name, one in _curves(values):
        flat = np.ravel(one)
        shares, edges = np.histogram(flat[np.isfinite(flat)], bins=40, range=(0, 1))
        shares = shares / max(flat.size, 1)
        ax.stairs(shares, edges, color=look["color"], fill=True, alpha=0.2)
        ax.stairs(shares, edges, **look, lw=1.5, label=name)
    ax.set(xlim=(0, 1), ylim=(0, None))
    _label(ax, "gate value", "share of steps and units")
    return ax


def gate_means(values: Curves, ax: Axes | None = None) -> Axes:
    """Draw the mean gate of every unit, sorted, with its 1st to 9th decile over time and batch.

    Args:
        values: float[*A, H], a gate, or several by name, as `gate_values` returns them.
        ax: where to draw; new axes if None.

    Returns:
        The axes.
    """
    ax = _axes(ax)
    count = len(values) if isinstance(values, Mapping) else 1
    for i, (look, name, one) in enumerate(_curves(values)):
        units = one.reshape(-1, one.shape[-1])
        units = units[:, np.argsort(units.mean(axis=0))]
        ranks = np.arange(1, units.shape[1] + 1) + 0.6 * ((i + 0.5) / count - 0.5)  # side by side
        low, high = np.percentile(units, (10, 90), axis=0)
        ax.vlines(ranks, low, high, color=look["color"], alpha=0.35)
        ax.plot(ranks, units.mean(axis=0), "o", ms=4, color=look["color"], label=name)
    ax.set_ylim(-0.02, 1.02)
    _label(ax, "unit, by its mean", "gate value: mean, 1st to 9th decile", above=True)
    return ax


def timescales(steps: Curves, ax: Axes | None = None) -> Axes:
    """Draw the cumulative distribution of timescales over units, or over units and steps.

    Args:
        steps: float[...], steps, or several by name, as `timescales` returns them.
        ax: where to draw; new axes if None.

    Returns:
        The axes. The abscissa, time, is logarithmic.
    """
    ax = _axes(ax)
    for look, name, one in _curves(steps):
        ranked = np.sort(np.ravel(one))  # those that are infinite or NaN come last, off the axis
        shares = np.arange(1, ranked.size + 1) / max(ranked.size, 1)
        ax.step(ranked, shares, where="post", **look, label=name)
    ax.set_xscale("log")
    ax.set_ylim(0, 1.02)
    _label(ax, "timescale (steps)", "share at or below")
    return ax


def lyapunov_spectrum(exponents: Curves, ax: Axes | None = None) -> Axes:
    """Draw Lyapunov exponents in falling order, and the line at 0 between growth and decay.

    Args:
        exponents: float[S], nats per step; or several by name.
        ax: where to draw; new axes if None.

    Returns:
        The axes.
    """
    ax = _axes(ax)
    ax.axhline(0, color=GREY, lw=1)
    for look, name, one in _curves(exponents):
        ranked = -np.sort(-np.ravel(one))  # NaN last
        ax.plot(np.arange(1, ranked.size + 1), ranked, marker="o", ms=3, lw=1, **look, label=name)
    ax.locator_params("x", integer=True)
    _label(ax, "index i", r"Lyapunov exponent $\lambda_i$ (nats a step)")
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
    ax = _axes(ax)
    ax.set_facecolor("white")  # shows where there was no run, in any style
    mesh = ax.pcolormesh(x, y, share, shading="nearest", cmap="cividis", vmin=0, vmax=1)
    with _without_latex():
        _settle((bar := ax.figure.colorbar(mesh, ax=ax)).ax)
    bar.set_label("share of runs that succeeded", **PLAIN)
    if theory is not None:
        limits = ax.get_ylim()
        ax.plot(x, np.asarray(theory, float), color=OKABE_ITO[2], lw=2.5, label="theory")
        ax.set_ylim(limits)
        _legend(ax, frameon=True)
    ax.set_xlabel(labels[0], **PLAIN)
    ax.set_ylabel(labels[1], **PLAIN)
    return ax


def _axes(ax: Axes | None) -> Axes:
    """Return the axes given, or new ones whose numbers need no LaTeX either."""
    if ax is not None:
        return ax
    plt = _check.extra("matplotlib.pyplot", "seqcells[plot]")
    with _without_latex():
        return _settle(plt.subplots(figsize=(5.2, 3.4), layout="constrained")[1])


@contextlib.contextmanager
def _without_latex() -> Iterator[None]:
    """Make texts that need no LaTeX.

    `rc_context` would put back all parameters: also that of an interactive session, which the first
    figure of a notebook turns on.
    """
    params = _check.extra("matplotlib", "seqcells[plot]").rcParams
    users = params["text.usetex"]
    params["text.usetex"] = False
    try:
        yield
    finally:
        params["text.usetex"] = users


def _settle(ax: Axes) -> Axes:
    """Make the first tick of each axis, after which all others are made."""
    for axis in (ax.xaxis, ax.yaxis):
        _ = axis.get_major_ticks(1), axis.get_minor_ticks(1)
    return ax


def _curves(curves: Curves) -> Iterator[tuple[dict[str, Any], str, np.ndarray]]:
    """Yield the look, name and values of every curve; the name of a single one is empty.

    A name says how many of the values cannot be drawn.
    """
    named = curves if isinstance(curves, Mapping) else {"": curves}
    looks = ({"color": colour, "ls": dashes} for dashes in ("-", "--", ":") for colour in OKABE_ITO)
    for look, (name, values) in zip(itertools.cycle(looks), named.items(), strict=False):
        array = np.asarray(values, float)
        yield look, f"{name}{_not_finite(array)}".strip(), array


def _not_finite(values: np.ndarray) -> str:
    """Say which share of values is not finite; nothing where all are."""
    many = np.sum(~np.isfinite(values))
    return f" ({max(round(100 * many / values.size), 1)} % not finite)" if many else ""


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
    ax.plot(lags, middle, **look, lw=1.5, label=name)


def _label(ax: Axes, x: str, y: str, *, above: bool = False) -> None:
    """Label the axes, and named curves; the legend of crowded axes goes above them."""
    ax.set_xlabel(x, **PLAIN)
    ax.set_ylabel(y, **PLAIN)
    ax.grid(color=GREY, alpha=0.2, lw=0.5)
    ax.set_axisbelow(True)
    names = ax.get_legend_handles_labels()[1]
    if names and (above or len(names) > 4):
        columns = max(1, min(4, 80 // (max(map(len, names)) + 7)))  # that fit in a row
        _legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize="small")
    else:
        _legend(ax)


def _legend(ax: Axes, **how: Any) -> None:
    """Draw a legend, where a curve has a name."""
    shown = ax.legend(**{"frameon": False, **how}) if ax.get_legend_handles_labels()[1] else None
    for text in shown.get_texts() if shown else ():
        text.set(**PLAIN)
