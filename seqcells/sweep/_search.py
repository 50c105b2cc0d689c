"""A search: Optuna proposes a batch of trials, one program trains it, and Optuna is told."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from seqcells import _check
from seqcells._types import Json
from seqcells.sweep._columns import Lines
from seqcells.sweep._driver import Sweep
from seqcells.sweep._executor import Executor
from seqcells.sweep._identity import canonical
from seqcells.sweep._lines import Row
from seqcells.sweep._plan import Halving, Plan
from seqcells.sweep._run import Progress, checked, progress, session, trainer
from seqcells.sweep._space import LogUniform, Space, Trial, log_uniform, uniform
from seqcells.sweep._store import Folder, Memory
from seqcells.sweep._table import Result

PLACE = "seqcells:place"  # the attribute of Optuna's trials with their place in the search
SEED = "seed"  # the field of the replicates


class Proposal(NamedTuple):
    """A trial of Optuna, and the trials of the sweep that replicate it."""

    number: int  # of Optuna's trial
    trials: tuple[Trial, ...]


def to_optuna(space: Space) -> dict[str, Any]:
    """Return the distributions of a space as those of Optuna, by name.

    `uniform` and `log_uniform` become a `FloatDistribution`. Lists with several values, of numbers
    or static values, become a `CategoricalDistribution` of them, as the table shows them. Fields
    with one value are not searched.
    """
    d = _optuna().distributions
    found = {
        name: d.FloatDistribution(one.low, one.high, log=isinstance(one, LogUniform))
        for name, one in space.distributions.items()
    }
    choices = {n: [canonical(v) for v in values] for n, values in space.static.items()}
    choices |= {name: list(values) for name, values in space.grid.items()}
    return found | {
        name: d.CategoricalDistribution(values)
        for name, values in choices.items()
        if len(values) > 1
    }


def from_optuna(distributions: Mapping[str, Any]) -> dict[str, Any]:
    """Return Optuna's distributions as fields of a `Space`, by name.

    Raises:
        ValueError: a distribution has steps, or is of another kind than `FloatDistribution`,
            `IntDistribution` and `CategoricalDistribution`.
    """
    d, fields = _optuna().distributions, {}
    for name, one in distributions.items():
        if isinstance(one, d.FloatDistribution) and one.step is None:
            fields[name] = (log_uniform if one.log else uniform)(one.low, one.high)
        elif isinstance(one, d.IntDistribution) and not one.log:
            fields[name] = range(one.low, one.high + 1, one.step)
        elif isinstance(one, d.CategoricalDistribution):
            fields[name] = list(one.choices)
        else:
            raise ValueError(
                f"{name}: expected a float distribution without steps, an int one without log, or "
                f"a categorical one, got {one}; give the space a list of its values"
            )
    return fields


def search(
    make: Callable[..., Any],
    space: Space,
    study: Any,
    steps: int,
    *,
    batch: int = 64,
    replicates: int = 1,
    segment: int = 100,
    metric: str = "loss",
    out: str | os.PathLike[str] | None = None,
    halving: Halving | None = None,
    key: jax.Array | None = None,
    on_start: Callable[[], object] | None = None,
    on_segment: Callable[[Progress], object] | None = None,
    config: Json | None = None,
    save_seconds: float = 60.0,
    minutes: float | None = None,
    executor: Executor | None = None,
    in_flight: int = 1000,
) -> Result:
    """Search a space with Optuna's samplers, a batch of proposals in one program.

    The study proposes `batch` trials, `sweep.run` trains them, and the study is told the mean of
    the metric over the replicates. Every batch is trained by the same program, one for each value
    of a static field, so it is compiled once. A trial that diverged or was pruned is told as
    pruned, at its last finite metric: Optuna ignores failed trials, and would propose them again.

    A search that is killed and called again, with the same study in a storage on disk and the same
    `out`, takes up the trials that were running. The sampler is seeded before each value that it
    proposes, from `key`, so the search ends with the trials of an undisturbed one.
    One search at a time uses a study. Results are told when the whole batch is trained, in the
    order of its proposals, also with an executor.

    Args:
        make: as in `run`.
        space: `samples` is the number of proposals, and its distributions are what is searched,
            also lists of several values; see `to_optuna`.
        study: an `optuna.Study` with one direction; its sampler proposes.
        steps: as in `run`.
        batch: proposals at a time. The program trains `batch * replicates` trials.
        replicates: trials for each proposal; they differ in the field `seed`, from 0.
        segment: as in `run`.
        metric: the metric that the study is told.
        out: as in `run`.
        halving: as in `run`.
        key: as in `run`; it also seeds the sampler.
        on_start: as in `run`.
        on_segment: as in `run`.
        config: as in `run`.
        save_seconds: as in `run`.
        minutes: as in `run`; then call `search` again to go on.
        executor: as in `run`.
        in_flight: as in `run`.

    Returns:
        The table of all trials, in the order in which they were proposed.

    Raises:
        ValueError: as in `run`; or the study has several directions, or the space has a field
            `seed`, or nothing to search.
        TypeError: as in `run`; or it is not a study.
        AllFailed: every trial ended with NaN.
        ModuleNotFoundError: Optuna is not installed.

    >>> import optuna  # doctest: +SKIP
    >>> space = Space(samples=256, learning_rate=log_uniform(1e-4, 1e-1))  # doctest: +SKIP
    >>> search(make, space, optuna.create_study(), 500).ranked()[0]  # doctest: +SKIP
    """
    batch = _check.size("batch", batch, least=1)
    replicates = _check.size("replicates", replicates, least=1)
    _check_study(study)
    _check_space(space)
    plan = Plan.of(
        make=make,
        steps=steps,
        segment=segment,
        metric=metric,
        mode="min" if study.direction.name == "MINIMIZE" else "max",
        batch=batch * replicates,
        halving=halving,
        pbt=None,
        key=key,
        save_seconds=save_seconds,
    ).of_space(space)
    store = Memory() if out is None else Folder(out, plan.settings(config))
    train = trainer(executor, in_flight, plan, space.trials()[:1], store)
    searched = _Search(plan, space, study, store, batch, range(replicates))
    report = progress(on_segment, searched.finished, len(space.draws) * replicates)
    with session(store, minutes, searched.result, on_start) as (stop, run):
        searched.run(train, Sweep(plan, (), store, stop, report, run, {}))
    return checked(searched.result())


class _Search:
    """The conversation with a study."""

    def __init__(
        self, plan: Plan, space: Space, study: Any, store: Memory, batch: int, replicates: range
    ) -> None:
        self.plan, self.space, self.study, self.store = plan, space, study, store
        self.batch, self.replicates = batch, replicates
        self.distributions = to_optuna(space)
        self.trials: dict[str, Trial] = {}  # of all proposals so far, by id

    def run(self, train: Callable[[Sweep], None], sweep: Sweep) -> None:
        """Ask, train and tell, batch by batch."""
        samples = len(self.space.draws)
        for start in range(0, samples, self.batch):
            asked = [
                Proposal(number, _replicated(self.space, params, self.replicates))
                for number, params in self._asked(range(start, min(start + self.batch, samples)))
            ]
            trials = {trial.id: trial for one in asked for trial in one.trials}
            self.trials |= trials
            train(sweep._replace(trials=sorted(trials.values(), key=lambda trial: trial.bucket)))
            if not trials.keys() <= self.store.done:
                return  # it was stopped
            self._tell(asked, trials)

    def finished(self) -> int:
        """Return how many trials of the proposals so far have a row."""
        return len(self.trials.keys() & self.store.done)

    def result(self) -> Result:
        """Return the table of the proposals so far."""
        rows, history = self.store.everything()
        columns = _columns(self.space, self.trials.values())
        return Result.of(columns, rows, history, metric=self.plan.metric, mode=self.plan.mode)

    def _asked(self, places: range) -> list[tuple[int, Mapping[str, Any]]]:
        """Return numbers and parameters of a batch, asking for what is not there yet."""
        running = _optuna().trial.TrialState.RUNNING
        trials = self.study.get_trials(deepcopy=False)
        known = {t.user_attrs[PLACE]: t for t in trials if PLACE in t.user_attrs}
        begun = [t for t in trials if t.state == running and PLACE not in t.user_attrs]
        for place in places:
            if place in known:
                continue
            words = *self.plan.key, place
            seed(self.study.sampler, *words)
            # A search that was killed may have begun to ask.
            trial = self._trial(begun.pop(0).number) if begun else self.study.ask()
            _ = trial.relative_params  # of all fields together, drawn when they are looked at
            for name, one in self.distributions.items():
                seed(self.study.sampler, *words, name)
                _suggest(trial, name, one)
            trial.set_user_attr(PLACE, place)  # it is complete
            known[place] = trial
        return [(known[place].number, known[place].params) for place in places]

    def _trial(self, number: int) -> Any:
        """Return a trial of the study, as it is when it is asked for."""
        frozen = self.study.get_trials(deepcopy=False)[number]
        return _optuna().trial.Trial(self.study, frozen._trial_id)

    def _tell(self, asked: Sequence[Proposal], trials: Mapping[str, Trial]) -> None:
        """Tell the study the results of a batch, in the order of its numbers."""
        states, metric = _optuna().trial.TrialState, self.plan.metric
        stored = self.study.get_trials(deepcopy=False)
        asked = [one for one in asked if stored[one.number].state == states.RUNNING]
        if not asked:
            return  # it was told before a kill
        rows, history = (_of(some, trials) for some in self.store.everything())
        known, lines = {row["id"]: row for row in rows}, list(history)
        for number, some in asked:
            mine = [known[trial.id] for trial in some]
            if all(row["status"] == "done" for row in mine):
                self.study.tell(number, float(np.mean([row["metrics"][metric] for row in mine])))
                continue
            last = [_last_finite(row, lines, metric) for row in mine]
            if finite := [one for one in last if one is not None]:
                value = float(np.mean([value for _, value in finite]))
                self._trial(number).report(value, min(step for step, _ in finite))
            self.study.tell(number, state=states.PRUNED)


def proposed(space: Space, study: Any, replicates: int) -> dict[str, list[Any]]:
    """Return the columns of the trials that `search` has had proposed so far, by name.

    Args:
        space: the space of the search.
        study: its study.
        replicates: trials for each proposal.
    """
    _check_study(study)
    _check_space(space)
    asked = [one for one in study.get_trials(deepcopy=False) if PLACE in one.user_attrs]
    asked.sort(key=lambda one: one.user_attrs[PLACE])
    some = [trial for one in asked for trial in _replicated(space, one.params, range(replicates))]
    return _columns(space, {trial.id: trial for trial in some}.values())


def _replicated(space: Space, params: Mapping[str, Any], replicates: range) -> tuple[Trial, ...]:
    """Return the trials of a proposal."""
    static = {
        name: [values[_index(values, params[name])] if name in params else values[0]]
        for name, values in space.static.items()
    }
    grid = {n: params.get(n, values[0]) for n, values in space.grid.items()}
    drawn = {name: params[name] for name in space.distributions}
    return Space(points=[{**drawn, **grid}], static=static, seed=replicates).trials()


def _columns(space: Space, trials: Collection[Trial]) -> dict[str, list[Any]]:
    """Return the columns of the table that do not depend on results."""
    fields = [*space.static, *space.distributions, *space.grid, SEED]
    columns = {name: [trial.fields[name] for trial in trials] for name in fields}
    return {"id": [trial.id for trial in trials]} | columns


def _suggest(trial: Any, name: str, one: Any) -> None:
    """Have a trial propose a value, unless its storage has one."""
    if isinstance(one, _optuna().distributions.FloatDistribution):
        trial.suggest_float(name, one.low, one.high, log=one.log)
    else:
        trial.suggest_categorical(name, one.choices)


def _of(lines: Lines, ids: Container[str]) -> Lines:
    """Return the lines of some trials."""
    return lines.where_id([id in ids for id in lines.texts["id"].values])


def _last_finite(row: Row, lines: Sequence[Row], metric: str) -> tuple[int, float] | None:
    """Return the last step of a trial at which its metric was finite, and the metric."""
    mine = [(one["step"], one["metrics"][metric]) for one in lines if one["id"] == row["id"]]
    return max((pair for pair in mine if np.isfinite(pair[1])), default=None)


def _index(values: Sequence[Any], choice: Any) -> int:
    """Return which of the static values a choice of Optuna names."""
    return [canonical(value) for value in values].index(choice)


def seed(sampler: Any, *words: int | str) -> None:
    """Seed a sampler of Optuna, and those that it uses.

    Optuna has no call for it; its samplers draw from NumPy's `RandomState` in attributes.
    """
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    samplers, seen = [sampler], set[int]()
    for one in samplers:
        seen.add(id(one))
        for value in vars(one).values():
            if isinstance(getattr(value, "rng", None), np.random.RandomState):
                value.rng.seed(int.from_bytes(digest[:4], "little"))
            elif isinstance(value, _optuna().samplers.BaseSampler) and id(value) not in seen:
                samplers.append(value)


def _check_study(study: Any) -> None:
    """Raise unless a study has one direction."""
    if not isinstance(study, _optuna().Study):
        got = _check.describe_one(study)
        raise TypeError(f"study: expected an optuna.Study, got {got}")
    if len(study.directions) != 1:
        raise ValueError(
            f"study: expected a study with one direction, got {len(study.directions)}; create it "
            "with optuna.create_study(direction='minimize')"
        )


def _check_space(space: object) -> None:
    """Raise unless there is something to search."""
    if not isinstance(space, Space):
        raise TypeError(f"space: expected a sweep.Space, got {_check.describe_one(space)}")
    if SEED in (*space.grid, *space.static, *space.draws[0]):
        raise ValueError("space: expected no field seed, got one; pass replicates=N instead")
    if not space.distributions:
        raise ValueError(
            "space: expected distributions and samples=N, the number of proposals, got neither; "
            "write Space(samples=N, name=uniform(low, high))"
        )


def _optuna() -> ModuleType:
    return _check.extra("optuna", "seqcells[search]")
