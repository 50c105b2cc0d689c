"""Laws of one step: every cell equals its equations, and is a static value."""

import dataclasses
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support import laws
from tests.support.laws import (
    CASES,
    B,
    D,
    H,
    T,
    assert_close,
    draw,
    dtypes,
    over_built_in,
    over_cells,
)

pytestmark = pytest.mark.usefixtures("strict")

MATRIX = (sc.MLSTM, sc.GatedDeltaNet, sc.RetNet)  # a matrix for each head
DTYPES = [*itertools.product(("bfloat16", "float32"), repeat=2), ("float16", "float16")]


def one_step(case, batch=(B,)):
    """Return a problem of one step, and that step's input [*B, D]."""
    problem = draw(case, batch, steps=1)
    return problem, problem.xs[0]


@laws.over_rest
@pytest.mark.usefixtures("x64")
def test_a_step_equals_the_equations(case):
    problem, x = one_step(case)
    with jax.disable_jit():  # all cells share the compiled operations
        carry, y = case.cell.step(problem.params, problem.carry, x)
    expected_carry, expected_ys = laws.expect(case, problem, {})
    assert_close((carry, y), (expected_carry, expected_ys[0]))


@pytest.mark.laws("step")
@laws.over_forms
@pytest.mark.usefixtures("x64")
def test_a_step_and_its_gradient_equal_the_equations(case):
    problem, x = one_step(case)

    def loss(params, xs, carry):
        carry, y = case.cell.step(params, carry, xs[0])
        return laws.weigh(problem, carry, y[None]), (carry, y)

    inputs = (problem.params, jnp.asarray(x)[None], problem.carry)
    gradient, (carry, y) = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(*inputs)
    expected_carry, expected_ys = laws.expect(case, problem, {})
    assert_close((carry, y), (expected_carry, expected_ys[0]))
    assert_close(gradient, laws.expect_gradient(case, problem, {}))


@laws.over_families
@pytest.mark.parametrize("batch", [(), (1,), (2, 2)], ids=str)
@pytest.mark.usefixtures("x64")
def test_a_step_takes_any_number_of_batch_axes(case, batch):
    problem, x = one_step(case, (4,))
    count = math.prod(batch)

    def take(a):
        return jnp.asarray(a)[:count].reshape(*batch, *a.shape[1:])

    step = jax.jit(lambda *args: case.cell.step(*args))
    whole = step(problem.params, problem.carry, x)
    got = step(problem.params, jax.tree.map(take, problem.carry), take(x))
    assert_close(got, jax.tree.map(take, whole))


@over_built_in
@pytest.mark.usefixtures("x64")
def test_a_step_is_project_then_recur_then_read(case):
    problem, x = one_step(case)
    cell, params, old = case.cell, problem.params, jax.tree.map(jnp.asarray, problem.carry)
    expected = jax.jit(lambda *args: cell.step(*args))(params, old, x)
    drive = cell.project(params, jnp.asarray(x))
    carry = cell.recur(params, old, drive)
    assert_close((carry, cell.read(params, carry, drive)), expected)


@pytest.mark.laws("parts")
@laws.over_forms
@pytest.mark.usefixtures("x64")
def test_the_parts_of_a_recurrence_give_the_recurrence(case):
    """Engines run the parts: `mix` and `gate`, or the coefficients."""
    problem, x = one_step(case)
    cell, params, old = case.cell, problem.params, jax.tree.map(jnp.asarray, problem.carry)
    with jax.disable_jit():
        drive = cell.project(params, jnp.asarray(x))
        carry = cell.recur(params, old, drive)
        if splits(cell):
            assert_close(cell.gate(old, drive, cell.mix(params, old)), carry)
        if isinstance(cell, sc.LinearCell):
            a, b = cell.coefficients(params, drive, None)
            assert_close(jax.tree.map(jnp.add, cell.times(a, old), b), carry)


@over_cells
@pytest.mark.usefixtures("x64")
def test_gates_are_named_by_the_cell_and_lie_between_0_and_1(case):
    problem, x = one_step(case)
    cell, names = case.cell, getattr(innermost(case.cell), "GATES", ())
    names = (*names, "z") if getattr(cell, "gated", False) else names
    drive = cell.project(problem.params, jnp.asarray(x))
    gates = cell.gates(problem.params, jax.tree.map(jnp.asarray, problem.carry), drive)
    parts = names == ("re", "im")  # of a complex number
    assert bool(gates) == (len(names) > 1 and not parts)
    assert set(gates) <= set(names)
    per = "heads" if isinstance(cell, MATRIX) else "hidden_size"
    for value in gates.values():
        assert value.shape == (B, *case.x[:-1], getattr(innermost(cell), per))
        assert np.all((value > 0) & (value < 1))


def innermost(cell):
    return innermost(cell.cell) if hasattr(cell, "cell") else cell


def test_cells_say_whether_they_can_be_split():
    refused = {name for name, case in CASES.items() if not splits(case.cell)}
    before = {name for name in CASES if "gru-before" in name or name.startswith("mgu-before")}
    linear = {name for name in CASES if isinstance(CASES[name].cell, sc.LinearCell)}
    projected = {"lstm-peep", "lstm-proj", "lstm-projpeep"}
    wrapped = {"zoneout-lstm", "dropout-gru", "function"}
    own = {name for name in CASES if name.startswith(("lem-", "grud-"))}
    matrix = {name for name in CASES if isinstance(CASES[name].cell, MATRIX)}
    assert refused == before | linear | projected | wrapped | own | matrix
    assert all(isinstance(CASES[name].cell.why_not_split(), str) for name in refused)


def splits(cell):
    return cell.why_not_split() is None


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize(("bias_z", "written"), [(-40.0, 0.0), (40.0, 1.0), (0.0, 0.5)])
def test_z_is_the_fraction_that_is_written(reset_after, bias_z, written):
    bias = jnp.concatenate([jnp.zeros(H), jnp.full(H, bias_z), jnp.ones(H)])
    params = sc.GRUParams(jnp.zeros((D, 3 * H)), jnp.zeros((H, 3 * H)), bias, jnp.zeros(3 * H))
    old = jnp.array([-2.0, 0.5, 3.0])
    new, _ = sc.GRU(H, reset_after=reset_after).step(params, old, jnp.ones(D))
    assert_close(new, (1 - written) * old + written * jnp.tanh(1.0), 1e-6)


SHAPES = {  # of each parameter by its name
    sc.RNN(H): {"w_ih": (D, H), "w_hh": (H, H), "b": (H,)},
    sc.RNN(H, bias="none"): {"w_ih": (D, H), "w_hh": (H, H), "b": None},
    sc.GRU(H): {"w_ih": (D, 9), "w_hh": (H, 9), "b_ih": (9,), "b_hh": (9,)},
    sc.GRU(H, bias="single"): {"w_ih": (D, 9), "w_hh": (H, 9), "b_ih": (9,), "b_hh": None},
    sc.GRU(H, bias="candidate"): {"w_ih": (D, 9), "w_hh": (H, 9), "b_ih": (9,), "b_hh": (H,)},
    sc.MGU(H, bias="candidate"): {"w_ih": (D, 6), "w_hh": (H, 6), "b_ih": (6,), "b_hh": (H,)},
    sc.GRU(H, reset_after=False, bias="none"): {
        "w_ih": (D, 9),
        "w_hh": (H, 9),
        "b_ih": None,
        "b_hh": None,
    },
    sc.MGU(H): {"w_ih": (D, 6), "w_hh": (H, 6), "b_ih": (6,), "b_hh": None},
    sc.LSTM(H): {"w_ih": (D, 12), "w_hh": (H, 12), "b": (12,), "p": None, "w_hr": None},
    sc.LSTM(H, proj_size=2): {
        "w_ih": (D, 12),
        "w_hh": (2, 12),
        "b": (12,),
        "p": None,
        "w_hr": (H, 2),
    },
    sc.LSTM(H, bias="none", peepholes=True): {
        "w_ih": (D, 12),
        "w_hh": (H, 12),
        "b": None,
        "p": (9,),
        "w_hr": None,
    },
    sc.IndRNN(H): {"w_ih": (D, H), "w_hh": (H,), "b": (H,)},
    sc.MinGRU(H): {"w_ih": (D, 6), "b": (6,)},
    sc.JANET(H): {"w_ih": (D, 6), "w_hh": (H, 6), "b": (6,)},
    sc.LiGRU(H): {"w_ih": (D, 6), "w_hh": (H, 6), "b": (6,)},
    sc.CoupledLSTM(H, bias="none"): {"w_ih": (D, 9), "w_hh": (H, 9), "b": None},
    sc.ConvGRU(H, kernel_size=(1, 3), bias="candidate"): {
        "w_ih": (1, 3, D, 9),
        "w_hh": (1, 3, H, 9),
        "b_ih": (9,),
        "b_hh": (H,),
    },
    sc.ConvLSTM(H, recurrent_kernel_size=5): {
        "w_ih": (3, 3, D, 12),
        "w_hh": (5, 5, H, 12),
        "b": (12,),
    },
    sc.SLSTM(H, heads=H): {"w_ih": (D, 12), "w_hh": (1, 12), "b": (12,)},
    sc.coRNN(H): {"w_ih": (D, H), "w_hh": (H, H), "w_zh": (H, H), "b": (H,)},
    sc.UnICORNN(H): {"w_ih": (D, H), "w_hh": (H,), "b": (H,), "c": (H,)},
    sc.AntisymmetricRNN(H): {"w_ih": (D, H), "w_hh": (H, H), "b": (H,), "w_iz": None, "b_z": None},
    sc.CTRNN(H): {"w_ih": (D, H), "w_hh": (H, H), "b": (H,), "tau_log": None},
    sc.CTRNN(H, bias="none", learn_tau=True): {
        "w_ih": (D, H),
        "w_hh": (H, H),
        "b": None,
        "tau_log": (H,),
    },
    sc.GRUD(H): {
        **{"w_ih": (D, 9), "w_mh": (D, 9), "w_hh": (H, 9), "b": (9,)},
        **{"w_dx": (D,), "c_dx": (D,), "w_dh": (D, H), "c_dh": (H,)},
    },
    sc.LEM(H): {"w_ih": (D, 12), "w_hh": (H, 12), "b": (12,)},
    sc.MinLSTM(H): {"w_ih": (D, 9), "b": (9,)},
    sc.RGLRU(6, heads=3): {"w_ih": (2, 12), "b": (12,), "a_param": (6,)},
    sc.S5(H): {
        "w_ih": (D, 6),
        "w_ho": (H, 2 * D),
        "lambda_re": (H,),
        "lambda_im": (H,),
        "step_log": (H,),
        "d": (D,),
    },
    sc.Mamba(H, state_size=5, rank=2): {
        "w_ih": (H, 12),
        "w_dt": (2, H),
        "b_dt": (H,),
        "a_log": (H, 5),
        "d": (H,),
    },
    sc.MLSTM(6, heads=3): {"w_ih": (D, 24), "b": (6,)},
    sc.RetNet(6, heads=3, key_size=4): {"w_ih": (D, 30)},
    sc.GatedDeltaNet(6, heads=3, key_size=4): {"w_ih": (D, 36), "b_dt": (3,), "a_log": (3,)},
    sc.GatedDeltaNet(6, heads=3, decay=False): {"w_ih": (D, 21), "b_dt": None, "a_log": None},
    sc.LRU(H, output_size=5): {
        "w_ih": (D, 6),
        "w_ho": (H, 10),
        "nu_log": (H,),
        "theta_log": (H,),
        "gamma_log": (H,),
        "d": None,
    },
    sc.LRU(H, skip=True): {
        "w_ih": (D, 6),
        "w_ho": (H, 2 * D),
        "nu_log": (H,),
        "theta_log": (H,),
        "gamma_log": (H,),
        "d": (D,),
    },
    sc.SLSTM(1, projected=True): {"w_ih": None, "w_hh": (1, 4), "b": (4,)},
    sc.MLSTM(H, key_size=2, projected=True): {"w_ih": (7, 2), "b": (2,)},
}


def test_layers_around_a_projection_have_its_size():
    cell, xs = sc.LSTM(H + 1, proj_size=D), jnp.ones((T, B, D))
    layers = {
        sc.Residual(cell): D,
        sc.Bidirectional(cell): 2 * D,
        sc.Bidirectional(cell, sc.GRU(D), merge="sum"): D,
        sc.Stack((cell, sc.Recurrent(cell, learned_carry=True), sc.Dense(H))): H,
        sc.Stack((cell, cell), skip=True): 2 * D,
        sc.Zoneout(cell, (0.1, 0.2)): D,
    }
    for layer, size in layers.items():
        params = jax.eval_shape(lambda layer=layer: layer.init(jax.random.key(0), D))
        assert jax.eval_shape(sc.unroll, layer, params, xs)[1].shape == (T, B, size)
        assert f"(T, B, {size})" in sc.summary(layer, D)
    with pytest.raises(ValueError, match="2 outputs for 3 inputs"):
        sc.Residual(cell).init(jax.random.key(0), H)


SCALING = (sc.RGLRU, sc.Mamba)  # a unit scales its own feature, so there are as many of both
KINDS = {  # the cells of the library that have biases to choose from, or none
    laws.kind(case.cell) for case in CASES.values() if hasattr(case.cell, "BIASES")
}
over_kinds = pytest.mark.parametrize("kind", sorted(KINDS, key=lambda kind: kind.__name__))


@pytest.mark.parametrize("cell", SHAPES, ids=repr)
def test_parameters_have_these_names_and_shapes(cell):
    size = cell.hidden_size if isinstance(cell, SCALING) else D
    if getattr(cell, "projected", False):
        size = 7 if isinstance(cell, sc.MLSTM) else 4
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), size))
    shapes = {name: leaf and leaf.shape for name, leaf in params._asdict().items()}
    assert list(shapes.items()) == list(SHAPES[cell].items())


@pytest.mark.parametrize("kind", sorted(KINDS - {*MATRIX}, key=lambda kind: kind.__name__))
def test_matrices_and_biases_have_a_column_for_each_unit_of_each_gate(kind):
    size = H if kind in SCALING else D
    params = jax.eval_shape(lambda: kind(H).init(jax.random.key(0), size))
    for name, leaf in params._asdict().items():
        if leaf is not None and name in ("w_ih", "w_hh", "b", "b_ih", "b_hh"):
            if (kind, name) != (sc.Mamba, "w_ih"):  # whose columns are no units
                assert leaf.shape[-1] == len(kind.GATES) * H, name
            rows = {"w_ih": [(size,)], "w_hh": [(H,), ()]}.get(name, [()])
            assert leaf.shape[-2:-1] in rows, name


@over_kinds
def test_a_cell_lists_the_biases_that_it_has_and_refuses_others(kind):
    """The table has a row for each."""
    cells = [case.cell for case in CASES.values() if laws.kind(case.cell) is kind]
    assert set(kind.BIASES) == {cell.bias for cell in cells if hasattr(cell, "bias")}
    for bias in kind.BIASES:
        params = kind(H, bias=bias).init(jax.random.key(0), D)
        given = {"none": 0, "single": 1, "double": 2, "candidate": 2}[bias]
        made = [name for name, leaf in params._asdict().items() if leaf is not None]
        assert sum(name[0] == "b" for name in made) == given
    for bias in ("both", True, None):
        with pytest.raises(ValueError if kind.BIASES else TypeError, match="bias"):
            kind(H, bias=bias)


def test_the_gru_of_the_guide_has_12864_parameters():
    params = jax.eval_shape(lambda: sc.GRU(64).init(jax.random.key(0), 1))
    assert sc.param_count(params) == 12_864


@pytest.mark.laws("dtypes")
@over_built_in
@pytest.mark.parametrize(("x_dtype", "param_dtype"), DTYPES)
@pytest.mark.parametrize("dtype", [None, "bfloat16", "float32"])
def test_dtypes_of_params_carry_and_output(case, param_dtype, dtype, x_dtype):
    cell = laws.with_dtypes(case.cell, dtype=dtype, param_dtype=param_dtype)

    def everything(key, x):
        params, carry = cell.init(key, case.features), cell.init_carry(x)
        return params, carry, cell.step(params, carry, x)

    x = jax.ShapeDtypeStruct((B, *case.x), x_dtype)
    params, fresh, (carry, y) = jax.eval_shape(everything, jax.random.key(0), x)
    assert dtypes(params) == {jnp.dtype(param_dtype)}
    assert dtypes((fresh, carry)) == {jnp.dtype("float32")}  # memory is not rounded to 8 bits
    assert y.dtype == (x_dtype if dtype is None else dtype)


@over_built_in
@pytest.mark.usefixtures("x64")
def test_float64_stays_float64(case):
    cell = laws.with_dtypes(case.cell, param_dtype="float64")

    def everything(x):
        params = cell.init(jax.random.key(0), case.features)
        return params, cell.step(params, cell.init_carry(x), x)

    made = jax.eval_shape(everything, jax.ShapeDtypeStruct((B, *case.x), jnp.float64))
    assert dtypes(made) == {jnp.dtype("float64")}


@over_cells
def test_the_fresh_carry_is_that_of_the_table_whatever_the_input_holds(case):
    for batch in ((), (2, 2)):
        with jax.disable_jit():
            carry = case.cell.init_carry(jnp.full((*batch, *case.x), jnp.nan))
        rows = jax.tree.map(
            lambda a, batch=batch: np.broadcast_to(a, (*batch, *a.shape)), case.fresh
        )
        assert_close(carry, rows)


def test_keys_make_distinct_members_gates_and_matrices():
    names = ("w_ih_init", "w_hh_init", "b_ih_init", "b_hh_init")
    cell = sc.GRU(H, **dict.fromkeys(names, sc.initializers.Normal()))
    many = jax.vmap(lambda key: cell.init(key, H))(jax.random.split(jax.random.key(0), 4))
    blocks = jax.tree.leaves(many)
    numbers = np.concatenate([np.asarray(block).ravel() for block in blocks])
    assert len(np.unique(numbers)) == numbers.size
    once, again = cell.init(jax.random.key(1), H), cell.init(jax.random.key(1), H)
    laws.assert_same_bits(once, again)


def chrono():
    return (sc.initializers.zeros, sc.initializers.Chrono(9), sc.initializers.ones)


EQUAL = [
    (sc.GRU(H), sc.GRU(np.int64(H), reset_after=True, bias="double")),
    (sc.GRU(H, dtype="bfloat16"), sc.GRU(H, dtype=jnp.bfloat16)),
    (sc.RNN(H, param_dtype=np.float32), sc.RNN(H, param_dtype=jnp.dtype("float32"))),
    (sc.GRU(H, b_ih_init=chrono()), sc.GRU(H, b_ih_init=chrono())),
    (CASES["function"].cell, dataclasses.replace(CASES["function"].cell)),
    (sc.Scan(checkpoint="sqrt"), sc.Scan(1, "sqrt")),
]


@pytest.mark.parametrize(("one", "two"), EQUAL, ids=lambda value: type(value).__name__)
def test_equal_configurations_are_equal_and_trace_once(one, two):
    assert one is not two
    assert one == two
    assert hash(one) == hash(two)
    traced = jax.jit(chex.assert_max_traces(lambda config, x: x + 1, n=1))
    traced(one, jnp.ones(()))
    traced(two, jnp.ones(()))
    with pytest.raises(AssertionError, match="traced"):  # and another configuration does count
        traced(sc.RNN(H + 1), jnp.ones(()))


def test_every_cell_is_in_the_table():
    missing = laws.public(sc.Cell) - {laws.kind(case.cell) for case in CASES.values()}
    assert not missing, f"add a row to CASES of tests/support/laws.py: {missing}"


def test_no_two_cells_of_the_table_are_equal():
    cells = [case.cell for case in CASES.values()]
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize(
    "value", [*laws.tables(every=False)["built_in"], pytest.param(sc.Scan(), id="scan")]
)
def test_configurations_hold_no_array_and_cannot_be_changed(value):
    value = getattr(value, "cell", value)
    assert jax.tree.leaves(value) == []
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.hidden_size = 4


def test_a_cell_of_a_users_own_is_a_cell():
    @dataclasses.dataclass(frozen=True)
    class Sum(sc.Cell):
        scale: float = 1.0

        def init(self, key, input_size):
            return jnp.ones(input_size)

        def init_carry(self, x, params=None):
            return jnp.zeros_like(x[..., 0])

        def project(self, params, x):
            return self.scale * jnp.sum(params * x, axis=-1)

        def recur(self, params, carry, drive):
            return carry + drive

        def read(self, params, carry, drive):
            return carry[..., None]

    xs = jnp.arange(12.0).reshape(4, 3)
    carry, ys = jax.jit(sc.unroll)(Sum(2.0), jnp.ones(3), xs)
    assert_close(ys[:, 0], 2 * jnp.cumsum(jnp.sum(xs, axis=-1)), 1e-6)
    assert_close(carry, ys[-1, 0], 0)


@dataclasses.dataclass(frozen=True)
class Question(sc.LinearCell):
    """A linear cell that writes more after a reset, and whose output asks the memory a question."""

    def init(self, key, input_size):
        return 0.5 * jax.random.normal(key, (input_size, 2), jnp.float32)

    def init_carry(self, x, params=None):
        return jnp.zeros_like(x[..., 0])

    def project(self, params, x):
        return jnp.moveaxis(x @ params.astype(x.dtype), -1, 0)

    def coefficients(self, params, drive, fresh):
        scale = 0.3 if fresh is None else jnp.where(fresh, 1.0, 0.3)
        return jax.nn.sigmoid(drive[0]), scale * drive[1]

    def read(self, params, carry, drive):
        return (carry * drive[0])[..., None]


@pytest.mark.parametrize(
    ("cell", "engine"),
    [
        pytest.param(Question(), sc.Scan(), id="scan"),
        pytest.param(Question(), sc.AssociativeScan(), id="associative"),
        pytest.param(sc.Zoneout(Question(), 0.0), sc.Scan(checkpoint=2), id="zoneout"),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.usefixtures("x64")
def test_a_linear_cell_knows_of_resets_and_reads_its_drive(cell, engine, padded, reverse):
    rng = np.random.default_rng(0)
    params, xs = rng.normal(size=(D, 2)), rng.normal(size=(5, B, D))
    mask, resets = rng.random((5, B)) < (0.7 if padded else 1), rng.random((5, B)) < 0.5
    carry, ys = np.zeros(B), np.zeros((5, B, 1))
    for b in range(B):
        starts = np.flatnonzero(resets[:, b] & mask[:, b])
        steps = np.flatnonzero(mask[:, b])[:: -1 if reverse else 1]
        for before, t in zip([None, *steps], steps, strict=False):
            passed = starts[(t < starts) & (starts <= before)] if before is not None else starts[:0]
            fresh = bool(passed.size) if reverse else t in starts
            gate, value = xs[t, b] @ params
            carry[b] = (not fresh) * carry[b] / (1 + np.exp(-gate)) + (0.3, 1)[fresh] * value
            ys[t, b] = carry[b] * gate
    mask = mask if padded else None
    flags = {"mask": mask, "resets": resets, "reverse": reverse, "engine": engine}
    assert_close(sc.unroll(cell, params, xs, **flags), (carry, ys))
