"""What cannot be saved, or is unlike what was saved, is refused with the difference."""

import collections
import sys

import jax
import numpy as np
import pytest

from seqcells._checkpoint import CheckpointError, Checkpoints
from tests.support.checkpoints import TREE

NUMBERS, JSON = "w: expected an array of numbers", "about: expected values that JSON can hold"
REFUSED = {
    "text": ({"w": "text"}, {}, TypeError, NUMBERS),
    "objects": ({"w": np.array([{}])}, {}, TypeError, NUMBERS),
    "big-endian": ({"w": np.ones(1, ">f4")}, {}, TypeError, NUMBERS),
    "array in about": (TREE, {"a": np.ones(2)}, TypeError, JSON),
    "long about": (TREE, {"a": "a" * 300_000}, ValueError, "about: expected at most 262144 bytes"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_checkpoint_cannot_hold_is_refused_before_anything_is_written(tmp_path, kind):
    tree, about, error, reason = REFUSED[kind]
    with pytest.raises(error, match=reason):
        Checkpoints(tmp_path, {}).save(1, tree, about)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_checked(tmp_path):
    with pytest.raises(ValueError, match="keep: expected an int >= 1, got 0"):
        Checkpoints(tmp_path, {}, keep=0)
    with pytest.raises(TypeError, match="config: expected a dict"):
        Checkpoints(tmp_path, None)
    with pytest.raises(ValueError, match="step: expected an int >= 0, got -1"):
        Checkpoints(tmp_path, {}).save(-1, TREE)


def test_without_orbax_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    for act in (lambda: saved.save(3, TREE), lambda: saved.load(TREE)):
        with pytest.raises(ImportError, match=r'^orbax.*pip install "seqcells\[sweep\]"$'):
            act()


LIKES = {
    "dtype": (TREE | {"w": np.zeros((2, 3), np.float16)}, r"saved w float32\[2, 3\].*w float16"),
    "shape": (TREE | {"w": np.zeros((3, 2), np.float32)}, r"like has w float32\[3, 2\]"),
    "more": (TREE | {"c": np.ones(1)}, r"like has c float64\[1\]"),
    "fewer": ({"w": TREE["w"]}, r"saved b float32\[2\]; like has fewer leaves"),
    "none": (TREE | {"b": None}, r"saved b float32\[2\]; like has b none"),
}


@pytest.mark.parametrize("kind", LIKES)
def test_a_tree_unlike_the_one_that_was_saved_is_refused_with_the_difference(saved, kind):
    like, reason = LIKES[kind]
    with pytest.raises(CheckpointError, match=reason):
        saved.load(like)


def test_leaves_in_another_order_are_refused(tmp_path):
    """Leaves of one shape and dtype, whose places alone say which is which."""
    Pair, Other = (
        collections.namedtuple("Pair", names) for names in (("one", "two"), ("two", "one"))
    )
    Checkpoints(tmp_path, {}).save(1, Pair(np.zeros(2), np.ones(2)))
    with pytest.raises(CheckpointError, match="the same in another order"):
        Checkpoints(tmp_path, {}).load(Other(np.zeros(2), np.zeros(2)))


def test_keys_of_another_kind_are_refused(tmp_path):
    Checkpoints(tmp_path, {}).save(1, jax.random.key(0))
    refusal = r"saved the tree key<fry>\[\]; like has the tree key<rbg>"
    with pytest.raises(CheckpointError, match=refusal):
        Checkpoints(tmp_path, {}).load(jax.random.key(0, impl="rbg"))


def test_a_changed_configuration_is_refused_with_the_difference(saved):
    now = Checkpoints(saved.folder, {"lr": 0.2, "cell": {"name": "GRU"}, "new": None})
    difference = r"cell.sizes: \[3, 4\] -> absent; lr: 0.1 -> 0.2; new: absent -> null; "
    with pytest.raises(CheckpointError, match=difference):
        now.load(TREE)


@pytest.mark.parametrize("other", [1.0, True, "1", None])
def test_a_configuration_of_another_type_is_another(tmp_path, other):
    Checkpoints(tmp_path, {"a": 1, "b": float("nan")}).save(1, TREE)
    assert Checkpoints(tmp_path, {"a": 1, "b": float("nan")}).load(TREE).step == 1
    with pytest.raises(CheckpointError, match="a: 1 -> "):
        Checkpoints(tmp_path, {"a": other, "b": float("nan")}).load(TREE)
