"""The study of searches: its problems, the trials that are counted, and Optuna's silence."""

import math

import jax
import numpy as np
import optuna
import pandas as pd
import pytest

from experiments.studies.search import STUDY, Found, Settings, groups, picture, problems
from experiments.studies.search.verdicts import trials_text
from seqcells.initializers import Chrono

SMALL = Settings(hidden_size=4, batch_size=2, recall_steps=2, copy_steps=2, samples=8, batch=4)
POINT = {"learning_rate": 0.01, "gain": 1.0, "horizon": 20.0}


def loss(problem, key=0, **changed):
    state = problem.task.init({**POINT, **changed}, jax.random.key(key))
    return float(problem.task.segment(state, {**POINT, **changed}, 2)[1]["loss"][1])


@pytest.mark.parametrize(("name", "field"), [("recall", "gain"), ("copy", "horizon")])
def test_the_loss_of_a_net_depends_on_its_seed_and_on_what_is_searched_alone(name, field):
    problem = problems.make(name, SMALL, 3)
    assert set(problem.fields) == {"learning_rate", field}
    assert loss(problem) == loss(problem, key=1)
    others = [loss(problem, **{one: 2 * POINT[one]}) for one in problem.fields]
    assert len({loss(problem), *others, loss(problems.make(name, SMALL, 4))}) == 4


def test_the_update_gates_of_copying_begin_as_those_of_chrono():
    problem = problems.make("copy", SMALL, 3)
    params = problem.task.init(POINT, jax.random.key(0)).params.cell
    _, key = jax.random.split(jax.random.split(jax.random.key(3))[0])
    expected = Chrono(20.0)(key, (4,), "float32")
    np.testing.assert_allclose(params.b_ih[4:8], expected, rtol=1e-5)
    assert not np.any(params.b_ih[:4])


def test_the_loss_of_a_quadratic_is_the_squared_distance_from_its_optimum():
    task = problems.make("quadratic-4", SMALL, 3).task
    away = np.array([0.0, 0.3, 0.0, 0.4])
    point = dict(zip(("x0", "x1", "x2", "x3"), problems.optimum(4, 3) + away, strict=True))
    state = task.init(point, jax.random.key(0))
    np.testing.assert_allclose(task.segment(state, point, 1)[1]["loss"], [0.25], rtol=1e-5)


@pytest.mark.parametrize("arm", [problems.RANDOM, problems.TPE, problems.ALONE])
def test_every_search_of_a_quadratic_is_of_distances_within_its_box(arm):
    settings = Settings(samples=80, batch=10)
    problem = problems.make("quadratic-2", settings, 3)
    losses = problems.search(problem, arm, 3, settings)
    best = problems.optimum(2, 3)
    farthest = float(np.sum((1 + np.abs(best)) ** 2))
    assert len(set(losses.tolist())) == 80
    assert 0 < losses.min() < losses.max() <= farthest
    sooner = np.median(losses[40:]) < np.median(losses[:10]) / 3
    assert sooner == (arm != problems.RANDOM)


@pytest.fixture
def talking():
    """Let Optuna log what it logs for a user, where pytest sees it."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    yield
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    optuna.logging.disable_propagation()
    optuna.logging.set_verbosity(level)


def test_a_group_has_the_tables_of_the_study_and_optuna_is_silent(talking, caplog):
    steps = []
    group = next(g for g in groups(SMALL) if g.problem == "recall")
    rows = group.measure(steps.append)
    assert caplog.records == []
    assert {name: set(rows[name][0]) for name in rows} == {
        name: set(columns) for name, columns in problems.TABLES.items()
    }
    assert steps == [8, 16]
    assert steps[-1] == group.steps
    found = Found(pd.DataFrame(rows["results"]), pd.DataFrame(rows["curves"])).searches
    assert list(found["arm"]) == [problems.RANDOM, problems.TPE]
    assert found["best"].nunique() == 2


def test_improvements_are_counted_from_1_and_skip_what_diverged():
    losses = np.array([math.nan, 3.0, 4.0, 2.0, 2.0])
    assert problems.improvements(losses) == [{"trial": 2, "best": 3.0}, {"trial": 4, "best": 2.0}]


def found(*searches):
    """The tables of searches of one problem, (arm, seed, best loss by trial)."""
    labels = [{"problem": "recall", "arm": arm, "seed": seed} for arm, seed, _ in searches]
    results = [
        {**own, "trials": 9, "best": min(best.values())}
        for own, (*_, best) in zip(labels, searches, strict=True)
    ]
    curves = [
        {**own, "trial": trial, "best": value}
        for own, (*_, best) in zip(labels, searches, strict=True)
        for trial, value in best.items()
    ]
    return Found(pd.DataFrame(results), pd.DataFrame(curves))


def test_trials_are_counted_until_the_best_of_the_random_search_of_the_same_seed():
    rows = found(
        ("random", 0, {1: 5.0, 7: 2.0}),
        ("random", 1, {1: 5.0, 2: 1.0}),
        ("TPE", 0, {1: 4.0, 3: 2.0, 6: 1.0}),  # as good counts
        ("TPE", 1, {2: 4.0, 5: 2.0}),
    ).searches
    assert rows["needed"].tolist() == [7, 2, 3, math.inf]
    assert rows["ratio"].tolist() == [1, 1, 0.5, 2]
    assert trials_text(rows["needed"], 9) == "5 trials (median of 4 seeds, from 2 to more than 9)"


def test_the_best_so_far_stays_until_a_better_trial():
    tables = found(("random", 0, {2: 4.0, 4: 2.0}), ("TPE", 0, {1: 1.0}))
    lines = picture.best_so_far(tables, tables.searches)
    nothing = math.nan
    np.testing.assert_array_equal(lines[0], [nothing, 2, 2, *[1] * 6])
    np.testing.assert_array_equal(lines[1], [0.5] * 9)


def test_a_quadratic_is_one_group_and_a_task_one_for_each_seed():
    found = groups(Settings(problems=("quadratic-2", "copy"), seeds=2, quadratic_seeds=3))
    assert [(g.name, g.seeds) for g in found] == [
        ("quadratic-2", (0, 1, 2)),
        ("copy seed 0", (0,)),
        ("copy seed 1", (1,)),
    ]
    assert STUDY.cost(found) == "13 searches of 256 trials"
