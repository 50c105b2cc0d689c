"""Mean field: how fast the gradient of a wide tanh net decays, predicted and measured.

From the variances of weights and input, Chen, Pennington & Schoenholz (2018) compute the variance q
of the sums of a driven net, and the factor chi by which the square of a gradient changes per step.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import seqcells as sc
from experiments import lab

COLUMNS = [
    *("weight_std", "input_variance", "width", "nets"),
    *("q", "q_error", "q_theory", "chi", "chi_error", "chi_theory"),
]
SETTLED, LAGS = 30, 25  # steps before measuring; lags over which chi is fitted
CODE = (*lab.CODE, Path(__file__))


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    weight_stds: tuple[float, ...] = (0.6, 0.9, 1.2, 1.5, 1.8)
    """sizes of the weights: standard deviations of a sum over units of variance 1"""
    input_variances: tuple[float, ...] = (0.1, 0.5)  # variances that the input adds to a sum
    width: int = 1024  # units of every net
    nets: int = 32  # nets for every pair of variances


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Nets:
    """Nets of one size, with given variances of weights and input."""

    weight_std: float
    input_variance: float
    width: int
    nets: int

    @property
    def name(self) -> str:
        """The name of the group."""
        return f"weights {self.weight_std:g} input {self.input_variance:g}"

    @property
    def steps(self) -> int:
        """Nets to draw."""
        return self.nets

    def part(self, out: Path) -> lab.Part:
        """Return the file with the row."""
        name = self.name.replace(" ", "-")
        columns = {"results": COLUMNS}
        return lab.Part(out / "parts", name, dataclasses.asdict(self), columns, CODE)

    def check(self) -> None:
        """Do nothing: any net of a positive size can be measured."""

    def measure(self, progress: Callable[[int], None]) -> lab.Rows:
        """Draw the nets, one after another, and measure them."""
        q, squares = [], []
        for seed in range(self.nets):
            variance, norms = _drive(self, jax.random.key(seed))
            q.append(float(variance))
            squares.append(np.asarray(norms, float))
            progress(seed + 1)
        theory = sc.diagnostics.mean_field(self.weight_std, self.input_variance)
        without = [_chi(squares[:i] + squares[i + 1 :]) for i in range(self.nets)]
        row = {
            **dataclasses.asdict(self),
            **{"q": np.mean(q), "q_error": _error(q), "q_theory": float(theory.q)},
            **{"chi": _chi(squares), "chi_theory": float(theory.chi)},
            "chi_error": (self.nets - 1) * _error(without),  # the jackknife
        }
        return {"results": [row]}


@jax.jit
def _drive(group: Nets, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Drive a net with white noise; return the variance of sums, and squared gradients by lag."""
    k_w, k_x, k_loss = jax.random.split(key, 3)
    init = sc.initializers.Normal(group.weight_std / group.width**0.5)
    w_hh = init(k_w, (group.width, group.width), jnp.float32)
    params = sc.RNNParams(group.input_variance**0.5 * jnp.eye(group.width), w_hh, None)
    cell = sc.RNN(group.width, bias="none")
    xs = jax.random.normal(k_x, (SETTLED + LAGS + 15, group.width))
    carries = sc.trajectory(cell, params, xs)
    sums = cell.project(params, xs[1:]) + cell.mix(params, carries[:-1])
    reading = jax.random.normal(k_loss, (group.width,))
    norms = sc.diagnostics.gradient_by_lag(cell, params, xs, lambda ys: ys[-1] @ reading)
    return jnp.mean(jnp.square(sums[SETTLED:])), jnp.square(norms[:LAGS])


def _chi(squares: Sequence[np.ndarray]) -> float:
    """Fit the factor per step of the mean square of a gradient."""
    return float(sc.diagnostics.rate_and_horizon(np.mean(squares, axis=0)).rate)


def _error(values: Sequence[float]) -> float:
    """Return the standard error of a mean."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")


def groups(s: Settings) -> list[Nets]:
    """List the nets."""
    places = itertools.product(s.input_variances, s.weight_stds)
    return [Nets(std, variance, s.width, s.nets) for variance, std in places]


def _near(name: str, within: float) -> Callable[[lab.Frame], lab.Verdict]:
    def judge(rows: lab.Frame) -> lab.Verdict:
        if rows.empty:
            return lab.NOT_RUN
        off = (rows[name] / rows[f"{name}_theory"] - 1).abs()
        error = lab.Z * rows[f"{name}_error"] / rows[f"{name}_theory"]  # half a 95 % interval
        places = [lab.Interval(o - e, o, o + e) for o, e in zip(off, error, strict=True)]
        holds = lab.all_hold(one.within(-math.inf, within) for one in places)
        text = f"at most {100 * off.max():.1f} % off, {len(rows)} places"
        return lab.Verdict(holds, f"{text}, intervals of at most {100 * error.max():.1f} %")

    return judge


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    source = "Chen, Pennington & Schoenholz 2018"
    return [
        lab.Claim("q is within 3 % of the theory everywhere", source, _near("q", 0.03)),
        lab.Claim("chi is within 3 % of the theory everywhere", source, _near("chi", 0.03)),
    ]


def table(rows: lab.Frame) -> lab.Table:
    """Return a table with a row for every pair of variances, with standard errors."""
    return lab.Table(
        title="All settings",
        caption="Measured, with the standard error over nets, and the theory. q: variance of a "
        "unit's sum; chi: factor per step of the mean square of a gradient.",
        head=["weights", "input", "q", "error", "theory", "chi", "error", "theory"],
        rows=[
            [f"{row[name]:.3g}" for name in COLUMNS[:2]]
            + [f"{row[name]:.4f}" for name in COLUMNS[4:]]
            for row in rows.to_dict("records")
        ],
        texts=0,
    )


@lab.styled
def draw(rows: lab.Frame, path: Path) -> None:
    """Draw the theory as lines, and what was measured as marks with bars of two errors."""
    figure = Figure(figsize=(10.5, 5.1), dpi=140, layout="constrained")
    line = np.linspace(0.05, 1.05 * rows["weight_std"].max(), 200)
    names = {"q": "q, variance of a unit's sum", "chi": r"$\chi$, factor a step of gradient$^2$"}
    both, handles, notes = figure.subplots(1, 2), {}, []
    for axes, (name, label) in zip(both, names.items(), strict=True):
        good = pd.Series(lab.shown(rows[name]), rows.index)
        bars = rows[f"{name}_error"].where(lab.shown(rows[f"{name}_error"]))
        notes += [f"{name} diverged at {(~good).sum()} of {len(rows)} places"] * (not good.all())
        for i, (variance, part) in enumerate(rows.groupby("input_variance")):
            own = lab.look(i)
            theory, colour = sc.diagnostics.mean_field(line, variance), own["color"]
            axes.plot(line, getattr(theory, name), own["linestyle"], color=colour, linewidth=1.4)
            marks = {"color": colour, "marker": own["marker"], "linestyle": "none", "capsize": 3}
            part = part[good[part.index]]
            two = 2 * bars[part.index]
            handles[f"input variance {variance:.3g}"] = axes.errorbar(
                part["weight_std"], part[name], two, **marks
            )
        axes.set(xlabel="standard deviation of a sum over units of variance 1", ylabel=label)
    both[1].axhline(1, color="#999999", linewidth=0.8)
    lab.add_legend(figure, handles)
    lab.add_note(figure, f"Lines: theory. Bars: two standard errors. {'; '.join(notes)}")
    lab.save(figure, path)


STUDY = lab.Study(
    name="mean_field",
    title="How fast gradients of a wide net decay, predicted and measured",
    lead="Tanh nets driven by white noise, at initialisation. Lines are the theory, in the limit "
    "of an infinite width; marks are means over nets, with two standard errors.",
    settings=Settings(),
    quick=Settings(width=512, nets=8),
    groups=groups,
    claims=claims,
    draw=draw,
    caption="Where the marks lie on the lines, the theory predicts what was measured. Where chi "
    "crosses the grey line at 1, a gradient neither vanishes nor explodes.",
    tables=lambda rows: [table(rows)],
    cost=lambda groups: f"{sum(g.nets for g in groups)} nets of {groups[0].width} units",
)
