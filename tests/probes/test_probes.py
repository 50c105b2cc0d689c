"""Laws of all probes: samples, the loss of the trivial answer, and the criterion of success."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqcells import probes
from seqcells.probes import Probe, Sample, Score, _draw
from tests.support import probes as oracles

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
MANY = 8  # batches by which a baseline is checked: 40,000 sequences
BATCH = 5_000  # one size, so that each probe compiles once
READ = 100  # sequences that an oracle reads


class Case(NamedTuple):
    """A small probe, with settings, an oracle and data."""

    probe: Probe
    knobs: dict[str, Any]  # arguments of `sample`, none at its default
    oracle: Any  # (probe, xs [T, D], *data) -> [(step, answer)]
    data: tuple[Any, ...] = ()  # arrays that `sample` draws from
    atol: float = 0.0  # of answers that are numbers


def markov(states, many):
    """Letters of which each depends on the one before it."""
    rng = np.random.default_rng(0)
    law, letters = rng.dirichlet(np.ones(states), size=states), [0]
    for draw in rng.random(many - 1):
        letters.append(int(np.searchsorted(np.cumsum(law[letters[-1]])[:-1], draw)))
    return "".join("abcdefgh"[letter] for letter in letters)


def digits(side, white):
    """Five random images a digit."""
    images = np.random.default_rng(0).integers(0, white + 1, (50, side, side), dtype="uint8")
    return images, np.arange(50, dtype="uint8") % 10


TEXT = markov(4, 20_000)
LM = probes.CharacterLM.of(TEXT, length=40)

CASES = {
    "adding_pascanu": Case(probes.AddingPascanu(29), {"length": 14}, oracles.adding_pascanu),
    "adding_tcn": Case(probes.AddingTCN(11), {"length": 8}, oracles.adding_tcn),
    "adding_urnn": Case(probes.AddingURNN(11), {"length": 8}, oracles.adding_urnn),
    "copy": Case(probes.Copy(7, symbols=3, count=4), {"length": 3}, oracles.copy),
    "memorization": Case(
        probes.Memorization(6, symbols=3, count=2), {"length": 1}, oracles.memorization
    ),
    "multiplication": Case(probes.Multiplication(29), {"length": 14}, oracles.multiplication),
    "selective_copy": Case(
        probes.SelectiveCopy(12, symbols=3, count=4), {"length": 7}, oracles.selective_copy
    ),
    "temporal_order_2": Case(probes.TemporalOrder(29), {"length": 21}, oracles.temporal_order),
    "temporal_order_3": Case(probes.TemporalOrder(29, 3), {"length": 21}, oracles.temporal_order),
    "variable_copy": Case(
        probes.VariableCopy(7, symbols=3, count=4), {"length": 3}, oracles.variable_copy
    ),
    "character_lm": Case(LM, {}, oracles.character_lm, (LM.encode(TEXT),)),
    "delayed_match": Case(
        probes.DelayedMatch(9, cues=5, distractors=3), {"gap": 4}, oracles.delayed_match
    ),
    "delayed_recall": Case(
        probes.DelayedRecall(9, cues=5, distractors=3), {"lag": 4}, oracles.delayed_recall
    ),
    "delayed_xor": Case(probes.DelayedXOR(11, delay=3), {}, oracles.delayed_xor),
    "flip_flop": Case(probes.FlipFlop(9, bits=3), {}, oracles.flip_flop),
    "group_words": Case(probes.GroupWords("A5", 6), {}, oracles.group_words),
    "group_words_of_letters": Case(
        probes.GroupWords("A5", 6, letters=(24, 16)), {}, oracles.group_words
    ),
    "mqar": Case(probes.MQAR(22, pairs=3, vocabulary=16), {}, oracles.mqar),
    "parity": Case(probes.Parity(7), {}, oracles.parity),
    "random_permutation": Case(
        probes.RandomPermutation(9, symbols=12), {"length": 6}, oracles.random_permutation
    ),
    "perceptual_decision": Case(
        probes.PerceptualDecision(6, delay=2, noise=0.02), {}, oracles.perceptual_decision
    ),
    "context_integration": Case(
        probes.ContextIntegration(6, delay=2, noise=0.02), {}, oracles.context_integration
    ),
    "cue_accumulation": Case(
        probes.CueAccumulation(5, spacing=2, delay=4, distractors=2),
        {"delay": 1},
        oracles.cue_accumulation,
    ),
    "go_no_go": Case(probes.GoNoGo(7), {"gap": 4}, oracles.go_no_go),
    "interval_production": Case(probes.IntervalProduction(3, 6), {}, oracles.interval_production),
    "parametric_memory": Case(probes.ParametricMemory(7), {"gap": 4}, oracles.parametric_memory),
    "sine_wave": Case(probes.SineWave(9, count=5), {}, oracles.sine_wave, atol=1e-6),
    "lorenz63": Case(probes.Lorenz63(4), {}, oracles.lorenz63, atol=2e-5),
    "rossler": Case(probes.Rossler(4), {}, oracles.rossler, atol=1e-4),
    "henon": Case(probes.Henon(4), {}, oracles.henon, atol=1e-5),
    "sequential_digits": Case(
        probes.SequentialDigits(), {}, oracles.sequential_images, digits(8, 16)
    ),
    "sequential_mnist": Case(
        probes.SequentialMNIST(permutation_seed=3), {}, oracles.sequential_images, digits(28, 255)
    ),
}
BASELINES = {  # as the papers print them, or as they follow
    probes.AddingPascanu(100): 1 / 24,
    probes.AddingTCN(100): 1 / 6,
    probes.AddingURNN(100): 1 / 6,
    probes.Copy(1000): 10 * math.log(8) / 1020,
    probes.Memorization(100): 5 * math.log(2) / 110,
    probes.Memorization(100, symbols=5, count=10): 10 * math.log(5) / 120,
    probes.Multiplication(100): 7 / 144,
    probes.SelectiveCopy(256): math.log(16),
    probes.TemporalOrder(100): math.log(4),
    probes.TemporalOrder(100, symbols=3): math.log(8),
    probes.VariableCopy(500): math.log(8),
    probes.CharacterLM.of("aabc"): 1.5 * math.log(2),
    probes.DelayedMatch(100): math.log(2),
    probes.DelayedRecall(100): math.log(8),
    probes.DelayedXOR(100): math.log(2),
    probes.FlipFlop(100): 1.0,
    probes.GroupWords("A4xZ5"): math.log(60),
    probes.GroupWords("A5"): math.log(60),
    probes.GroupWords("A5", 2, letters=(16, 24)): 1.5 * math.log(2),  # no two words are equal
    probes.GroupWords("Z60"): math.log(60),
    probes.MQAR(512, pairs=64, vocabulary=8192): math.log(64),
    probes.Parity(40): math.log(2),
    probes.RandomPermutation(100): math.log(2),
    probes.PerceptualDecision(): math.log(2),
    probes.ContextIntegration(): math.log(2),
    probes.CueAccumulation(): math.log(2),
    probes.GoNoGo(): math.log(2),
    probes.IntervalProduction(): math.log(2),
    probes.ParametricMemory(): 0.5,
    probes.SineWave(2, count=1): (math.sin(0.2) - math.sin(0.1)) ** 2 / 4,
    probes.SequentialDigits(): math.log(10),
    probes.SequentialMNIST(0): math.log(10),
}


@functools.partial(jax.jit, static_argnums=2)
def drawn_with(probe, key, batch_size, data, knobs):
    return probe.sample(key, batch_size, *data, **knobs)


def sample(case, key, batch_size, **knobs):
    """Draw with the knobs of a case: those left out are at their largest, the same program."""
    return drawn_with(case.probe, key, batch_size, case.data, largest(case) | knobs)


def largest(case):
    """Return the largest of each knob: the field of its name, or the length."""
    fields = vars(case.probe)
    return {name: fields[name if name in fields else "length"] for name in case.knobs}


@jax.jit
def score(probe, answers, targets):
    return probe.score(answers, targets)


@jax.jit
def losses(probe, answers, targets):
    """The loss of each sequence by itself, [N]."""
    one = lambda a, t: probe.score(a[:, None], t[:, None]).loss  # noqa: E731
    return jax.vmap(one, in_axes=1)(answers, targets)


def perfect(probe, targets):
    """Return correct answers."""
    if isinstance(probe, probes.Numbers):
        return targets.reshape(*targets.shape[:2], -1)
    return 50.0 * jax.nn.one_hot(targets, probe.output_size)


over_cases = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
SETTINGS = [(name, case, {}) for name, case in CASES.items()]
SETTINGS += [(f"{name}-knobs", case, case.knobs) for name, case in CASES.items() if case.knobs]
over_settings = pytest.mark.parametrize(
    ("case", "knobs"), [pytest.param(*row, id=name) for name, *row in SETTINGS]
)
FLOWS = ("lorenz63", "rossler")  # which take seconds to come to their attractors


def test_every_probe_is_here():
    there = [getattr(probes, name) for name in dir(probes)]
    there = {p for p in there if isinstance(p, type) and issubclass(p, Probe)}
    abstract = {probes.Probe, probes.Classes, probes.Numbers}
    assert there - abstract == {type(case.probe) for case in CASES.values()}


@pytest.mark.slow
@over_cases
def test_a_sample_is_a_pure_function_of_its_key(case):
    keys = map(jax.random.key, (0, 0, 1))
    one, two, other = (sample(case, key, BATCH) for key in keys)
    assert isinstance(one, Sample)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(one.xs != other.xs)
    assert np.any(one.targets != other.targets)
    drawn = np.any(one.steps != one.steps[:, :1])
    assert not drawn or np.any(one.steps != other.steps)


@over_settings
def test_sizes_and_dtypes_are_those_that_the_probe_names(case, knobs):
    drawn = sample(case, KEY, BATCH, **knobs)
    T, N, D = drawn.xs.shape
    assert N == BATCH
    assert case.probe.input_size == D
    assert drawn.xs.dtype == "float32"
    assert drawn.targets.dtype == ("float32" if isinstance(case.probe, probes.Numbers) else "int32")
    several = isinstance(case.probe, probes.Numbers) and case.probe.output_size > 1
    own = (case.probe.output_size,) if several else ()
    assert drawn.steps.shape == (len(drawn.steps), N)
    assert drawn.targets.shape == (*drawn.steps.shape, *own)
    assert drawn.steps.dtype == "int32"
    assert np.all(np.diff(drawn.steps, axis=0) > 0)
    assert np.all((drawn.steps >= 0) & (drawn.steps < T))
    ys = np.arange(T * N * 2, dtype="float32").reshape(T, N, 2)
    np.testing.assert_array_equal(drawn.pick(ys), ys[drawn.steps, np.arange(N)])
    scored = score(case.probe, case.probe.guess(drawn), drawn.targets)
    assert isinstance(scored, Score)
    assert all(field.shape == () for field in scored)


@over_settings
def test_inputs_after_the_last_answer_are_zero(case, knobs):
    drawn = sample(case, KEY, BATCH, **knobs)
    after = np.arange(len(drawn.xs))[:, None] >= np.asarray(drawn.lengths)
    assert not np.any(np.asarray(drawn.xs)[after])


@over_settings
def test_an_oracle_gives_the_same_answers(case, knobs):
    drawn = sample(case, KEY, BATCH, **knobs)
    xs, targets, steps = map(np.asarray, drawn)
    for i in range(READ):
        due, answers = zip(*case.oracle(case.probe, xs[:, i], *case.data), strict=True)
        np.testing.assert_array_equal(steps[:, i], due)
        np.testing.assert_allclose(targets[:, i], answers, rtol=1e-6, atol=case.atol)


@pytest.mark.parametrize(
    ("case", "knobs"),
    [
        pytest.param(case, knobs, id=name, marks=[pytest.mark.slow] * (name in FLOWS))
        for name, case, knobs in SETTINGS
    ],
)
def test_the_trivial_answer_costs_the_baseline(case, knobs):
    """The baseline is a closed form; compare it with the mean over many sequences."""
    each = []
    for seed in range(MANY):
        drawn = sample(case, jax.random.key(seed), BATCH, **knobs)
        each.append(losses(case.probe, case.probe.guess(drawn), drawn.targets))
    each = np.concatenate(each).astype(float)
    error = each.std(ddof=1) / math.sqrt(len(each))
    assert abs(each.mean() - case.probe.baseline) <= 4 * error + 1e-5 * case.probe.baseline


@over_cases
def test_no_answer_near_the_trivial_one_costs_less(case):
    drawn = sample(case, KEY, BATCH)
    best = case.probe.guess(drawn)
    least = float(score(case.probe, best, drawn.targets).loss)
    for nudge in (-0.3, 0.3):
        worse = best.at[..., 0].add(nudge)
        assert float(score(case.probe, worse, drawn.targets).loss) > least


@pytest.mark.parametrize(("probe", "loss"), BASELINES.items(), ids=repr)
def test_a_baseline_is_the_one_that_is_printed(probe, loss):
    assert probe.baseline == pytest.approx(loss, rel=1e-12)


@over_cases
def test_the_right_answers_solve_it_and_guessing_does_not(case):
    probe, drawn = case.probe, sample(case, KEY, BATCH)
    scored = score(probe, perfect(probe, drawn.targets), drawn.targets)
    assert float(scored.loss) == pytest.approx(0, abs=1e-6)
    assert (float(scored.accuracy), float(scored.exact)) == (1, 1)
    assert bool(probe.solved(scored))
    assert not bool(probe.solved(score(probe, probe.guess(drawn), drawn.targets)))


@over_cases
def test_solved_is_to_pass_the_bound(case):
    measure, bound = case.probe.success
    passes = {0.999: measure == "loss", 1: False, 1.001: measure != "loss"}
    for factor, expected in passes.items():
        scored = Score(*[jnp.nan] * 3)._replace(**{measure: jnp.float32(bound * factor)})
        assert bool(case.probe.solved(scored)) is expected


@pytest.mark.slow
@over_cases
def test_one_program_serves_all_knobs(case):
    for name, value in case.knobs.items():
        traced = jax.jit(lambda v, name=name: case.probe.sample(KEY, 8, *case.data, **{name: v}))(
            value
        )
        alone = sample(case, KEY, 8, **{name: value})
        for a, b in zip(traced, alone, strict=True):
            np.testing.assert_array_equal(a, b)
        assert np.any(alone.xs != sample(case, KEY, 8).xs)


@over_cases
def test_a_knob_that_is_left_out_is_at_its_largest(case):
    one, other = (
        jax.make_jaxpr(lambda knobs=knobs: case.probe.sample(KEY, 2, *case.data, **knobs))()
        for knobs in ({}, largest(case))
    )
    assert str(one) == str(other)


@over_cases
def test_a_knob_out_of_range_is_refused(case):
    for name in case.knobs:
        for wrong in (-1, 10_000):
            with pytest.raises(ValueError, match=f"{name}: expected"):
                case.probe.sample(KEY, 8, *case.data, **{name: wrong})


@pytest.mark.parametrize("value", [-5, 1, 2, 4, 9, 100])
def test_a_traced_knob_is_brought_back_into_its_range(value):
    (low, high), knob = (2, 9), _draw.knob
    assert int(jax.jit(lambda v: knob("length", v, low, high))(value)) == np.clip(value, low, high)
    assert int(knob("length", None, low, high)) == high


@over_cases
def test_a_probe_is_a_static_value(case):
    probe = case.probe
    assert jax.tree.leaves(probe) == []
    assert dataclasses.replace(probe) == probe
    assert hash(dataclasses.replace(probe)) == hash(probe)
    assert jax.jit(lambda probe: jnp.ones(probe.input_size))(probe).shape == (probe.input_size,)


@over_cases
def test_an_empty_batch_and_a_wrong_key_are_refused(case):
    """A mean of nothing would be NaN, and a loss of NaN would hide the reason."""
    with pytest.raises(ValueError, match="batch_size"):
        case.probe.sample(KEY, 0, *case.data)
    with pytest.raises(TypeError, match="key"):
        case.probe.sample(1, 2, *case.data)
    for empty in ((0, 2), (2, 0)):
        answers, targets = jnp.zeros((*empty, case.probe.output_size)), jnp.zeros(empty, int)
        with pytest.raises(ValueError, match=r"targets: expected one answer or more .* got shape"):
            case.probe.score(answers, targets)


@over_cases
def test_its_lengths_can_be_made(case):
    for length in case.probe.LENGTHS:
        assert dataclasses.replace(case.probe, length=length).length == length


def test_numbers_are_scored_by_their_square_and_by_what_lies_within_a_fifth():
    answers = jnp.array([[[1.0], [1.15]], [[1.25], [0.9]]])
    scored = score(probes.AddingURNN(9), answers, jnp.ones((2, 2)))
    assert float(scored.loss) == pytest.approx((0.15**2 + 0.25**2 + 0.1**2) / 4, rel=1e-5)
    assert (float(scored.accuracy), float(scored.exact)) == (0.75, 0.5)


def test_one_nan_among_many_answers_makes_all_scores_nan():
    """On a CPU, XLA's minimum of 4096 numbers or more skips NaN (openxla/xla#21461)."""
    answers = jnp.zeros((64, 128, 1)).at[3, 5].set(jnp.nan)
    assert np.isnan(score(probes.AddingURNN(9), answers, jnp.zeros((64, 128)))).all()


def test_classes_are_scored_by_cross_entropy_in_nats():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(2, 7, 8)).astype("float32"), rng.integers(0, 8, (2, 7))
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    right = logits.argmax(axis=-1) == targets
    scored = score(probes.DelayedRecall(), jnp.asarray(logits), jnp.asarray(targets, "int32"))
    picked = np.take_along_axis(logs, targets[..., None], axis=-1)
    assert float(scored.loss) == pytest.approx(-picked.mean(), rel=1e-5)
    assert float(scored.accuracy) == pytest.approx(right.mean())
    assert float(scored.exact) == pytest.approx(right.all(axis=0).mean())
