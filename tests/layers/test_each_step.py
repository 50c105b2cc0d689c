"""Layers without a memory: Dense, MLP, GLU, Norm, Embed, Dropout and Pointwise."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import seqcells as sc
from tests.support import reference
from tests.support.laws import B, D, T, assert_close, assert_same_bits, draw_flags, tripled

pytestmark = pytest.mark.usefixtures("strict", "x64")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
XS = RNG.normal(size=(T, B, D))
FLAGS = draw_flags()
VALID = FLAGS["mask"] & (np.arange(T)[:, None] < FLAGS["lengths"])


def drawn(layer, size=D):
    """Parameters in float64, none of them as they start."""
    shapes = jax.eval_shape(lambda: layer.init(KEY, size))
    return jax.tree.map(lambda a: RNG.normal(size=a.shape), shapes)


def normal(x, eps):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


SILU, GELU = reference.ACTIVATIONS["silu"], reference.ACTIVATIONS["gelu"]


def exact_gelu(a):
    return a / 2 * (1 + np.vectorize(math.erf)(a / np.sqrt(2)))


def affine(p, x):
    return x @ p.w + (0 if p.b is None else p.b)


EQUATIONS = {  # a layer, and what NumPy computes
    "dense": (sc.Dense(4), lambda p, x: x @ p.w + p.b),
    "dense-relu": (sc.Dense(4, "relu", bias="none"), lambda p, x: np.maximum(x @ p.w, 0)),
    "dense-tanh": (sc.Dense(4, "tanh"), lambda p, x: np.tanh(x @ p.w + p.b)),
    "dense-silu": (sc.Dense(4, "silu"), lambda p, x: SILU(x @ p.w + p.b)),
    "mlp": (sc.MLP(5), lambda p, x: affine(p.out, GELU(affine(p.hidden, x)))),
    "mlp-nobias": (
        sc.MLP(5, "relu", size=4, bias="none"),
        lambda p, x: np.maximum(x @ p.hidden.w, 0) @ p.out.w,
    ),
    "glu": (
        sc.GLU(5, size=3),
        lambda p, x: affine(p.out, reference.sigmoid(affine(p.gate, x)) * affine(p.value, x)),
    ),
    "swiglu": (
        sc.GLU(5, "silu", bias="none"),
        lambda p, x: (SILU(x @ p.gate.w) * (x @ p.value.w)) @ p.out.w,
    ),
    "dense-heads": (  # each head has one feature, and each of two maps one output of it
        sc.Dense(4, heads=2),
        lambda p, x: np.concatenate([x, x], axis=-1) * p.w[0] + p.b,
    ),
    "dense-gelu": (sc.Dense(4, "gelu_exact"), lambda p, x: exact_gelu(x @ p.w + p.b)),
    "activation": (sc.Activation("silu"), lambda p, x: SILU(x)),
    "take": (sc.Take(1, 2), lambda p, x: x[..., 1:]),
    "rms": (
        sc.Norm("rms", eps=0.1),
        lambda p, x: x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.1) * p.scale,
    ),
    "layer": (sc.Norm("layer", eps=0.1), lambda p, x: normal(x, 0.1) * p.scale + p.shift),
    "rms-heads": (
        sc.Norm("rms", eps=0.1, heads=2),
        lambda p, x: x / np.sqrt(x**2 + 0.1) * p.scale,
    ),
    "layer-nobias": (
        sc.Norm("layer", eps=0.1, bias="none"),
        lambda p, x: normal(x, 0.1) * p.scale,
    ),
    "dropout": (sc.Dropout(0.5), lambda p, x: x),
    "pointwise": (sc.Pointwise(None, tripled), lambda p, x: 3 * x + 1),
}
over_equations = pytest.mark.parametrize("name", EQUATIONS)


@over_equations
def test_every_step_equals_the_equation_and_padding_is_inert(name):
    layer, equation = EQUATIONS[name]
    params, dirty = drawn(layer), np.where(VALID[..., None], XS, np.nan)

    def loss(params, xs):
        ys = sc.unroll(layer, params, xs, **FLAGS)[1]
        return jnp.sum(jnp.sin(ys)), ys

    (d_params, d_xs), ys = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, dirty)
    expected = equation(params, XS)
    assert_close(ys, np.where(VALID[..., None], expected, 0), 1e-12)
    assert not np.any(np.asarray(d_xs)[~VALID])
    bumped = jax.tree.map(lambda a: 1e-6 * RNG.normal(size=a.shape), params)
    both = [jax.tree.map(lambda a, b, s=s: a + s * b, params, bumped) for s in (1, -1)]
    up, down = (np.sum(np.sin(equation(p, XS))[VALID]) for p in both)
    slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, d_params, bumped)))
    assert float(slope) == pytest.approx((up - down) / 2, abs=1e-13)


@over_equations
def test_a_step_is_one_of_an_unrolled_sequence_and_the_carry_is_empty(name):
    layer, equation = EQUATIONS[name]
    params = drawn(layer)
    with jax.disable_jit():  # all layers share the compiled operations
        assert layer.init_carry(XS[0], params) == ()
        carry, y = layer.step(params, (), XS[0], reset=np.array([True, False, True]))
    assert carry == ()
    assert_close(y, equation(params, XS[0]), 1e-12)
    assert sc.trajectory(layer, params, XS) == ()
    empty = jax.eval_shape(sc.unroll, layer, params, XS[:0])[1]
    assert empty.shape == (0, *y.shape)


def test_a_symbol_is_a_row_and_others_are_not_a_number():
    layer = sc.Embed(5, 3)
    params, xs = drawn(layer, ()), RNG.integers(0, 5, (T, B))
    assert params.w.shape == (5, 3)
    dirty = np.where(VALID, xs, -7)
    ys = sc.unroll(layer, params, dirty, **FLAGS)[1]
    assert_same_bits(ys, np.where(VALID[..., None], params.w[xs], 0))
    count = jax.grad(lambda p: jnp.sum(sc.unroll(layer, p, dirty, **FLAGS)[1]))(params).w
    np.testing.assert_array_equal(count[:, 0], np.bincount(xs[VALID], minlength=5))
    wrong = xs.copy()
    wrong[2, 1], wrong[3, 0] = 5, -1
    ys = jax.jit(sc.unroll)(layer, params, wrong)[1]
    np.testing.assert_array_equal(np.isnan(ys), (xs != wrong)[..., None] & np.ones(3, bool))
    for call in (sc.unroll, sc.debug.checked(jax.jit(sc.unroll))):
        with pytest.raises(ValueError, match="xs: expected symbols below 5, got values from -1"):
            call(layer, params, wrong)


def test_a_tied_stack_reads_out_with_the_matrix_of_its_embedding():
    net = sc.Stack((sc.Embed(5, 3), sc.Dense(3, "tanh")), tied=True)
    params, xs = drawn(net, ()), RNG.integers(0, 5, (T, B))
    ys = sc.unroll(net, params, np.where(VALID, xs, -7), **FLAGS)[1]
    expected = np.tanh(affine(params[1], params[0].w[xs])) @ params[0].w.T
    assert_close(ys, np.where(VALID[..., None], expected, 0), 1e-12)
    assert net.output_size(()) == 5
    assert "Total parameters: 27 " in sc.summary(net, ())


def test_dropout_is_drawn_anew_at_every_step_and_keeps_the_mean():
    layer, ones = sc.Dropout(0.25), jnp.ones((400, 5, 10))
    _, ys = sc.unroll(layer, None, ones, key=KEY)
    assert set(np.unique(ys)) == {0, 1 / 0.75}
    assert abs(float(ys.mean()) - 1) < 4 * np.sqrt(0.25 / 0.75 / ys.size)
    assert np.any(ys[0] != ys[1])
    assert_same_bits(sc.unroll(layer, None, ones)[1], ones)


def test_narrow_inputs_are_summed_in_float32():
    xs = jnp.full((1, 1000), 1.0, "bfloat16")
    dense = sc.Dense(1, w_init=sc.initializers.ones, param_dtype="bfloat16")
    y = dense.step(dense.init(KEY, 1000), (), xs)[1]
    assert (y.dtype, float(y[0, 0])) == ("bfloat16", 1000)
    norm, big = sc.Norm("rms"), jnp.full((1, 4), 300, "float16")  # its square is no float16
    y = norm.step(norm.init(KEY, 4), (), big)[1]
    assert (y.dtype, y.tolist()) == ("float16", [[1, 1, 1, 1]])
    zero = sc.Norm("rms", dtype="float32").step(norm.init(KEY, 4), (), 0 * big)[1]
    assert (zero.dtype, zero.tolist()) == ("float32", [[0, 0, 0, 0]])
    embed = sc.Embed(2, 1, param_dtype="bfloat16")
    params = embed.init(KEY)
    tokens = jnp.zeros((1000,), int)
    count = jax.grad(lambda p: jnp.sum(sc.unroll(embed, p, tokens)[1].astype("float32")))(params)
    assert (count.w.dtype, count.w.tolist()) == ("bfloat16", [[1000], [0]])


SEEN = []


class Noting(nn.Module):
    """A module that notes what it is called with."""

    @nn.compact
    def __call__(self, x):
        SEEN.append(x.shape)
        return nn.Dense(4, dtype=x.dtype)(x)


def test_a_module_of_flax_is_a_layer_and_sees_one_step():
    module = Noting()
    net = sc.Stack((sc.GRU(D), sc.Pointwise(module.init, module.apply)))
    params = net.init(KEY, D)
    assert set(SEEN) == {(D,)}
    _, hs = sc.unroll(sc.GRU(D), params[0], XS)
    assert_close(sc.unroll(net, params, XS)[1], module.apply(params[1], hs), 1e-12)
    assert {shape for shape in SEEN if len(shape) == 2} == {(B, D)}


def test_a_whole_net_is_one_value():
    """Embedding, norm, recurrence and readout, in both modules of Flax and with a summary."""
    net = sc.Stack((sc.Embed(5, 4), sc.Norm("rms"), sc.Dropout(0.1), sc.GRU(3), sc.Dense(2)))
    params, xs = net.init(KEY, ()), jnp.asarray(RNG.integers(0, 5, (T, B)))
    _, expected = sc.unroll(net, params, xs)
    rnn = sc.nnx.RNN(net, (), rngs=nnx.Rngs(0))
    rnn.load(params)
    assert_close(rnn(xs)[1], expected)
    variables = sc.linen.RNN(net).init(KEY, xs)
    assert len(variables["params"]) == len(jax.tree.leaves(params))
    assert "Total parameters: 113" in sc.summary(net, ())  # 20 + 4 + 81 + 8
    assert repr(net.layers) == "(Embed(5, 4), Norm('rms'), Dropout(0.1), GRU(3), Dense(2))"


WRONG = {
    "two sizes": (
        lambda: sc.Dense(3, 4),
        ValueError,
        "activation: .*'silu', got 4; pass the size",
    ),
    "no features": (lambda: sc.Dense(0), ValueError, "size: expected an int >= 1, got 0"),
    "a bias of False": (lambda: sc.Dense(3, bias=False), ValueError, "bias: .*'single', 'none'"),
    "a gate that is no activation": (
        lambda: sc.GLU(3, "swish"),
        ValueError,
        "activation: expected one of .*'silu', got 'swish'",
    ),
    "no width": (lambda: sc.MLP(0), ValueError, "width: expected an int >= 1, got 0"),
    "outputs of no features": (lambda: sc.GLU(3, size=0), ValueError, "size: .* >= 1, got 0"),
    "another norm": (lambda: sc.Norm("batch"), ValueError, "kind: .*'rms', 'layer', got 'batch'"),
    "an eps of 0": (lambda: sc.Norm("rms", eps=0), ValueError, "eps: expected a number above 0"),
    "a norm of nothing": (lambda: sc.Norm("rms").init(KEY, 0), ValueError, "input_size: .*>= 1"),
    "no symbols": (lambda: sc.Embed(0, 3), ValueError, "vocabulary: expected an int >= 1"),
    "a rate of 1": (lambda: sc.Dropout(1.0), ValueError, "rate: .*below 1, got 1.0"),
    "a module uncalled": (
        lambda: sc.Pointwise(None, nn.Dense(3)),
        TypeError,
        r"apply_fn: expected a function, got .*; write Pointwise\(module.init, module.apply\)",
    ),
    "no batch": (
        lambda: sc.unroll(sc.Pointwise(None, lambda p, x: x.sum(0)), None, XS),
        ValueError,
        r"apply_fn: expected outputs with the batch axes \[3\] first, got float64\[2\]",
    ),
    "heads of another size": (
        lambda: sc.Norm("rms", heads=2).init(KEY, 3),
        ValueError,
        "heads: expected a divisor of input_size = 3, got 2",
    ),
    "outputs that heads cannot make": (
        lambda: sc.Dense(6, heads=2).init(KEY, 4),
        ValueError,
        "input_size: expected a divisor of size = 6, got 4",
    ),
    "nothing to read out with": (
        lambda: sc.Stack((sc.Dense(3), sc.GRU(3)), tied=True),
        ValueError,
        r"tied: expected an Embed as the first of the layers, got Dense\(3\)",
    ),
    "outputs that an embedding cannot read": (
        lambda: sc.Stack((sc.Embed(5, 3), sc.Dense(2)), tied=True).output_size(()),
        ValueError,
        r"tied: expected a last layer with 3 outputs, which Embed\(5, 3\) can read, got 2",
    ),
    "features that are not there": (
        lambda: sc.Take(1, 4).output_size(3),
        ValueError,
        r"xs: expected at least stop = 4 features, got 3 for Take\(1, 4\)",
    ),
    "an empty range": (lambda: sc.Take(2, 2), ValueError, "stop: expected an int >= 3, got 2"),
    "another activation": (lambda: sc.Activation("swish"), ValueError, "kind: .* got 'swish'"),
    "floats for symbols": (
        lambda: sc.unroll(sc.Embed(3, 2), sc.Embed(3, 2).init(KEY), XS),
        TypeError,
        "xs: expected an integer dtype, got float64",
    ),
    "no parameters": (
        lambda: sc.unroll(sc.Dense(2), None, XS),
        ValueError,
        r"params: Dense\(2\) on inputs of 2 features .* got None",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_says_what_was_expected(name):
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call()
