"""Laws of a sharded batch, on two CPU devices in a process of their own."""

import pytest

from tests.support.processes import run_parts

HEAD = """
import re, warnings
warnings.simplefilter("error")
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
jax.config.update("jax_num_cpu_devices", 2)
import seqcells as sc
from tests.support.laws import CASES, draw, draw_flags

mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
flags = jax.tree.map(jnp.asarray, draw_flags(batch=4))
specs = {"lengths": P("batch"), "mask": P(None, "batch"), "resets": P(None, "batch")}
specs = (P(), P(None, "batch"), specs)  # of the parameters, the inputs and the flags
ROWS = (
    ("gru-after-double", sc.Scan(), True),
    ("rnn-tanh-bias", sc.Scan(checkpoint="sqrt"), False),
    ("lstm-bias", sc.Deferred(chunk=3, keep=("mixed",)), False),
)

def problem(name, engine, reverse):
    cell, drawn = CASES[name].cell, draw(CASES[name], (4,))
    params, xs = jax.tree.map(jnp.float32, (drawn.params, drawn.xs))

    def loss(params, xs, flags):
        carry, ys = sc.unroll(cell, params, xs, **flags, reverse=reverse, engine=engine)
        return jnp.sum(jnp.square(ys)) + sum(map(jnp.sum, jax.tree.leaves(carry))), ys

    args = (params, xs, flags)
    split = jax.tree.map(place, specs, args, is_leaf=lambda a: isinstance(a, P))
    return loss, args, split, jax.jit(jax.grad(loss, has_aux=True))

def place(spec, tree):
    return jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec)), tree)

def near(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-5)

def collectives(compiled):
    # All, and those that do not stand in the entry, where they are in a loop
    one = r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\\("
    text = compiled.as_text()
    return re.findall(one, text), re.findall(one, text[: text.index("\\nENTRY")])
"""

AUTO = """
# The batch is sharded, and jit is left to find out what that means.
for row in ROWS:
    loss, args, split, graded = problem(*row)
    forward = jax.jit(lambda *a: loss(*a)[1]).lower(*split).compile()
    assert collectives(forward)[0] == [], row
    compiled = graded.lower(*split).compile()
    every, _ = collectives(compiled)
    assert set(every) == {"all-reduce"}, (row, every)
    assert len(every) <= len(jax.tree.leaves(args[0])), (row, every)
    near(compiled(*split), graded(*args))
"""

SHARD_MAP = """
# Every device runs sequences of its own, and that nothing varies unsaid is checked.
for row in ROWS:
    loss, args, split, graded = problem(*row)

    def each(params, xs, flags):
        params = jax.lax.pcast(params, "batch", to="varying")
        gradient, ys = jax.grad(loss, has_aux=True)(params, xs, flags)
        return jax.lax.psum(gradient, "batch"), ys

    mapped = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=(P(), P(None, "batch")))
    compiled = jax.jit(mapped).lower(*split).compile()
    every, inner = collectives(compiled)
    assert set(every) == {"all-reduce"}, (row, every)
    assert inner == [], (row, inner)
    near(compiled(*split), graded(*args))
"""

SWEEP = """
# Every device trains members of its own on the same data.
for name, engine, reverse in ROWS:
    loss, (params, xs, flags), _, graded = problem(name, engine, reverse)
    many = jax.tree.map(lambda a: jnp.stack([a, a / 2, -a, a * 2]), params)
    all_of = jax.vmap(jax.grad(loss, has_aux=True), (0, None, None))
    over = P("batch")
    mapped = jax.shard_map(all_of, mesh=mesh, in_specs=(over, P(), P()), out_specs=over)
    compiled = jax.jit(mapped).lower(many, xs, flags).compile()
    assert collectives(compiled)[0] == [], name
    near(compiled(place(over, many), xs, flags), jax.jit(all_of)(many, xs, flags))
"""

DIAGNOSED = """
# Every device diagnoses members of its own; what loops carry is checked as above.
GRU, RNN = CASES["gru-after-double"], CASES["rnn-tanh-bias"]

def squares(ys):
    return jnp.sum(jnp.square(ys))

MEASURES = {
    "step_jacobians": (RNN, sc.diagnostics.step_jacobians),
    "jacobian_by_lag": (RNN, lambda *args: sc.diagnostics.jacobian_by_lag(*args)[1]),
    "lyapunov_exponents": (GRU, sc.diagnostics.lyapunov_exponents),
    "flossing": (RNN, lambda cell, *args: jax.grad(sc.remedies.flossing, 1)(cell, *args, 2)),
    "omega": (RNN, lambda cell, *args: jax.grad(sc.remedies.omega, 1)(cell, *args, squares)),
    "gate_values": (GRU, sc.diagnostics.gate_values),
    "gradient_by_lag": (GRU, lambda *args: sc.diagnostics.gradient_by_lag(*args, squares)),
}
for name, (case, measure) in MEASURES.items():
    drawn = draw(case, (4,))
    params, xs = jax.tree.map(jnp.float32, (drawn.params, drawn.xs))
    many = jax.tree.map(lambda a: jnp.stack([a, a / 2, -a, a / 3]), params)
    all_of = jax.vmap(lambda params: measure(case.cell, params, xs))
    mapped = jax.shard_map(all_of, mesh=mesh, in_specs=over, out_specs=over)
    try:
        near(jax.jit(mapped)(place(over, many)), jax.jit(all_of)(many))
    except Exception as error:
        raise AssertionError(name) from error
"""

STEPS = """
# Steps carry what they start from, also where it is learned.
layer = sc.Recurrent(sc.GRU(3), learned_carry=True)
params, xs, resets = layer.init(jax.random.key(0), 2), jnp.ones((7, 4, 2)), flags["resets"]

def stepped(params, xs, resets):
    step = lambda carry, inputs: layer.step(params, carry, *inputs)
    return jax.lax.scan(step, layer.init_carry(xs[0], params), (xs, resets))[1]

specs = (P(), P(None, "batch"), P(None, "batch"))
mapped = jax.shard_map(stepped, mesh=mesh, in_specs=specs, out_specs=P(None, "batch"))
near(jax.jit(mapped)(params, xs, resets), jax.jit(stepped)(params, xs, resets))
"""

TRAINED = """
# Two devices that share each step take the mean of what each would do with a key of its own.
def loss(params, key, hparams):
    noise = jax.random.normal(key, (3,))
    return jnp.mean(jnp.square(params["w"] - noise)), {"largest": jnp.max(noise), "two": 2}

def whole(params, key, hparams):
    each = [loss(params, jax.random.fold_in(key, rank), hparams) for rank in range(2)]
    return jax.tree.map(lambda a, b: (a + b) / 2, *each)

def fitted(loss, **more):
    hparams = sc.train.HParams(0.1, max_norm=0.5)
    state = sc.train.init({"w": jnp.ones(3)}, hparams, jax.random.key(1))
    state, metrics = sc.train.fit(loss, state, hparams, 3, segment=2, **more)
    return state.params, state.opt_state, metrics

near(fitted(loss, mesh=mesh), fitted(whole))
"""

EXPLICIT = """
# The axes of the mesh are explicit, as `jax.make_mesh` makes them: types say what is sharded.
def decay(params, carry, x):
    carry = carry / 2 + jnp.tanh(x @ params)
    return carry, carry

plain = sc.FunctionCell(  # its first carry is not sharded by itself
    decay, lambda x: jnp.zeros((4, 3)), lambda key, size: jnp.ones((size, 3)) / 4
)
MODELS = (
    (sc.Stack((sc.Zoneout(sc.GRU(3)), sc.LSTM(3)), dropout=0.5), None, {}, False),
    (sc.VariationalDropout(sc.LSTM(3), 0.2, 0.2), sc.Scan(), {}, True),
    (sc.LRU(3), sc.AssociativeScan(), flags, False),
    (sc.MLSTM(4, heads=2), sc.Chunkwise(3), flags, True),
    (sc.GatedDeltaNet(4, heads=2), sc.Chunkwise(3), flags, False),
    (sc.Recurrent(sc.GRU(3), learned_carry=True), None, flags, False),
    (sc.GRU(3), sc.Deferred(chunk=3, keep=()), flags, True),
    (plain, sc.Scan(checkpoint=3), flags, False),
)
explicit = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))
xs = jnp.asarray(np.random.default_rng(0).normal(size=(7, 4, 2)), "float32")
for net, engine, given, carried in MODELS:
    params = net.init(jax.random.key(0), 2)
    carry = jax.tree.map(lambda a: a + 0.5, net.init_carry(xs[0], params))

    def loss(params, xs, carry, given):
        start = carry if carried else None
        options = {"engine": engine, "key": jax.random.key(1), "reverse": carried}
        last, ys = sc.unroll(net, params, xs, start, **given, **options)
        return jnp.sum(jnp.square(ys)) + sum(map(jnp.sum, jax.tree.leaves(last)))

    graded = jax.value_and_grad(loss, (0, 1, 2))
    expected = jax.jit(graded)(params, xs, carry, given)
    with jax.set_mesh(explicit):  # flags and carries are replicated
        sharded = jax.device_put(xs, NamedSharding(explicit, P(None, "batch")))
        near(jax.jit(graded)(params, sharded, carry, given), expected)
"""


def test_of_a_sharded_batch_the_gradients_of_the_weights_meet():
    run_parts(HEAD, AUTO, TRAINED)


@pytest.mark.slow
def test_of_a_sweep_nothing_meets_and_all_else_is_as_on_one_device():
    run_parts(HEAD, SHARD_MAP, SWEEP, DIAGNOSED, STEPS)


@pytest.mark.slow  # the same types are checked in tests/core/test_switches.py
def test_a_batch_over_explicit_axes_has_the_values_and_gradients_of_one_device():
    run_parts(HEAD, EXPLICIT)
