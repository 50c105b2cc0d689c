"""Laws of probes under JAX's switches: what is drawn and how it is scored depends on none."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqcells import probes
from tests.probes.test_probes import CASES

KEY = jax.random.key(0)
N = 8
WIDE = {"bfloat16": "float32", "float16": "float32", "float32": "float32", "float64": "float64"}
over_cases = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


@pytest.fixture
def switches():
    """Turn all switches that a careful user turns."""
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
    ):
        yield


def whole(case, dtype="float32"):
    """A function of the key: a sample, its trivial answer in this dtype, and the score of that."""

    def of(key, *data):
        sample = case.probe.sample(key, N, *data, **case.knobs)
        guess = case.probe.guess(sample).astype(dtype)
        return sample, guess, case.probe.score(guess, sample.targets)

    return of


@over_cases
def test_samples_and_scores_are_of_one_dtype_under_all_switches(case, request):
    expected = jax.eval_shape(whole(case), KEY, *case.data)
    request.getfixturevalue("switches")
    assert jax.eval_shape(whole(case), KEY, *case.data) == expected
    scores = {d: jax.eval_shape(whole(case, d), KEY, *case.data)[2].loss.dtype for d in WIDE}
    assert scores == WIDE


@pytest.mark.parametrize("name", ["adding_tcn", "delayed_match", "flip_flop", "mqar", "copy"])
def test_the_same_sequences_are_drawn_under_all_switches(name, request):
    """One of each way to draw: uniform, Bernoulli, integers, distinct; and logits of -inf."""
    expected = jax.jit(whole(CASES[name]))(KEY)
    request.getfixturevalue("switches")
    found = jax.jit(whole(CASES[name]))(KEY)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@over_cases
def test_sizes_may_be_numpy_integers(case):
    ints = {
        field.name: np.int64(value)
        for field in dataclasses.fields(case.probe)
        if type(value := getattr(case.probe, field.name)) is int
    }
    probe = dataclasses.replace(case.probe, **ints)
    assert probe == case.probe
    assert {type(getattr(probe, name)) for name in ints} <= {int}
    shapes = jax.eval_shape(
        lambda key, *data: probe.sample(key, np.int32(N), *data), KEY, *case.data
    )
    assert shapes.xs.shape[1:] == (N, probe.input_size)


@pytest.mark.parametrize("name", ["flip_flop", "mqar"])
def test_any_kind_of_key_draws(name):
    """Sequences differ, also where a probe maps over one key each, and the oracle agrees."""
    case = CASES[name]
    draw = jax.jit(lambda key, *data: case.probe.sample(key, N, *data))
    sample = draw(jax.random.key(0, impl="rbg"), *case.data)
    xs, targets, steps = map(np.asarray, sample)
    assert len(np.unique(xs.reshape(len(xs), N, -1), axis=1)[0]) > 1
    for i in range(N):
        due, answers = zip(*case.oracle(case.probe, xs[:, i], *case.data), strict=True)
        np.testing.assert_array_equal(steps[:, i], due)
        np.testing.assert_allclose(targets[:, i], answers, rtol=1e-6)


def test_answers_of_several_numbers_are_scored_by_their_mean_square():
    probe = probes.FlipFlop(5, bits=2)
    targets = np.float32([[[1, -1], [1, 1]], [[-1, -1], [1, -1]]])  # [S, N, K]
    answers = targets + np.float32([[[0.4, 0], [0, 0.6]], [[0, 0], [0, 0]]])
    loss, accuracy, exact = probe.score(jnp.asarray(answers), jnp.asarray(targets))
    assert float(loss) == pytest.approx((0.4**2 + 0.6**2) / 8, rel=1e-5)
    assert (float(accuracy), float(exact)) == (0.75, 0.5)
    with pytest.raises(ValueError, match=r"^targets: expected shape \(S, N, 2\), got \(2, 2\)"):
        probe.score(jnp.asarray(answers), jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"^answers: expected shape \(2, 2, 2\), got \(2, 2, 1\)"):
        probe.score(jnp.asarray(answers[..., :1]), jnp.asarray(targets))


@pytest.mark.parametrize("value", [0, 1.5, -0.1, "often", np.nan, True])
def test_a_rate_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match=r"^rate: expected a number above 0, at most 1, got"):
        probes.FlipFlop(rate=value)


def test_pulses_come_as_often_as_asked():
    xs = np.asarray(probes.FlipFlop(50, rate=0.3).sample(KEY, 2000).xs)
    assert np.all(xs[0] != 0)
    assert np.mean(xs[1:] != 0) == pytest.approx(0.3, abs=0.005)
    assert np.mean(xs[1:]) == pytest.approx(0, abs=0.005)
