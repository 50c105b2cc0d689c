"""The study of the horizon: what a group of members trains and measures, held member by member."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from experiments.horizon import study
from experiments.horizon.settings import CONTENDERS, Budget, Settings
from experiments.lab import Member, Reader
from seqcells import probes, train

SMALL = Settings(
    cells=("GRU default", "GRU chrono"),
    **{"seeds": 2, "lags": (4, 2, 3), "factors": (3, 0.5), "factor_seeds": 1},
    **{"hidden_size": 3, "batch_size": 4, "segment": 2, "eval_size": 8},
    gru=Budget(recall=0.01, adding=0.02, steps=5),
)
TANH, IRNN, DEFAULT, CHRONO = CONTENDERS
PLACES = {  # task, lag, learning rate, seed
    "recall": [
        *(("rates", 4, 0.005, 0), ("rates", 4, 0.03, 0)),
        *(("recall", 2, 0.01, 0), ("recall", 2, 0.01, 1)),
        *(("recall", 3, 0.01, 0), ("recall", 3, 0.01, 1)),
        *(("recall", 4, 0.01, 0), ("recall", 4, 0.01, 1)),
    ],
    "adding": [("adding", 4, 0.02, 0), ("adding", 4, 0.02, 1)],
}


def group(task="recall", contender=DEFAULT, settings=SMALL):
    return study.Group(settings, task, contender)


@pytest.fixture
def padded(monkeypatch):
    """Members as two more devices would have them: copies of the first row behind the others."""

    def pad(tree):
        return jax.tree.map(lambda a: jnp.concatenate([a, a[:1], a[:1]]), tree)

    monkeypatch.setattr(study, "pad", pad)


@pytest.fixture
def untraced(monkeypatch):
    """No gradients: they take long to compile."""
    monkeypatch.setattr(study, "_gradient", lambda task: lambda *_: np.ones((8, 5)))


@pytest.fixture
def unscored(monkeypatch):
    """No scores."""
    score = probes.Score(*[np.ones(10)] * 3)
    monkeypatch.setattr(study, "evaluate", lambda task, size: lambda *_: score)


def fit_that(change, losses=()):
    """A training that applies `change` to the parameters, and shows these losses to the host."""

    def fit(loss, state, members, steps, *, on_segment, **_):
        for done, loss in enumerate(losses, 1):
            on_segment(state._replace(step=jnp.full_like(state.step, done)), {"loss": loss})
        state = state._replace(step=jnp.full_like(state.step, steps))
        return state._replace(params=jax.tree.map(change, state.params)), {}

    return fit


@pytest.mark.parametrize("task", PLACES)
def test_members_stand_where_the_places_say(task):
    places = group(task).places
    assert [place[:2] for place in places] == [place[:2] for place in PLACES[task]]
    np.testing.assert_allclose([p[2] for p in places], [p[2] for p in PLACES[task]])
    members, seeds = group(task).members()
    np.testing.assert_array_equal(seeds, [place.seed for place in places])
    rates = [place.learning_rate for place in places]
    np.testing.assert_allclose(members.hparams.learning_rate, rates, rtol=1e-6)
    lags = {"lag": [place.lag for place in places]} if task == "recall" else {}
    assert {name: a.tolist() for name, a in members.knobs.items()} == lags
    assert {a.shape for a in members.hparams} == {(len(places),)}


def test_the_tasks_are_as_long_as_the_longest_lag():
    assert group("adding").program.probe == probes.AddingURNN(4)
    assert group("recall").program.probe == probes.DelayedRecall(4)
    assert group("recall").program == group("recall", CHRONO).program  # compiled once for both


@dataclasses.dataclass(frozen=True)
class Echo:
    """A probe whose loss is the lag, and its accuracy the number of samples."""

    success = probes.Success("accuracy", 0.5)

    def sample(self, key, size, lag):
        return probes.Sample(jnp.full((size,), lag), jnp.zeros(size), None)

    def score(self, answers, targets):
        return probes.Score(answers[0], jnp.float32(len(targets)), 1)


def test_a_member_is_trained_and_scored_at_its_own_lag():
    task = dataclasses.replace(
        group().program, probe=Echo(), reader=lambda params, sample: params * sample.xs
    )
    member, key = Member(train.HParams(), {"lag": 3}), jax.random.key(0)
    loss, further = task(2.0, key, member)
    assert (loss, further["measure"]) == (6, SMALL.batch_size)
    assert task.score(2.0, key, member, 7) == (6, 7, 1)
    assert task.evaluate(2.0, key, member, 1200) == (6, 500, 1)  # at a time


def test_what_a_member_scores_lands_in_its_row(monkeypatch, padded, untraced):
    def evaluate(task, size):
        def scores(params, keys, members):
            loss = members.hparams.learning_rate * (1 + members.knobs["lag"]) + jnp.arange(10) / 1e3
            return probes.Score(loss, loss / 2, loss)

        assert size == SMALL.eval_size
        return scores

    monkeypatch.setattr(study, "evaluate", evaluate)
    monkeypatch.setattr(study.train, "fit", fit_that(lambda a: a))
    rows = group().measure(lambda steps: None)["results"]
    expected = [rate * (1 + lag) + i / 1e3 for i, (_, lag, rate, _) in enumerate(PLACES["recall"])]
    np.testing.assert_allclose([row["loss"] for row in rows], expected, rtol=1e-5)
    np.testing.assert_allclose([row["accuracy"] for row in rows], np.divide(expected, 2), rtol=1e-5)
    assert [row["solved"] for row in rows] == [loss < 0.05 for loss in expected]
    assert 0 < sum(row["solved"] for row in rows) < len(rows)
    found = [(r["task"], r["lag"], r["seed"]) for r in rows]
    assert found == [(task, lag, seed) for task, lag, _, seed in PLACES["recall"]]
    np.testing.assert_allclose([r["learning_rate"] for r in rows], [p[2] for p in PLACES["recall"]])
    assert {(r["cell"], r["init"], r["steps"]) for r in rows} == {("GRU", "default", 5)}


def test_the_score_is_that_of_the_trained_parameters(monkeypatch, untraced):
    monkeypatch.setattr(study.train, "fit", fit_that(jnp.zeros_like))
    rows = group().measure(lambda steps: None)["results"]
    np.testing.assert_allclose([row["loss"] for row in rows], np.log(8), rtol=1e-6)


@pytest.mark.slow
def test_gradients_are_those_of_the_members_of_the_longest_lag(monkeypatch, padded, unscored):
    """Initial parameters before, trained ones after, and L the loss of one sample."""
    monkeypatch.setattr(study.train, "fit", fit_that(lambda a: 0.5 * a))
    rows = group(contender=CHRONO).measure(lambda steps: None)["gradients"]
    probe, cell = probes.DelayedRecall(4), CHRONO.make(3, 4)

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

    for when, change in (("initialisation", 1.0), ("after training", 0.5)):
        mine = [row for row in rows if row["when"] == when]
        assert [row["lag"] for row in mine] == [0, 1, 2, 3, 4]
        expected = np.median([by_hand(seed, change) for seed in (0, 1)], axis=0)
        np.testing.assert_allclose([row["norm"] for row in mine], expected, rtol=1e-4)
        assert {(row["cell"], row["init"]) for row in mine} == {("GRU", "chrono")}
    assert len(rows) == 10


def test_only_chrono_starts_with_a_slow_update_gate(monkeypatch):
    started = {}
    longest = dataclasses.replace(SMALL, lags=(50,), hidden_size=16)

    def fit(loss, state, *_, **__):
        started[len(started)] = state.params.cell.b_ih[..., 16:32]
        raise InterruptedError

    monkeypatch.setattr(study.train, "fit", fit)
    for contender in (DEFAULT, CHRONO):
        with pytest.raises(InterruptedError):
            group(contender=contender, settings=longest).measure(lambda steps: None)
    assert not np.any(started[0])
    times = 1 + np.exp(-np.asarray(started[1]))  # of z, the fraction that is written
    assert 2 <= times.min() < 10
    assert 40 < times.max() <= 50


def test_seconds_are_shared_out_among_the_members():
    rows = group("adding")._rows(170, 0.04, probes.Score(*[jnp.zeros(2)] * 3))
    assert [row["seconds"] for row in rows] == pytest.approx([0.04 * 170 / 2] * 2)


@pytest.mark.slow
def test_learning_rates_are_those_that_train(monkeypatch, untraced, unscored):
    """The first step of Adam moves a parameter by the learning rate."""
    moved, real = [], study.train.fit

    def fit(loss, state, members, steps, **options):
        after, metrics = real(loss, state, members, steps, **options)
        change = [abs(a - b) for a, b in zip(after.params.cell, state.params.cell, strict=True)]
        moved.extend(max(float(np.asarray(a)[i].max()) for a in change) for i in range(8))
        return after, metrics

    monkeypatch.setattr(study.train, "fit", fit)
    once = dataclasses.replace(SMALL, gru=dataclasses.replace(SMALL.gru, steps=1))
    group(settings=once).measure(lambda steps: None)
    np.testing.assert_allclose(moved, [place[2] for place in PLACES["recall"]], rtol=2e-2)


@pytest.mark.slow
def test_what_can_be_learned_is_solved(untraced):
    easy = dataclasses.replace(
        SMALL,
        **{"lags": (2,), "factors": (1e-4,), "hidden_size": 16, "batch_size": 32},
        **{"segment": 40, "eval_size": 500, "gru": Budget(recall=0.03, adding=0.03, steps=160)},
    )
    measured = group(settings=easy).measure(lambda steps: None)
    rows = {
        task: [r for r in measured["results"] if r["task"] == task] for task in ("recall", "rates")
    }
    assert [row["solved"] for row in rows["recall"]] == [True, True]
    assert all(row["accuracy"] > 0.99 and row["loss"] < 0.05 for row in rows["recall"])
    assert [row["solved"] for row in rows["rates"]] == [False]  # as fast as nothing
    assert {row["steps"] for row in measured["results"]} == {160}


OTHER = {
    **{
        "seeds": 3,
        "lags": [(2, 3), (4, 2)],
        "factors": (3, 0.7),
        "factor_seeds": 2,
        "hidden_size": 4,
    },
    **{"batch_size": 5, "segment": 3, "eval_size": 9},
    "gru": [Budget(0.01, 0.02, 6), Budget(0.011, 0.02, 5), Budget(0.01, 0.021, 5)],
}


def test_a_part_is_of_everything_that_its_rows_depend_on(tmp_path):
    def paths(settings):
        return {(g.task, g.contender.name): g.part(tmp_path).path for g in study.groups(settings)}

    before = paths(SMALL)
    assert list(before) == list(itertools.product(PLACES, ("GRU default", "GRU chrono")))
    assert len(set(before.values())) == 4
    alike = {"tanh": Budget(0.1, 0.1, 1), "irnn": Budget(0.1, 0.1, 1), "cells": ("GRU chrono",)}
    assert {field.name for field in dataclasses.fields(Settings)} == {*OTHER, *alike}
    for name, value in alike.items():
        after = paths(dataclasses.replace(SMALL, **{name: value}))
        assert set(after.values()) <= set(before.values())
    for name, values in OTHER.items():
        for value in values if isinstance(values, list) else [values]:
            after = paths(dataclasses.replace(SMALL, **{name: value}))
            changed = {task for (task, who) in before if before[task, who] != after[task, who]}
            assert changed == CHANGED.get((name, value), {"recall", "adding"}), (name, value)


CHANGED = {  # adding knows the longest lag alone, and no factors, and each task its own rate
    ("lags", (4, 2)): {"recall"},
    ("factors", (3, 0.7)): {"recall"},
    ("factor_seeds", 2): {"recall"},
    ("gru", Budget(0.011, 0.02, 5)): {"recall"},
    ("gru", Budget(0.01, 0.021, 5)): {"adding"},
}


def test_a_part_is_of_the_code_that_makes_its_rows():
    """Whatever the study imports of this repository, but what only keeps or reads rows."""
    values = vars(study).values()
    names = [getattr(v, "__module__", None) or getattr(v, "__name__", "") for v in values]
    mine = {name.split(".")[-1] for name in names if name.startswith("experiments")}
    assert "models" in mine
    assert mine - {"cache"} == {path.stem for path in study.CODE} - {"seqcells"}
    assert sc.__file__ == str(study.CODE[0] / "__init__.py")
    assert all(path.exists() for path in study.CODE)
