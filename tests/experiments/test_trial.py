"""The runs of a study: what is trained, when it ends, and what stands in their rows."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import seqcells as sc
from experiments.lab import Flossing, Member, Omega, Reader, Run, RunGroup, Task, training
from experiments.lab.training import by_segment, fit, pace, passed, solved_at
from seqcells import initializers, probes, train

PROBE = probes.AddingURNN(4)
LOSS, SHARE = PROBE.success, probes.Success("accuracy", 0.9)
SLOW = sc.GRU(3, b_ih_init=(initializers.zeros, initializers.Chrono(50), initializers.zeros))


def sgd(member):
    return optax.sgd(member.hparams.learning_rate)


def trials(runs=None, **options):
    runs = runs or [
        Run({"arm": name, **knobs}, start, seed, {"learning_rate": rate}, knobs)
        for name, start, rate in (("slow", SLOW, 0.0), ("plain", sc.GRU(3), 0.5))
        for knobs in ({"length": 3}, {"length": 4})
        for seed in (0, 1)
    ]
    task = Task(Reader(sc.GRU(3), 1), PROBE, 8)
    options = {"steps": 5, "segment": 2, "eval_size": 600} | options
    return RunGroup("small", task, tuple(runs), **options)


def measured(group):
    return group.measure(lambda steps: None)["results"]


@functools.partial(jax.jit, static_argnums=0)
def step(group, state, member):
    return train.train_step(group.task, state, member, group.optimizer)[0]


@functools.partial(jax.jit, static_argnums=0)
def evaluate(group, params, key, member):
    return group.task.evaluate(params, key, member, group.eval_size)


def by_hand(run, group):
    """Train one run by itself with a loop, and score it."""
    k_init, k_train, k_eval = jax.random.split(jax.random.key(run.seed), 3)
    reader = dataclasses.replace(group.task.reader, cell=run.start)
    params = reader.init(k_init, PROBE.input_size)
    hparams = jax.tree.map(jnp.float32, train.HParams()._replace(**run.hparams))
    member = Member(hparams, jax.tree.map(jnp.int32, run.knobs))
    state = train.init(params, member, k_train, group.optimizer)
    fixed = dataclasses.replace(group, runs=())  # what these programs depend on
    for _ in range(group.steps):
        state = step(fixed, state, member)
    return evaluate(fixed, state.params, k_eval, member)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"optimizer": sgd}], ids=["adamw", "sgd"])
def test_a_row_is_that_of_its_run_trained_by_itself(options):
    group = trials(trials().runs[::3] if options else None, **options)
    rows = measured(group)
    assert [(r["arm"], r["length"], r["seed"], r["learning_rate"]) for r in rows] == [
        (*run.labels.values(), run.seed, run.hparams["learning_rate"]) for run in group.runs
    ]
    for run, row in zip(group.runs, rows, strict=True):
        score = by_hand(run, group)
        for name in ("loss", "accuracy", "exact"):
            assert row[name] == pytest.approx(float(getattr(score, name)), rel=1e-4)
        assert row["steps"] == 5
        assert row["solved"] is bool(PROBE.solved(score))


@pytest.mark.slow
def test_runs_may_come_in_any_order_and_rows_keep_what_is_theirs():
    group = trials()
    other = trials([*group.runs[4:], *group.runs[:4]][::-1])
    key = lambda row: (row["arm"], row["length"], row["seed"])  # noqa: E731
    for a, b in zip(*(sorted(measured(g), key=key) for g in (group, other)), strict=True):
        assert key(a) == key(b)
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_an_average_over_segments_takes_a_shorter_last_one():
    np.testing.assert_allclose(
        by_segment([[1, 3, 5, 7, 9], [0, 0, 0, 0, 1]], 2), [[2, 6, 9], [0, 0, 1]]
    )


@pytest.mark.parametrize(
    ("success", "values", "expected"),
    [
        (LOSS, [0.5, 0.009, 0.5], 100),
        (LOSS, [0.5, 0.5, 0.009], 130),  # the last segment is shorter
        (LOSS, [0.5, 0.011, math.nan], math.nan),
        (SHARE, [0.1, 0.89, 0.91], 130),
    ],
)
def test_it_is_solved_at_the_end_of_the_first_segment_that_passes(success, values, expected):
    np.testing.assert_equal(solved_at(np.array(values), success, 50, 130), expected)


def test_what_is_solved_in_the_end_alone_is_solved_at_the_last_step():
    values = np.array([0.5, 0.02])
    assert solved_at(values, LOSS, 50, 80, in_the_end=True) == 80
    assert np.isnan(solved_at(values, LOSS, 50, 80, in_the_end=False))


def test_to_pass_by_twice_as_much_is_half_the_loss_or_half_of_what_is_wrong():
    values = np.array([0.004, 0.006, 0.011])
    assert passed(values, LOSS, strictness=2).tolist() == [True, False, False]
    assert passed(1 - 10 * values, SHARE, strictness=2).tolist() == [True, False, False]


@pytest.mark.parametrize("success", [LOSS, SHARE], ids=["loss", "share"])
def test_training_ends_when_all_members_have_learned_and_not_before(success, monkeypatch):
    probe = dataclasses.make_dataclass("Fake", ["success"])(success)
    task = dataclasses.make_dataclass("Fake", ["probe"])(probe)
    wrong = success.bound if success.measure == "loss" else 1 - success.bound
    learned, told, steps = [], [], []

    def fake(loss, state, members, steps, *, on_segment, **_):
        for parts in ([0.9, 0.9], [0.9, 1.1], [1.1, 0.5], [0.9, math.nan]):
            state = state._replace(step=state.step + 2)
            values = wrong / 2 * np.multiply.outer(parts, [0.5, 1.5])  # the mean counts
            values = values if success.measure == "loss" else 1 - values
            learned.append(on_segment(state, {"measure": values}))
        return state, {}

    monkeypatch.setattr(train, "fit", fake)
    monkeypatch.setattr(training, "pace", lambda marks, segment: told.append((marks, segment)))
    state = train.TrainState(jnp.zeros(2, jnp.int32), *[None] * 3)
    fit(task, state, None, 8, 2, steps.append)
    assert learned == [True, False, False, False]
    assert steps == [2, 4, 6, 8]
    assert [step for step, _ in told[0][0]] == [0, 2, 4, 6, 8]


def test_a_step_takes_what_segments_take_that_do_not_compile():
    marks = [(0, 0.0), (50, 90.0), (100, 91.0), (150, 94.0), (170, 194.0)]
    assert pace(marks, 50) == 4 / 100
    assert np.isnan(pace(marks[:2], 50))  # the first segment alone
    assert np.isnan(pace([*marks[:2], (70, 99.0)], 50))  # and a shorter one


def test_other_runs_are_another_file(tmp_path):
    group = trials()
    others = [trials(group.runs[1:]), trials(steps=6), trials(optimizer=sgd), trials(segment=3)]
    assert len({g.part(tmp_path).path for g in [group, *others]}) == 5
    assert trials().part(tmp_path).path == group.part(tmp_path).path


@pytest.mark.slow
def test_the_seeds_of_a_group_start_apart():
    rows = measured(trials())
    assert stats.describe([row["loss"] for row in rows]).variance > 0
    assert len({row["loss"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    "penalty", [Omega(3.0), Omega(3.0, "code"), Flossing(0.5, k=2)], ids=["omega", "code", "floss"]
)
def test_a_penalty_is_added_to_what_is_trained_and_not_to_what_is_scored(penalty):
    cell = sc.RNN(3)
    plain = Task(Reader(cell, 1), PROBE, 8)
    held = dataclasses.replace(plain, penalty=penalty)
    k_init, key = jax.random.split(jax.random.key(0))
    params, member = plain.reader.init(k_init, PROBE.input_size), Member(train.HParams(), {})
    sample = PROBE.sample(key, 8)

    def loss(ys):
        answers = sample.pick(ys) @ params.w + params.b
        return PROBE.score(answers, sample.targets).loss

    if isinstance(penalty, Omega):
        omega = sc.remedies.omega(cell, params.cell, sample.xs, loss, form=penalty.form)
        expected = penalty.weight * omega
    else:
        expected = penalty.weight * sc.remedies.flossing(cell, params.cell, sample.xs, penalty.k)
    (bare, measure), (value, same) = plain(params, key, member), held(params, key, member)
    assert float(expected) > 0
    assert float(value) == pytest.approx(float(bare + expected), rel=1e-5)
    assert measure == same == {"measure": bare}
    assert plain.score(params, key, member, 8) == held.score(params, key, member, 8)
    assert hash(held) != hash(plain)
