"""The probes in plain NumPy: what one sequence asks, when, and the answer, read off its inputs."""

import itertools

import numpy as np


def adding_urnn(probe, xs):
    """xs: [T, 2], a number and a marker."""
    numbers, marks = xs.T
    steps = np.flatnonzero(np.any(xs != 0, axis=1))
    first, second = np.flatnonzero(marks)
    length = steps[-1] + 1
    assert first < length // 2 <= second < length
    return [(length - 1, numbers[first] + numbers[second])]


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


def delayed_xor(probe, xs):
    """xs: [T, 2], one-hot bits."""
    s, d = np.argmax(xs, axis=1), probe.delay
    return [(t, int(s[t - d] != s[t - 2 * d])) for t in range(2 * d, len(xs))]


def group_words(probe, xs):
    """xs: [T, 60], one-hot: even permutations of 5, in the order of the dictionary (A5 alone)."""
    assert probe.group == "A5"
    every = itertools.permutations(range(5))
    even = [p for p in every if np.linalg.det(np.eye(5)[list(p)]) > 0]
    product, answers = np.eye(5), []
    for t, element in enumerate(np.argmax(xs, axis=1)):
        product = product @ np.eye(5)[:, list(even[element])]  # sends e_i to e_p(i)
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
