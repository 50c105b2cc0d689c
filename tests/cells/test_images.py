"""Cells of images: they convolve as JAX does, and compose with layers that read features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells._convolution import convolve
from tests.cells.test_cells import Question
from tests.support import laws
from tests.support.laws import assert_close

pytestmark = pytest.mark.usefixtures("x64")

T, B, C, F = 4, 2, 2, 3
XS = np.random.default_rng(0).normal(size=(T, B, 4, 5, C))


def conv(x, w):
    return jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def gru_step(params, h, x, reset_after):
    w, u, b, c = params
    x_r, x_z, x_n = jnp.split(conv(x, w) + b, 3, -1)
    h_r, h_z, h_n = jnp.split(conv(h, u) + c, 3, -1)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    if not reset_after:
        h_n = conv(r * h, u[..., 2 * F :]) + c[2 * F :]
    n = jnp.tanh(x_n + (r * h_n if reset_after else h_n))
    h = (1 - z) * h + z * n
    return h, h


def lstm_step(params, carry, x):
    w, u, b = params
    i, f, g, o = jnp.split(conv(x, w) + conv(carry.h, u) + b, 4, -1)
    c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return sc.LSTMCarry(h, c), h


def same(params, x):
    return x


LOOPS = {
    "after": (sc.ConvGRU(F), lambda *a: gru_step(*a, reset_after=True)),
    "before": (sc.ConvGRU(F, reset_after=False), lambda *a: gru_step(*a, reset_after=False)),
    "lstm": (sc.ConvLSTM(F, kernel_size=(2, 3), recurrent_kernel_size=5), lstm_step),
}


@pytest.mark.parametrize("name", LOOPS)
def test_value_and_gradient_are_those_of_a_loop_of_jaxs_convolutions(name):
    cell, step = LOOPS[name]
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), C))
    params = jax.tree.map(lambda a: 0.4 * rng.normal(size=a.shape), shapes)

    def by_hand(params, xs):
        carry, ys = cell.init_carry(xs[0]), []
        for x in xs:
            carry, y = step(params, carry, x)
            ys.append(y)
        return carry, jnp.stack(ys)

    def graded(run):
        def loss(params, xs):
            out = run(params, xs)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out)), out

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, jnp.asarray(XS))

    assert_close(graded(lambda *args: sc.unroll(cell, *args)), graded(by_hand))


AXES = {"images": (0, None), "kernels": (None, 3), "both": (1, 0)}


@pytest.mark.parametrize("kernel", [(3, 3), (2, 4)])
@pytest.mark.parametrize("axes", [*AXES, None])
def test_every_derivative_of_a_convolution_is_that_of_jaxs(kernel, axes):
    rng = np.random.default_rng(0)
    x, w = jnp.asarray(rng.normal(size=(2, 3, 2, 1))), jnp.asarray(rng.normal(size=(*kernel, 1, 2)))

    def all_of(product):
        def loss(x, w):
            return jnp.sum(jnp.sin(product(x, w)))

        if axes is None:
            return jax.jit(jax.hessian(loss, (0, 1)))(x, w)
        args = [
            a if axis is None else jnp.stack([a, 2 * a], axis)
            for a, axis in zip((x, w), AXES[axes], strict=True)
        ]
        tangents = jax.vmap(lambda *args: jax.jvp(loss, args, args)[1], AXES[axes])
        return jax.jit(jax.vmap(jax.grad(loss, (0, 1)), AXES[axes]))(*args), tangents(*args)

    assert_close(all_of(lambda x, w: convolve(x, w, None, x.dtype)), all_of(conv))


@pytest.mark.parametrize(
    ("cell", "engine"),  # windows that overlap, and a cell to which a reset is more than a carry
    [(sc.GRU(F), sc.Deferred(chunk=3, keep=())), (Question(), sc.Scan())],
)
def test_a_cell_of_features_above_reads_each_pixel_as_a_sequence(cell, engine):
    """Under flags of whole images."""
    images, resets = XS[:, :, :1, :2], np.arange(T * B).reshape(T, B) % 3 == 1
    net = sc.Stack((sc.Pointwise(None, same, x_ndim=3), cell))
    params = net.init(jax.random.key(0), (1, 2, C))
    flags = {"lengths": np.array([T, 2]), "resets": resets}
    carry, ys = sc.unroll(net, params, images, **flags, engine=engine)
    _, y = net.step(params, net.init_carry(images[0], params), images[0], resets[0])
    for pixel in range(2):
        end, expected = sc.unroll(cell, params[1], images[:, :, 0, pixel], **flags)
        assert_close((carry[1][:, 0, pixel], ys[:, :, 0, pixel]), (end, expected))
        assert_close(y[:, 0, pixel], expected[0])


def test_parameters_do_not_depend_on_the_size_of_images():
    for cell in (sc.ConvGRU(F), sc.LayerNorm(sc.ConvLSTM(F, bias="none")), sc.Zoneout(LSTM)):
        key = jax.random.key(0)
        laws.assert_same_bits(cell.init(key, C), cell.init(key, (4, 5, C)))
    assert "(T, B, 4, 5, 3)" in sc.summary(LSTM, (4, 5, C))
    one = sc.ConvGRU(F, kernel_size=5, recurrent_kernel_size=(5, 5))
    assert one == sc.ConvGRU(F, kernel_size=(5, 5))


LSTM, KEY = sc.ConvLSTM(F), jax.random.key(0)
LEARNED = sc.Recurrent(LSTM, learned_carry=True)
WRONG = {
    "a kernel of one side": (
        lambda: sc.ConvGRU(F, kernel_size=(3,)),
        r"kernel_size: expected an int or \(height, width\)",
    ),
    "a kernel of no pixel": (
        lambda: sc.ConvLSTM(F, recurrent_kernel_size=(1, 0)),
        "recurrent_kernel_size: expected an int >= 1, got 0",
    ),
    "a size without channels": (
        lambda: LSTM.init(KEY, (4, 5)),
        r"input_size: expected the channels of an image, or its \(height, width, channels\)",
    ),
    "other channels": (
        lambda: sc.unroll(LSTM, LSTM.init(KEY, C + 1), XS),
        r"params: ConvLSTM\(3\) on inputs of \(4, 5, 2\) features",
    ),
    "no image": (
        lambda: sc.unroll(LSTM, LSTM.init(KEY, C), XS[:, 0, 0]),
        "xs: .*at least 4 axes, the last 3 of them features",
    ),
    "a carry learned for one pixel": (
        lambda: sc.unroll(LEARNED, LEARNED.init(KEY, C), XS),
        r"params.carry: expected LSTMCarry\(h: float64\[4, 5, 3\]",
    ),
    "features below images": (
        lambda: sc.Stack((sc.Dense(2), LSTM)).init(KEY, C),
        r"layers: expected outputs of Dense\(2\) that ConvLSTM\(3\) can read, .*3 axes of features",
    ),
    "a kernel engine": (
        lambda: sc.select_engine(LSTM, XS, engine=sc.PallasTriton(interpret=True)),
        "its input in a step has 3 axes of its own, not 1",
    ),
    "signs of a kernel": (
        lambda: sc.Constrained(LSTM, sc.Dale(0.5)),
        "declares neither RECURRENT_WEIGHTS nor RECURRENT_MATRIX",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_with_the_reason(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()
