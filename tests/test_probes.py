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
MANY = 40_000  # samples: the baseline of adding has a standard error of .001
ADDING, RECALL = Adding(11), DelayedRecall(9, cues=5, distractors=3)


@functools.partial(jax.jit, static_argnums=2)
def sample(probe, key, batch_size, lag=4):
    return probe.sample(key, batch_size, *(() if isinstance(probe, Adding) else (lag,)))


@jax.jit
def score(probe, answers, targets):
    return probe.score(answers, targets)


over_probes = pytest.mark.parametrize(
    "probe",
    [
        pytest.param(ADDING, id="adding"),
        pytest.param(RECALL, id="recall"),
    ],
)


@over_probes
def test_a_sample_is_a_pure_function_of_its_key(probe):
    one, two, other = (sample(probe, jax.random.key(seed), MANY) for seed in (0, 0, 1))
    for a, b, c in zip(one, two, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.any(a != c)


@over_probes
def test_sizes_are_those_that_the_probe_names(probe):
    xs, targets = sample(probe, KEY, MANY)
    assert xs.shape[1:] == (MANY, probe.input_size)
    assert xs.dtype == jnp.float32
    assert targets.shape == (MANY,)
    scored = score(probe, jnp.zeros((MANY, probe.output_size)), targets)
    assert isinstance(scored, Score)
    assert scored.loss.shape == scored.accuracy.shape == ()


@over_probes
def test_answering_without_looking_costs_the_baseline(probe):
    _, targets = sample(probe, KEY, MANY)
    best = jnp.full((MANY, probe.output_size), 1.0)  # the mean sum; and all cues alike
    assert float(score(probe, best, targets).loss) == pytest.approx(probe.baseline, rel=0.02)
    for nudge in (-0.1, 0.1):  # and no other answer costs less
        worse = best.at[:, 0].add(nudge)
        assert score(probe, worse, targets).loss > score(probe, best, targets).loss


@over_probes
def test_the_right_answer_is_solved_and_guessing_is_not(probe):
    _, targets = sample(probe, KEY, MANY)
    right = targets[:, None] if probe is ADDING else 50.0 * jax.nn.one_hot(targets, 5)
    scored = score(probe, right, targets)
    assert float(scored.loss) == pytest.approx(0, abs=1e-6)
    assert float(scored.accuracy) == 1
    assert bool(probe.solved(scored))
    assert not bool(probe.solved(Score(jnp.asarray(probe.baseline), jnp.asarray(0.0))))


@pytest.mark.parametrize(("probe", "threshold"), [(Adding(), 0.01), (DelayedRecall(), 0.05)])
def test_solved_is_a_loss_below_the_threshold(probe, threshold):
    for factor, solved in ((0.99, True), (1.01, False)):
        scored = Score(jnp.asarray(threshold * factor), jnp.asarray(1.0))
        assert bool(probe.solved(scored)) is solved


@pytest.mark.parametrize("length", [2, 10, 11])
def test_adding_marks_one_number_in_each_half_and_asks_for_their_sum(length):
    xs, targets = sample(Adding(length), KEY, MANY)
    numbers, marks = np.float64(xs[..., 0]), np.asarray(xs[..., 1])
    assert set(np.unique(marks)) <= {0, 1}
    half = length // 2
    np.testing.assert_array_equal(marks[:half].sum(axis=0), 1)
    np.testing.assert_array_equal(marks[half:].sum(axis=0), 1)
    assert np.all(marks.sum(axis=1) > 0)  # every place is marked in some sample
    np.testing.assert_allclose(targets, (numbers * marks).sum(axis=0), rtol=1e-6)
    assert stats.kstest(numbers[0], stats.uniform.cdf).pvalue > 0.01


def test_adding_draws_its_two_places_uniformly_and_apart():
    xs, _ = sample(Adding(16), KEY, MANY)
    places = np.argsort(np.asarray(xs[..., 1]), axis=0)[-2:]
    first, second = np.min(places, axis=0), np.max(places, axis=0) - 8
    table = np.histogram2d(first, second, bins=(8, 8))[0]
    assert stats.chisquare(table.ravel()).pvalue > 0.01  # all 64 pairs alike


def test_adding_scores_the_square_and_what_lies_within_a_fifth():
    scored = score(ADDING, jnp.array([[1.0], [1.15], [1.25], [3.0]]), jnp.ones(4))
    assert float(scored.loss) == pytest.approx((0.15**2 + 0.25**2 + 4) / 4, rel=1e-5)
    assert float(scored.accuracy) == 0.5


@pytest.mark.parametrize("lag", [1, 4, 9])
def test_recall_shows_the_cue_lag_steps_before_the_report(lag):
    xs, cue = sample(RECALL, KEY, MANY, lag)
    assert xs.shape == (10, MANY, 9)
    np.testing.assert_array_equal(np.sum(xs, axis=-1), 1)
    symbols = np.argmax(xs, axis=-1)
    assert np.all(symbols[-1] == 8)  # the report sign, of its own
    np.testing.assert_array_equal(symbols[-1 - lag], cue)
    assert set(np.unique(cue)) == set(range(5))
    others = np.delete(symbols, [9, 9 - lag], axis=0)
    assert set(np.unique(others)) == {5, 6, 7}  # an alphabet disjoint from the cues'


def test_recall_draws_symbols_that_know_nothing_of_each_other():
    xs, cue = sample(RECALL, KEY, MANY, 4)
    symbols = np.argmax(xs, axis=-1)
    for pair in ((symbols[0], symbols[1]), (cue, symbols[0] - 5), (cue, symbols[8] - 5)):
        table = stats.contingency.crosstab(*map(np.asarray, pair)).count
        assert table.shape in ((3, 3), (5, 3))
        assert stats.chi2_contingency(table).pvalue > 0.01


def test_a_traced_lag_out_of_range_is_the_nearest_that_can_be():
    drawn = jax.jit(lambda lag: RECALL.sample(KEY, 8, lag)[0])
    np.testing.assert_array_equal(drawn(0), drawn(1))
    np.testing.assert_array_equal(drawn(99), drawn(9))


def test_one_program_serves_all_lags():
    lags = jnp.arange(1, 10)
    xs, cues = jax.jit(jax.vmap(lambda lag: RECALL.sample(KEY, 8, lag)))(lags)
    for i, lag in enumerate(lags):
        alone, cue = sample(RECALL, KEY, 8, lag)
        np.testing.assert_array_equal(xs[i], alone)
        np.testing.assert_array_equal(cues[i], cue)


def test_recall_scores_cross_entropy_in_nats():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(7, 8)).astype("float32"), rng.integers(0, 8, 7)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    scored = score(DelayedRecall(), jnp.asarray(logits), jnp.asarray(targets, "int32"))
    assert float(scored.loss) == pytest.approx(-logs[np.arange(7), targets].mean(), rel=1e-5)
    assert float(scored.accuracy) == pytest.approx((logits.argmax(axis=1) == targets).mean())


@over_probes
def test_a_probe_is_a_static_value(probe):
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
