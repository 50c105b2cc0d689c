"""Probes that draw from data: IDX files, images a pixel a step, texts and streams of them."""

import gzip
import itertools
import math
import struct
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import seqcells as sc
from seqcells.probes import CharacterLM, SequentialDigits, SequentialMNIST, load_idx

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
MNIST_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def idx(array):
    """An array as the bytes of an IDX file."""
    kind = CODES[array.dtype.name]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def images(many, side=28, white=255):
    return RNG.integers(0, white + 1, (many, side, side)).astype("uint8")


IMAGES, LABELS = images(30), np.arange(30, dtype="uint8") % 10


# IDX files


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(7,), (3, 2, 4), (0, 5)], ids=str)
def test_an_idx_file_gives_the_array_that_was_written(tmp_path, dtype, shape, pack):
    array = RNG.integers(0, 100, shape).astype(dtype)
    path = tmp_path / "array"  # no .gz: what it is stands in its bytes
    path.write_bytes(pack(idx(array)))
    for name in (path, str(path)):
        read = load_idx(name)
        assert read.dtype == dtype
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, array)
    read[...] = 0  # a writable copy


WHOLE = idx(IMAGES)
BROKEN = {
    "empty": (b"", ["00 00", "no bytes"]),
    "a page": (b"<!DOCTYPE html>", ["00 00", "3c 21 44 4f"]),
    "another dtype": (b"\0\0\x0a\x01" + bytes(8), ["00 00", "00 00 0a 01"]),
    "half a header": (WHOLE[:9], ["16 bytes", "got 9", "cut short"]),
    "one byte short": (WHOLE[:-1], ["23520 bytes", "uint8[30, 28, 28]", "23519", "cut short"]),
    "one byte more": (WHOLE + b"x", ["23520 bytes", "23521", "too long"]),
    "a huge header": (b"\0\0\x0e\x03" + b"\xff" * 12, ["cut short"]),
    "half a gzip": (gzip.compress(WHOLE)[:-400], ["gzip", "download it again"]),
    "a changed gzip": (gzip.compress(WHOLE)[:-8] + bytes(8), ["gzip", "download it again"]),
    "a torn gzip": (gzip.compress(WHOLE)[:10] + b"\xff" * 500, ["gzip", "download it again"]),
}


@pytest.mark.parametrize(("data", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_idx_file_is_refused_with_its_name_and_its_bytes(tmp_path, data, words):
    path = tmp_path / "train-images"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^path: expected [^\n]*, got [^\n]*$") as raised:
        load_idx(path)
    assert [word for word in (*words, str(path)) if word not in str(raised.value)] == []


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^path: .*absent.*nothing there"):
        load_idx(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"^path: .*a folder"):
        load_idx(tmp_path)


# MNIST


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("mark", ["-", "."])
def test_mnist_is_read_from_its_files_in_any_spelling(tmp_path, mark, end):
    parts = {"train": (IMAGES, LABELS), "t10k": (IMAGES[:10], LABELS[:10])}
    pack = gzip.compress if end else bytes
    for name, (pixels, digits) in parts.items():
        (tmp_path / f"{name}-images{mark}idx3-ubyte{end}").write_bytes(pack(idx(pixels)))
        (tmp_path / f"{name}-labels{mark}idx1-ubyte{end}").write_bytes(pack(idx(digits)))
    for split, expected in zip(("train", "test"), parts.values(), strict=True):
        for got, array in zip(SequentialMNIST.load(tmp_path, split), expected, strict=True):
            np.testing.assert_array_equal(got, array)


def test_mnist_files_that_miss_or_do_not_belong_together_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^folder: .*train-images-idx3-ubyte.gz"):
        SequentialMNIST.load(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS[:-1]))
    with pytest.raises(ValueError, match=r"^folder: .*\[30, 28, 28\] and \[29\]"):
        SequentialMNIST.load(tmp_path, "test")
    with pytest.raises(ValueError, match=r"^split: expected one of 'train', 'test', got 'valid'"):
        SequentialMNIST.load(tmp_path, "valid")


# images


def test_pixels_come_row_by_row_scaled_to_one():
    pixels = np.zeros((2, 28, 28), "uint8")
    pixels[0, 3, 5], pixels[1, 27, 27] = 255, 51
    xs, targets, steps = SequentialMNIST().whole(pixels, np.array([7, 2]))
    assert xs.shape == (784, 2, 1)
    assert np.flatnonzero(xs[:, 0, 0]) == [3 * 28 + 5]
    assert float(xs[3 * 28 + 5, 0, 0]) == 1
    assert float(xs[783, 1, 0]) == pytest.approx(0.2)
    np.testing.assert_array_equal(targets, [[7, 2]])
    np.testing.assert_array_equal(steps, [[783, 783]])
    small = SequentialDigits().whole(np.full((1, 8, 8), 16, "uint8"), np.array([1]))
    np.testing.assert_array_equal(small.xs, np.ones((64, 1, 1)))


def test_a_seed_is_one_order_of_the_pixels_for_all_images_and_for_ever():
    plain, permuted = (SequentialMNIST(seed).whole(IMAGES, LABELS) for seed in (None, 3))
    order = SequentialMNIST(3).order
    assert sorted(order) == list(range(784))
    np.testing.assert_array_equal(permuted.xs, plain.xs[order])
    np.testing.assert_array_equal(order, SequentialMNIST(3).order)
    assert np.any(order != SequentialMNIST(4).order)
    assert order[:5].tolist() == ORDER_3
    assert SequentialDigits(3).order.max() == 63


ORDER_3 = [294, 102, 51, 453, 457]


def test_images_are_drawn_uniformly():
    xs, _, _ = SequentialDigits().sample(KEY, 30_000, images(30, 8, 16), LABELS)
    counts = np.unique(np.asarray(xs[:, :, 0]), axis=1, return_counts=True)[1]
    assert len(counts) == 30
    assert stats.chisquare(counts).pvalue > 0.01


def test_data_are_arrays_to_jit_and_other_data_need_no_new_program():
    traces = []

    @jax.jit
    def draw(key, pixels, digits):
        traces.append(pixels)
        return SequentialDigits().sample(key, 4, pixels, digits)

    for _ in range(2):
        pixels = images(30, 8, 16)
        both = draw(KEY, pixels, LABELS), SequentialDigits().sample(KEY, 4, pixels, LABELS)
        for got, expected in zip(*both, strict=True):
            np.testing.assert_array_equal(got, expected)
    assert len(traces) == 1


def test_the_uniform_guess_costs_ln_10_and_the_best_constant_the_entropy_of_the_labels():
    probe, counts = SequentialDigits(), np.array(MNIST_COUNTS)
    share = counts / counts.sum()
    digits = jnp.asarray(np.repeat(np.arange(10), counts)[None], "int32")
    uniform = jnp.zeros((*digits.shape, 10))
    assert float(probe.score(uniform, digits).loss) == pytest.approx(math.log(10), rel=1e-5)
    best = uniform + jnp.asarray(np.log(share), "float32")
    assert float(probe.score(best, digits).loss) == pytest.approx(stats.entropy(share), rel=1e-4)
    assert f"{stats.entropy(share):.4f}" in SequentialMNIST.__doc__


def test_digits_come_from_scikit_learn(monkeypatch):
    """A stand-in, as it is no dependency: the same sizes and dtypes."""
    pixels, digits = images(1797, 8, 16), RNG.integers(0, 10, 1797)
    fake = types.ModuleType("sklearn.datasets")
    fake.load_digits = lambda: types.SimpleNamespace(images=pixels.astype(float), target=digits)
    monkeypatch.setitem(sys.modules, "sklearn", types.ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", fake)
    train, test = SequentialDigits.load(), SequentialDigits.load("test")
    assert (len(train[0]), len(test[0])) == (1437, 360)
    np.testing.assert_array_equal(np.concatenate([train[0], test[0]]), pixels)
    np.testing.assert_array_equal(np.concatenate([train[1], test[1]]), digits)
    assert SequentialDigits().sample(KEY, 2, *train).xs.shape == (64, 2, 1)
    with pytest.raises(ValueError, match=r"^split: expected one of 'train', 'test'"):
        SequentialDigits.load("valid")


def test_digits_without_scikit_learn_name_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", types.ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r'^sklearn.*pip install "seqcells\[data\]"$'):
        SequentialDigits.load()


def test_a_missing_dependency_of_scikit_learn_is_named(monkeypatch, tmp_path):
    """Its own message names what has to be installed."""
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "sklearn" / "datasets.py").write_text("import what_it_needs", encoding="utf-8")
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_it_needs"):
        SequentialDigits.load()
    sys.modules.pop("sklearn", None)


def test_the_real_digits():
    pytest.importorskip("sklearn")
    pixels, digits = SequentialDigits.load()
    assert (pixels.max(), pixels.dtype, pixels.shape) == (16, "uint8", (1437, 8, 8))
    assert set(digits) == set(range(10))


# texts

TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer " * 3
PROBE = CharacterLM.of(TEXT, length=10)
TOKENS = PROBE.encode(TEXT)


def test_a_text_makes_a_probe_with_its_characters_counts_and_entropies():
    assert list(PROBE.vocabulary) == sorted(set(TEXT))
    assert PROBE.counts == tuple(TEXT.count(c) for c in PROBE.vocabulary)
    counts = np.array(PROBE.counts)
    assert PROBE.baseline == pytest.approx(stats.entropy(counts))
    pairs = list(itertools.pairwise(TEXT))
    nats = [-math.log(pairs.count(p) / TEXT[:-1].count(p[0])) for p in pairs]
    assert PROBE.success == ("loss", pytest.approx(np.mean(nats)))
    assert CharacterLM.of(TEXT, length=10) == PROBE
    assert CharacterLM.of("aé𝄞\n").vocabulary == "\naé𝄞"


def test_tokens_are_the_text():
    assert PROBE.decode(TOKENS) == TEXT
    assert TOKENS.dtype == "int32"
    for wrong in ("to Be", "to \x00", "to ~"):
        with pytest.raises(ValueError, match=r"^text: .*at 3; make the probe from all"):
            PROBE.encode(wrong)


def test_a_split_is_three_parts_that_follow_one_another():
    train, valid, test = PROBE.split(TOKENS, valid=0.2, test=0.1)
    assert (len(valid), len(test)) == (round(0.2 * len(TOKENS)), round(0.1 * len(TOKENS)))
    assert PROBE.decode(train) + PROBE.decode(valid) + PROBE.decode(test) == TEXT
    assert [len(part) for part in PROBE.split(np.arange(100))] == [90, 5, 5]


def test_windows_start_anywhere_and_ask_for_the_next_character():
    letters = CharacterLM.of("abcdefghijklmnopqrst", length=4)
    xs, targets, steps = letters.sample(KEY, 32_000, np.arange(20))
    seen = np.argmax(xs, axis=-1)
    np.testing.assert_array_equal(seen - seen[0], np.arange(4)[:, None] + np.zeros_like(seen))
    np.testing.assert_array_equal(targets, seen + 1)
    np.testing.assert_array_equal(steps[:, 5], range(4))
    counts = np.bincount(seen[0])
    assert len(counts) == 16  # the last window asks for the last letter
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_windows_of_a_stream_follow_one_another(batch_size):
    streams = PROBE.streams(TOKENS, batch_size)
    each = (len(TEXT) - 1) // batch_size
    assert len(streams) == len(list(streams)) == each // 10 > 1
    read = np.concatenate([np.argmax(window.xs, axis=-1) for window in streams])
    asked = np.concatenate([window.targets for window in streams])
    for row in range(batch_size):
        text = TEXT[row * each :][: len(read) + 1]
        assert PROBE.decode(read[:, row]) == text[:-1]
        assert PROBE.decode(asked[:, row]) == text[1:]
    np.testing.assert_array_equal(streams[1].xs, list(streams)[1].xs)
    for wrong in (-1, len(streams)):
        with pytest.raises(IndexError, match=r"^k: expected 0 to"):
            streams[wrong]


def test_a_carried_memory_over_windows_is_the_whole_stream_in_one_go():
    cell, size = sc.GRU(len(PROBE.vocabulary)), PROBE.input_size
    params = cell.init(KEY, size)
    carry, losses = None, []
    for window in PROBE.streams(TOKENS, 2):
        carry, ys = sc.unroll(cell, params, window.xs, carry)
        losses.append(float(PROBE.score(window.pick(ys), window.targets).loss))
    whole = CharacterLM.of(TEXT, length=10 * len(losses))
    (window,) = whole.streams(TOKENS, 2)
    _, ys = sc.unroll(cell, params, window.xs)
    score = whole.score(window.pick(ys), window.targets)
    assert np.mean(losses) == pytest.approx(float(score.loss), rel=1e-6)
    assert float(PROBE.bits(score)) == pytest.approx(float(score.loss) / math.log(2), rel=1e-6)


def test_the_frequencies_of_a_text_cost_its_entropy_on_all_of_it():
    probe = CharacterLM.of(TEXT, length=len(TEXT) - 1)
    (window,) = probe.streams(TOKENS, 1)
    first = -math.log(TEXT.count(TEXT[0]) / len(TEXT))  # which is never asked for
    loss = float(probe.score(probe.guess(window), window.targets).loss)
    total = loss * (len(TEXT) - 1) + first
    assert total / len(TEXT) == pytest.approx(probe.baseline, rel=1e-5)
