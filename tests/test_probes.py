"""Laws of the probes: what a sample holds, what guessing costs, what counts as solved."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from seqcells.probes import Adding, DelayedRecall, Probe, Score

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
PROBES = [
    pytest.param(Adding(10), Adding(10).sample, id="adding"),
    pytest.param(Adding(7), Adding(7).sample, id="adding-odd"),
    pytest.param(
        DelayedRecall(9, 5, 3), functools.partial(DelayedRecall(9, 5, 3).sample, lag=4), id="recall"
    ),
]
over_probes = pytest.mark.parametrize(("probe", "sample"), PROBES)


@over_probes
def test_a_sample_is_a_pure_function_of_its_key(probe, sample):
    one, two = sample(KEY, 6), jax.jit(sample, static_argnums=1)(KEY, 6)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(one[0] != sample(jax.random.key(1), 6)[0])


@over_probes
def test_sizes_are_those_that_the_probe_names(probe, sample):
    xs, targets = sample(KEY, 6)
    assert xs.shape[1:] == (6, probe.input_size)
    assert xs.dtype == jnp.float32
    assert targets.shape == (6,)
    score = probe.score(jnp.zeros((6, probe.output_size)), targets)
    assert isinstance(score, Score)
    assert score.loss.shape == score.accuracy.shape == ()


@over_probes
def test_answering_without_looking_costs_the_baseline(probe, sample):
    _, targets = sample(KEY, 40_000)
    mean = 1.0 if isinstance(probe, Adding) else 0.0
    score = probe.score(jnp.full((40_000, probe.output_size), mean), targets)
    assert float(score.loss) == pytest.approx(probe.baseline, rel=0.02)
    shifted = probe.score(jnp.full((40_000, probe.output_size), mean) + 0.1, targets)
    assert float(shifted.loss) >= float(score.loss) - 1e-4  # and no constant costs less


@over_probes
def test_the_right_answer_is_solved_and_guessing_is_not(probe, sample):
    _, targets = sample(KEY, 1000)
    right = targets[:, None] if isinstance(probe, Adding) else 50.0 * jax.nn.one_hot(targets, 5)
    score = probe.score(right, targets)
    assert float(score.loss) == pytest.approx(0, abs=1e-6)
    assert float(score.accuracy) == 1
    assert bool(probe.solved(score))
    assert not bool(probe.solved(Score(jnp.asarray(probe.baseline), jnp.asarray(0.0))))


@pytest.mark.parametrize(("probe", "threshold"), [(Adding(), 0.01), (DelayedRecall(), 0.05)])
def test_solved_is_a_loss_below_the_threshold(probe, threshold):
    for factor, solved in ((0.99, True), (1.01, False)):
        score = Score(jnp.asarray(threshold * factor), jnp.asarray(1.0))
        assert bool(probe.solved(score)) is solved


@pytest.mark.parametrize("length", [2, 3, 10, 11])
def test_adding_marks_one_number_in_each_half_and_asks_for_their_sum(length):
    xs, targets = Adding(length).sample(KEY, 500)
    numbers, marks = np.float64(xs[..., 0]), np.asarray(xs[..., 1])
    assert set(np.unique(marks)) <= {0, 1}
    half = length // 2
    np.testing.assert_array_equal(marks[:half].sum(axis=0), 1)
    np.testing.assert_array_equal(marks[half:].sum(axis=0), 1)
    assert np.all(marks.sum(axis=1) > 0)  # every place is marked in some sample
    np.testing.assert_allclose(targets, (numbers * marks).sum(axis=0), rtol=1e-6)
    assert stats.kstest(numbers.ravel(), stats.uniform.cdf).pvalue > 0.01


def test_adding_scores_the_square_and_what_lies_within_a_fifth():
    score = Adding().score(jnp.array([[1.0], [1.15], [1.25], [3.0]]), jnp.ones(4))
    assert float(score.loss) == pytest.approx((0.15**2 + 0.25**2 + 4) / 4, rel=1e-5)
    assert float(score.accuracy) == 0.5


@pytest.mark.parametrize("lag", [1, 4, 9])
def test_recall_shows_the_cue_lag_steps_before_the_report(lag):
    probe = DelayedRecall(9, cues=5, distractors=3)
    xs, cue = probe.sample(KEY, 200, lag)
    assert xs.shape == (10, 200, 9)
    np.testing.assert_array_equal(np.sum(xs, axis=-1), 1)
    symbols = np.argmax(xs, axis=-1)
    assert np.all(symbols[-1] == 8)  # the report sign, of its own
    np.testing.assert_array_equal(symbols[-1 - lag], cue)
    assert set(np.unique(cue)) == set(range(5))
    others = np.delete(symbols, [9, 9 - lag], axis=0)
    assert set(np.unique(others)) == {5, 6, 7}  # an alphabet disjoint from the cues'


def test_one_program_serves_all_lags():
    probe, lags = DelayedRecall(9, cues=5, distractors=3), jnp.arange(1, 10)
    xs, cues = jax.jit(jax.vmap(lambda lag: probe.sample(KEY, 8, lag)))(lags)
    for i, lag in enumerate(lags):
        alone, cue = probe.sample(KEY, 8, int(lag))
        np.testing.assert_array_equal(xs[i], alone)
        np.testing.assert_array_equal(cues[i], cue)


def test_recall_scores_cross_entropy_in_nats():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(7, 8)).astype("float32"), rng.integers(0, 8, 7)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    score = DelayedRecall().score(jnp.asarray(logits), jnp.asarray(targets, "int32"))
    assert float(score.loss) == pytest.approx(-logs[np.arange(7), targets].mean(), rel=1e-5)
    assert float(score.accuracy) == pytest.approx((logits.argmax(axis=1) == targets).mean())


@over_probes
def test_a_probe_is_a_static_value(probe, sample):
    assert jax.tree.leaves(probe) == []
    assert dataclasses.replace(probe) == probe
    assert hash(dataclasses.replace(probe)) == hash(probe)
    assert isinstance(probe, Probe)
    drawn = jax.jit(lambda probe: jnp.ones(probe.input_size))(probe)
    assert drawn.shape == (probe.input_size,)


def test_an_empty_batch_is_refused():
    """A mean of nothing would be NaN, and a loss of NaN says nothing of why."""
    for draw in (lambda: Adding(5).sample(KEY, 0), lambda: DelayedRecall(5).sample(KEY, 0, 2)):
        with pytest.raises(ValueError, match="batch_size"):
            draw()
