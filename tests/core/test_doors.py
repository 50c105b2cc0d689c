"""What other libraries hand over: float64, int64 and bool of NumPy, its scalars, and lists."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import seqcells as sc
from tests.core.test_checked import FUNCTIONS
from tests.support.interop import drawn
from tests.support.laws import CASES, NETS, B, D, H, T, assert_close

KEY = jax.random.key(0)
XS = jax.random.normal(jax.random.key(1), (T, B, D))
LENGTHS = jnp.array([T, 4, 0])
MASK = jnp.ones((T, B), bool).at[1].set(False)
RESETS = jnp.zeros((T, B), bool).at[3].set(True)
X, RESET = XS[0], RESETS[3]
MODELS = {
    "gru": sc.GRU(H),
    "lstm": sc.LSTM(H),
    "lru": sc.LRU(H),
    "wrapped": sc.Zoneout(sc.VariationalDropout(sc.GRU(H), 0.1)),
    "function": CASES["function"].cell,
    "stack": sc.Stack((sc.Residual(sc.GRU(D)), sc.Recurrent(sc.LSTM(H), learned_carry=True))),
    "both": NETS["bidirectional"],
}


def numpy(tree):
    """Arrays as NumPy makes them: float64, int64 and bool."""
    wide = {"f": np.float64, "i": np.int64, "b": np.bool_}

    def of(leaf):
        array = isinstance(leaf, (jax.Array, np.ndarray)) and leaf.dtype.kind in wide
        return np.asarray(leaf).astype(wide[leaf.dtype.kind]) if array else leaf

    return jax.tree.map(of, tree)


def lists(tree):
    """Arrays as lists of Python numbers."""
    array = (jax.Array, np.ndarray)
    return jax.tree.map(lambda a: a.tolist() if isinstance(a, array) else a, tree)


@functools.cache
def given(model):
    """Parameters and a carry."""
    params = drawn(model, input_size=D)
    shapes = jax.eval_shape(model.init_carry, XS[0], params)
    return params, jax.tree.map(lambda a: jnp.asarray(np.full(a.shape, 0.5, a.dtype)), shapes)


def door(name, model, change):
    """Call one door with its arguments changed; parameters are arrays of JAX or of NumPy."""
    params, carry = given(model)
    params = numpy(params) if change is not None else params
    change = change or (lambda tree: tree)
    xs, x, carry, reset = change((XS, X, carry, RESET))
    flags = change({"lengths": LENGTHS, "mask": MASK, "resets": RESETS})
    axis = np.int64(1) if change is numpy else 1
    calls = {
        "init_carry": lambda: model.init_carry(x, params),
        "step": lambda: model.step(params, carry, x, reset, reset_carry=carry),
        "unroll": lambda: sc.unroll(
            model, params, xs, carry, **flags, reset_carry=carry, engine=sc.Scan()
        ),
        "trajectory": lambda: sc.trajectory(
            model, params, xs, carry, **flags, reset_carry=carry, reverse=np.bool_(True)
        ),
        "time_axis": lambda: sc.unroll(
            model, params, np.swapaxes(xs, 0, 1), time_axis=axis, reverse=np.bool_(False)
        ),
    }
    return calls[name]()


def assert_taken(call, *changed, values):
    """Each changed call gives the values of the plain one; or its shapes and dtypes, traced."""
    run = (lambda call, *args: call(*args)) if values else jax.eval_shape
    (expected, *found) = (run(lambda one=one: call(one)) for one in (None, *changed))
    for got in found:
        kinds = [
            jax.tree.map(lambda a: (a.shape, a.dtype), jax.eval_shape(lambda t: t, tree))
            for tree in (got, expected)
        ]
        assert kinds[0] == kinds[1]
        if values:
            assert_close(got, expected)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["init_carry", "step", "unroll", "trajectory"])
def test_arrays_of_numpy_and_lists_are_arrays(name, model):
    if model == "both" and name in ("step", "trajectory"):
        return  # it cannot step
    call = functools.partial(door, name, MODELS[model])
    given(MODELS[model])  # not traced
    assert_taken(call, numpy, lists, values=model == "gru")


FLAX = {
    "call": lambda call, carry, xs, n: call("__call__", xs, carry, lengths=n, engine=sc.Scan()),
    "init_carry": lambda call, carry, xs, n: call("init_carry", xs[0]),
    "step": lambda call, carry, xs, n: call("step", carry, xs[0]),
}


@pytest.mark.parametrize("name", FLAX)
def test_the_flax_modules_take_them_too(name):
    rnn, linen = sc.nnx.RNN(sc.LSTM(H), D, rngs=nnx.Rngs(0)), sc.linen.RNN(sc.LSTM(H))
    variables = linen.init(KEY, XS)
    carry = rnn.init_carry(XS[0])
    modules = (
        lambda method, *args, **options: getattr(rnn, method)(*args, **options),
        lambda method, *args, **options: linen.apply(variables, *args, method=method, **options),
    )
    for call in modules:
        expected = FLAX[name](call, carry, XS, LENGTHS)
        for change in (numpy, lists):
            assert_close(FLAX[name](call, *change((carry, XS, LENGTHS))), expected)


TREES = ("gradient_snr", "participation_ratio")  # that take any tree of arrays, and a list is one
QUICK = ("gate_shares", "gate_values", "gradient_snr", "participation_ratio", "saturation")


@pytest.mark.parametrize(
    ("name", "of"),
    [
        pytest.param(n, of, marks=[pytest.mark.slow] * (of == "values" and n not in QUICK))
        for n in FUNCTIONS
        for of in ("dtypes", "values")
        if n != "draw_starts"  # which takes a key and a tree
    ],
)
def test_the_laboratory_takes_them_too(name, of):
    function, *args = FUNCTIONS[name]
    within = 2 if isinstance(args[0], sc.Cell) else 0  # its parameters are no lists

    def in_lists(args):
        return [*args[:within], *lists(args[within:])]

    changes = (numpy,) if name in TREES else (numpy, in_lists)
    call = lambda change: function(*(change(args) if change else args))  # noqa: E731
    assert_taken(call, *changes, values=of == "values")


def test_no_sequences_may_have_empty_lists():
    cell = sc.GRU(H)
    params, none = cell.init(KEY, D), jnp.ones((T, 0, D))
    flags = {"lengths": [], "mask": [[]] * T, "resets": [[]] * T}
    assert sc.unroll(cell, params, none, **flags)[1].shape == (T, 0, H)


@pytest.mark.parametrize(
    "value", [np.array([T, 3, 0], object), ["7", "3", "0"], [T, None, 0], np.array([7.0, 3, 0])]
)
def test_lengths_of_no_integers_are_refused_by_name(value):
    cell = sc.GRU(H)
    with pytest.raises(TypeError, match=r"^lengths: expected int\[3\]"):
        sc.unroll(cell, cell.init(KEY, D), XS, lengths=value)


SETTINGS = {  # models with settings of Python and of NumPy, which are equal, and print alike
    "gru": (lambda i, f, b: sc.GRU(i(3), reset_after=b(False))),
    "lstm": (lambda i, f, b: sc.LSTM(i(3), peepholes=b(True))),
    "lru": (lambda i, f, b: sc.LRU(i(3), output_size=i(2), r_min=f(0.5), max_phase=f(1.5))),
    "dropout": (lambda i, f, b: sc.VariationalDropout(sc.GRU(3), f(0.5), f(0.25))),
    "zoneout": (lambda i, f, b: sc.Zoneout(sc.LSTM(3), (f(0.5), f(0.25)))),
    "layer_norm": (lambda i, f, b: sc.LayerNorm(sc.GRU(3), eps=f(0.5))),
    "stack": (lambda i, f, b: sc.Stack([sc.GRU(3)], dropout=f(0.5), skip=b(True))),
    "recurrent": (lambda i, f, b: sc.Recurrent(sc.GRU(3), b(True), b(True))),
    "scan": (lambda i, f, b: sc.Scan(i(2), checkpoint=i(3))),
    "truncated": (lambda i, f, b: sc.Truncated(i(2))),
    "deferred": (lambda i, f, b: sc.Deferred(i(2), project_ahead=b(True), unroll=i(2))),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_numpy_are_those_of_python(name):
    plain, other = SETTINGS[name](int, float, bool), SETTINGS[name](np.int64, np.float32, np.bool_)
    assert other == plain
    assert hash(other) == hash(plain)
    assert repr(other) == repr(plain)
    fields = [getattr(other, field.name) for field in dataclasses.fields(other)]
    assert not any(isinstance(value, np.generic) for value in fields)
