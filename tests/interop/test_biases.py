"""Biases of GRUs elsewhere: cells that have as many, and a fold for those that have more."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import seqcells as sc
from seqcells import interop
from tests.support.interop import GRU, LSTM, SLSTM, D, H, drawn
from tests.support.laws import assert_same_bits

CANDIDATE = sc.GRU(H, bias="candidate")
XS = np.random.default_rng(1).normal(size=(5, 2, D)).astype("f")
FOLDED = [  # a model, and what it becomes
    (GRU, CANDIDATE),
    (sc.GRU(H, reset_after=False), sc.GRU(H, reset_after=False, bias="single")),
    (sc.MGU(H, bias="double"), sc.MGU(H, bias="single")),
    (sc.MGU(H, bias="double", reset_after=True), sc.MGU(H, bias="candidate", reset_after=True)),
    (sc.Recurrent(GRU, learned_carry=True), sc.Recurrent(CANDIDATE, learned_carry=True)),
    (sc.Stack((GRU, LSTM)), sc.Stack((CANDIDATE, LSTM))),
    (
        sc.Stack((sc.Bidirectional(GRU, LSTM), sc.Residual(sc.GRU(2 * H)))),
        sc.Stack(
            (
                sc.Bidirectional(sc.Recurrent(CANDIDATE), sc.Recurrent(LSTM, reverse=True)),
                sc.Residual(sc.GRU(2 * H, bias="candidate")),
            )
        ),
    ),
    *((same, same) for same in (CANDIDATE, LSTM, sc.GRU(H, bias="none"), sc.LayerNorm(GRU))),
]


@pytest.mark.parametrize(("model", "expected"), FOLDED)
def test_a_fold_computes_the_same_with_fewer_biases(model, expected):
    params = drawn(model)
    folded, fewer = interop.fold_biases(model, params)
    assert folded == expected
    for got, wanted in zip(
        jax.tree.leaves(jax.jit(sc.unroll)(folded, fewer, XS)),
        jax.tree.leaves(jax.jit(sc.unroll)(model, params, XS)),
        strict=True,
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    with pytest.raises(ValueError, match="params: "):
        interop.fold_biases(model, drawn(sc.RNN(H)))


@pytest.mark.parametrize("name", ["linen", "equinox", "torch", "keras", "onnx"])
def test_a_bias_of_the_candidate_alone_goes_and_comes_back_to_the_bit(name):
    module, params = getattr(interop, name), drawn(CANDIDATE)
    arrays = module.dump(CANDIDATE, params)
    assert_same_bits(module.load(arrays, CANDIDATE), params)
    full = params._replace(b_hh=jnp.concatenate([jnp.zeros(2 * H), params.b_hh]))
    assert_same_bits(module.load(arrays, GRU), full)


def test_other_recurrent_biases_have_no_place_and_the_fold_makes_one():
    params = drawn(GRU)
    with pytest.raises(ValueError, match=r"b_hh: .* for the gates r, z .*fold_biases"):
        interop.linen.dump(GRU, params)
    with pytest.raises(ValueError, match=r"b_hh: GRU\(4, bias='candidate'\) has no .* r, z "):
        interop.torch.load(interop.torch.dump(GRU, params), CANDIDATE)
    interop.linen.dump(*interop.fold_biases(GRU, params))


def test_arrays_that_linen_has_boxed_are_read():
    params = drawn(CANDIDATE)
    boxed = jax.tree.map(
        lambda a: linen.Partitioned(a, (None,)), interop.linen.dump(CANDIDATE, params)
    )
    assert_same_bits(interop.linen.load(boxed, CANDIDATE), params)


def test_a_gru_trains_as_that_of_linen():
    """With b_hh for n alone the same gradients are there, so losses agree over many updates."""
    theirs = linen.RNN(linen.GRUCell(H), time_major=True)
    variables = theirs.init(jax.random.key(0), XS)
    targets = jnp.sin(jnp.arange(5 * 2 * H, dtype="f")).reshape(5, 2, H)

    def losses(run, params, optimizer):
        @jax.jit
        def update(params, state):
            loss = lambda params: jnp.mean(jnp.square(run(params) - targets))  # noqa: E731
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

        state, values = optimizer.init(params), []
        for _ in range(8):
            params, state, value = update(params, state)
            values.append(float(value))
        return values

    params = interop.linen.load(variables, CANDIDATE)
    expected = losses(lambda v: theirs.apply(v, XS), variables, optax.sgd(0.5))
    got = losses(lambda p: sc.unroll(CANDIDATE, p, XS)[1], params, optax.sgd(0.5))
    np.testing.assert_allclose(got, expected, atol=1e-5)


TRACED = [
    *((name, CANDIDATE) for name in ("linen", "equinox")),
    *((name, GRU) for name in ("torch", "keras", "onnx")),
    *((name, sc.Stack((LSTM, sc.RNN(H)))) for name in ("nnx", "onnx")),
    *((name, sc.Stack((sc.RNN(H, "relu"), LSTM))) for name in ("haiku",)),
    *((name, sc.Bidirectional(LSTM)) for name in ("torch", "linen", "onnx")),
    ("flashrnn", SLSTM),
]


@pytest.mark.parametrize(("name", "model"), TRACED)
def test_weights_can_be_loaded_in_a_traced_function(name, model):
    arrays = getattr(interop, name).dump(model, drawn(model))
    load = lambda arrays: getattr(interop, name).load(arrays, model)  # noqa: E731
    assert_same_bits(jax.jit(load)(arrays), load(arrays))


def test_what_must_be_seen_is_refused_in_a_traced_function():
    arrays = interop.torch.dump(GRU, drawn(GRU))
    with pytest.raises(TypeError, match=r"b_hh: .* r, z .*be zero, got traced arrays; con"):
        jax.jit(lambda arrays: interop.torch.load(arrays, CANDIDATE))(arrays)
    with pytest.raises(TypeError, match="params: expected arrays, got traced ones; call dump outs"):
        jax.jit(lambda params: interop.torch.dump(GRU, params))(drawn(GRU))


def simple_linen():
    """Variables of a SimpleCell with a residual, its outputs, and its gradients."""
    rnn = linen.RNN(linen.SimpleCell(4, residual=True))
    variables = rnn.init(jax.random.key(0), SHORT)
    gradient = jax.grad(lambda v: jnp.sum(jnp.sin(rnn.apply(v, SHORT))))(variables)
    return interop.linen.load, variables, rnn.apply(variables, SHORT), gradient


def simple_nnx():
    """The same of NNX."""
    rnn = nnx.RNN(nnx.SimpleCell(3, 4, residual=True, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    gradient = nnx.grad(lambda rnn: jnp.sum(jnp.sin(rnn(SHORT))))(rnn)
    return interop.nnx.load, nnx.state(rnn, nnx.Param), rnn(SHORT), gradient


SHORT = jax.random.normal(jax.random.key(1), (2, 7, 3))


@pytest.mark.parametrize("made", [simple_linen, simple_nnx])
def test_a_simple_cell_with_a_residual_is_an_rnn_with_the_identity_added(made):
    """Also in its gradients, by which both train alike: dL/dU is dL/dW_h."""
    load, variables, ys, gradient = made()
    cell = sc.RNN(4)
    params = load(variables, cell)
    params = params._replace(w_hh=params.w_hh + jnp.eye(4))
    run = lambda params: sc.unroll(cell, params, SHORT, time_axis=1)[1]  # noqa: E731
    np.testing.assert_allclose(run(params), ys, atol=1e-5)
    ours = jax.grad(lambda p: jnp.sum(jnp.sin(run(p))))(params)
    for a, b in zip(ours, load(gradient, cell), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
