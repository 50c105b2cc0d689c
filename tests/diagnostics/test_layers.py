"""Laws of the diagnostics of whole nets, and of double precision where asked for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import seqcells as sc
from seqcells import diagnostics
from seqcells.diagnostics import gradient_by_lag, in_float64, layer_gradients_by_lag, recurrences
from tests.support.laws import CASES, B, D, H, T, assert_close, draw

KEY = jax.random.key(0)
exact = pytest.mark.usefixtures("strict", "x64")
by_layer = jax.jit(layer_gradients_by_lag, static_argnums=3)


def last_sum(ys):
    return jnp.sum(jnp.sin(ys[-1]))


def all_sum(ys):
    return jnp.sum(jnp.sin(ys))


@dataclasses.dataclass(frozen=True)
class Doubled(sc.Layer):
    """A layer of a user's own, with another within."""

    inner: sc.Layer

    def init(self, key, input_size):
        return self.inner.init(key, input_size)

    def init_carry(self, x, params=None):
        return self.inner.init_carry(x, params)

    def run(self, params, xs, start, time, key):
        return time.run(self.inner, params, 2 * xs, start, key)


NETS = {
    "cell": sc.GRU(H),
    "stack": sc.Stack((sc.RNN(4), sc.LSTM(H))),
    "skip": sc.Stack((sc.RNN(4), sc.Recurrent(sc.GRU(H))), skip=True),
    "learned": sc.Stack((sc.Recurrent(sc.LSTM(4), learned_carry=True), sc.RNN(H))),
    "reverse": sc.Stack((sc.RNN(H), sc.Recurrent(sc.GRU(H), reverse=True))),
    "both": sc.Stack((sc.Bidirectional(sc.GRU(H), sc.LSTM(H)), sc.Residual(sc.RNN(2 * H)))),
    "own": sc.Stack((sc.RNN(H), Doubled(sc.Recurrent(sc.GRU(H))))),
}


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


def drawn(net, batch=(B,)):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: net.init(KEY, D))
    params = jax.tree.map(lambda a: jnp.asarray(0.6 * rng.normal(size=a.shape)), shapes)
    return params, jnp.asarray(rng.normal(size=(T, *batch, D)))


@exact
@pytest.mark.parametrize(
    "name", ["learned", "both", "own", *map(slow, ("cell", "stack", "skip", "reverse"))]
)
def test_every_cell_of_a_net_is_found_with_what_it_is_run_on(name):
    """The ends that the cells reach by themselves are the carry of the net, leaf by leaf."""
    net, batch = NETS[name], (2, B) if name == "both" else ()
    params, xs = drawn(net, batch)
    found = jax.jit(recurrences)(net, params, xs)
    end = jax.tree.leaves(sc.unroll(net, params, xs)[0])
    ends = jax.jit(lambda found: [sc.unroll(cell, *given)[0] for cell, *given in found])(found)
    assert_close(jax.tree.leaves(ends), end)
    shapes = jax.eval_shape(
        lambda: [diagnostics.jacobian_by_lag(cell, *given) for cell, *given in found]
    )
    assert all(shape.log_norm.shape == (T + 1, *batch) for shape in shapes)


@exact
def test_the_carry_of_a_net_is_split_among_its_cells():
    net = NETS["stack"]
    params, xs = drawn(net)
    start = jax.tree.map(jnp.cos, sc.unroll(net, params, xs)[0])
    assert_close(tuple(one.carry for one in recurrences(net, params, xs, start)), start)
    learned = recurrences(NETS["learned"], *drawn(NETS["learned"]))[0]
    expected = drawn(NETS["learned"])[0][0].carry
    assert_close(learned.carry.c, np.broadcast_to(expected.c, (B, 4)))


@exact
def test_the_dynamics_of_a_net_are_those_of_its_step():
    """Row by row, backward; and the exponents of all directions add up to the mean ln |det|."""
    net = NETS["stack"]
    params, xs = drawn(net, ())
    flat, back = ravel_pytree(net.init_carry(xs[0]))
    expected = []
    for x in xs:
        step = lambda h, x=x: ravel_pytree(net.step(params, back(h), x)[0])[0]  # noqa: E731
        expected.append(jax.jit(jax.jacrev(step))(flat))
        flat = step(flat)
    jacobians = jax.jit(diagnostics.step_jacobians)(net, params, xs)
    assert_close(jacobians, np.stack(expected))
    exponents = jax.jit(diagnostics.lyapunov_exponents)(net, params, xs)
    assert_close(np.sum(exponents), np.mean(np.linalg.slogdet(jacobians)[1]), 1e-9)


@exact
@pytest.mark.parametrize(("name", "loss"), [("stack", all_sum), ("learned", last_sum)])
def test_a_layers_gradient_goes_through_the_layers_above(name, loss):
    """Against a loop in which one layer's carry is nudged after every step."""
    layers, (params, xs) = NETS[name].layers, drawn(NETS[name])
    first = jax.tree.map(jnp.cos, sc.unroll(NETS[name], params, xs)[0])
    norms = by_layer(NETS[name], params, xs, loss, first)
    assert len(norms) == len(layers)
    for i, (cell, own, seen, start) in enumerate(recurrences(NETS[name], params, xs, first)):

        def moved(nudges, i=i, cell=cell, own=own, seen=seen, carry=start):
            ys = []
            for t in range(T):
                carry, _ = cell.step(own, carry, seen[t])
                carry = jax.tree.map(lambda a, e, t=t: a + e[t], carry, nudges)
                ys.append(cell.read(own, carry, cell.project(own, seen[t])))
            out = jnp.stack(ys)
            for layer, *above in zip(layers[i + 1 :], params[i + 1 :], first[i + 1 :], strict=True):
                out = sc.unroll(layer, above[0], out, above[1])[1]
            return loss(out)

        still = jax.tree.map(lambda a: jnp.zeros((T, *a.shape)), start)
        gradient = jax.tree.leaves(jax.jit(jax.grad(moved))(still))
        expected = np.linalg.norm(np.concatenate(gradient, axis=-1), axis=-1)[::-1]
        assert_close(norms[i], expected, 1e-10)


@exact
def test_of_a_cell_it_is_the_gradient_by_lag():
    params, xs = drawn(NETS["cell"])
    (norms,) = by_layer(NETS["cell"], params, xs, all_sum)
    assert_close(norms, gradient_by_lag(NETS["cell"], params, xs, all_sum))


@exact
def test_lags_count_back_in_time_also_where_a_cell_reads_in_reverse():
    net = sc.Bidirectional(sc.GRU(H), sc.LSTM(H))
    params, xs = drawn(net)
    ahead, back = by_layer(net, params, xs, all_sum)  # of outputs side by side: a sum of two
    assert_close(ahead, gradient_by_lag(net.forward, params.forward, xs, all_sum))
    alone = gradient_by_lag(net.backward, params.backward, xs[::-1], all_sum)
    assert_close(back, alone[::-1])


@exact
def test_what_a_layer_does_to_its_input_or_output_is_differentiated():
    net = sc.Residual(sc.RNN(D))
    params, xs = drawn(net)
    (norms,) = by_layer(net, params, xs, all_sum)
    added = gradient_by_lag(sc.RNN(D), params, xs, lambda ys: all_sum(ys + xs))
    assert_close(norms, added)
    net = Doubled(sc.Recurrent(sc.GRU(H)))
    params, xs = drawn(net)
    (norms,) = by_layer(net, params, xs, all_sum)
    assert_close(norms, gradient_by_lag(sc.GRU(H), params, 2 * xs, all_sum))


@exact
def test_nets_may_be_mapped_over_weights():
    net = sc.Stack((sc.LSTM(4), sc.GRU(H)))
    params, xs = drawn(net)
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    norms = jax.jit(jax.vmap(lambda p: layer_gradients_by_lag(net, p, xs, last_sum)))(many)
    twice = jax.tree.map(lambda a: 2 * a, params)
    assert_close(tuple(norm[1] for norm in norms), by_layer(net, twice, xs, last_sum))


DECAY = sc.RNN(2, "identity", w_hh_init=sc.initializers.Identity(0.1))


def decay_by_lag(params):
    xs = jnp.ones((60, 1), params.w_ih.dtype)
    return gradient_by_lag(DECAY, params, xs, lambda ys: ys[-1, 0])


@pytest.mark.slow
def test_what_underflows_in_single_does_not_in_double():
    params = DECAY.init(KEY, 1)
    assert float(decay_by_lag(params)[59]) == 0
    wide = in_float64(decay_by_lag)
    expected = np.float64(params.w_hh[0, 0]) ** np.arange(60)
    for way in (wide, jax.jit(wide), in_float64(jax.jit(decay_by_lag))):
        norms = way(params)
        assert norms.dtype == "float64"
        np.testing.assert_allclose(norms, expected, rtol=1e-12)
    many = jax.jit(jax.vmap(wide))(jax.tree.map(lambda a: jnp.stack([a, a]), params))
    np.testing.assert_allclose(many[1], expected, rtol=1e-12)
    assert jnp.ones(1).dtype == "float32"  # the setting is as it was


def test_a_gradient_within_is_in_double():
    grad = in_float64(jax.grad(lambda params: jnp.sum(decay_by_lag(params))))
    gradient = jax.jit(grad)(DECAY.init(KEY, 1)).w_hh
    expected = sum(k * np.float64(np.float32(0.1)) ** (k - 1) for k in range(60))
    np.testing.assert_allclose(gradient[0, 0], expected, rtol=1e-12)


def test_only_floating_arrays_become_double():
    given = {"a": np.ones(2, "float32"), "b": jnp.arange(2), "c": jnp.ones(2, "bfloat16"), "d": 1.5}
    came = in_float64(lambda tree, *, flag: (tree, flag))(given, flag=True)
    assert came[1] is True
    assert came[0]["d"] == 1.5
    kinds = {name: str(came[0][name].dtype) for name in "abc"}
    assert kinds == {"a": "float64", "b": "int32", "c": "float64"}


def test_the_setting_is_as_it_was_after_an_error_too():
    with pytest.raises(TypeError, match="cell"):
        in_float64(diagnostics.gate_values)(sc.RNN(H), sc.RNN(H).init(KEY, D), jnp.ones((T, D)))
    assert jnp.ones(1).dtype == "float32"


def test_in_double_a_diagnosis_of_a_cell_is_that_of_a_program_in_double():
    problem = draw(CASES["gru-after-double"])
    norms = in_float64(gradient_by_lag)(sc.GRU(H), problem.params, problem.xs, last_sum)
    with jax.enable_x64(True):
        expected = gradient_by_lag(sc.GRU(H), problem.params, problem.xs, last_sum)
    np.testing.assert_allclose(norms, expected, rtol=1e-14)
