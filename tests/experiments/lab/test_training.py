"""Training many members: when it ends, and what counts as solved."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lab import training
from experiments.lab.training import by_segment, fit, pace, passed, solved_at
from seqcells import probes, train

PROBE = probes.AddingURNN(4)
LOSS, SHARE = PROBE.success, probes.Success("accuracy", 0.9)


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


@pytest.mark.parametrize(
    ("success", "options", "strictness"),
    [(LOSS, {}, 2), (SHARE, {}, 2), (SHARE, {"strictness": 5}, 5)],
    ids=["loss", "share", "strict"],
)
def test_training_ends_when_all_members_have_learned_and_not_before(
    success, options, strictness, monkeypatch
):
    probe = dataclasses.make_dataclass("Fake", ["success"])(success)
    task = dataclasses.make_dataclass("Fake", ["probe"])(probe)
    wrong = success.bound if success.measure == "loss" else 1 - success.bound
    learned, marked, steps = [], [], []

    def fake(loss, state, members, steps, *, on_segment, **_):
        for parts in ([0.9, 0.9], [0.9, 1.1], [1.1, 0.5], [0.9, math.nan]):
            state = state._replace(step=state.step + 2)
            values = wrong / strictness * np.multiply.outer(parts, [0.5, 1.5])  # the mean counts
            values = values if success.measure == "loss" else 1 - values
            learned.append(on_segment(state, {"measure": values}))
        return state, {}

    monkeypatch.setattr(train, "fit", fake)
    monkeypatch.setattr(training, "pace", lambda marks, segment: marked.append((marks, segment)))
    state = train.TrainState(jnp.zeros(2, jnp.int32), *[None] * 3)
    fit(task, state, None, 8, 2, steps.append, **options)
    assert learned == [True, False, False, False]
    assert steps == [2, 4, 6, 8]
    assert [step for step, _ in marked[0][0]] == [0, 2, 4, 6, 8]


def test_a_step_takes_what_segments_take_that_do_not_compile():
    marks = [(0, 0.0), (50, 90.0), (100, 91.0), (150, 94.0), (170, 194.0)]
    assert pace(marks, 50) == 4 / 100
    assert np.isnan(pace(marks[:2], 50))  # the first segment alone
    assert np.isnan(pace([*marks[:2], (70, 99.0)], 50))  # and a shorter one
