"""Chaos: nets that learn Lorenz's system, by how much a teacher moves their memory in training.

Generalised teacher forcing (Hess et al. 2023) mixes the carry with an estimate from the data, in a
share alpha. Afterwards the nets run freely, and their attractor is compared with the system's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqcells as sc
from experiments import lab
from experiments.lab.training import over_members, pad
from seqcells import diagnostics, probes

Cell = Literal["GRU", "CTRNN", "CTRNN, Dale's law"]
_leaky = functools.partial(sc.CTRNN, tau=2.0, dt=1.0)
CELLS: dict[str, Callable[[int], sc.Cell]] = {
    "GRU": sc.GRU,
    "CTRNN": _leaky,
    "CTRNN, Dale's law": lambda size: sc.Constrained(_leaky(size), sc.Dale(0.75)),
}
SEED = 1_000_000  # of the trajectories that nets are compared with
FREE, SHOWN, EXPONENTS = 10_000, 1000, 4000  # steps that are run, drawn, and measured
SEGMENT = 100  # steps of training between two looks
SMOOTHING = 20.0  # of power spectra, in frequencies 1 / FREE
COLUMNS = [
    *("arm", "alpha", "seed", "loss", "divergence", "spectrum"),
    *("exponent_1", "exponent_2", "exponent_3", "dimension"),
]
ORBIT = ["arm", "alpha", "x", "z"]
CODE = (*lab.CODE, Path(__file__))
SOURCE = "Hess et al. 2023"
DATA = "the system"


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    cells: tuple[Cell, ...] = get_args(Cell)  # cells to train
    alphas: tuple[float, ...] = (0.05, 0.15, 0.4)
    """shares of the teacher's carry, below 1; 0 (no teacher) and 1 (the data) are trained too"""
    seeds: int = 5  # trainings for each share, each from its own random start
    hidden_size: int = 48  # units of every net
    length: int = 60  # steps of a sequence of training
    dt: float = 0.02  # time of a step
    learning_rate: float = 5e-3  # of all nets, at first; it falls to 0 as half a cosine
    steps: int = 3000  # of training
    batch_size: int = 16  # fresh sequences in a step of training

    def __post_init__(self) -> None:
        super().__post_init__()
        lab.known("cells", self.cells, CELLS)
        for alpha in self.alphas:
            if alpha >= 1:
                raise lab.BadInput(f"alphas: expected shares below 1, got {alpha}; leave it out")


class NetParams(NamedTuple):
    """Parameters of a net: those of its cell, and a linear readout."""

    cell: Any
    w: jax.Array  # [H, 3]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Nets:
    """Nets of one cell, for all shares and seeds, which one program trains."""

    arm: str
    settings: Settings

    @property
    def name(self) -> str:
        """The name of the group."""
        return self.arm

    @property
    def steps(self) -> int:
        """Steps of training."""
        return self.settings.steps

    @property
    def cell(self) -> sc.Cell:
        """The cell."""
        return CELLS[self.arm](self.settings.hidden_size)

    @property
    def probe(self) -> probes.Lorenz63:
        """The system."""
        return probes.Lorenz63(self.settings.length, self.settings.dt)

    def part(self, out: Path) -> lab.Part:
        """Return the file with the rows."""
        name = self.arm.replace(" ", "-").replace(",", "").replace("'", "")
        settings = {"arm": self.arm, **dataclasses.asdict(self.settings), "cells": None}
        return lab.Part(out / "parts", name, settings, {"results": COLUMNS, "orbits": ORBIT}, CODE)

    def check(self) -> None:
        """Raise if the cell or the probe cannot be made."""
        jax.eval_shape(lambda key: self.cell.init(key, 0), jax.random.key(0))
        _ = self.probe

    def measure(self, progress: Callable[[int], None]) -> lab.Rows:
        """Train all nets side by side, then let them run."""
        s = self.settings
        shares = (0.0, *sorted(set(s.alphas)), 1.0)
        alphas = jnp.repeat(jnp.array(shares), s.seeds)
        seeds = jnp.tile(jnp.arange(s.seeds), len(shares))
        alphas, seeds = pad((alphas, seeds))
        state = over_members(functools.partial(_begin, self))(seeds)
        losses = jnp.zeros(())
        for done in range(0, s.steps, SEGMENT):
            state, losses = _train(self, state, alphas, seeds, done, min(SEGMENT, s.steps - done))
            progress(min(done + SEGMENT, s.steps))
        states = np.asarray(
            dataclasses.replace(self.probe, length=FREE).sample(jax.random.key(SEED), 2).xs
        )
        data, again = states[:, 0], states[:, 1]
        found = _run_free(self, state[0], jnp.asarray(data[0]))
        rows, orbits = [self._row(math.nan, -1, 0.0, again, data, self.probe.EXPONENTS)], []
        count, losses = len(shares) * s.seeds, np.asarray(losses)
        trajectories, exponents = map(np.asarray, found)
        for i in range(count):
            alpha, seed = shares[i // s.seeds], i % s.seeds
            ys, known = trajectories[i], exponents[i] / s.dt
            rows.append(self._row(alpha, seed, float(losses[i]), ys, data, known))
            if seed == 0:
                orbits += self._orbit(alpha, ys)
        return {"results": rows, "orbits": [*self._orbit(math.nan, data), *orbits]}

    def _row(
        self,
        alpha: float,
        seed: int,
        loss: float,
        ys: np.ndarray,
        data: np.ndarray,
        exponents: Sequence[float] | np.ndarray,
    ) -> dict[str, Any]:
        """Compare a trajectory with one of the system; its own second one has no alpha."""
        late = slice(FREE // 10, None)
        known = np.asarray(exponents, float)
        return {
            **{"arm": self.arm, "alpha": alpha, "seed": seed, "loss": loss},
            "divergence": float(diagnostics.state_space_divergence(data, ys[late])),
            "spectrum": float(
                diagnostics.power_spectrum_error(data[late], ys[late], smoothing=SMOOTHING)
            ),
            **{f"exponent_{k + 1}": float(known[k]) for k in range(3)},
            "dimension": float(diagnostics.kaplan_yorke_dimension(known)),
        }

    def _orbit(self, alpha: float, ys: np.ndarray) -> list[dict[str, Any]]:
        places = {"x": ys[-SHOWN:, 0], "z": ys[-SHOWN:, 2]}
        lines = zip(*(np.round(place, 3).tolist() for place in places.values()), strict=True)
        return [dict(zip(ORBIT, (self.arm, alpha, *line), strict=True)) for line in lines]


State = tuple[NetParams, optax.OptState]


def _optimizer(s: Settings) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(s.learning_rate, s.steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def _begin(nets: Nets, seed: jax.Array) -> State:
    k_cell, k_w = jax.random.split(jax.random.key(seed))
    w = sc.initializers.Lecun()(k_w, (nets.settings.hidden_size, 3), jnp.float32)
    params = NetParams(nets.cell.init(k_cell, 0), w)
    return params, _optimizer(nets.settings).init(params)


def _closest(w: jax.Array, y: jax.Array, h: jax.Array) -> jax.Array:
    """Return the closest carry to h whose readout is y."""
    return h + (y - h @ w) @ jnp.linalg.pinv(w)


def _run(nets: Nets, params: NetParams, y0: jax.Array, steps: int, **teacher: Any) -> sc.ClosedLoop:
    """Let a net run from the carry that shows y0; it reads no input."""
    h0 = jnp.zeros((*y0.shape[:-1], nets.settings.hidden_size))
    return sc.closed_loop(
        nets.cell,
        params.cell,
        lambda h: h @ params.w,
        y0,
        steps,
        carry=_closest(params.w, y0, h0),
        feed=lambda y: y[..., :0],
        **teacher,
    )


def _loss(params: NetParams, nets: Nets, key: jax.Array, alpha: jax.Array) -> jax.Array:
    sample = nets.probe.sample(key, nets.settings.batch_size)
    inverse = functools.partial(_closest, params.w)
    teacher = {"force": sample.targets, "alpha": alpha, "inverse": inverse}
    ys = _run(nets, params, sample.xs[0], nets.settings.length, **teacher).ys
    return nets.probe.score(ys, sample.targets).loss


@functools.partial(jax.jit, static_argnums=5)
def _train(
    nets: Nets, state: State, alphas: jax.Array, seeds: jax.Array, done: jax.Array, steps: int
) -> tuple[State, jax.Array]:
    """Take some steps of training of all nets; return the mean losses, too."""
    optimizer = _optimizer(nets.settings)

    def train(state: State, alpha: jax.Array, seed: jax.Array) -> tuple[State, jax.Array]:
        def step(state: State, i: jax.Array) -> tuple[State, jax.Array]:
            params, memory = state
            key = jax.random.fold_in(jax.random.key(seed), done + i)
            value, gradient = jax.value_and_grad(_loss)(params, nets, key, alpha)
            updates, memory = optimizer.update(gradient, memory)
            new: Any = optax.apply_updates(params, updates)
            return (new, memory), value

        state, losses = jax.lax.scan(step, state, jnp.arange(steps))
        return state, jnp.mean(losses)

    return over_members(train)(state, alphas, seeds)


@jax.jit
def _run_free(nets: Nets, params: NetParams, y0: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return what each net puts out, [M, FREE, 3], and three exponents, nats a step, [M, 3]."""

    def run(params: NetParams) -> tuple[jax.Array, jax.Array]:
        loop = _run(nets, params, y0, FREE)
        nothing = jnp.zeros((EXPONENTS, 0))
        spectrum = diagnostics.lyapunov_exponents(
            nets.cell, params.cell, nothing, 3, warmup=EXPONENTS // 4, carry=loop.carry
        )
        return loop.ys, spectrum

    return over_members(run)(params)


def groups(s: Settings) -> list[Nets]:
    """List the groups."""
    return [Nets(arm, dataclasses.replace(s, cells=get_args(Cell))) for arm in s.cells]


def _divergences(rows: lab.Frame, arm: str) -> dict[float, lab.Interval]:
    """Return the mean divergence of a cell, by alpha."""
    some = lab.pick(rows, arm=arm).dropna(subset=["alpha"])
    parts = some.groupby("alpha")["divergence"]
    return {float(alpha): lab.of_losses(part) for alpha, part in parts}


def _better_than(arm: str, end: float) -> Callable[[Found], lab.Verdict]:
    """Judge that the best share between 0 and 1 is better than this end."""

    def judge(tables: Found) -> lab.Verdict:
        found = _divergences(tables.results, arm)
        inner = {alpha: one for alpha, one in found.items() if 0 < alpha < 1}
        if not inner or end not in found:
            return lab.NOT_RUN
        alpha = min(inner, key=lambda a: inner[a].mid)
        best, other = inner[alpha], found[end]
        holds = True if best.high < other.low else False if best.low > other.high else None
        texts = [
            f"alpha {a:g}: {lab.short(one.mid)} ({lab.short(one.low)} to {lab.short(one.high)})"
            for a, one in ((alpha, best), (end, other))
        ]
        return lab.Verdict(holds, "; ".join(texts))

    return judge


def _positive(arm: str) -> Callable[[Found], lab.Verdict]:
    """Judge that the first exponent at the best share is the system's, within a fifth."""

    def judge(tables: Found) -> lab.Verdict:
        rows = tables.results
        found = _divergences(rows, arm)
        if not found:
            return lab.NOT_RUN
        alpha = min(found, key=lambda a: found[a].mid)
        first = lab.pick(rows, arm=arm, alpha=alpha)["exponent_1"]
        k = int((abs(first / probes.Lorenz63.EXPONENTS[0] - 1) < 0.2).sum())
        low, high = lab.wilson(k, len(first))
        holds = lab.Interval(low, k / len(first), high).within(0.5, 1)
        return lab.Verdict(holds, f"alpha {alpha:g}: {k} of {len(first)} seeds")

    return judge


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    return [
        claim
        for arm in s.cells
        for claim in (
            *(
                lab.Claim(
                    f"{arm}: the best share between 0 and 1 has a smaller divergence than {end:g}",
                    SOURCE,
                    _better_than(arm, end),
                )
                for end in (0.0, 1.0)
            ),
            lab.Claim(
                f"{arm}: at the best share, most nets have the system's first Lyapunov exponent, "
                "within 20 %",
                "ours",
                _positive(arm),
            ),
        )
    ]


def answers(rows: lab.Frame) -> list[str]:
    """Say which share is best for each cell."""
    own = lab.of_losses(rows[rows["alpha"].isna()]["divergence"]).mid
    parts = []
    for arm in dict.fromkeys(rows["arm"]):
        found = _divergences(rows, arm)
        alpha = min(found, key=lambda a: found[a].mid)
        parts.append(f"{arm} {lab.short(found[alpha].mid)} at alpha {alpha:g}")
    return [
        f"Least divergence of the attractor, mean over the seeds: {', '.join(parts)}. Two "
        f"trajectories of the system differ by {lab.short(own)}."
    ]


def table(rows: lab.Frame) -> lab.Table:
    """Return a table with a row for each cell and share."""
    lines = []
    for (arm, alpha), some in rows.groupby(["arm", "alpha"], sort=False, dropna=False):
        name = DATA if math.isnan(alpha) else arm
        if name == DATA and any(line[0] == DATA for line in lines):
            continue
        means = [lab.short(lab.of_losses(some[c]).mid) for c in ("divergence", "spectrum")]
        medians = [f"{some[f'exponent_{k}'].median():.2f}" for k in (1, 2, 3)]
        loss = "-" if name == DATA else lab.short(lab.of_losses(some["loss"]).mid)
        share = "-" if name == DATA else f"{alpha:g}"
        lines.append([name, share, loss, *means, *medians, f"{some['dimension'].median():.2f}"])
    return lab.Table(
        title="Attractors",
        caption="Loss: of training, with the teacher. Divergence: D_stsp, nats, of where the net "
        "spends its time, from the system. Spectrum: Hellinger's distance of the power spectra. "
        "Geometric means over the seeds. Exponents: Lyapunov's, per unit of time; dimension: that "
        f"of Kaplan & Yorke; medians. {DATA.capitalize()}: a second trajectory of it, and its "
        "known exponents.",
        head=[
            *("cell", "alpha", "loss", "divergence", "spectrum"),
            *("exponent 1", "2", "3", "dimension"),
        ],
        rows=lines,
        texts=1,
    )


@dataclasses.dataclass(frozen=True)
class Found:
    """The tables of a run."""

    results: lab.Frame
    orbits: lab.Frame


def read(out: Path, name: str) -> Found:
    """Read the tables of a run."""
    return Found(**lab.read_tables(out, name, COLUMNS, orbits=ORBIT))


@lab.styled
def draw(found: Found, path: Path) -> None:
    """Draw the divergence by share, and orbits of the first cell."""
    arms = list(dict.fromkeys(found.results["arm"]))
    figure, panels = lab.grid_of_panels(4, 3.6)
    handles = {}
    for i, arm in enumerate(arms):
        some, looks = lab.pick(found.results, arm=arm).dropna(subset=["alpha"]), lab.look(i)
        middle = some.groupby("alpha")["divergence"].median()
        places = {alpha: k for k, alpha in enumerate(middle.index)}
        marks = {"marker": looks["marker"], "color": looks["color"]}
        aside = 0.12 * (i - (len(arms) - 1) / 2)
        at = [places[alpha] + aside for alpha in some["alpha"]]
        panels[0].plot(at, some["divergence"], ls="none", alpha=0.35, ms=4, **marks)
        (line,) = panels[0].plot(
            np.arange(len(middle)) + aside, middle, ls=looks["linestyle"], **marks
        )
        handles[arm] = line
        panels[0].set_xticks(range(len(middle)), [f"{alpha:g}" for alpha in middle.index])
    floor = found.results[found.results["alpha"].isna()]["divergence"].median()
    handles[DATA] = panels[0].axhline(floor, color="#999999")
    panels[0].set(
        yscale="log", xlabel="share alpha of the teacher's carry", ylabel="divergence (nats)"
    )
    orbits = lab.pick(found.orbits, arm=arms[0])
    shares = sorted({*orbits["alpha"].dropna()})
    best = min(_divergences(found.results, arms[0]).items(), key=lambda item: item[1].mid)[0]
    shown = [math.nan, min(shares), best]
    for axes, alpha in zip(panels[1:], shown, strict=True):
        own = math.isnan(alpha)
        some = orbits[orbits["alpha"].isna()] if own else lab.pick(orbits, alpha=alpha)
        line = {"color": lab.look(0)["color"], "lw": 0.5, "marker": ".", "ms": 1.5}
        axes.plot(some["x"], some["z"], **line)  # dots, since a net may stay at a point
        axes.set(xlim=(-3, 3), ylim=(-3.2, 3.2), xlabel="x (scaled)", ylabel="z (scaled)")
        lab.set_title(axes, DATA if own else f"{arms[0]}, alpha {alpha:g}")
    lab.add_legend(figure, handles)
    lab.add_note(figure, f"Dots: seeds; lines: medians. Orbits: {SHOWN} steps of the first seed.")
    lab.save(figure, path)


STUDY = lab.Study(
    name="chaos",
    title="Learning Lorenz's system with a teacher that moves the memory",
    lead="A net without inputs must put out the states of Lorenz's system. In training, its memory "
    "is mixed at each step with the closest one that shows the true state, in a share alpha: 0 is "
    "free running, 1 shows the data in every step. Afterwards it runs freely for 10,000 steps. A "
    "chaotic system cannot be forecast that far, so the attractor is compared.",
    settings=Settings(),
    quick=Settings(cells=("GRU",), seeds=4, steps=1500),
    groups=groups,
    claims=claims,
    draw=draw,
    answers=lambda found: answers(found.results),
    tables=lambda found: [table(found.results)],
    read=read,
    cost=lambda groups: f"{len(groups)} groups of nets, {groups[0].steps:,} steps of training each",
    about={"optimiser": "Adam, gradients clipped to a global norm of 1"},
    caption="The lower a line, the more the net's attractor is that of the system; the grey line "
    "is the system beside itself.",
    files=("results", "orbits"),
)
