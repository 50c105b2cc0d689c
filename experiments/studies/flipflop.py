"""Flip-flop: the fixed points by which a trained net keeps three bits.

Nets learn to keep the last pulse of each of three inputs. Then the input is held at 0, and the
points are found at which the memory does not move (Sussillo & Barak 2013).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import seqcells as sc
from experiments import lab
from experiments.lab.runs import Trained
from seqcells import diagnostics, probes
from seqcells.diagnostics._axes import show_space

Cell = Literal["GRU", "LSTM", "RNN", "CTRNN"]
CELLS: dict[str, lab.Make] = {
    "GRU": sc.GRU,
    "LSTM": sc.LSTM,
    "RNN": sc.RNN,
    "CTRNN": functools.partial(sc.CTRNN, tau=2.0, dt=1.0),
}
LENGTH, BITS = 64, 3
SEQUENCES, PATHS, STARTS = 64, 24, 600  # that are run, drawn, and starts of the search
SHOWN = 3  # principal components
PLACES = [f"c{k + 1}" for k in range(SHOWN)]
RUN = ("arm", "seed")  # the columns that name a run
SOURCE = "Sussillo & Barak 2013"


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    cells: tuple[Cell, ...] = get_args(Cell)  # cells to train
    seeds: int = 5  # trainings of every cell, each from its own random start
    hidden_size: int = 16  # units of every net
    learning_rate: float = 1e-2  # of all nets, at first; it falls to 0 as half a cosine
    steps: int = 4000
    """steps of training at most; fewer where all runs of a group have learned"""
    batch_size: int = 64  # fresh sequences in a step of training

    def __post_init__(self) -> None:
        super().__post_init__()
        lab.known("cells", self.cells, CELLS)


def explore(trained: Trained, i: int) -> tuple[diagnostics.FixedPoints, dict[str, np.ndarray]]:
    """Find the fixed points of run i, with the input at 0.

    The search starts at and between memories: at weighted means of two carries of trajectories.

    Returns:
        The points; and by name, the bits of the outputs there, "memory" int[N], the "places" of the
        points float[N, 3], and the "paths" of sequences float[T, P, 3], in principal components.
    """
    params = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[i]), trained.after)
    cell, probe = trained.task.cell, trained.task.probe
    k_sample, k_one, k_two, k_share = jax.random.split(jax.random.key(trained.runs[i].seed), 4)
    carries = sc.trajectory(cell, params.cell, probe.sample(k_sample, SEQUENCES).xs)
    pair = (diagnostics.draw_starts(k, carries, STARTS, noise=0.05) for k in (k_one, k_two))
    share = jax.random.uniform(k_share, (STARTS, 1)) / 2
    starts = jax.tree.map(lambda a, b: (1 - share) * a + share * b, *pair)
    x = jnp.zeros(probe.input_size)
    points = diagnostics.fixed_points(cell, params.cell, x, starts, distinct=0.05, within=3.0)
    _, outputs = cell.step(params.cell, points.carry, jnp.zeros((len(points.speed), len(x))))
    bits = np.asarray(trained.task.reader.read(params, outputs)) > 0
    rows = _vectors(carries, 2)
    mean = rows.mean(axis=0)
    basis = np.linalg.svd(rows - mean, full_matrices=False)[2][:SHOWN].T
    paths = ((rows - mean) @ basis).reshape(LENGTH, SEQUENCES, -1)
    return points, {
        "memory": bits @ 2 ** np.arange(BITS),
        "places": (_vectors(points.carry, 1) - mean) @ basis,
        "paths": paths[:, :PATHS],
    }


def _vectors(carries: Any, axes: int) -> np.ndarray:
    """Return carries as vectors, float[N, S]."""
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(carries)]
    return np.concatenate([a.reshape(math.prod(a.shape[:axes]), -1) for a in leaves], axis=-1)


@dataclasses.dataclass(frozen=True)
class Points:
    """The fixed points of every run: the table "points"."""

    table: ClassVar[str] = "points"
    columns: ClassVar[Sequence[str]] = (
        *RUN,
        *("unstable", "memory", "speed", "slowest", "starts", "failed", "far"),
        *PLACES,
    )

    def rows(self, trained: Trained) -> list[Mapping[str, object]]:
        """Measure the rows, one a point."""
        found: list[Mapping[str, object]] = []
        for i, run in enumerate(trained.runs):
            points, own = explore(trained, i)
            for n, place in enumerate(own["places"]):
                found.append(
                    {
                        **{"arm": run.labels["arm"], "seed": run.seed},
                        "unstable": int(points.unstable[n]),
                        "memory": int(own["memory"][n]),
                        "speed": float(points.speed[n]),
                        "slowest": float(np.max(points.time_constants[n])),
                        "starts": int(points.starts[n]),
                        **{"failed": points.failed, "far": points.far},
                        **dict(zip(PLACES, map(float, place), strict=True)),
                    }
                )
        return found


@dataclasses.dataclass(frozen=True)
class Paths:
    """Trajectories of the first run: the table "paths"."""

    table: ClassVar[str] = "paths"
    columns: ClassVar[Sequence[str]] = ("arm", "path", *PLACES)

    def rows(self, trained: Trained) -> list[Mapping[str, object]]:
        """Measure the rows, one a step."""
        arm, paths = trained.runs[0].labels["arm"], explore(trained, 0)[1]["paths"]
        return [
            {"arm": arm, "path": p, **dict(zip(PLACES, map(float, place), strict=True))}
            for p, path in enumerate(np.moveaxis(paths, 1, 0))
            for place in path
        ]


@dataclasses.dataclass(frozen=True)
class Found:
    """The tables of a run."""

    results: lab.Frame
    points: lab.Frame
    paths: lab.Frame

    @property
    def runs(self) -> lab.Frame:
        """A row for every run, with what its points are."""
        rows = []
        for _, run in self.results.iterrows():
            points = lab.pick(self.points, **{name: run[name] for name in RUN})
            stable = lab.pick(points, unstable=0)
            rows.append(
                {
                    **{name: run[name] for name in (*RUN, "solved", "accuracy", "steps")},
                    "stable": len(stable),
                    "memories": stable["memory"].nunique(),
                    **{f"saddles_{k}": len(lab.pick(points, unstable=k)) for k in (1, 2, 3)},
                    "points": len(points),
                    "failed": int(points["failed"].max()) if len(points) else STARTS,
                }
            )
        columns = [*RUN, "solved", "accuracy", "steps", "stable", "memories", "points", "failed"]
        return pd.DataFrame(rows, columns=[*columns, "saddles_1", "saddles_2", "saddles_3"])


def read(out: Path, name: str) -> Found:
    """Read the tables of a run."""
    return Found(**lab.read_tables(out, name, points=Points.columns, paths=Paths.columns))


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups."""
    probe = probes.FlipFlop(LENGTH, BITS)
    found = []
    for arm in s.cells:
        cell = CELLS[arm](s.hidden_size)
        runs = lab.list_runs({"arm": arm}, cell, (s.learning_rate,), s.seeds)
        task = lab.Task(cell, probe, s.batch_size)
        measures = (Points(), Paths())
        schedule = lab.Cosine(s.steps)
        found.append(lab.RunGroup(arm, task, runs, s.steps, schedule, 100, measures=measures))
    return found


def _one_for_each_memory(runs: lab.Frame) -> lab.Frame:
    return (runs["stable"] == 2**BITS) & (runs["memories"] == 2**BITS)


def _all_edges(runs: lab.Frame) -> lab.Frame:
    return runs["saddles_1"] >= BITS * 2 ** (BITS - 1)


def _share(arm: str, holds: Callable[[lab.Frame], lab.Frame]) -> Callable[[Found], lab.Verdict]:
    """Judge that most runs of a cell have a property."""

    def judge(found: Found) -> lab.Verdict:
        runs = lab.pick(found.runs, arm=arm)
        if runs.empty:
            return lab.NOT_RUN
        k, n = int(holds(runs).sum()), len(runs)
        low, high = lab.wilson(k, n)
        return lab.Verdict(lab.Interval(low, k / n, high).within(0.5, 1), f"{k} of {n} seeds")

    return judge


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    return [
        claim
        for arm in s.cells
        for claim in (
            lab.Claim(
                f"{arm}: there are {2**BITS} stable points, one for each memory",
                SOURCE,
                _share(arm, _one_for_each_memory),
            ),
            lab.Claim(
                f"{arm}: there is a saddle with one unstable direction for each pair of memories "
                "that differ in one bit",
                SOURCE,
                _share(arm, _all_edges),
            ),
        )
    ]


def answers(found: Found) -> list[str]:
    """Say how many runs of each cell have the points of the paper."""
    parts = []
    for arm, runs in found.runs.groupby("arm", sort=False):
        both = _one_for_each_memory(runs) & _all_edges(runs)
        parts.append(f"{arm} {int(both.sum())} of {len(runs)}")
    text = "one stable point for each of the eight memories, and a saddle for each bit that changes"
    return [f"Seeds whose trained net has {text}: {', '.join(parts)}."]


def table(found: Found) -> lab.Table:
    """Return a table with a row for every run."""
    rows = found.runs
    return lab.Table(
        title="Fixed points of every net",
        caption="Stable points, how many different memories they hold, and saddles by the number "
        "of their unstable directions. A cube has 8 corners, 12 edges, 6 faces and 1 middle. "
        f"Failed: of {STARTS} starts of the search, those that ended nowhere.",
        head=[
            *("cell", "seed", "accuracy", "steps", "stable", "memories"),
            *("saddles, 1", "2", "3", "points", "failed"),
        ],
        rows=[
            [row["arm"], str(row["seed"]), f"{row['accuracy']:.4f}"]
            + [
                str(int(row[name]))
                for name in ("steps", "stable", "memories", "saddles_1", "saddles_2", "saddles_3")
            ]
            + [str(int(row["points"])), str(int(row["failed"]))]
            for row in rows.to_dict("records")
        ],
        texts=1,
    )


@lab.styled
def draw(found: Found, path: Path) -> None:
    """Draw the first net of each cell in its first three principal components."""
    arms = list(dict.fromkeys(found.results["arm"]))
    figure, panels = lab.grid_of_panels(len(arms), 4.4, projection="3d")
    kinds = {"stable": 0, "1 unstable direction": 1, "2": 2, "3": 3}
    handles: dict[str, Any] = {}
    for arm, axes in zip(arms, panels, strict=True):
        points = lab.pick(found.points, arm=arm, seed=found.results["seed"].min())
        for _, part in lab.pick(found.paths, arm=arm).groupby("path"):
            axes.plot(*part[PLACES].to_numpy().T, color="#999999", lw=0.5, alpha=0.5)
        for i, (kind, unstable) in enumerate(kinds.items()):
            some = lab.pick(points, unstable=unstable)[PLACES].to_numpy()
            marks = {name: lab.look(i)[name] for name in ("marker", "color")}
            handles.setdefault(kind, axes.scatter(*some.T, s=36, zorder=3, **marks))
        show_space(axes, "component 3", points[PLACES].to_numpy())
        axes.set(xlabel="component 1", ylabel="component 2")
        lab.set_title(axes, f"{arm}: {len(points)} points")
    lab.add_legend(figure, handles)
    lab.add_note(
        figure, "Grey: trajectories of 24 sequences. The input is held at 0 for the points."
    )
    lab.save(figure, path)


STUDY = lab.Study(
    name="flipflop",
    title="How a trained net keeps three bits",
    lead="Three inputs have random pulses, +1 or -1, and the net must put out the last pulse of "
    "each at every step. After training, the input is held at 0, and the points are found at which "
    "the memory does not move, by Newton's method from 600 starts between memories. The "
    "eigenvalues of the step's Jacobian at a point say along how many directions it repels. All "
    "nets have the same learning rate, which falls to 0.",
    settings=Settings(),
    quick=Settings(cells=("GRU", "LSTM"), seeds=4, steps=2000),
    groups=groups,
    claims=claims,
    draw=draw,
    answers=answers,
    tables=lambda found: [table(found)],
    read=read,
    terms={
        "stable point": "all directions shrink: the memory returns there after a small push",
        "saddle": "some directions grow: the memory leaves it along these, to either side",
    },
    about={"optimiser": "Adam, gradients clipped to a global norm of 1"},
    caption="Corners of the cube are memories. A pulse pushes the memory along an edge, over the "
    "saddle in its middle.",
    files=("results", "points", "paths"),
)
