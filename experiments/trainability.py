"""Trainability: over which lags a tanh net learns, by the size of its recurrent weights.

Mean field predicts that gradients decay over a depth that is finite unless the weights are of
critical size. Success of delayed recall over lag and gain stands beside that depth.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import seqcells as sc
from experiments import _check
from experiments._model import Reader, Task
from experiments._picture import STYLE
from experiments._race import Claim, Frame, Study, Verdict
from experiments._trial import Run, Trials
from seqcells import initializers, probes

DEPTHS = 6  # depths over which nets were found to be trainable (Schoenholz et al. 2017)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the study."""

    seeds: int = 5
    gains: tuple[float, ...] = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0, 2.4)  # sd of a sum of units
    lags: tuple[int, ...] = (5, 10, 15, 20, 30, 40, 60)  # steps
    learning_rate: float = 1e-3
    steps: int = 1000
    hidden_size: int = 128
    batch_size: int = 32

    def __post_init__(self) -> None:
        _check.all_of(self)


QUICK = Settings(seeds=2, gains=(0.6, 1.0, 1.4, 2.0), lags=(5, 10, 20), steps=500, hidden_size=64)


def groups(s: Settings) -> list[Trials]:
    """List the trials: lag and gain are data, so they are one program."""
    probe, size = probes.DelayedRecall(max(s.lags)), s.hidden_size
    runs = tuple(
        Run(
            {"task": "recall", "arm": f"gain {gain:g}", "gain": gain, "length": lag},
            sc.RNN(size, w_hh_init=initializers.Normal(gain / size**0.5)),
            seed,
            {"learning_rate": s.learning_rate},
            {"lag": lag},
        )
        for gain in s.gains
        for lag in s.lags
        for seed in range(s.seeds)
    )
    task = Task(Reader(sc.RNN(size), probe.output_size), probe, s.batch_size)
    return [Trials("tanh", task, runs, s.steps)]


def input_variance() -> float:
    """What one symbol of the probe, one-hot, adds to the variance of a sum."""
    return 1 / probes.DelayedRecall().input_size  # of Lecun's initialiser


def depth(gains: Any) -> np.ndarray:
    """Return the steps over which the square of a gradient changes by e, up or down."""
    return 1 / np.abs(np.log(np.asarray(sc.diagnostics.mean_field(gains, input_variance()).chi)))


def _best_is_critical(rows: Frame) -> Verdict:
    """Whether the gain that solves most is the one of the grid that is nearest the critical."""
    if rows.empty:
        return Verdict(None, "not run")
    shares = rows.groupby("gain")["solved"].mean()
    critical = float(sc.diagnostics.critical_weight_std(input_variance()))
    gains = np.array(shares.index, float)
    step = float(np.max(np.diff(gains))) if len(gains) > 1 else 0.0
    best = gains[shares == shares.max()]
    told = ", ".join(f"{share:.2f} at {gain:g}" for gain, share in shares.items())
    return Verdict(
        bool(np.abs(best - critical).min() <= step and shares.max() > shares.min()),
        f"critical {critical:.2f}; share of all lags solved {told}",
    )


def claims(settings: dict[str, Any]) -> list[Claim]:
    """Say what is judged."""
    source = "Chen, Pennington & Schoenholz 2018"
    return [
        Claim("The best gain is that of the grid beside the critical", source, _best_is_critical)
    ]


@matplotlib.rc_context(STYLE)
def draw(rows: Frame, path: Path) -> None:
    """Draw success over gain and lag, with the theory's depth over it."""
    figure = Figure(figsize=(8.4, 5.2), dpi=140, layout="constrained")
    share = rows.pivot_table(index="length", columns="gain", values="solved", aggfunc="mean")
    gains, lags = np.array(share.columns, float), np.array(share.index, float)
    labels = ("gain: standard deviation of a sum over units of variance 1", "lag, steps")
    axes = sc.diagnostics.plot.trainability(gains, lags, share, labels, ax=figure.subplots())
    limits, fine = axes.get_ylim(), np.linspace(gains[0], gains[-1], 300)
    colour = {"color": "#D55E00", "linewidth": 2.5}
    axes.plot(
        fine, DEPTHS * depth(fine), label=f"theory: {DEPTHS} depths of the gradient", **colour
    )
    axes.set_ylim(limits)
    figure.legend(loc="outside upper center", frameon=False)
    figure.savefig(path)


STUDY = Study(
    name="trainability",
    title="Over which lags a tanh net learns, by the size of its weights",
    lead="Delayed recall by tanh nets whose recurrent weights start as independent normals. The "
    f"curve is {DEPTHS} times the depth 1 / |ln chi| of the mean-field theory for this input: the "
    "steps in which the square of a gradient falls, or to the right grows, by e.",
    groups=groups,
    claims=claims,
    draw=draw,
)
run, report = STUDY.run, STUDY.report
