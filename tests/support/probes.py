"""The probes in plain NumPy: what one sequence asks, when, and the answer, read off its inputs."""

import itertools

import numpy as np


def marked(xs):
    """Read xs [T, 2], a number and a marker: how long it is, where the marks stand, on what."""
    length = np.flatnonzero(np.any(xs != 0, axis=1))[-1] + 1
    assert set(np.unique(xs[:, 1])) == {0, 1}
    first, second = np.flatnonzero(xs[:, 1])
    return length, (first, second), xs[[first, second], 0]


def adding_urnn(probe, xs):
    length, (first, second), numbers = marked(xs)
    assert first < length // 2 <= second < length
    return [(length - 1, numbers.sum())]


def adding_tcn(probe, xs):
    length, _, numbers = marked(xs)
    return [(length - 1, numbers.sum())]


def early(xs):
    length, (first, second), numbers = marked(xs)
    assert first < length // 10 <= second < length // 2
    return length, numbers


def adding_pascanu(probe, xs):
    length, numbers = early(xs)
    return [(length - 1, numbers.mean())]


def multiplication(probe, xs):
    length, numbers = early(xs)
    return [(length - 1, numbers[0] * numbers[1])]


def character_lm(probe, xs, tokens):
    """xs: [T, V], one-hot characters of a text in which each window stands once."""
    window, text = bytes(np.argmax(xs, axis=1).tolist()), bytes(np.asarray(tokens).tolist())
    assert text.count(window) == 1
    after = text.index(window) + 1
    return [(t, text[after + t]) for t in range(len(xs))]


def delayed_match(probe, xs):
    """xs: [T + 1, D], one-hot: cues, distractors."""
    symbols = np.argmax(xs, axis=1)
    first, second = symbols[symbols < probe.cues]
    assert symbols[-1] == second
    return [(len(xs) - 1, int(first == second))]


def delayed_recall(probe, xs):
    """xs: [T + 1, D], one-hot: cues, distractors, the report sign."""
    (cue,) = [symbol for symbol in np.argmax(xs, axis=1) if symbol < probe.cues]
    assert list(np.argmax(xs, axis=1)).index(probe.input_size - 1) == len(xs) - 1
    return [(len(xs) - 1, cue)]


def temporal_order(probe, xs):
    """xs: [T, 6], one-hot: A, B, distractors."""
    shown = symbols_of(xs)
    tenths = {2: (1, 5), 3: (1, 3, 6)}[probe.symbols]
    places = [t for t, symbol in enumerate(shown) if symbol < 2]
    for place, tenth in zip(places, tenths, strict=True):
        assert 0 <= place - tenth * len(shown) // 10 < len(shown) // 10
    order = "".join("AB"[shown[place]] for place in places)
    orders = ["".join(letters) for letters in itertools.product("AB", repeat=probe.symbols)]
    return [(len(shown) - 1, orders.index(order))]


def symbols_of(xs):
    """Read xs [T, D], one-hot, zero after the last step."""
    assert set(np.unique(xs)) <= {0, 1}
    assert set(np.unique(xs.sum(axis=1))) <= {0, 1}
    return np.argmax(xs, axis=1)[xs.any(axis=1)].tolist()


def told(probe, xs, lead):
    """Split into blanks, symbols, blanks, the sign, blanks; `lead`: from the sign to the answers.

    Gives the numbers of blanks before and after the symbols, where the answers begin, and the
    symbols.
    """
    blank, sign = probe.symbols, probe.symbols + 1
    shown = symbols_of(xs)
    at = shown.index(sign)
    places = [t for t, symbol in enumerate(shown) if symbol < blank]
    first, last = places[0], places[-1]
    assert places == list(range(first, first + probe.count))
    assert set(shown[last + 1 : at] + shown[at + 1 :]) <= {blank}
    assert len(shown) == at + lead + probe.count
    return first, at - last - 1, at + lead, [shown[place] for place in places]


def at_every_step(probe, xs, lead):
    before, between, start, symbols = told(probe, xs, lead)
    assert len(xs) == probe.length + 2 * probe.count
    assert before + between + lead == probe.length
    return list(enumerate([probe.symbols] * start + symbols))


def copy(probe, xs):
    return at_every_step(probe, xs, 1)


def memorization(probe, xs):
    return at_every_step(probe, xs, 0)


def variable_copy(probe, xs):
    before, between, start, symbols = told(probe, xs, 1)
    assert before == 0
    assert 1 <= between <= probe.length
    return list(enumerate(symbols, start))


def selective_copy(probe, xs):
    shown = symbols_of(xs)
    marker = probe.symbols + 1
    symbols = [symbol for symbol in shown if symbol < probe.symbols]
    assert len(symbols) == probe.count
    start = shown.index(marker)
    assert shown[start:] == [marker] * probe.count
    return list(enumerate(symbols, start))


def delayed_xor(probe, xs):
    """xs: [T, 2], one-hot bits."""
    s, d = np.argmax(xs, axis=1), probe.delay
    return [(t, int(s[t - d] != s[t - 2 * d])) for t in range(2 * d, len(xs))]


def flip_flop(probe, xs):
    """xs: [T, bits], 0 or a pulse of +1 or -1, which each bit keeps until the next."""
    bits, answers = [None] * xs.shape[1], []
    for t, row in enumerate(xs.tolist()):
        assert set(row) <= {-1, 0, 1}
        bits = [pulse or bit for pulse, bit in zip(row, bits, strict=True)]
        answers.append((t, bits))
    return answers


def group_words(probe, xs):
    """xs: [T, D], one-hot: even permutations of 5, in the order of the dictionary (A5 alone).

    All 60, or the letters of the probe.
    """
    assert probe.group == "A5"
    every = itertools.permutations(range(5))
    even = [p for p in every if np.linalg.det(np.eye(5)[list(p)]) > 0]
    product, answers = np.eye(5), []
    for t, at in enumerate(np.argmax(xs, axis=1)):
        element = even[at if probe.letters is None else probe.letters[at]]
        product = product @ np.eye(5)[:, list(element)]  # sends e_i to e_p(i)
        answers.append((t, even.index(tuple(np.argmax(product, axis=0)))))
    return answers


def mqar(probe, xs):
    """xs: [T, V], one-hot: the blank, keys, values."""
    tokens, start, half = np.argmax(xs, axis=1), 2 * probe.pairs, probe.vocabulary // 2
    book = dict(zip(tokens[:start:2].tolist(), tokens[1:start:2].tolist(), strict=True))
    assert len(book) == len(set(book.values())) == probe.pairs
    asked = {t: token for t, token in enumerate(tokens.tolist()) if t >= start and token}
    assert sorted(asked.values()) == sorted(book)  # each key once
    assert all(t % 2 == 0 for t in asked)
    assert all(0 < key < half <= value for key, value in book.items())
    return [(t, book[key] - half) for t, key in asked.items()]


def parity(probe, xs):
    """xs: [T, 2], one-hot bits."""
    return [(t, int(xs[: t + 1, 1].sum()) % 2) for t in range(len(xs))]


def random_permutation(probe, xs):
    """xs: [T, D], one-hot, zero from the end on."""
    symbols = np.argmax(xs, axis=1)[np.any(xs != 0, axis=1)]
    assert np.all(symbols[1:] >= 2)
    return [(len(symbols) - 1, symbols[0])]


def sequential_images(probe, xs, images, labels):
    """xs: [T, 1], pixels of one of the images, in the order of the probe."""
    values = np.round(xs[:, 0] * {64: 16, 784: 255}[len(xs)])
    if probe.permutation_seed is not None:
        places = np.random.RandomState(probe.permutation_seed).permutation(len(xs))
        values = values[np.argsort(places)]
    (at,) = np.flatnonzero(np.all(images.reshape(len(images), -1) == values, axis=1))
    return [(len(xs) - 1, labels[at])]


def evidence(probe, seen):
    """One answer at the step with the go signal, by the mean of channel `seen` before the delay."""
    (when,) = np.flatnonzero(seen[:, -1])
    assert when == len(seen) - 1 == probe.length + probe.delay
    assert not seen[probe.length : when, 0].any()
    return [(when, int(seen[: probe.length, 0].mean() > 0))]


def perceptual_decision(probe, xs):
    return evidence(probe, xs)


def context_integration(probe, xs):
    (channel,) = np.flatnonzero(xs[0, 2:4])
    np.testing.assert_array_equal(xs[:, 2:4], xs[:1, 2:4].repeat(len(xs), axis=0))
    return evidence(probe, xs[:, [channel, 4]])


def cue_accumulation(probe, xs):
    """xs: [T, 3 + distractors]: left, right, the signal, then distractors."""
    (when,) = np.flatnonzero(xs[:, 2])
    cues = np.flatnonzero(xs[:, :2].any(axis=1))
    assert len(cues) == probe.cues
    assert np.all(np.diff(cues) == probe.spacing)
    assert cues[-1] + probe.spacing <= when == len(xs) - 1
    left, right = xs[:, :2].sum(axis=0)
    return [(when, int(right > left))]


def go_no_go(probe, xs):
    """xs: [T + 1, 3]: go, no-go, the signal."""
    (when,), (cue,) = np.flatnonzero(xs[:, 2]), np.flatnonzero(xs[:, :2].any(axis=1))
    assert cue < when == len(xs) - 1
    return [(when, int(xs[cue, 0]))]


def interval_production(probe, xs):
    (ready,), (go,) = (np.flatnonzero(column) for column in xs.T)
    assert probe.low <= go - ready <= probe.high
    after = range(1, probe.low + probe.high - 1)
    return [(go + k, int(k >= go - ready)) for k in after]


def parametric_memory(probe, xs):
    first, second = np.flatnonzero(xs[:, 1])
    assert second == len(xs) - 1
    return [(second, int(xs[first, 0] > xs[second, 0]))]


def sine_wave(probe, xs):
    (value,) = np.unique(xs)
    rank = round((value - 0.25) * probe.count) - 1
    w = 0.1 + 0.5 * rank / (probe.count - 1)
    return [(t, np.sin(w * (t + 1))) for t in range(len(xs))]


def solved(probe, xs, derivative, time):
    """The next states by SciPy's integrator of order 8."""
    from scipy.integrate import solve_ivp

    mean, std = map(np.array, (probe.MEAN, probe.STD))
    ends = [
        solve_ivp(derivative, (0, time), x * std + mean, "DOP853", rtol=1e-10).y[:, -1] for x in xs
    ]
    return [(t, (end - mean) / std) for t, end in enumerate(ends)]


def lorenz63(probe, xs):
    def derivative(_, state):
        x, y, z = state
        return [10 * (y - x), x * (28 - z) - y, x * y - 8 * z / 3]

    return solved(probe, xs, derivative, probe.dt)


def rossler(probe, xs):
    def derivative(_, state):
        x, y, z = state
        return [-y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)]

    return solved(probe, xs, derivative, probe.dt)


def henon(probe, xs):
    mean, std = map(np.array, (probe.MEAN, probe.STD))
    x, y = (xs.astype(float) * std + mean).T
    after = np.stack([1 - 1.4 * x**2 + y, 0.3 * x], axis=-1)
    return list(enumerate((after - mean) / std))
