"""Gradients by bfloat16 parameters are added up in float32, and rounded once."""

import jax
import jax.numpy as jnp
import pytest

import seqcells as sc
from tests.support import laws
from tests.support.laws import draw


def inputs(*x):
    return jax.ShapeDtypeStruct((laws.T, laws.B, *x), "float32")


XS = inputs(laws.D)
NARROW = {jnp.dtype("bfloat16"), jnp.dtype("float16")}


def summed_in(jaxpr):
    """The dtypes of what the loops of a program carry, in which they add up gradients."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "scan":
            first, count = sizes(eqn.params)
            yield from (aval.dtype for aval in eqn.params["jaxpr"].in_avals[first:][:count])
        if eqn.primitive.name == "seqcells_operation":
            avals = [var.aval for var in eqn.invars]
            yield from summed_in(jax.make_jaxpr(eqn.params["operation"].function)(*avals).jaxpr)
        if eqn.primitive.name != "pallas_call":
            for inner in jax.tree.leaves(tuple(eqn.params.values())):
                inner = getattr(inner, "jaxpr", inner)
                yield from summed_in(inner) if hasattr(inner, "eqns") else ()


def sizes(scan):
    """How many arrays a scan closes over, and how many it carries."""
    if "num_consts" in scan:  # jax 0.10
        return scan["num_consts"], scan["num_carry"]
    consts, carry, _ = scan["ft_in"].unpack()
    return len(consts), len(carry)


def narrow_sums(gradient, *args):
    """What the loops of a gradient by bfloat16 parameters round at every step."""
    jaxpr = jax.make_jaxpr(gradient)(*args).jaxpr
    return NARROW & set(summed_in(jaxpr))


def in_bfloat16(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), "bfloat16"), tree)


def second(gradient):
    """The gradient of the sum of a gradient."""

    def total(*args):
        return sum(jnp.sum(a.astype("float32")) for a in jax.tree.leaves(gradient(*args)))

    return jax.grad(total)


@pytest.mark.laws("sums")
@laws.over_pairs
def test_no_loop_sums_a_gradient_in_the_dtype_of_narrow_parameters(case, engine):
    flags = {name: jnp.asarray(flag) for name, flag in laws.draw_flags().items()}
    gradient = jax.grad(laws.loss(case.cell, engine, **flags))
    xs = inputs(*case.x)
    assert narrow_sums(gradient, in_bfloat16(draw(case).params), xs) == set()


@pytest.mark.parametrize("way", ["scan", "deferred"])
def test_no_loop_sums_a_second_derivative_in_the_dtype_of_narrow_parameters(way):
    case = laws.CASES["lstm-bias"]
    gradient = second(jax.grad(laws.loss(case.cell, laws.ENGINES[way])))
    assert narrow_sums(gradient, in_bfloat16(draw(case).params), XS) == set()


def through(name):
    """A function of parameters and inputs that has a loop over time of its own."""
    gru, key = laws.CASES["gru-after-double"].cell, jax.random.key(0)
    windows = sc.Truncated(2, sc.Scan())
    return {
        "windows": lambda params, xs: sc.unroll(gru, params, xs, engine=windows)[1],
        "trajectory": lambda *args: sc.trajectory(gru, *args),
        "noise": lambda *args: sc.unroll(sc.VariationalDropout(gru, 0, 0.5), *args, key=key)[1],
        "kept": lambda *args: sc.unroll(sc.Zoneout(gru), *args, key=key)[1],
        "exponents": lambda *args: sc.diagnostics.lyapunov_exponents(gru, *args),
        "jacobians": lambda *args: sc.diagnostics.step_jacobians(gru, *args),
        "members": lambda params, xs: jax.vmap(
            lambda b: sc.unroll(gru, params._replace(b_ih=b), xs)[1]
        )(jnp.stack([params.b_ih, params.b_ih])),
    }[name]


@pytest.mark.parametrize(
    "name", ["windows", "trajectory", "noise", "kept", "exponents", "jacobians", "members"]
)
def test_no_other_loop_over_time_sums_a_gradient_in_a_narrow_dtype(name):
    function = through(name)
    gradient = jax.grad(lambda *args: jnp.sum(function(*args).astype("float32")))
    params = in_bfloat16(draw(laws.CASES["gru-after-double"]).params)
    assert narrow_sums(gradient, params, XS) == set()


@laws.over_nets
def test_no_loop_of_a_layer_sums_a_gradient_in_a_narrow_dtype(name):
    net = laws.NETS[name]
    params = in_bfloat16(jax.eval_shape(lambda: net.init(jax.random.key(0), laws.D)))
    gradient = jax.grad(laws.loss(net, None, resets=jnp.ones((laws.T, laws.B), bool)))
    assert narrow_sums(gradient, params, XS) == set()


@jax.jit
def gradient_by_params(cell, params, xs):
    return jax.grad(laws.loss(cell, sc.Scan()))(params, xs)


@pytest.mark.parametrize("name", ["gru-before-double", "mingru-identity-bias"])
def test_a_gradient_by_narrow_parameters_is_that_in_float32_rounded_once(name):
    case = laws.CASES[name]
    narrow = jax.tree.map(lambda a: jnp.asarray(a, "bfloat16"), draw(case).params)
    wide = jax.tree.map(lambda a: a.astype("float32"), narrow)
    got, expected = (gradient_by_params(case.cell, p, jnp.ones((9, 2, 2))) for p in (narrow, wide))
    laws.assert_same_bits(got, jax.tree.map(lambda a: a.astype("bfloat16"), expected))


def test_a_cell_that_does_not_cast_its_parameters_sums_wide_what_each_step_rounds():
    """256 + 1 is 256 in bfloat16: the sum of 1000 ones stopped there."""

    def step(params, carry, x):
        carry = carry + (x * params).astype("float32")
        return carry, carry

    total = sc.FunctionCell(step, lambda x: jnp.zeros_like(x, dtype="float32"))
    ones, one = jnp.ones((1000, 1), "bfloat16"), jnp.ones(1, "bfloat16")
    grown = jax.grad(lambda p: sc.unroll(total, p, ones)[0][0])(one)
    assert float(grown[0]) == 1000
