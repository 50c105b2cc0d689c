"""Traced values: programs hold no check of them, and `debug.checked` finds what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import seqcells as sc
from seqcells import diagnostics, remedies, train
from tests.probes.test_probes import CASES as PROBES
from tests.support import laws
from tests.support.interop import drawn
from tests.support.laws import CASES, NETS, B, D, H, T

KEY = jax.random.key(0)
FLAGS = {
    "lengths": jnp.array([T, 5, 0]),
    "mask": jnp.ones((T, B), bool),
    "resets": jnp.zeros((T, B), bool),
    "key": KEY,
}
XS = jnp.ones((T, B, D))
GRU, RNN = sc.GRU(H), sc.RNN(H)
PARAMS, RNN_PARAMS = drawn(GRU, input_size=D), drawn(RNN, input_size=D)
HPARAMS = train.HParams()
MODELS = {name: case.cell for name, case in CASES.items()} | NETS
FEW = {*laws.FAMILIES, "grud-bias", "mlstm-heads", "conv", "nested", "whole", "bidirectional"}
FUNCTIONS = {  # by name: the function and its arguments, all of which are traced
    "carry_gradient": (diagnostics.carry_gradient, GRU, PARAMS, XS, laws.last_sum),
    "critical_weight_std": (diagnostics.critical_weight_std, 0.1),
    "curse_of_memory": (diagnostics.curse_of_memory, jnp.full(3, 0.5)),
    "flossing": (remedies.flossing, GRU, PARAMS, XS),
    "gate_shares": (diagnostics.gate_shares, XS, XS[..., 0] > 0),
    "gate_values": (diagnostics.gate_values, GRU, PARAMS, XS),
    "gradient_by_lag": (diagnostics.gradient_by_lag, GRU, PARAMS, XS, laws.last_sum),
    "gradient_snr": (diagnostics.gradient_snr, {"w": jnp.ones((4, 3))}),
    "jacobian_by_lag": (diagnostics.jacobian_by_lag, GRU, PARAMS, XS),
    "draw_starts": (diagnostics.draw_starts, KEY, XS, 3),
    "kaplan_yorke_dimension": (diagnostics.kaplan_yorke_dimension, -jnp.arange(3.0)),
    "linear_memory_capacity": (diagnostics.linear_memory_capacity, jnp.eye(D), XS[0, 0], 3),
    "lyapunov_exponents": (diagnostics.lyapunov_exponents, GRU, PARAMS, XS),
    "mean_field": (diagnostics.mean_field, 1.2, 0.1),
    "memory_capacity": (diagnostics.memory_capacity, XS, XS[..., 0], 2),
    "newton_report": (diagnostics.newton_report, GRU, PARAMS, XS),
    "omega": (remedies.omega, RNN, RNN_PARAMS, XS, laws.last_sum),
    "pascanu_bound": (diagnostics.pascanu_bound, RNN, RNN_PARAMS, 3),
    "participation_ratio": (diagnostics.participation_ratio, XS),
    "power_spectrum_error": (diagnostics.power_spectrum_error, XS[:, 0], XS[:, 1]),
    "rate_and_horizon": (diagnostics.rate_and_horizon, jnp.exp(-jnp.arange(5.0))),
    "saturation": (diagnostics.saturation, XS, 0.1),
    "state_space_divergence": (diagnostics.state_space_divergence, XS[:, 0], XS[:, 1]),
    "step_jacobians": (diagnostics.step_jacobians, GRU, PARAMS, XS),
    "timescales": (diagnostics.timescales, jnp.full((T, B, H), 0.5)),
}
NETS_OWN = ("recurrences", "layer_gradients_by_lag")  # of a net, by its layers' names
ELSEWHERE = {"in_float64", "fixed_points"}  # one takes a function, one is not traced


def loss(params, key, hparams):
    n = jax.random.randint(key, (B,), 0, T + 1)
    return jnp.sum(sc.unroll(GRU, params, XS, lengths=n)[1]), {}


def effects(function, *args, **options):
    """The effects of a program, of which all arrays among the arguments are traced."""
    leaves, structure = jax.tree.flatten((args, options))
    where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, (jax.Array, np.ndarray, float))]

    def of(*arrays):
        given = leaves.copy()
        for i, array in zip(where, arrays, strict=True):
            given[i] = array
        args, options = jax.tree.unflatten(structure, given)
        return function(*args, **options)

    return jax.make_jaxpr(of)(*(leaves[i] for i in where)).effects


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in MODELS]
)
def test_a_program_over_sequences_has_no_effects(name):
    model, features = MODELS[name], CASES[name].features if name in CASES else D
    xs = jnp.ones((T, B, *(CASES[name].x if name in CASES else (D,))))
    params = jax.eval_shape(lambda: model.init(KEY, features))
    params = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), params)
    carry = model.init_carry(xs[0], params)
    assert not effects(sc.unroll, model, params, xs, carry, **FLAGS, reset_carry=carry)
    flags = {flag: FLAGS[flag] for flag in ("lengths", "mask", "resets")}
    if name not in laws.BACKWARD:
        assert not effects(sc.trajectory, model, params, xs, carry, **flags, reverse=True)
        step = (model.step, params, carry, xs[0], jnp.ones(B, bool))
        assert not effects(*step, reset_carry=carry, key=KEY)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_program_of_the_laboratory_has_no_effects(name):
    assert not effects(*FUNCTIONS[name])


def test_programs_of_a_net_and_of_training_have_no_effects():
    net = NETS["deep"]
    params = net.init(KEY, D)
    assert not effects(diagnostics.recurrences, net, params, XS)
    assert not effects(diagnostics.layer_gradients_by_lag, net, params, XS, laws.last_sum)
    state = train.init(PARAMS, HPARAMS, KEY)
    assert not effects(train.run, loss, state, HPARAMS, 3)
    project = remedies.project_spectral_norm(0.9)
    assert not effects(lambda p: project.update(p, project.init(p), p), PARAMS)


def test_every_function_of_the_laboratory_is_tried():
    public = {n for n, value in vars(diagnostics).items() if callable(value) and n[0].islower()}
    assert public <= {*FUNCTIONS, *NETS_OWN, *ELSEWHERE}


@pytest.mark.parametrize("name", PROBES)
def test_a_program_that_draws_has_no_effects(name):
    case = PROBES[name]
    data, knobs = jax.tree.map(jnp.asarray, (case.data, case.knobs))
    assert not effects(case.probe.sample, KEY, 2, *data, **knobs)


WAYS = {  # from a function of one array to another, and whether it takes several
    "jit": (jax.jit, False),
    "eager": (lambda f: f, False),
    "vmap": (jax.vmap, True),
    "grad": (lambda f: jax.grad(lambda x, n: jnp.sum(f(n)) * x, argnums=0), False),
    "scan": (lambda f: lambda ns: jax.lax.scan(lambda c, n: (c, f(n)), None, ns), True),
    "shard_map": (
        lambda f: jax.shard_map(
            f,
            mesh=jax.make_mesh((1,), ("data",)),
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(),
        ),
        False,
    ),
}


def read(n, engine=None):
    """The outputs of the last step of each sequence."""
    return sc.unroll(GRU, PARAMS, XS, lengths=n, engine=engine)[0]


@pytest.mark.parametrize("way", WAYS)
def test_lengths_that_cannot_be_are_found_where_they_are_traced(way):
    """Also in a function that was jitted and called without checks, before and after."""
    transform, several = WAYS[way]
    inner = jax.jit(read)
    function = transform(inner)
    first = (1.0,) if way == "grad" else ()
    right, wrong = jnp.array([T, 5, 0]), jnp.array([T, 8, -1])
    right, wrong = (jnp.stack([n, n]) if several else n for n in (right, wrong))
    before, silent = function(*first, right), function(*first, wrong)
    checked = sc.debug.checked(function)
    laws.assert_close(checked(*first, right), before)
    message = f"lengths: expected values from 0 to T={T}, got values from -1 to 8"
    with pytest.raises(ValueError, match=message):
        checked(*first, wrong)
    laws.assert_same_bits(function(*first, wrong), silent)


@pytest.mark.parametrize("engine", ["sqrt", "deferred", "triton"])
def test_an_engine_can_be_checked_with_its_gradient(engine):
    one = laws.ENGINES[engine]
    graded = jax.jit(jax.grad(lambda x, n: jnp.sum(x * read(n, engine=one))))
    checked = sc.debug.checked(graded)
    checked(1.0, jnp.array([T, 5, 0]))
    with pytest.raises(ValueError, match=r"^lengths: .* from 0 to 8"):
        checked(1.0, jnp.array([8, 5, 0]))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint32"])
def test_narrow_lengths_can_be_right_where_t_is_larger_than_they_hold(dtype):
    params, xs = (np.ones((1, 1)), np.ones((1, 1)), None), np.ones((200, 2, 1))
    cell = sc.RNN(1, "identity", bias="none")
    run = jax.jit(lambda n: sc.unroll(cell, sc.RNNParams(*params), xs, lengths=n)[0])
    carry = sc.debug.checked(run)(np.array([100, 7], dtype))
    assert carry.ravel().tolist() == [100, 7]


LM, DIGITS = PROBES["character_lm"].probe, PROBES["sequential_digits"].probe
RECALL = PROBES["delayed_recall"].probe
IMAGES = jnp.zeros((3, 8, 8), int)
DOORS = {  # values that are checked: the function of them, right ones, wrong ones, the message
    "lengths": (read, [T, 5, 0], [T + 1, 5, 0], "lengths: .*T=7, got values from 0 to 8"),
    "lag": (lambda n: RECALL.sample(KEY, 2, n), 9, 10, "lag: expected 1 to 9 steps, got 10"),
    "labels": (
        lambda n: DIGITS.whole(IMAGES, n),
        [0, 9, 1],
        [0, 9, 10],
        "labels: expected 0 to 9, got values from 0 to 10",
    ),
    "tokens": (
        lambda n: LM.sample(KEY, 2, n),
        [0, 3] * 50,
        [0, 4] * 50,
        "tokens: expected 0 to 3, got values from 0 to 4; `encode` makes them",
    ),
    "weight_std": (
        lambda n: diagnostics.mean_field(n, 0.1),
        1.5,
        -1.5,
        "weight_std: expected at least 0, got -1.5",
    ),
    "input_var": (
        diagnostics.critical_weight_std,
        [0.5, 0.1],
        [0.5, np.nan],
        "input_var: expected at least 0, got values from nan to nan",
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("traced", [False, True], ids=["concrete", "traced"])
def test_a_value_is_refused_in_the_same_words_concrete_and_traced(door, traced):
    function, right, wrong, message = DOORS[door]
    program = jax.jit(function)
    run = sc.debug.checked(program) if traced else lambda n: jax.eval_shape(lambda: function(n))
    run(jnp.asarray(right))
    with pytest.raises(ValueError, match=f"^{message}"):
        run(jnp.asarray(wrong))


def test_a_checked_function_takes_models_flags_and_functions():
    options = {"lengths": FLAGS["lengths"], "reverse": True, "engine": sc.Scan()}
    expected = sc.unroll(GRU, PARAMS, XS, **options)
    laws.assert_close(sc.debug.checked(sc.unroll)(GRU, PARAMS, XS, **options), expected)


def test_a_checked_function_within_another_is_checked_by_that_one():
    inner = sc.debug.checked(jax.jit(read))
    outer = sc.debug.checked(jax.jit(lambda n: 2 * inner(n)))
    with pytest.raises(ValueError, match="lengths: "):
        outer(jnp.array([8, 0, 0]))


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_a_checked_function_that_is_itself_transformed_says_so(transform):
    call = transform(sc.debug.checked(read))
    lengths = jnp.full((2, B) if transform is jax.vmap else B, T)
    with pytest.raises(TypeError, match=r"^checked: .* inside; write sc.debug.checked\(jax.jit"):
        jax.eval_shape(call, lengths)


def test_what_is_checked_is_a_function():
    with pytest.raises(TypeError, match=r"^function: expected .* got GRU\(3\)"):
        sc.debug.checked(GRU)
