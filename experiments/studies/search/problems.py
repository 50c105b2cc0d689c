"""The problems that are searched, and the group of their searches: one problem with one seed."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optuna

import seqcells as sc
from experiments import lab
from seqcells import probes, sweep, train

Name = Literal["quadratic-2", "quadratic-4", "recall", "copy"]
QUADRATICS = {"quadratic-2": 2, "quadratic-4": 4}  # dimensions
RANDOM, TPE, ALONE = "random", "TPE", "Optuna alone"
SEGMENT = 50  # steps; the loss of a trial is its mean over the last ones
Fields = dict[str, jax.Array]  # hyperparameters of one trial, by name
RATES = sweep.log_uniform(1e-4, 1e-1)
TABLES = {
    "results": [
        *("problem", "arm", "seed", "trials", "best", "median", "solved", "diverged", "optuna")
    ],
    "curves": ["problem", "arm", "seed", "trial", "best"],
}
CODE = (*lab.CODE, Path(__file__))


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    problems: tuple[Name, ...] = get_args(Name)  # problems to search
    seeds: int = 5  # first weights and data of every task; each is searched anew
    quadratic_seeds: int = 20  # optima of every quadratic; each is searched anew
    samples: int = 256  # trials of every search
    batch: int = 16  # trials that are proposed at once
    hidden_size: int = 16  # units of every GRU
    batch_size: int = 16  # fresh sequences in a step of training
    recall_steps: int = 200  # steps of training of a trial on recall
    copy_steps: int = 300  # steps of training of a trial on copying

    def __post_init__(self) -> None:
        super().__post_init__()
        lab.known("problems", self.problems, get_args(Name))


class Problem(NamedTuple):
    """What is trained, and what is searched."""

    task: sweep.Task
    fields: dict[str, Any]  # distributions of the space
    steps: int
    solved: float = math.nan  # a trial with a loss below this has solved its task


def make(name: str, s: Settings, seed: int) -> Problem:
    """Make a problem. Its loss depends on the hyperparameters alone, and on the seed."""
    if name in QUADRATICS:
        return _quadratic(QUADRATICS[name], seed)
    if name == "recall":
        return _recall(s, seed)
    return _copy(s, seed)


def optimum(dimensions: int, seed: int) -> jax.Array:
    """Return where the loss of a quadratic is 0, in the box [-1, 1]."""
    return jax.random.uniform(jax.random.key(seed), (dimensions,), minval=-1.0)


def _quadratic(dimensions: int, seed: int) -> Problem:
    """The squared distance from an optimum; the one step of training does nothing."""
    fields = {f"x{i}": sweep.uniform(-1.0, 1.0) for i in range(dimensions)}
    best = optimum(dimensions, seed)

    def init(hparams: Fields, _: jax.Array) -> jax.Array:
        return jnp.stack([hparams[name] for name in fields])

    def segment(x: jax.Array, _: Fields, n: int) -> tuple[jax.Array, train.Metrics]:
        return x, {"loss": jnp.full(n, jnp.sum(jnp.square(x - best)))}

    return Problem(sweep.Task(init, segment), fields, 1)


def _recall(s: Settings, seed: int) -> Problem:
    """Delayed recall over 40 steps: the learning rate, and a factor of the recurrent weights."""

    def scaled(params: Any, hparams: Fields, _: jax.Array) -> Any:
        return params._replace(w_hh=params.w_hh * hparams["gain"])

    probe = probes.DelayedRecall(40)
    task = _net(probe, s, seed, scaled)
    fields = {"learning_rate": RATES, "gain": sweep.uniform(0.5, 2.0)}
    return Problem(task, fields, s.recall_steps, probe.success.bound)


def _copy(s: Settings, seed: int) -> Problem:
    """Copying over 30 steps: the learning rate, and the longest timescale of the update gate.

    The timescale alone would be too easy: on a line, 256 random trials leave nothing to find. The
    initialisation is that of `initializers.Chrono`, whose `t_max` cannot be traced.
    """

    def chrono(params: Any, hparams: Fields, key: jax.Array) -> Any:
        update = slice(s.hidden_size, 2 * s.hidden_size)
        u = 1 + (hparams["horizon"] - 2) * jax.random.uniform(key, (s.hidden_size,))
        return params._replace(b_ih=params.b_ih.at[update].set(-jnp.log(u)))

    probe = probes.Copy(30, symbols=4, count=2)
    task = _net(probe, s, seed, chrono)
    fields = {"learning_rate": RATES, "horizon": sweep.log_uniform(3.0, 300.0)}
    return Problem(task, fields, s.copy_steps, probe.success.bound)


def _net(
    probe: probes.Probe,
    s: Settings,
    seed: int,
    change: Callable[[Any, Fields, jax.Array], Any],
) -> sweep.Task:
    """Make the training of a GRU, whose first parameters are changed by the hyperparameters.

    All trials start from the same weights and see the same data, so two trials with equal
    hyperparameters have the same loss: no trial is the best by its luck alone.
    """
    net = lab.Task(sc.GRU(s.hidden_size), probe, s.batch_size)
    member = lab.Member(train.HParams(), {})

    def init(key: jax.Array, hparams: Fields) -> lab.ReaderParams:
        k_net, k_change = jax.random.split(key)
        params = net.reader.init(k_net, probe.input_size)
        return params._replace(cell=change(params.cell, hparams, k_change))

    def loss(params: lab.ReaderParams, key: jax.Array, _: object) -> tuple[jax.Array, Any]:
        return net(params, key, member)

    task = sweep.from_loss(loss, init)
    return task._replace(init=lambda hparams, _: task.init(hparams, jax.random.key(seed)))


@dataclasses.dataclass(frozen=True)
class Searches:
    """All searches of one problem with some seeds."""

    problem: str
    seeds: tuple[int, ...]
    settings: Settings

    @property
    def arms(self) -> tuple[str, ...]:
        """The ways to search; Optuna alone needs a loss that is computed without training."""
        return (RANDOM, TPE, *[ALONE] * (self.problem in QUADRATICS))

    @property
    def name(self) -> str:
        """The name of the group."""
        quadratic = self.problem in QUADRATICS
        return self.problem if quadratic else f"{self.problem} seed {self.seeds[0]}"

    @property
    def steps(self) -> int:
        """Trials of all searches."""
        return len(self.seeds) * len(self.arms) * self.settings.samples

    def part(self, out: Path) -> lab.Part:
        """Return the file with the rows."""
        s = dataclasses.asdict(self.settings)
        del s["problems"], s["seeds"], s["quadratic_seeds"]
        of = {"problem": self.problem, "seeds": self.seeds, "optuna": optuna.__version__}
        return lab.Part(out / "parts", self.name.replace(" ", "-"), {**s, **of}, TABLES, CODE)

    def check(self) -> None:
        """Raise if the problem cannot be made."""
        make(self.problem, self.settings, self.seeds[0])

    def measure(self, progress: Callable[[int], None]) -> lab.Rows:
        """Search the problem in every way, with one seed after another."""
        rows: dict[str, list[Any]] = {name: [] for name in TABLES}
        for seed, arm in itertools.product(self.seeds, self.arms):
            problem = make(self.problem, self.settings, seed)
            losses = search(problem, arm, seed, self.settings)
            labels = {"problem": self.problem, "arm": arm, "seed": seed}
            rows["results"].append({**labels, **_summary(losses, problem.solved)})
            rows["curves"] += [{**labels, **point} for point in improvements(losses)]
            progress(len(rows["results"]) * self.settings.samples)
        return rows


def search(problem: Problem, arm: str, seed: int, s: Settings) -> np.ndarray:
    """Return the losses of a search, in the order of its trials; NaN where one diverged."""
    space = sweep.Space(samples=s.samples, **problem.fields)
    with _silent():
        if arm == ALONE:
            return _search_alone(problem, space, seed, s)
        samplers = optuna.samplers
        sampler = samplers.RandomSampler() if arm == RANDOM else samplers.TPESampler()
        result = sweep.search(
            lambda: problem.task,
            space,
            optuna.create_study(sampler=sampler),
            problem.steps,
            batch=s.batch,
            segment=min(SEGMENT, problem.steps),
            key=jax.random.key(2 * seed + (arm == TPE)),  # no two searches propose the same
        )
    return np.asarray(result.column("loss"), float)


def _search_alone(problem: Problem, space: sweep.Space, seed: int, s: Settings) -> np.ndarray:
    """Search a quadratic by Optuna's ask and tell in batches, without `sweep.search`."""
    distributions = sweep.to_optuna(space)
    best = np.asarray(optimum(len(problem.fields), seed), float)
    study, losses = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed)), []
    while (left := s.samples - len(losses)) > 0:
        for trial in [study.ask(distributions) for _ in range(min(s.batch, left))]:
            x = np.array([trial.params[name] for name in problem.fields])
            losses.append(float(np.sum((x - best) ** 2)))
            study.tell(trial, losses[-1])
    return np.array(losses)


def _summary(losses: np.ndarray, solved: float) -> dict[str, Any]:
    """Return what a search found, and how hard its problem is."""
    return {
        "trials": len(losses),
        "best": float(np.nanmin(losses)),
        "median": float(np.nanmedian(losses)),
        "solved": math.nan if math.isnan(solved) else float(np.mean(losses < solved)),
        "diverged": int(np.isnan(losses).sum()),
        "optuna": optuna.__version__,
    }


def improvements(losses: np.ndarray) -> list[dict[str, float]]:
    """Return the trials, counted from 1, that were better than all before, with their losses."""
    best, found = math.inf, []
    for i, loss in enumerate(losses.tolist()):
        if loss < best:
            best = loss
            found.append({"trial": i + 1, "best": best})
    return found


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Let Optuna log nothing but errors."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
