"""Trainability: the lags over which nets learn, by size of weights, learning rate and timescale.

Mean-field theory predicts that gradients of a tanh net decay over a finite depth unless the weights
have the critical size, and chrono initialisation gives a GRU timescales up to a maximum. The share
of runs that solve delayed recall, by lag and each of these, is compared with the theory.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable

import seqcells as sc
from experiments import lab
from seqcells import initializers, probes
from seqcells.diagnostics._axes import edges

GAIN = 1.0  # gain of the surface over learning rates
LEAD = 20  # minimal steps before the cue, because a chaotic net stores more at rest than later
DEPTHS = 6  # nets are trainable over this number of depths (Schoenholz et al. 2017)


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 3  # runs per setting, each with its own random seed
    lags: tuple[int, ...] = (5, 10, 15, 20, 30, 40, 60)  # lags of delayed recall, steps
    gains: tuple[float, ...] = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0, 2.4)
    """sizes of the weights: standard deviations of a sum over units of variance 1"""
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    """learning rates of tanh, all at a gain of 1"""
    longest: tuple[int, ...] = (2, 5, 10, 20, 40, 80, 160)  # T_max of the GRUs, steps
    learning_rate: float = 1e-3  # learning rate of tanh at every gain
    chrono_rate: float = 3e-3  # learning rate of the GRUs
    steps: int = 800
    """maximal training steps; a group stops early once all its runs have learned"""
    hidden_size: int = 64  # units of every net
    batch_size: int = 32  # sequences per training step


def _tanh(gain: float, size: int) -> sc.RNN:
    return sc.RNN(size, w_hh_init=initializers.Normal(gain / size**0.5))


OfArray = Callable[[np.ndarray], np.ndarray]


class Surface(NamedTuple):
    """Success over lag and one other variable."""

    title: str  # title of its panel
    label: str  # name of the variable, with its unit
    arm: str
    values: Callable[[Settings], tuple[float, ...]]  # values of the variable
    start: Callable[[Settings, float], sc.Cell]  # value -> the cell with its initialisers
    rate: Callable[[Settings, float], float]  # value -> the learning rate
    to_axis: OfArray = np.asarray  # values -> positions along the axis
    to_value: OfArray = np.asarray  # and back


SURFACES = {
    "gain": Surface(
        "tanh, by gain",
        "gain: sd of a sum over units",
        "tanh",
        lambda s: s.gains,
        lambda s, gain: _tanh(gain, s.hidden_size),
        lambda s, _: s.learning_rate,
    ),
    "rate": Surface(
        "tanh, by learning rate",
        f"learning rate, at a gain of {GAIN:g}",
        "tanh",
        lambda s: s.rates,
        lambda s, _: _tanh(GAIN, s.hidden_size),
        lambda _, rate: rate,
        np.log10,
        lambda a: 10.0**a,
    ),
    "longest": Surface(
        "GRU chrono, by timescale",
        r"$T_{max}$ of the update gate, steps",
        "GRU chrono",
        lambda s: s.longest,
        lambda s, longest: lab.CHRONO.start(s.hidden_size, int(longest)),
        lambda s, _: s.chrono_rate,
        np.log2,
        np.exp2,
    ),
}


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups: lag and value are data, so a surface is one program."""
    probe, listed = probes.DelayedRecall(max(s.lags) + LEAD), []
    for name, surface in SURFACES.items():
        same, runs = {"task": name, "arm": surface.arm, "units": s.hidden_size}, []
        for value, lag in itertools.product(surface.values(s), s.lags):
            labels, rates = {**same, "value": value, "length": lag}, (surface.rate(s, value),)
            runs += lab.list_runs(labels, surface.start(s, value), rates, s.seeds, {"lag": lag})
        cell = (sc.GRU if surface.arm == lab.CHRONO.name else sc.RNN)(s.hidden_size)
        task = lab.Task(cell, probe, s.batch_size)
        listed.append(lab.RunGroup(f"{name} {surface.arm}", task, tuple(runs), s.steps))
    return listed


def input_variance() -> float:
    """Return the variance that a one-hot symbol of the probe adds to a sum."""
    return 1 / probes.DelayedRecall().input_size  # by Lecun's initialiser


def depth(gains: ArrayLike) -> np.ndarray:
    """Return the steps over which the square of a gradient changes by a factor of e, up or down."""
    return 1 / np.abs(np.log(np.asarray(sc.diagnostics.mean_field(gains, input_variance()).chi)))


@functools.partial(jax.jit, static_argnums=1)
def exponents(gains: jax.Array, size: int) -> jax.Array:
    """Return the largest Lyapunov exponent of nets of this size at initialisation, float[X]."""
    cell, probe = _tanh(1.0, size), probes.DelayedRecall(300)

    def largest(gain: jax.Array, key: jax.Array) -> jax.Array:
        k_init, k_data = jax.random.split(key)
        params = cell.init(k_init, probe.input_size)
        params = params._replace(w_hh=gain * params.w_hh)
        xs = probe.sample(k_data, 1).xs[:, 0]
        return sc.diagnostics.lyapunov_exponents(cell, params, xs, 1, warmup=50)[0]

    nets = jax.random.split(jax.random.key(0), 8)
    each = jax.vmap(jax.vmap(largest, (None, 0)), (0, None))(gains, nets)
    return jnp.mean(each, axis=1)


def horizon(gains: ArrayLike, size: int) -> np.ndarray:
    """Return `depth` computed from the exponents of nets of this size."""
    return 1 / (2 * np.abs(np.asarray(exponents(jnp.asarray(gains), size))))


def _best_is_critical(rows: lab.Frame) -> lab.Verdict:
    """Whether the gain that solves most is the gain of the grid closest to the critical one."""
    rows = lab.pick(rows, task="gain")
    if rows.empty:
        return lab.NOT_RUN
    counts = {float(gain): lab.count(some) for gain, some in rows.groupby("value")}
    critical = float(sc.diagnostics.critical_weight_std(input_variance()))
    step = float(max(np.diff([*counts]), default=0.0))
    near = [c for gain, c in counts.items() if abs(gain - critical) <= step]
    far = [c for gain, c in counts.items() if abs(gain - critical) > step]
    text = ", ".join(f"{c.k} of {c.n} at {gain:g}" for gain, c in counts.items())
    return lab.Verdict(
        _best_is_among(near, far), f"critical {critical:.2f}; of all lags solved {text}"
    )


def _best_is_among(some: Sequence[lab.Count], others: Sequence[lab.Count]) -> bool | None:
    """Whether one of `some` beats all `others`; False if one of `others` beats all `some`."""

    def beats(one: lab.Count, all_of: Sequence[lab.Count]) -> bool:
        return all(lab.more_often(one, other) for other in all_of)

    if not (some and others):
        return None
    if any(beats(one, others) for one in some):
        return True
    return False if any(beats(one, some) for one in others) else None


def _no_rate_reaches_further(rows: lab.Frame) -> lab.Verdict:
    """Whether most runs fail beyond this number of depths, at every learning rate."""
    limit = DEPTHS * float(depth(GAIN))
    rows = lab.pick(rows, task="rate")
    rows = rows[rows["length"] > limit]
    if rows.empty:
        return lab.NOT_RUN
    counts = {rate: lab.count(group) for rate, group in rows.groupby("learning_rate")}
    text = ", ".join(f"{c.k} of {c.n} at {rate:g}" for rate, c in counts.items())
    holds = lab.all_hold(c.within(0, 0.5) for c in counts.values())
    return lab.Verdict(holds, f"beyond {limit:.0f} steps solved {text}")


def _within_is_learned(rows: lab.Frame) -> lab.Verdict:
    """Whether lags up to T_max are learned more often than longer ones."""
    rows = lab.pick(rows, task="longest")
    inside = rows["length"] <= rows["value"]
    if rows.empty or inside.all() or not inside.any():
        return lab.NOT_RUN
    near, far = lab.count(rows[inside]), lab.count(rows[~inside])
    return lab.Verdict(
        lab.more_often(near, far), f"up to T_max and beyond it {lab.against(near, far)}"
    )


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    source = "Chen, Pennington & Schoenholz 2018"
    return [
        lab.Claim(
            "The best gain is the grid value next to the critical gain", source, _best_is_critical
        ),
        lab.Claim(
            f"At a gain of {GAIN:g}, most runs fail beyond {DEPTHS} depths of the gradient, at "
            "every learning rate",
            "Schoenholz et al. 2017, for deep nets",
            _no_rate_reaches_further,
        ),
        lab.Claim(
            "A GRU learns lags up to the longest timescale it starts with, T_max, more often than "
            "longer ones",
            "Tallec & Ollivier 2018",
            _within_is_learned,
        ),
    ]


def _curves(name: str, values: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Return the theoretical reach in lags, by value."""
    if name == "longest":
        return {r"$T_{max}$": values}
    if name == "rate":
        return {f"{DEPTHS} depths": np.full(len(values), DEPTHS * float(depth(GAIN)))}
    return {
        f"{DEPTHS} depths, mean field": DEPTHS * depth(values),
        f"{DEPTHS} depths, Lyapunov": DEPTHS * horizon(values, size),
    }


@lab.styled
def draw(rows: lab.Frame, path: Path) -> None:
    """Draw success over lag and value, with the theory as curves."""
    names = [name for name in SURFACES if name in set(rows["task"])]
    figure, panels = lab.grid_of_panels(len(names), height=4.6)
    images = [
        _draw(axes, lab.pick(rows, task=name), name)
        for axes, name in zip(panels, names, strict=True)
    ]
    if lost := lab.diverged(rows):
        lab.add_note(figure, lost)
    bar = {"location": "top", "shrink": 0.6, "aspect": 30}
    figure.colorbar(images[0], ax=panels, label="share of seeds that recall it", **bar)
    lab.save(figure, path)


def _draw(axes: Axes, rows: lab.Frame, name: str) -> ScalarMappable:
    """Draw one surface; returns what a colour bar needs."""
    surface = SURFACES[name]
    share = rows.pivot_table(index="length", columns="value", values="solved", aggfunc="mean")
    values, lags = np.array(share.columns, float), np.array(share.index, float)
    at = surface.to_axis(values)
    corners = edges(at), edges(lags)
    image = axes.pcolormesh(*corners, share, cmap="cividis", vmin=0, vmax=1)
    axes.set(xlabel=surface.label, ylabel="lag, steps")
    limits = axes.get_ylim()
    fine = np.linspace(corners[0][0], corners[0][-1], 41)
    curves = _curves(name, surface.to_value(fine), int(rows["units"].iloc[0]))
    for colour, (text, curve) in zip(lab.COLOURS[2:], curves.items(), strict=False):
        axes.plot(fine, curve, color=colour, linewidth=2.5, label=text)
    axes.set_ylim(limits)
    axes.set_xticks(at, [f"{value:g}" for value in values], rotation=45)
    axes.set_title(surface.title)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), frameon=False, fontsize=10.5)
    return image


STUDY = lab.Study(
    name="trainability",
    title="Over which lags nets learn, by weights, learning rate and timescale",
    lead="Delayed recall by tanh nets whose recurrent weights start as independent normals, over "
    "their size and over the learning rate, and by GRUs whose timescales start uniform on 2 to "
    "T_max steps. A depth is 1 / |ln chi|: the steps in which the square of a gradient falls, or "
    "beyond the critical gain grows, by e; chi is that of mean-field theory for this input, or "
    "exp(2 lambda) of the largest Lyapunov exponent of nets as they start.",
    settings=Settings(),
    quick=Settings(
        seeds=2,
        lags=(5, 25, 30),
        gains=(0.6, 1.0, 1.4, 2.0),
        longest=(2, 10, 40),
        rates=(3e-4, 3e-3, 3e-2),
        steps=500,
        hidden_size=48,
    ),
    groups=groups,
    claims=claims,
    draw=draw,
    caption="The upper edge of the area of shares near 1 is the longest lag that is learned. A "
    "theory is right where its curve runs along that edge.",
)
