"""The groups that the study measures: nets with random weights, and nets in training."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqcells as sc
from experiments import lab
from experiments.lab.training import over_members, pad
from seqcells import diagnostics

Cell = Literal["RNN", "GRU", "CTRNN"]
CELLS: dict[str, Callable[[int], sc.Cell]] = {
    "RNN": sc.RNN,
    "GRU": sc.GRU,
    "CTRNN": functools.partial(sc.CTRNN, tau=20.0, dt=1.0),
}
INPUTS = 2
TAME = 0.9  # the gain of nets as they are initialised
LAG, ROWS, STEPS = 20, 16, 200  # of the sequences of training
MOST = 100  # iterations
NOISE = 1e-6  # added to the exact carries, so that an error of first order is left
FULL = sc.Newton(on_fail="flag", max_iters=MOST)
DIAGONAL = dataclasses.replace(FULL, jacobian="diagonal")
TABLES = {
    "results": [
        *("arm", "gain", "length", "seed", "exponent", "iterations", "diagonal", "converged"),
        *("error", "scan_error", "first_order", "bound", "estimate"),
    ],
    "training": [
        *("arm", "seed", "update", "loss", "exponent"),
        *("cold", "diagonal", "warm", "fresh", "converged"),
    ],
    "times": ["arm", "gain", "length", "scan", "newton", "diagonal", "exponent"],
}
CODE = (*lab.CODE, Path(__file__))


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    cells: tuple[Cell, ...] = get_args(Cell)  # cells to measure
    gains: tuple[float, ...] = (0.5, 0.9, 1.2, 1.5, 2.0, 3.0)
    """standard deviations of a sum over the recurrent weights of units of variance 1"""
    lengths: tuple[int, ...] = (100, 1000, 10_000)  # steps of a sequence
    seeds: int = 10  # nets for every gain, and trainings of every cell
    hidden_size: int = 16  # units of every net
    updates: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1000)
    """updates of training, full batches by Adam, after which to look"""
    learning_rate: float = 1e-2  # of the training

    def __post_init__(self) -> None:
        super().__post_init__()
        lab.known("cells", self.cells, CELLS)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Group:
    """What the groups of this study share."""

    arm: str
    settings: Settings

    @property
    def cell(self) -> sc.Cell:
        """The cell."""
        return CELLS[self.arm](self.settings.hidden_size)

    def check(self) -> None:
        """Raise if the cell cannot be made."""
        jax.eval_shape(lambda key: self.cell.init(key, INPUTS), jax.random.key(0))

    def _part(self, out: Path, name: str, **settings: object) -> lab.Part:
        return lab.Part(out / "parts", name, {"arm": self.arm, **settings}, TABLES, CODE)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Nets(_Group):
    """Nets of one cell at initialisation, with all gains, on sequences of one length."""

    length: int

    @property
    def name(self) -> str:
        """The name of the group."""
        return f"{self.arm} {self.length} steps"

    @property
    def steps(self) -> int:
        """The number of nets."""
        return len(self.settings.gains) * self.settings.seeds

    def part(self, out: Path) -> lab.Part:
        """Return the file with the rows."""
        s = self.settings
        of = {"gains": s.gains, "seeds": s.seeds, "hidden_size": s.hidden_size}
        return self._part(out, self.name.replace(" ", "-"), length=self.length, **of)

    def measure(self, progress: Callable[[int], None]) -> lab.Rows:
        """Solve for the carries of all nets side by side, then time the first of each gain."""
        s = self.settings
        labels = [(gain, seed) for gain in s.gains for seed in range(s.seeds)]
        gains, seeds = pad(tuple(jnp.array(column) for column in zip(*labels, strict=True)))
        params, xs = over_members(functools.partial(_draw, self))(gains, seeds)
        reports, ys = _solve(self, params, xs)
        found = {**reports, **_errors(self, params, xs, ys)}
        values = {name: np.asarray(value).tolist() for name, value in found.items()}
        rows = [
            {"arm": self.arm, "gain": gain, "length": self.length, "seed": seed}
            | {name: value[i] for name, value in values.items()}
            for i, (gain, seed) in enumerate(labels)
        ]
        progress(self.steps)
        return {"results": rows, "training": [], "times": self._times()}

    def _times(self) -> list[dict[str, Any]]:
        """Time one sequence through the first net of each gain, ms."""
        ways = {
            "scan": lambda params, xs: sc.unroll(self.cell, params, xs, engine=sc.Scan())[1],
            "newton": lambda params, xs: _newton(self.cell, params, xs, FULL)[1],
            "diagonal": lambda params, xs: _newton(self.cell, params, xs, DIAGONAL)[1],
            "exponent": functools.partial(_exponent, self.cell),
        }
        programs = {name: jax.jit(way) for name, way in ways.items()}
        rows = []
        for gain in self.settings.gains:
            params, xs = _draw(self, gain, 0)
            taken = {name: 1e3 * _seconds(f, params, xs) for name, f in programs.items()}
            rows.append({"arm": self.arm, "gain": gain, "length": self.length, **taken})
        return rows


def _seconds(f: Callable[..., Any], *args: Any) -> float:
    """Return the least seconds of three calls after a first."""
    jax.block_until_ready(f(*args))
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(f(*args))
        taken.append(time.perf_counter() - start)
    return min(taken)


@jax.jit
def _draw(nets: Nets, gain: jax.Array | float, seed: jax.Array | int) -> tuple[Any, jax.Array]:
    """Return the parameters of a net and the inputs of one sequence."""
    k_cell, k_w, k_x = jax.random.split(jax.random.key(seed), 3)
    params: Any = nets.cell.init(k_cell, INPUTS)
    shape = params.w_hh.shape
    w_hh = gain * shape[0] ** -0.5 * jax.random.normal(k_w, shape)
    return params._replace(w_hh=w_hh), jax.random.normal(k_x, (nets.length, INPUTS))


def _newton(
    cell: sc.Cell, params: Any, xs: jax.Array, engine: sc.Newton, guess: Any = None
) -> tuple[Any, jax.Array, sc.NewtonReport]:
    settings = dataclasses.asdict(engine)
    return sc.newton(cell, params, xs, guess=guess, **settings)


def _exponent(cell: sc.Cell, params: Any, xs: jax.Array) -> jax.Array:
    """Return the first Lyapunov exponent, nats a step."""
    return diagnostics.lyapunov_exponents(cell, params, xs, 1, warmup=len(xs) // 10)[0]


@jax.jit
def _solve(nets: Nets, params: Any, xs: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """Return what Newton's method needs and reports for each net, and its outputs, [M, T, H]."""

    def solve(params: Any, xs: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        _, ys, report = _newton(nets.cell, params, xs, FULL)
        found = {
            "exponent": _exponent(nets.cell, params, xs),
            "iterations": report.iterations,
            "diagonal": _newton(nets.cell, params, xs, DIAGONAL)[2].iterations,
            "converged": report.converged,
        }
        return found, ys

    return over_members(solve)(params, xs)


@jax.jit
def _scan(nets: Nets, params: Any, xs: jax.Array) -> jax.Array:
    return over_members(lambda p, x: sc.unroll(nets.cell, p, x, engine=sc.Scan())[1])(params, xs)


@jax.jit
def _certify(nets: Nets, params: Any, xs: jax.Array, exact: jax.Array) -> dict[str, jax.Array]:
    """Stop near the exact carries, and compare the error with what the report says of it.

    The output of these cells is their carry.
    """
    engine = dataclasses.replace(FULL, tol=1.0)

    def certify(params: Any, xs: jax.Array, exact: jax.Array) -> dict[str, jax.Array]:
        noise = NOISE * jax.random.uniform(jax.random.key(0), exact.shape, minval=-1)
        _, ys, report = _newton(nets.cell, params, xs, engine, exact + noise)
        error = jnp.max(jnp.abs(ys - exact))
        return {
            "first_order": error,
            "bound": report.error_bound,
            "estimate": report.error_estimate,
        }

    return over_members(certify)(params, xs, exact)


def _errors(nets: Nets, params: Any, xs: jax.Array, ys: jax.Array) -> dict[str, np.ndarray]:
    """Compare outputs in float32, and a residual that counts, with the outputs in float64.

    The error of a scan counts as at least the rounding error of the largest output.
    """
    scanned = _scan(nets, params, xs)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), (params, xs))
        exact = _scan(nets, *wide)
        certified = {n: np.asarray(value) for n, value in _certify(nets, *wide, exact).items()}
    solution = np.asarray(exact)
    newton, scan = (
        np.max(np.abs(np.asarray(found, np.float64) - solution), axis=(1, 2))
        for found in (ys, scanned)
    )
    least = float(jnp.finfo("float32").eps) * np.max(np.abs(solution), axis=(1, 2))
    return {"error": newton, "scan_error": np.maximum(scan, least), **certified}


class NetParams(NamedTuple):
    """Parameters of a net: those of its cell, and a linear readout."""

    cell: Any
    w: jax.Array  # [H]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Trainings(_Group):
    """Nets of one cell that are trained to tell the sign of the input some steps ago."""

    @property
    def name(self) -> str:
        """The name of the group."""
        return f"{self.arm} in training"

    @property
    def steps(self) -> int:
        """The number of updates."""
        return max(self.settings.updates)

    def part(self, out: Path) -> lab.Part:
        """Return the file with the rows."""
        s = dataclasses.asdict(self.settings)
        del s["cells"], s["gains"], s["lengths"]
        return self._part(out, self.name.replace(" ", "-"), **s)

    def measure(self, progress: Callable[[int], None]) -> lab.Rows:
        """Train all nets side by side; look at them before and after some updates."""
        s = self.settings
        (seeds,) = pad((jnp.arange(s.seeds),))
        state = before = over_members(functools.partial(_begin, self))(seeds)
        rows, done = [], 0
        for update in (0, *sorted(set(s.updates))):
            if update:
                before = _train(self, state, seeds, update - 1 - done)
                state, done = _train(self, before, seeds, 1), update
            found = _look(self, before[0], state[0], seeds)
            values = {name: np.asarray(value).tolist() for name, value in found.items()}
            rows += [
                {"arm": self.arm, "seed": seed, "update": update}
                | {name: value[seed] for name, value in values.items()}
                for seed in range(s.seeds)
            ]
            progress(update)
        return {"results": [], "training": rows, "times": []}


State = tuple[NetParams, optax.OptState]


def _begin(group: Trainings, seed: jax.Array) -> State:
    k_cell, k_w = jax.random.split(jax.random.key(seed))
    w = group.settings.hidden_size**-0.5 * jax.random.normal(k_w, (group.settings.hidden_size,))
    params = NetParams(group.cell.init(k_cell, INPUTS), w)
    return params, optax.adam(group.settings.learning_rate).init(params)


def _batch(seed: jax.Array, which: int) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(seed), which)
    return jax.random.normal(key, (STEPS, ROWS, INPUTS))


def _loss(params: NetParams, cell: sc.Cell, xs: jax.Array) -> jax.Array:
    answers = sc.unroll(cell, params.cell, xs)[1][LAG:] @ params.w
    return jnp.mean(optax.sigmoid_binary_cross_entropy(answers, xs[:-LAG, :, 0] > 0))


@functools.partial(jax.jit, static_argnums=3)
def _train(group: Trainings, state: State, seeds: jax.Array, steps: int) -> State:
    """Take some updates of all nets, each on its one batch."""
    optimizer = optax.adam(group.settings.learning_rate)

    def train(state: State, seed: jax.Array) -> State:
        xs = _batch(seed, 0)

        def step(state: State, _: None) -> tuple[State, None]:
            params, memory = state
            gradient = jax.grad(_loss)(params, group.cell, xs)
            updates, memory = optimizer.update(gradient, memory, params)
            new: Any = optax.apply_updates(params, updates)
            return (new, memory), None

        return jax.lax.scan(step, state, None, steps)[0]

    return over_members(train)(state, seeds)


@jax.jit
def _look(
    group: Trainings, before: NetParams, now: NetParams, seeds: jax.Array
) -> dict[str, jax.Array]:
    """Count the iterations from several guesses; the most of a batch.

    `cold` has no guess; `warm` has the carries of the same sequences before the last update, and
    `fresh` those of other sequences, with the parameters of now.
    """
    cell = group.cell

    def look(before: NetParams, now: NetParams, seed: jax.Array) -> dict[str, jax.Array]:
        xs = _batch(seed, 0)
        guesses = {
            "cold": None,
            "warm": sc.trajectory(cell, before.cell, xs),
            "fresh": sc.trajectory(cell, now.cell, _batch(seed, 1)),
        }
        reports = {
            name: _newton(cell, now.cell, xs, FULL, guess)[2] for name, guess in guesses.items()
        }
        reports["diagonal"] = _newton(cell, now.cell, xs, DIAGONAL)[2]
        exponents = diagnostics.lyapunov_exponents(cell, now.cell, xs, 1, warmup=STEPS // 10)
        return {
            "loss": _loss(now, cell, xs),
            "exponent": jnp.max(exponents),
            **{name: jnp.max(report.iterations) for name, report in reports.items()},
            "converged": jnp.mean(reports["cold"].converged, dtype="float32"),
        }

    return over_members(look)(before, now, seeds)
