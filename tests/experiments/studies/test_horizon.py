"""The study of the horizon: what each run trains and what its row has, compared by hand."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from experiments.lab import (
    AT_END,
    AT_START,
    CHRONO,
    GRU,
    GradientByLag,
    Member,
    Reader,
    Task,
    measures,
    runs,
    training,
)
from experiments.studies.horizon import Budget, Settings, groups
from seqcells import probes, train

SMALL = Settings(
    cells=("GRU default", "GRU chrono"),
    **{"seeds": 2, "lags": (4, 2, 3), "factors": (3, 0.5), "factor_seeds": 1},
    **{"hidden_size": 3, "batch_size": 4, "segment": 2, "eval_size": 8},
    gru=Budget(recall=0.01, adding=0.02, steps=5),
)
PLACES = {  # task, lag, learning rate, seed
    "recall": [
        *(("rates", 4, 0.005, 0), ("rates", 4, 0.03, 0)),
        *(("recall", lag, 0.01, seed) for lag in (2, 3, 4) for seed in (0, 1)),
    ],
    "adding": [("adding", 4, 0.02, 0), ("adding", 4, 0.02, 1)],
}


def group(task="recall", arm=GRU, settings=SMALL, **changes):
    """One group of the study, without its gradients: they take long to compile."""
    named = {one.name: one for one in groups(settings)}
    return dataclasses.replace(named[f"{task} {arm.name}"], **{"measures": (), **changes})


def measured(one):
    return one.measure(lambda steps: None)["results"]


@pytest.fixture
def untrained(monkeypatch):
    """Training that returns `change(params)` at once, as if a step took 0.04 s for the group."""

    def patch(change=lambda a: a):
        def fit(task, state, members, steps, *_):
            curve = np.ones((len(state.step), steps))
            state = state._replace(params=jax.tree.map(change, state.params))
            return state, {"loss": curve, "measure": curve}, 0.04

        monkeypatch.setattr(runs, "fit", fit)

    return patch


@pytest.fixture
def padded(monkeypatch):
    """Runs as two more devices would have them: copies of the first one behind the others."""

    def pad(tree):
        return jax.tree.map(lambda a: jnp.concatenate([a, a[:1], a[:1]]), tree)

    monkeypatch.setattr(runs, "pad", pad)


@pytest.mark.parametrize("task", PLACES)
def test_runs_stand_where_the_settings_say(task):
    one = group(task)
    assert [(r.labels["task"], r.labels["lag"]) for r in one.runs] == [p[:2] for p in PLACES[task]]
    assert {r.labels["arm"] for r in one.runs} == {"GRU default"}
    rates, seeds = ([place[i] for place in PLACES[task]] for i in (2, 3))
    members, got = runs._members_of(one.runs)
    np.testing.assert_array_equal(got, seeds)
    np.testing.assert_allclose(members.hparams.learning_rate, rates, rtol=1e-6)
    lags = {"lag": [place[1] for place in PLACES[task]]} if task == "recall" else {}
    assert {name: a.tolist() for name, a in members.knobs.items()} == lags
    assert {a.shape for a in members.hparams} == {(len(rates),)}


def test_the_tasks_are_as_long_as_the_longest_lag():
    assert group("adding").task.probe == probes.AddingURNN(4)
    assert group("recall").task.probe == probes.DelayedRecall(4)
    assert group("recall").task == group("recall", CHRONO).task  # compiled once for both


@dataclasses.dataclass(frozen=True)
class Echo:
    """A probe whose loss is the lag, and its accuracy the number of samples."""

    success = probes.Success("accuracy", 0.5)

    def sample(self, key, size, lag):
        return probes.Sample(jnp.full((size,), lag), jnp.zeros(size), None)

    def score(self, answers, targets):
        return probes.Score(answers[0], jnp.float32(len(targets)), 1)


def test_a_member_is_trained_and_scored_at_its_own_lag(monkeypatch):
    reader = property(lambda task: lambda params, sample: params * sample.xs)
    monkeypatch.setattr(Task, "reader", reader)
    task = dataclasses.replace(group().task, probe=Echo())
    member, key = Member(train.HParams(), {"lag": 3}), jax.random.key(0)
    loss, further = task(2.0, key, member)
    assert (loss, further["measure"]) == (6, SMALL.batch_size)
    assert task.score(2.0, key, member, 7) == (6, 7, 1)
    assert task.evaluate(2.0, key, member, 1200) == (6, 500, 1)  # at a time


def test_what_a_member_scores_lands_in_its_row(monkeypatch, untrained, padded):
    def evaluate(task, size):
        def scores(params, keys, members):
            loss = members.hparams.learning_rate * (1 + members.knobs["lag"]) + jnp.arange(10) / 1e3
            return probes.Score(loss, loss / 2, loss)

        assert size == SMALL.eval_size
        return scores

    untrained()
    monkeypatch.setattr(runs, "evaluate", evaluate)
    rows = measured(group())
    expected = [rate * (1 + lag) + i / 1e3 for i, (_, lag, rate, _) in enumerate(PLACES["recall"])]
    np.testing.assert_allclose([row["loss"] for row in rows], expected, rtol=1e-5)
    np.testing.assert_allclose([row["accuracy"] for row in rows], np.divide(expected, 2), rtol=1e-5)
    assert [row["solved"] for row in rows] == [loss < 0.05 for loss in expected]
    assert 0 < sum(row["solved"] for row in rows) < len(rows)
    got = [(r["task"], r["lag"], r["seed"]) for r in rows]
    assert got == [(task, lag, seed) for task, lag, _, seed in PLACES["recall"]]
    np.testing.assert_allclose([r["learning_rate"] for r in rows], [p[2] for p in PLACES["recall"]])
    assert {(r["arm"], r["steps"], r["seconds_per_step"]) for r in rows} == {
        ("GRU default", 5, 0.04 / 8)  # the runs share the time of their group
    }


def test_the_score_is_that_of_the_trained_parameters(untrained):
    untrained(jnp.zeros_like)
    np.testing.assert_allclose([row["loss"] for row in measured(group())], np.log(8), rtol=1e-6)


@pytest.mark.slow
def test_gradients_are_those_of_the_runs_of_the_longest_lag(untrained, padded):
    """Initial parameters before, trained ones after, and L the loss of one sample."""
    untrained(lambda a: 0.5 * a)
    one = next(one for one in groups(SMALL) if one.name == "recall GRU chrono")
    rows = one.measure(lambda steps: None)["gradients"]
    probe, cell = probes.DelayedRecall(4), CHRONO.start(3, 4)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 1, 1))
    def norms(params, xs, target):  # of one sequence by itself
        def loss(ys):
            return probe.score((ys[-1:] @ params.w + params.b)[None], target[None]).loss

        return sc.diagnostics.gradient_by_lag(cell, params.cell, xs, loss)

    def by_hand(seed, change):
        k_init, _, k_eval = jax.random.split(jax.random.key(seed), 3)
        params = Reader(cell, 8).init(k_init, probe.input_size)
        params = jax.tree.map(lambda a: change * a, params)
        return jnp.mean(norms(params, *probe.sample(k_eval, 256, lag=4)[:2]), axis=0)

    for when, change in ((AT_START, 1.0), (AT_END, 0.5)):
        kept = [row for row in rows if row["when"] == when]
        assert [row["lag"] for row in kept] == [0, 1, 2, 3, 4]
        expected = np.median([by_hand(seed, change) for seed in (0, 1)], axis=0)
        np.testing.assert_allclose([row["norm"] for row in kept], expected, rtol=1e-4)
        assert {row["arm"] for row in kept} == {"GRU chrono"}
    assert len(rows) == 10
    trained = runs.Trained(one.task, group("adding").runs, *[None] * 4)
    assert one.measures[0].rows(trained) == []  # of no such run, nothing is computed


def test_only_chrono_starts_with_a_slow_update_gate(monkeypatch):
    started = []

    def fit(task, state, *_):
        started.append(np.asarray(state.params.cell.b_ih[..., 16:32]))
        raise InterruptedError

    monkeypatch.setattr(runs, "fit", fit)
    for arm in (GRU, CHRONO):
        with pytest.raises(InterruptedError):
            measured(group("recall", arm, dataclasses.replace(SMALL, lags=(50,), hidden_size=16)))
    assert not np.any(started[0])
    times = 1 + np.exp(-started[1])  # of z, the fraction written
    assert 2 <= times.min() < 10
    assert 40 < times.max() <= 50


@pytest.mark.slow
def test_learning_rates_are_those_that_train(monkeypatch):
    """The first step of Adam moves a parameter by the learning rate."""
    moved, real = [], runs.fit

    def fit(task, state, *rest):
        after, *others = real(task, state, *rest)
        change = [abs(a - b) for a, b in zip(after.params.cell, state.params.cell, strict=True)]
        moved.extend(max(float(np.asarray(a)[i].max()) for a in change) for i in range(8))
        return after, *others

    monkeypatch.setattr(runs, "fit", fit)
    measured(group(steps=1))
    np.testing.assert_allclose(moved, [place[2] for place in PLACES["recall"]], rtol=2e-2)


@pytest.mark.slow
def test_what_can_be_learned_is_solved():
    easy = dataclasses.replace(
        SMALL,
        **{"lags": (2,), "factors": (1e-4,), "hidden_size": 16, "batch_size": 32},
        **{"segment": 40, "eval_size": 500, "gru": Budget(recall=0.03, adding=0.03, steps=160)},
    )
    rows = measured(group(settings=easy))
    solved = [(row["task"], row["solved"]) for row in rows]
    assert solved == [("rates", False), ("recall", True), ("recall", True)]  # too slow to learn
    assert all(row["accuracy"] > 0.99 and row["loss"] < 0.05 for row in rows[1:])
    assert {row["steps"] for row in rows} == {160}


OTHER = {
    **{"seeds": 3, "lags": [(2, 3), (4, 2)], "factors": (3, 0.7), "factor_seeds": 2},
    **{"hidden_size": 4, "batch_size": 5, "segment": 3, "eval_size": 9},
    "gru": [Budget(0.01, 0.02, 6), Budget(0.011, 0.02, 5), Budget(0.01, 0.021, 5)],
}
CHANGED = {  # adding knows the longest lag alone, and no factors, and each task its own rate
    ("lags", (4, 2)): {"recall"},
    ("factors", (3, 0.7)): {"recall"},
    ("factor_seeds", 2): {"recall"},
    ("gru", Budget(0.011, 0.02, 5)): {"recall"},
    ("gru", Budget(0.01, 0.021, 5)): {"adding"},
}


def test_a_part_is_of_everything_that_its_rows_depend_on(tmp_path):
    def paths(settings):
        return {one.name: one.part(tmp_path).path for one in groups(settings)}

    before = paths(SMALL)
    names = itertools.product(PLACES, ("GRU default", "GRU chrono"))
    assert list(before) == [f"{task} {arm}" for task, arm in names]
    assert len(set(before.values())) == 4
    alike = {"tanh": Budget(0.1, 0.1, 1), "irnn": Budget(0.1, 0.1, 1), "cells": ("GRU chrono",)}
    assert {field.name for field in dataclasses.fields(Settings)} == {*OTHER, *alike}
    for name, value in alike.items():
        after = paths(dataclasses.replace(SMALL, **{name: value}))
        assert set(after.values()) <= set(before.values())
    for name, values in OTHER.items():
        for value in values if isinstance(values, list) else [values]:
            after = paths(dataclasses.replace(SMALL, **{name: value}))
            changed = {one.partition(" ")[0] for one in before if before[one] != after[one]}
            assert changed == CHANGED.get((name, value), {"recall", "adding"}), (name, value)


def test_a_part_is_of_what_is_measured_and_of_the_code_that_does_it(tmp_path):
    """Whatever runs and measures import of this repository, but what only keeps rows."""
    far, near = ((GradientByLag({"lag": lag}),) for lag in (4, 2))
    parts = [group(measures=some).part(tmp_path) for some in (far, near, ())]
    assert [list(part.columns) for part in parts] == [["results", "gradients"]] * 2 + [["results"]]
    assert parts[0].columns["gradients"] == ["arm", "when", "lag", "norm"]
    assert len({part.path for part in parts}) == 3
    code = parts[0].code
    assert [path.name for path in code if path not in parts[2].code] == ["measures.py"]
    values = [value for module in (runs, measures, training) for value in vars(module).values()]
    names = [getattr(v, "__module__", None) or getattr(v, "__name__", "") for v in values]
    kept = {name.split(".")[-1] for name in names if name.startswith("experiments")}
    assert "models" in kept
    assert kept - {"cache"} == {path.stem for path in code} - {"seqcells"}
    assert sc.__file__ == str(code[0] / "__init__.py")
    assert all(path.exists() for path in code)
