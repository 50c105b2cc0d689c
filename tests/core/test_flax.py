"""Laws of the Flax wrappers: they hold parameters, and everything else is `unroll`."""

import copy
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from flax.errors import ScopeParamShapeError

import seqcells as sc
from tests.support import laws
from tests.support.laws import B, D, H, T, assert_close, assert_same_bits, over_families


def inputs(*x):
    return jnp.sin(jnp.arange(float(T * B * math.prod(x)))).reshape(T, B, *x)


XS = inputs(D)


def in_nnx(cell, params, features=D):
    """Wrap a cell and given parameters as an nnx module."""
    rnn = sc.nnx.RNN(cell, input_size=features, rngs=nnx.Rngs(0))
    rnn.params = nnx.data(jax.tree.map(nnx.Param, params))
    return rnn


def in_linen(cell, params):
    """Wrap a cell and given parameters as a linen module and its variables."""
    return sc.linen.RNN(cell), {"params": laws.by_path(params)}


def both(cell, params, features=D):
    """Return the two wrappers, each as a function of xs."""
    rnn, (module, variables) = in_nnx(cell, params, features), in_linen(cell, params)
    return rnn, lambda *args, **flags: module.apply(variables, *args, **flags)


@pytest.mark.laws("wrapped")
@laws.over_forms
def test_every_cell_can_be_wrapped(case):
    size = case.features
    shapes = jax.eval_shape(lambda: case.cell.init(jax.random.key(0), size))
    made = jax.eval_shape(lambda: sc.nnx.RNN(case.cell, size, rngs=nnx.Rngs(0)).values)
    assert made == shapes
    variables = jax.eval_shape(sc.linen.RNN(case.cell).init, jax.random.key(0), inputs(*case.x))
    assert dict(variables) == in_linen(case.cell, shapes)[1]


@pytest.mark.laws("flax")
@over_families
def test_wrappers_equal_the_function_to_the_bit(case):
    params, xs = case.cell.init(jax.random.key(3), case.features), inputs(*case.x)
    expected = sc.unroll(case.cell, params, xs)
    for wrapped in both(case.cell, params, case.features):
        assert_same_bits(wrapped(xs), expected)


FLAGS = {
    "lengths": jnp.array([T, 3, 0]),
    "mask": jnp.arange(T * B).reshape(T, B) % 3 > 0,
    "resets": jnp.arange(T * B).reshape(T, B) % 4 == 0,
    "reverse": True,
    "time_axis": 1,
    "carry": jnp.ones((B, H)),
}


@pytest.mark.parametrize("name", FLAGS)
def test_every_argument_is_passed_on(name):
    cell = sc.GRU(H)
    params, flag = cell.init(jax.random.key(3), D), {name: FLAGS[name]}
    xs = jnp.swapaxes(XS, 0, 1) if name == "time_axis" else XS
    expected = sc.unroll(cell, params, xs, **flag)
    if name != "time_axis":  # the flag says something
        assert np.any(np.asarray(expected[1]) != np.asarray(sc.unroll(cell, params, xs)[1]))
    for wrapped in both(cell, params):
        assert_same_bits(wrapped(xs, **flag), expected)


def test_the_engine_is_passed_on():
    params = sc.GRU(H).init(jax.random.key(3), D)
    for wrapped in both(sc.GRU(H), params):
        with pytest.raises(TypeError, match="engine"):
            wrapped(XS, engine="scan")


def test_seeds_give_other_parameters_and_equal_seeds_equal_ones():
    rnns = [sc.nnx.RNN(sc.GRU(H), D, rngs=nnx.Rngs(seed)) for seed in (0, 0, 1)]
    one, same, other = (nnx.to_pure_dict(nnx.state(rnn)) for rnn in rnns)
    assert_same_bits(one, same)
    assert np.any(one["weights"]["w_hh"] != other["weights"]["w_hh"])


def test_closures_over_an_nnx_module_may_be_jitted_and_mapped():
    rnn = sc.nnx.RNN(sc.GRU(H), D, rngs=nnx.Rngs(0))
    expected = rnn(XS)
    assert_close(jax.jit(lambda xs: rnn(xs))(XS), expected, 1e-6)
    mapped = jax.vmap(lambda xs: rnn(xs), in_axes=1, out_axes=(0, 1))(XS)
    assert_close(mapped, expected, 1e-6)
    assert_close(nnx.jit(lambda rnn, xs: rnn(xs))(rnn, XS), expected, 1e-6)


@pytest.mark.laws("flaxgrad")
@over_families
def test_gradients_through_the_wrappers_are_those_of_the_function(case):
    params, xs = case.cell.init(jax.random.key(3), case.features), inputs(*case.x)
    lengths = np.array([T, 3, 0])

    def loss(run):
        return jnp.sum(jnp.square(run(xs, lengths=lengths)[1]))

    by_function = jax.grad(lambda p: loss(lambda *a, **f: sc.unroll(case.cell, p, *a, **f)))
    expected = jax.jit(by_function)(params)
    rnn, (module, variables) = in_nnx(case.cell, params, case.features), in_linen(case.cell, params)
    by_linen = jax.grad(lambda v: loss(lambda *a, **f: module.apply(v, *a, **f)))
    through_nnx = nnx.to_pure_dict(nnx.jit(nnx.grad(loss))(rnn))
    for gradient in (through_nnx, jax.jit(by_linen)(variables)):
        leaves = jax.tree.leaves(gradient)  # in the order of names, also where those are nested
        assert_close(leaves, jax.tree.leaves(in_linen(case.cell, expected)[1]), 1e-5)


def test_an_nnx_module_can_be_split_and_merged():
    rnn = sc.nnx.RNN(sc.GRU(H), D, rngs=nnx.Rngs(0))
    graph, state = nnx.split(rnn)
    assert_same_bits(nnx.merge(graph, state)(XS), rnn(XS))


def test_linen_draws_by_its_key_and_also_where_apply_may_make_parameters():
    module = sc.linen.RNN(sc.GRU(H))
    one, two = (module.init(jax.random.key(seed), XS) for seed in (0, 1))
    assert np.any(one["params"]["w_hh"] != two["params"]["w_hh"])
    options = {"rngs": {"params": jax.random.key(0)}, "mutable": ["params"]}
    out, made = module.apply({}, XS, **options)
    assert_same_bits(made["params"], one["params"])
    assert_same_bits(out, module.apply(one, XS))


def test_tables_of_both_kinds_show_12864_parameters():
    rnn = sc.nnx.RNN(sc.GRU(64), 1, rngs=nnx.Rngs(0))
    xs = jnp.ones((T, B, 1))
    module = sc.linen.RNN(sc.GRU(64))
    for text in (nnx.tabulate(rnn, xs), module.tabulate(jax.random.key(0), xs)):
        assert "12,864" in text


def test_a_wrapped_cell_stands_in_a_larger_module():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, xs):
            _, ys = sc.linen.RNN(sc.GRU(H))(xs)
            return linen.Dense(1)(ys[-1])

    variables = Net().init(jax.random.key(0), XS)
    assert Net().apply(variables, XS).shape == (B, 1)
    assert {"RNN_0", "Dense_0"} == set(variables["params"])


CARRIES = {  # models whose carries hold NamedTuples, at the top and within
    "lstm": sc.LSTM(H),
    "both": sc.Bidirectional(sc.GRU(H)),
    "stack": sc.Stack((sc.GRU(H), sc.LSTM(H))),
}


@pytest.mark.parametrize("name", CARRIES)
def test_the_table_of_nnx_shows_carries_that_are_named_tuples(name):
    rnn = sc.nnx.RNN(CARRIES[name], D, rngs=nnx.Rngs(0))
    assert f"{sc.param_count(rnn.values)} " in nnx.tabulate(rnn, XS)
    assert jax.tree.structure(rnn(XS)[0]) == jax.tree.structure(
        sc.unroll(rnn.model, rnn.values, XS)[0]
    )

    class Net(nnx.Module):
        def __init__(self):
            self.rnn = rnn

        def __call__(self, xs):
            carry, _ = self.rnn(xs)
            carry, ys = self.rnn(xs, carry)  # what it gave is taken back
            return (carry.h if name == "lstm" else carry), ys

    assert "rnn" in nnx.tabulate(Net(), XS)


def pair(params, carry, x):
    """A step of a user's own, whose parameters are one array."""
    return carry + x @ params, carry


BARE = sc.FunctionCell(pair, jnp.zeros_like, lambda key, size: jnp.eye(size))
BRIDGED = {"gru": sc.GRU(H), "stack": CARRIES["stack"], "bare": BARE}


@pytest.mark.parametrize("name", BRIDGED)
def test_the_bridges_of_flax_and_modules_of_one_array(name):
    model = BRIDGED[name]
    rnn = sc.nnx.RNN(model, D, rngs=nnx.Rngs(0))
    ys = sc.unroll(model, rnn.values, XS)[1]
    inward = nnx.bridge.ToLinen(sc.nnx.RNN, args=(model, D))
    variables = inward.init(jax.random.key(0), XS)
    variables = {"params": jax.tree.map(jnp.ones_like, variables["params"])}
    ones = jax.tree.map(jnp.ones_like, rnn.values)
    of_ones = sc.unroll(model, ones, XS)[1]
    assert_close(inward.apply(variables, XS)[1], of_ones, 1e-6)
    outward = nnx.bridge.ToNNX(sc.linen.RNN(model), rngs=nnx.Rngs(0)).lazy_init(XS)
    nnx.update(outward, jax.tree.map(jnp.ones_like, nnx.state(outward, nnx.Param)))
    assert_close(outward(XS)[1], of_ones, 1e-6)
    module = sc.linen.RNN(model)
    variables = module.load(rnn.values)
    assert_close(module.apply(variables, XS)[1], ys, 1e-6)
    assert_same_bits(module.apply(variables, XS[0], method="values"), rnn.values)


def test_copies_of_an_nnx_module_compute_the_same():
    rnn = sc.nnx.RNN(sc.LSTM(H), D, rngs=nnx.Rngs(0))
    for one in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn)), nnx.clone(rnn)):
        assert_same_bits(one(XS), rnn(XS))
    assert rnn.params is rnn.weights
    module = sc.linen.RNN(sc.LSTM(H))
    assert pickle.loads(pickle.dumps(module)) == copy.deepcopy(module) == module


def test_parameters_that_are_not_floating_are_no_params_of_nnx():
    def step(params, carry, x):
        return carry + params["w"] * jnp.roll(x, params["by"]), carry

    init = lambda key, size: {"w": jnp.ones(size), "by": jnp.int32(1)}  # noqa: E731
    rnn = sc.nnx.RNN(sc.FunctionCell(step, jnp.zeros_like, init), D, rngs=nnx.Rngs(0))
    grads = nnx.grad(lambda rnn: jnp.sum(rnn(XS[:2])[1]))(rnn)
    assert set(nnx.to_pure_dict(grads)["weights"]) == {"w"}


def test_the_transforms_of_nnx_take_the_module():
    rnn, xs = sc.nnx.RNN(sc.MGU(D), D, rngs=nnx.Rngs(0)), XS[:2]
    ys = rnn(xs)[1]
    run = nnx.remat(lambda rnn, xs: rnn(xs, reverse=True)[1])
    assert_close(run(rnn, xs), rnn(xs, reverse=True)[1], 1e-6)
    scan = nnx.scan(lambda rnn, carry, x: rnn.step(carry, x), in_axes=(None, nnx.Carry, 0))
    assert_close(scan(rnn, rnn.init_carry(xs[0]), xs)[1], ys, 1e-6)

    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def make(rngs):
        return sc.nnx.RNN(sc.MGU(D), D, rngs=rngs)

    layers = make(nnx.Rngs(0))
    deep = nnx.scan(lambda xs, rnn: rnn(xs)[1], in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(
        xs, layers
    )
    expected = xs
    for i in range(2):
        one = jax.tree.map(lambda a, i=i: a[i], layers.values)
        expected = sc.unroll(rnn.model, one, expected)[1]
    assert_close(deep, expected, 1e-6)


def test_the_transforms_of_linen_take_the_module_and_its_flags_in_a_function():
    module = sc.linen.RNN(sc.LSTM(D))
    variables = module.init(jax.random.key(0), XS)
    carry, expected = module.apply(variables, XS, reverse=True)
    for lift in (linen.remat, linen.jit):
        lifted = lift(sc.linen.RNN)(sc.LSTM(D))
        lengths = jnp.array([T, 3, 0])
        assert_close(
            lifted.apply(variables, XS, lengths=lengths),
            module.apply(variables, XS, lengths=lengths),
            1e-6,
        )
        for flag in ({"reverse": True}, {"time_axis": 1}):
            with pytest.raises(TypeError, match=r"expected a Python value.*wrap a function inst"):
                lifted.apply(variables, XS, **flag)

    class Net(linen.Module):
        @linen.compact
        def __call__(self, xs):
            rnn = sc.linen.RNN(sc.LSTM(D))
            return linen.remat(lambda rnn, xs: rnn(xs, reverse=True))(rnn, xs)

    nested = {"params": {"RNN_0": variables["params"]}}
    assert_close(Net().apply(nested, XS), (carry, expected), 1e-6)


def test_inputs_of_another_size_are_refused():
    wide = jnp.ones((T, B, D + 1))
    in_nnx, in_linen = both(sc.GRU(H), sc.GRU(H).init(jax.random.key(0), D))
    with pytest.raises(ValueError, match="params"):
        in_nnx(wide)
    with pytest.raises(ScopeParamShapeError):  # linen's own
        in_linen(wide)
