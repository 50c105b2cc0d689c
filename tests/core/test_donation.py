"""Memory that is handed over: no buffer stands twice in what a model or a training makes."""

import jax
import jax.numpy as jnp
import optax
import pytest

import seqcells as sc
from seqcells import train
from tests.support import laws

X = jnp.ones((2, laws.D))


def assert_apart(tree):
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)]
    assert len(set(buffers)) == len(buffers)


@laws.over_cells
def test_a_first_carry_of_a_cell_can_be_donated(case):
    assert_apart(case.cell.init_carry(jnp.ones((2, *case.x))))


@pytest.mark.parametrize("name", ["learned", "deep", "bidirectional"])
def test_parameters_and_a_first_carry_of_a_layer_can_be_donated(name):
    params = laws.NETS[name].init(jax.random.key(0), laws.D)
    assert_apart((params, laws.NETS[name].init_carry(X, params)))


@laws.over_families
def test_what_a_step_returns_can_be_donated(case):
    params = jax.tree.map(jnp.float32, laws.draw(case).params)
    assert_apart(case.cell.step(params, case.cell.init_carry(X), X))


def test_an_actor_donates_its_carry():
    cell = sc.LSTM(laws.H)
    params = cell.init(jax.random.key(0), laws.D)
    expected = cell.step(params, cell.init_carry(X), X)
    act = jax.jit(cell.step, donate_argnums=1)
    laws.assert_close(act(params, cell.init_carry(X), X), expected, 1e-6)


def test_a_state_of_training_can_be_donated():
    layer = sc.Recurrent(sc.LSTM(2), learned_carry=True)
    params = layer.init(jax.random.key(0), 1)
    both = optax.LookaheadParams(params, params)  # as `LookaheadParams.init_synced` shares them
    ahead = optax.lookahead(optax.adam(0.1), 5, 0.5)
    state = train.init(both, {}, jax.random.key(0), lambda _: ahead)
    assert_apart(state._replace(key=jax.random.key_data(state.key)))
