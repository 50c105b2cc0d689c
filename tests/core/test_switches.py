"""One value and one gradient under each switch of JAX; `pytest --switch NAME` tries all laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import seqcells as sc
from tests.support import laws
from tests.support.switches import MESHES, SWITCHES, switched


@pytest.mark.parametrize(
    "switch",  # without jit run most of the tests of test_step.py, too
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "eager")) for name in SWITCHES],
)
def test_a_gradient_is_the_same_under_every_switch(switch):
    case, flags = laws.CASES["gru-after-double"], laws.draw_flags()
    problem = jax.tree.map(jnp.float32, laws.draw(case))
    with switched(switch):
        got = laws.run_gradient(case.cell, problem, flags, engine=sc.Deferred())
    expected = laws.expect(case, problem, flags), laws.expect_gradient(case, problem, flags)
    laws.assert_close(got, expected, 1e-4)


def test_a_carry_is_in_the_precision_that_is_on():
    def carry_fn(x):
        return jnp.zeros(x.shape[:-1])  # float64 under x64, whatever x is

    cell = sc.FunctionCell(lambda params, carry, x: (carry, carry), carry_fn)
    xs, third = jnp.ones((2, 3, 1), "float32"), np.full(3, 1 / 3)
    for x64, dtype in ((False, "float32"), (True, "float64"), (False, "float32")):
        with jax.enable_x64(x64):
            carry, _ = sc.unroll(cell, (), xs, reset_carry=third)
        np.testing.assert_array_equal(carry, third.astype(dtype), strict=True)


MESH = AbstractMesh((2,), ("batch",), axis_types=(AxisType.Explicit,))
SPEC = PartitionSpec(None, "batch", None)


def trace_sharded(model, engine, size=laws.D, **given):
    """Trace a gradient of a batch that is sharded over an explicit axis; flags are replicated."""
    sharding = NamedSharding(MESH, SPEC)
    x = size if isinstance(size, tuple) else (size,)
    xs = jax.ShapeDtypeStruct((laws.T, 4, *x), "float32", sharding=sharding)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), size))
    flags = jax.tree.map(jnp.asarray, laws.draw_flags(batch=4))
    loss = laws.loss(model, engine, key=jax.random.key(1), reverse=True, **flags, **given)
    with jax.sharding.use_abstract_mesh(MESH):
        return jax.eval_shape(jax.grad(loss, (0, 1)), params, xs)[1]


@pytest.mark.laws("explicit")
@laws.over_plain_pairs
def test_a_batch_is_sharded_over_an_explicit_axis(case, engine, request):
    if request.config.getoption("switch") in MESHES:
        pytest.skip("it sets a mesh of its own")
    if hasattr(engine, "interpret"):
        pytest.skip("kernels do not see how JAX shards arrays: they ask for a shard_map")
    carry = jax.tree.map(jnp.float32, laws.fresh_rows(case, 4))
    for given in ({}, {"carry": carry}):
        spec = trace_sharded(case.cell, engine, case.features, **given).sharding.spec
        assert tuple(spec) == (None, "batch", *[None] * len(case.x))


@pytest.mark.parametrize("model", [sc.GRU(11), sc.Recurrent(sc.LSTM(11), learned_carry=True)])
def test_a_model_runs_over_one_mesh_after_another(model):
    """Whatever the first, of which nothing is kept."""

    def run(key, xs):
        return sc.unroll(model, model.init(key, laws.D), xs)[1]

    for name, batch in (("members", 4), ("trials", 6)):
        xs = jax.ShapeDtypeStruct((laws.T, batch, laws.D), "float32")
        mesh = jax.make_mesh((1,), (name,), (AxisType.Auto,))
        specs = (PartitionSpec(), PartitionSpec(None, name))
        spread = jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=specs[1])
        assert jax.eval_shape(spread, jax.random.key(0), xs).shape == (laws.T, batch, 11)


@laws.over_nets
def test_a_layer_with_noise_is_sharded_over_an_explicit_axis(name):
    assert trace_sharded(laws.NETS[name], None).sharding.spec == SPEC
