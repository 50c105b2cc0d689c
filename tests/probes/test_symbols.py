"""What probes of symbols, bits and group elements draw, and that the groups are what they say."""

import functools
import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from seqcells.probes import MQAR, DelayedMatch, DelayedXOR, GroupWords, Parity, RandomPermutation

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
MANY = 40_000
GROUPS = ("Z60", "A4xZ5", "A5")
over_groups = pytest.mark.parametrize("group", GROUPS)


@functools.partial(jax.jit, static_argnums=2)
def draw(probe, key, batch_size, **knobs):
    return probe.sample(key, batch_size, **knobs)


def symbols(probe, many=MANY, **knobs):
    """One-hot inputs as numbers [T, N], and the targets."""
    xs, targets, _ = draw(probe, KEY, many, **knobs)
    assert np.all(np.sum(xs, axis=-1) <= 1)
    return np.argmax(xs, axis=-1), np.asarray(targets)


def looks_uniform(values, classes):
    counts = np.bincount(np.ravel(values), minlength=classes)
    assert len(counts) == classes
    return stats.chisquare(counts).pvalue > 0.001


def look_unrelated(one, two):
    table = stats.contingency.crosstab(one, two).count
    assert min(table.shape) > 1
    return stats.chi2_contingency(table).pvalue > 0.001


@pytest.mark.parametrize("length", [2, 6, 9])
def test_permutation_draws_from_two_symbols_and_then_from_the_others(length):
    seen, (first,) = symbols(RandomPermutation(9, symbols=12), length=length)
    np.testing.assert_array_equal(seen[0], first)
    assert looks_uniform(first, 2)
    assert looks_uniform(seen[1:length] - 2, 10)
    assert look_unrelated(first, seen[length - 1])
    if length > 2:
        assert look_unrelated(seen[1], seen[2])  # with replacement


@pytest.mark.parametrize("gap", [1, 4, 9])
def test_match_shows_its_cues_a_gap_apart_among_distractors(gap):
    seen, (same,) = symbols(DelayedMatch(9, cues=5, distractors=3), gap=gap)
    first, second = seen[9 - gap], seen[9]
    np.testing.assert_array_equal(same, first == second)
    assert looks_uniform(np.delete(seen, [9 - gap, 9], axis=0) - 5, 3)


def test_match_asks_what_neither_cue_alone_tells():
    seen, (same,) = symbols(DelayedMatch(4, cues=5, distractors=3), gap=2)
    first, second = seen[2], seen[4]
    assert looks_uniform(same, 2)
    for cue in (first, second):
        assert looks_uniform(cue, 5)
        assert look_unrelated(cue, same)
    others = stats.contingency.crosstab(first, second).count[~np.eye(5, dtype=bool)]
    assert stats.chisquare(others).pvalue > 0.001  # all pairs that differ alike


def test_xor_asks_what_neither_bit_alone_tells():
    bits, targets = symbols(DelayedXOR(8, delay=3))
    assert targets.shape == (2, MANY)
    assert looks_uniform(bits, 2)
    for bit in bits:
        assert look_unrelated(bit, targets[1])


def test_parity_is_even_as_often_as_odd_from_the_first_step_on():
    bits, parities = symbols(Parity(5))
    assert all(looks_uniform(bit, 2) for bit in bits)
    assert all(looks_uniform(parity, 2) for parity in parities)
    assert look_unrelated(parities[3], parities[4])


@over_groups
def test_a_group_is_one(group):
    table = GroupWords(group).table
    every = np.arange(60)
    assert table.dtype == "int32"
    np.testing.assert_array_equal(table[0], every)  # element 0 is the identity
    np.testing.assert_array_equal(table[:, 0], every)
    assert all(sorted(row) == list(every) for row in (*table, *table.T))  # so inverses are there
    np.testing.assert_array_equal(table[table], table[every[:, None, None], table])  # (ab)c = a(bc)
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1


def generated(table, elements):
    """The subgroup that some elements generate."""
    group = {0}
    while True:
        more = group | {int(table[a, b]) for a in group for b in elements}
        if more == group:
            return group
        group = more


def derived(table, elements):
    """The subgroup that the commutators of a subgroup generate."""
    inverse = np.argmin(table, axis=1)  # where a row holds the identity, 0
    pairs = itertools.product(elements, repeat=2)
    return generated(
        table, {int(table[table[inverse[a], inverse[b]], table[a, b]]) for a, b in pairs}
    )


def series(group):
    """Sizes of the derived series, down to where it stands still."""
    table, elements, sizes = GroupWords(group).table, set(range(60)), []
    while not sizes or len(elements) < sizes[-1]:
        sizes.append(len(elements))
        elements = derived(table, elements)
    return sizes


def test_a5_is_not_solvable_a4xz5_is_but_does_not_commute_and_z60_is_cyclic():
    assert series("A5") == [60]  # it is its own derived group
    assert series("A4xZ5") == [60, 4, 1]
    assert series("Z60") == [60, 1]
    assert len(generated(GroupWords("Z60").table, {1})) == 60
    assert not any(len(generated(GroupWords("A5").table, {a})) > 5 for a in range(60))
    centre = [a for a in range(60) if np.all((t := GroupWords("A4xZ5").table)[a] == t[:, a])]
    assert len(centre) == 5  # Z5, as A4 has none


@over_groups
def test_a_word_is_multiplied_from_the_left(group):
    probe = GroupWords(group, 9)
    elements, products = symbols(probe, 1000)
    running = np.zeros(1000, int)
    for element, product in zip(elements, products, strict=True):
        running = probe.table[running, element]
        np.testing.assert_array_equal(product, running)


@over_groups
def test_elements_and_products_are_uniform_and_unrelated(group):
    elements, products = symbols(GroupWords(group, 4))
    assert all(looks_uniform(element, 60) for element in elements)
    assert looks_uniform(products[3], 60)
    assert look_unrelated(products[2], products[3])


MANY_PAIRS = MQAR(40, pairs=3, vocabulary=16)


def test_mqar_draws_keys_and_values_uniformly_and_apart():
    tokens, _ = symbols(MANY_PAIRS)
    keys, values = tokens[:6:2], tokens[1:6:2]
    assert all(looks_uniform(key - 1, 7) for key in keys)
    assert all(looks_uniform(value - 8, 8) for value in values)
    assert look_unrelated(keys[0], values[0])
    for a, b in itertools.combinations(range(3), 2):
        assert np.all(keys[a] != keys[b])
        assert np.all(values[a] != values[b])


@pytest.mark.parametrize("power", [0.01, 1.0, 2.0])
def test_mqar_asks_for_the_first_key_after_gaps_of_the_power_law(power):
    probe = MQAR(40, pairs=3, vocabulary=16, power=power)
    tokens, _ = symbols(probe)
    gaps = np.argmax(tokens[6:] == tokens[0], axis=0) // 2
    law = np.arange(1.0, 18) ** (power - 1)
    counts = np.bincount(gaps, minlength=17)
    assert stats.chisquare(counts, MANY * law / law.sum()).pvalue > 0.001
    later = np.argmax(tokens[6:] == tokens[2], axis=0) // 2  # of what the first has left over
    left = [law * (np.arange(17) != g) for g in range(17)]
    law = sum(w * x / x.sum() for w, x in zip(law / law.sum(), left, strict=True))
    assert stats.chisquare(np.bincount(later, minlength=17), MANY * law).pvalue > 0.001
