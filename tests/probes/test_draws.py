"""What single probes draw: where symbols and markers stand, and how they are distributed."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from seqcells import probes
from seqcells.probes import AddingPascanu, AddingTCN, AddingURNN, Copy, SelectiveCopy, VariableCopy

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
MANY = 40_000
RECALL = probes.DelayedRecall(9, cues=5, distractors=3)
COPYING = [
    kind(4, symbols=3, count=3) for kind in (Copy, probes.Memorization, SelectiveCopy, VariableCopy)
]


@functools.partial(jax.jit, static_argnums=2)
def sample(probe, key, batch_size, **knobs):
    return probe.sample(key, batch_size, **knobs)


def alike(*draws):
    """Whether all values of each draw are equally frequent, and no draw knows of another."""
    values, codes = zip(*(np.unique(draw, return_inverse=True) for draw in draws), strict=True)
    sizes = [len(value) for value in values]
    table = np.bincount(np.ravel_multi_index(codes, sizes), minlength=np.prod(sizes))
    return stats.chisquare(table).pvalue > 0.001


@pytest.mark.parametrize("length", [2, 10, 11])
def test_adding_marks_every_place_and_draws_numbers_uniformly(length):
    xs, _, _ = sample(AddingURNN(length), KEY, MANY)
    assert np.all(np.sum(xs[..., 1], axis=1) > 0)
    assert stats.kstest(np.float64(xs[0, :, 0]), stats.uniform.cdf).pvalue > 0.01


def test_adding_draws_its_two_places_uniformly_and_apart():
    xs, _, _ = sample(AddingURNN(16), KEY, MANY)
    places = np.argsort(np.asarray(xs[..., 1]), axis=0)[-2:]
    first, second = np.min(places, axis=0), np.max(places, axis=0) - 8
    table = np.histogram2d(first, second, bins=(8, 8))[0]
    assert stats.chisquare(table.ravel()).pvalue > 0.01  # all 64 pairs alike


@pytest.mark.parametrize("length", [2, 8])
def test_tcn_adding_marks_all_pairs_alike(length):
    xs, _, _ = sample(AddingTCN(length), KEY, MANY)
    pairs = np.sort(np.argsort(np.asarray(xs[..., 1]), axis=0)[-2:], axis=0)
    table = np.unique(pairs, axis=1, return_counts=True)[1]
    assert len(table) == length * (length - 1) // 2
    assert length == 2 or stats.chisquare(table).pvalue > 0.01


@pytest.mark.parametrize("probe", [AddingPascanu(39), probes.Multiplication(39)], ids=repr)
def test_pascanu_draws_lengths_and_places_uniformly(probe):
    xs, _, steps = sample(probe, KEY, MANY)
    assert xs.shape == (42, MANY, 2)
    lengths = np.asarray(steps[0]) + 1
    values, counts = np.unique(lengths, return_counts=True)
    np.testing.assert_array_equal(values, [39, 40, 41, 42])
    assert stats.chisquare(counts).pvalue > 0.01
    for length in values:  # a tenth of 39 steps is three, of 42 four
        marks = np.asarray(xs[:, lengths == length, 1])
        first, second = np.argsort(marks == 0, axis=0, kind="stable")[:2]
        np.testing.assert_array_equal(np.unique(first), np.arange(length // 10))
        np.testing.assert_array_equal(np.unique(second), np.arange(length // 10, length // 2))
        assert alike(first, second)


@pytest.mark.parametrize("lag", [1, 4, 9])
def test_recall_shows_the_cue_lag_steps_before_the_report(lag):
    xs, (cue,), _ = sample(RECALL, KEY, MANY, lag=lag)
    np.testing.assert_array_equal(np.sum(xs, axis=-1), 1)
    symbols = np.argmax(xs, axis=-1)
    np.testing.assert_array_equal(symbols[-1 - lag], cue)
    assert set(np.unique(cue)) == set(range(5))
    others = np.delete(symbols, [9, 9 - lag], axis=0)
    assert set(np.unique(others)) == {5, 6, 7}  # an alphabet disjoint from the cues'


def test_recall_draws_symbols_that_know_nothing_of_each_other():
    xs, (cue,), _ = sample(RECALL, KEY, MANY, lag=4)
    symbols = np.argmax(xs, axis=-1)
    for pair in ((symbols[0], symbols[1]), (cue, symbols[0] - 5), (cue, symbols[8] - 5)):
        table = stats.contingency.crosstab(*map(np.asarray, pair)).count
        assert table.shape in ((3, 3), (5, 3))
        assert stats.chi2_contingency(table).pvalue > 0.01


@pytest.mark.parametrize("symbols", [2, 3])
@pytest.mark.parametrize("length", [29, 20])
def test_temporal_order_draws_places_symbols_and_distractors_alike(symbols, length):
    xs, (answer,), steps = sample(probes.TemporalOrder(29, symbols), KEY, MANY, length=length)
    np.testing.assert_array_equal(np.sum(xs[:length], axis=-1), 1)
    np.testing.assert_array_equal(steps, length - 1)
    shown = np.argmax(xs[:length], axis=-1)
    rank = np.argsort(shown >= 2, axis=0, kind="stable")
    places = rank[:symbols]
    assert [len(np.unique(place)) for place in places] == [length // 10] * symbols
    assert alike(answer, *places)
    others = np.take_along_axis(shown, rank[symbols:], axis=0)
    assert set(np.unique(others)) == {2, 3, 4, 5}
    assert alike(others[0], others[1], others[-1])
    assert alike(answer, others[0])


@pytest.mark.parametrize("probe", COPYING, ids=repr)
def test_copying_draws_all_strings_alike(probe):
    answers = sample(probe, KEY, MANY).targets[-3:]
    assert len(np.unique(answers, axis=1).T) == 3**3
    assert alike(*answers)


@pytest.mark.parametrize("length", [1, 3, 4])
@pytest.mark.parametrize("probe", COPYING[:2], ids=repr)
def test_copying_asks_length_and_count_steps_after_it_showed(probe, length):
    xs, answers, steps = sample(probe, KEY, 50, length=length)
    shown = np.argmax(xs, axis=-1)
    np.testing.assert_array_equal(shown[steps[-3:, 0] - length - 3], answers[-3:])


@pytest.mark.parametrize("length", [2, 4])
def test_variable_copy_draws_delays_alike(length):
    _, answers, steps = sample(VariableCopy(4, symbols=3, count=3), KEY, MANY, length=length)
    blanks = np.asarray(steps[0]) - 4  # of three symbols and a delimiter
    np.testing.assert_array_equal(np.unique(blanks), np.arange(1, length + 1))
    assert alike(blanks, answers[0])


@pytest.mark.parametrize("length", [3, 5])
def test_selective_copy_draws_places_alike(length):
    xs, answers, steps = sample(SelectiveCopy(5, symbols=3, count=2), KEY, MANY, length=length)
    np.testing.assert_array_equal(steps[0], length)
    shown = np.argmax(xs[:length], axis=-1)
    first, second = np.argsort(shown >= 3, axis=0, kind="stable")[:2]
    pair = first * length + second
    assert len(np.unique(pair)) == length * (length - 1) // 2
    assert alike(pair, answers[0])


@pytest.mark.parametrize("delay", [0, 3])
def test_cues_lean_to_a_side_and_distractors_know_nothing_of_them(delay):
    probe = probes.CueAccumulation(3, spacing=2, delay=3, distractors=2, lean=0.8)
    xs, (answer,), _ = sample(probe, KEY, MANY, delay=delay)
    right = np.asarray(xs[3 - delay : 9 - delay : 2, :, 1])  # of the three cues
    np.testing.assert_array_equal(answer, right.sum(axis=0) > 1.5)
    assert alike(right[0])
    # of two cues, both agree with the side, or neither: 0.8 ** 2 + 0.2 ** 2
    assert abs(np.mean(right[0] == right[1]) - 0.68) < 4 * (0.68 * 0.32 / MANY) ** 0.5
    noise = np.asarray(xs[..., 3:])
    assert abs(np.mean(noise) - 0.25) < 4 * (0.25 * 0.75 / noise.size) ** 0.5
    table = stats.contingency.crosstab(np.asarray(answer), noise[0, :, 0]).count
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_an_even_number_of_cues_is_refused():
    with pytest.raises(ValueError, match=r"^cues: expected an odd number, got 4"):
        probes.CueAccumulation(4)
