"""What every cell refuses: 30 wrong inputs and more, each by the name of the argument."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import seqcells as sc
from tests.support import laws
from tests.support.laws import CASES, B, H, T

KEY = jax.random.key(0)
D = H  # which some cells ask for
XS = np.ones((T, B, D), "float32")
NAMES = [  # the parameters of a function are the user's own; images: tests/cells/test_images.py
    name for name, case in CASES.items() if name != "function" and case.cell.x_ndim == 1
]
FAMILIES = {laws.kind(CASES[name].cell): name for name in reversed(NAMES)}
NAMES = sorted(FAMILIES.values())


@functools.cache
def right(cell):
    """Parameters of the cell, on the host."""
    shapes = jax.eval_shape(lambda: cell.init(KEY, D))
    return jax.tree.map(lambda a: np.ones(a.shape, a.dtype), shapes)


@functools.cache
def fresh(cell):
    """A carry of the cell, on the host."""
    shapes = jax.eval_shape(cell.init_carry, XS[0])
    return jax.tree.map(lambda a: np.ones(a.shape, a.dtype), shapes)


def unroll(cell, xs=XS, params=None, **given):
    """Unroll with the right parameters, but for what is given."""
    return sc.unroll(cell, right(cell) if params is None else params, xs, **given)


def params_of(change):
    """Unroll with parameters that are changed."""
    return lambda cell: unroll(cell, params=change(right(cell)))


def carry_of(change):
    """Unroll from a carry that is changed."""
    return lambda cell: unroll(cell, carry=change(fresh(cell)))


def each(change):
    return lambda tree: jax.tree.map(change, tree)


def first(change):
    """Change the first leaf of a tree alone."""

    def of(tree):
        leaves, structure = jax.tree.flatten(tree)
        return jax.tree.unflatten(structure, [change(leaves[0]), *leaves[1:]])

    return of


def wider(a):
    return np.concatenate([a, a[..., :1]], axis=-1)


def flag(name, value):
    return lambda cell: unroll(cell, **{name: value})


def settings(**wrong):
    """Make the cell anew with a wrong setting; of a wrapper, the cell within."""

    def of(cell):
        return dataclasses.replace(getattr(cell, "cell", cell), **wrong)

    return of


def init(key=KEY, input_size=D):
    return lambda cell: cell.init(key, input_size)


def step_x(x):
    return lambda cell: cell.step(right(cell), fresh(cell), x)


OTHER_FEATURES = ("xs of more features", "xs of fewer features")
WRONG = {
    "xs of int8": (lambda c: unroll(c, XS.astype("int8")), "xs"),
    "xs of int32": (lambda c: unroll(c, XS.astype("int32")), "xs"),
    "xs of uint8": (lambda c: unroll(c, XS.astype("uint8")), "xs"),
    "xs of bool": (lambda c: unroll(c, XS > 0), "xs"),
    "xs of complex": (lambda c: unroll(c, XS + 1j), "xs"),
    "xs of text": (lambda c: unroll(c, [["word"]]), "xs"),
    "xs that are ragged": (lambda c: unroll(c, [[1.0], [1.0, 2.0]]), "xs"),
    "xs of no axis": (lambda c: unroll(c, XS[0, 0, 0]), "xs"),
    "xs of one axis": (lambda c: unroll(c, XS[0, 0]), "xs"),
    "xs of more features": (lambda c: unroll(c, wider(XS)), "params"),
    "xs of fewer features": (lambda c: unroll(c, XS[..., :1]), "params"),
    "x of int32": (step_x(XS[0].astype(int)), "x"),
    "x of bool": (step_x(XS[0] > 0), "x"),
    "params of another size": (params_of(first(wider)), "params"),
    "params of another rank": (params_of(first(lambda a: a[None])), "params"),
    "params of int32": (params_of(each(lambda a: a.astype(int))), "params"),
    "params of complex": (params_of(first(lambda a: a + 0j)), "params"),
    "params as a dict": (params_of(lambda p: {"w": p}), "params"),
    "params as a list": (params_of(jax.tree.leaves), "params"),
    "params that are a number": (lambda c: unroll(c, params=1.0), "params"),
    "carry of another size": (carry_of(first(wider)), "carry"),
    "carry of another batch": (carry_of(each(lambda a: a[:1])), "carry"),
    "carry of another rank": (carry_of(each(lambda a: a[None])), "carry"),
    "carry of int32": (carry_of(each(lambda a: a.astype(int))), "carry"),
    "carry of bool": (carry_of(first(lambda a: a > 0)), "carry"),
    "carry as a dict": (carry_of(lambda c: {"h": c}), "carry"),
    "reset_carry of another size": (
        lambda c: unroll(c, reset_carry=first(wider)(fresh(c))),
        "reset_carry",
    ),
    "lengths below 0": (flag("lengths", np.array([0, -1, 2])), "lengths"),
    "lengths above T": (flag("lengths", np.array([0, T + 1, 2])), "lengths"),
    "lengths of float32": (flag("lengths", np.ones(B, "float32")), "lengths"),
    "lengths of bool": (flag("lengths", np.ones(B, bool)), "lengths"),
    "lengths of another batch": (flag("lengths", np.ones(B + 1, int)), "lengths"),
    "lengths of another rank": (flag("lengths", np.ones((B, 1), int)), "lengths"),
    "mask of int32": (flag("mask", np.ones((T, B), int)), "mask"),
    "mask of another rank": (flag("mask", np.ones((T, B, D), bool)), "mask"),
    "mask of another size": (flag("mask", np.ones((T + 1, B), bool)), "mask"),
    "resets of float32": (flag("resets", np.ones((T, B), "float32")), "resets"),
    "resets of another rank": (flag("resets", np.ones(T, bool)), "resets"),
    "resets of another size": (flag("resets", np.ones((T, B + 1), bool)), "resets"),
    "time_axis of the features": (flag("time_axis", 2), "time_axis"),
    "reverse of int": (flag("reverse", 1), "reverse"),
    "engine by name": (flag("engine", "scan"), "engine"),
    "key of int": (init(key=0), "key"),
    "two keys": (init(key=jax.random.split(KEY)), "key"),
    "input_size below 0": (init(input_size=-1), "input_size"),
    "input_size of float": (init(input_size=2.0), "input_size"),
    "input_size None": (init(input_size=None), "input_size"),
    "hidden_size 0": (settings(hidden_size=0), "hidden_size"),
    "hidden_size below 0": (settings(hidden_size=-H), "hidden_size"),
    "hidden_size of float": (settings(hidden_size=3.0), "hidden_size"),
    "hidden_size of bool": (settings(hidden_size=True), "hidden_size"),
    "dtype of integers": (settings(dtype="int32"), "dtype"),
    "dtype of nothing": (settings(dtype="float31"), "dtype"),
    "param_dtype of integers": (settings(param_dtype=int), "param_dtype"),
    "param_dtype of complex": (settings(param_dtype="complex64"), "param_dtype"),
    "w_ih_init no function": (settings(w_ih_init=0.1), "w_ih_init"),
}


def test_there_are_thirty_a_cell():
    assert len(WRONG) >= 30
    others = {sc.FunctionCell, sc.ConvGRU, sc.ConvLSTM}
    assert set(FAMILIES) == laws.public(sc.Cell) - others


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.replace(" ", "_"))
@pytest.mark.parametrize("name", NAMES)
def test_a_cell_refuses_it_by_the_name_of_the_argument(name, wrong):
    call, argument = WRONG[wrong]
    if wrong in OTHER_FEATURES and isinstance(CASES[name].cell, (sc.RGLRU, sc.Mamba)):
        argument = "input_size"  # whatever the parameters, it must be the number of units
    with pytest.raises((ValueError, TypeError)) as raised:
        call(CASES[name].cell)
    message = str(raised.value)
    assert message.startswith(f"{argument}: ")
    assert "expect" in message
    assert "got" in message
