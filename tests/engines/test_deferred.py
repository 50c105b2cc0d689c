"""`Deferred`: its derivative in every form, its schedule, and what it refuses."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import seqcells as sc
from seqcells.engines.deferred import slopes
from seqcells.engines.deferred.windows import Windows
from tests.support import programs
from tests.support.laws import CASES, assert_close, draw, draw_flags

pytestmark = pytest.mark.usefixtures("strict", "x64")

STEPS, BATCH = 5, 2
ENGINES = {
    "again": sc.Deferred(chunk=2, keep=(), project_ahead=True),
    "kept": sc.Deferred(chunk=3, keep=("drive", "mixed"), project_ahead=False),
    "batched": sc.Deferred(chunk=STEPS, keep=("mixed",), vmap_sequentially=False),
    "lean": sc.Deferred(chunk=3, keep=(), project_ahead=True, vmap_sequentially=False, unroll=2),
    "slopes": sc.Deferred(chunk=3, keep=("slopes",), project_ahead=True),
    "joined": sc.Deferred(chunk=3, keep=("slopes",), product="joined"),
    "columns": sc.Deferred(chunk=3, keep=("mixed",), project_ahead=True, product="columns"),
    "kernels": sc.PallasTriton(chunk=3, interpret=True),
}
over_engines = pytest.mark.parametrize(
    ("name", "way"), [("lstm-bias" if w == "joined" else "gru-after-double", w) for w in ENGINES]
)


class Loss:
    """A loss with curvature, of (params, xs, carry), and a direction in which to differentiate."""

    def __init__(self, name, way=None, flags=None):
        self.case, self.engine = CASES[name], sc.Scan() if way is None else ENGINES[way]
        problem = draw(self.case, (BATCH,), steps=STEPS)
        self.args = jax.tree.map(jnp.asarray, (problem.params, problem.xs, problem.carry))
        self.direction = jax.tree.map(
            lambda a: jnp.cos(jnp.arange(float(a.size))).reshape(a.shape), self.args
        )
        self.flags = flags or {}

    def __call__(self, *args):
        carry, ys = sc.unroll(self.case.cell, *args, **self.flags, engine=self.engine)
        return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(jnp.cos(a)) for a in jax.tree.leaves(carry))

    def whole(self, args):
        return self(*args)


def dot(a, b):
    return sum(map(jnp.vdot, jax.tree.leaves(a), jax.tree.leaves(b)))


def slope(f, loss):
    return lambda args: jax.jvp(f, (args,), (loss.direction,))[1]


def hessian(loss):
    params, xs, carry = loss.args
    return jax.hessian(lambda x0: loss(params, xs.at[0].set(x0), carry))(xs[0])


def of_one_weight(loss):
    params, xs, carry = loss.args
    (first, *rest), structure = jax.tree.flatten(params)
    return jax.grad(lambda w: loss(jax.tree.unflatten(structure, [w, *rest]), xs, carry))(first)


FORMS = {
    "forward": lambda loss: jax.jvp(loss.whole, (loss.args,), (loss.direction,)),
    "linearized": lambda loss: jax.linearize(loss.whole, loss.args)[1](loss.direction),
    "backward": lambda loss: jax.value_and_grad(loss.whole)(loss.args),
    "backward_of_backward": lambda loss: jax.grad(
        lambda args: dot(jax.grad(loss.whole)(args), loss.direction)
    )(loss.args),
    "forward_of_backward": lambda loss: slope(jax.grad(loss.whole), loss)(loss.args),
    "backward_of_forward": lambda loss: jax.grad(slope(loss.whole, loss))(loss.args),
    "forward_of_forward": lambda loss: slope(slope(loss.whole, loss), loss)(loss.args),
    "hessian": hessian,
    "checkpointed": lambda loss: jax.grad(jax.checkpoint(loss.whole))(loss.args),
    "of_one_weight": of_one_weight,
}
DERIVED = [("gru-after-double", "kept")]
SLOW = pytest.mark.slow
MORE = [("lstm-bias", way) for way in ("again", "lean", "joined", "columns")]
MORE += [("gru-after-double", "kernels"), ("gru-after-double", "columns")]
DERIVED += [pytest.param(*row, marks=SLOW) for row in MORE]


def assert_as_the_scan(way, of):
    assert_close(*(jax.jit(lambda way=way: of(way))() for way in (way, None)))


SEEN = ("linearized", "backward", "checkpointed", "hessian")  # also by laws, or by the others


@pytest.mark.parametrize(
    "form",
    [pytest.param(form, marks=[pytest.mark.slow] * (n in SEEN)) for n, form in FORMS.items()],
    ids=FORMS,
)
@pytest.mark.parametrize(("name", "way"), DERIVED)
def test_every_derivative_is_that_of_the_plain_scan(name, way, form):
    assert_as_the_scan(way, lambda way: form(Loss(name, way)))


@pytest.mark.parametrize(
    ("name", "way", "reverse"),
    [
        *(("lstm-bias", way, way == "joined") for way in ("kept", "slopes", "joined", "columns")),
        ("layernorm-gru", "again", True),
        pytest.param("lstm-bias", "again", True, marks=SLOW),
        *(pytest.param("lstm-bias", way, False, marks=SLOW) for way in ("batched", "lean")),
        *(pytest.param("layernorm-gru", way, False, marks=SLOW) for way in ("kept", "slopes")),
    ],
)
def test_tangents_under_flags_are_those_of_the_plain_scan(name, way, reverse):
    flags = draw_flags(batch=BATCH)
    flags = {"lengths": np.array([4, 1]), "resets": flags["resets"][:STEPS], "reverse": reverse}
    assert_as_the_scan(way, lambda way: FORMS["forward"](Loss(name, way, flags)))


AXES = {"weights": (0, None, None), "data": (None, 1, 0), "both": (0, 1, 0)}


@pytest.mark.slow
@over_engines
@pytest.mark.parametrize("axes", AXES)
def test_vmap_on_either_side_is_that_of_the_plain_scan(name, way, axes):
    def all_of(way):
        loss = Loss(name, way)
        stack = lambda tree, axis: jax.tree.map(lambda a: jnp.stack([a, 0.5 * a, -a], axis), tree)  # noqa: E731
        args = [
            arg if axis is None else stack(arg, axis)
            for arg, axis in zip(loss.args, AXES[axes], strict=True)
        ]
        within = jax.vmap(jax.value_and_grad(loss, (0, 1, 2)), AXES[axes])(*args)
        outside = jax.grad(lambda args: jnp.sum(jax.vmap(loss, AXES[axes])(*args)))(args)
        tangents = jax.vmap(lambda *args: jax.jvp(loss, args, args), AXES[axes])(*args)
        return within, outside, tangents

    assert_as_the_scan(way, all_of)


@pytest.mark.parametrize("way", ["kept", "batched"])
def test_members_stand_on_any_axis_of_weights_inputs_carry_and_flags(way):
    """Values and gradients are those of a loop over the members."""
    loss, members = Loss("gru-after-double", way), 3
    resets = np.random.default_rng(1).random((members, STEPS, BATCH)) < 0.4
    each = [jax.tree.map(lambda a, m=m: (1 - 0.6 * m) * a, loss.args) for m in range(members)]
    axes = (sc.GRUParams(1, 2, 1, 0), 3, 2, 1)  # of the params, xs, the carry and resets

    def graded(params, xs, carry, resets, engine=loss.engine):
        def of(*args):
            carry, ys = sc.unroll(loss.case.cell, *args, resets=resets, engine=engine)
            return jnp.sum(jnp.sin(ys)) + jnp.sum(jnp.cos(carry))

        return jax.value_and_grad(of, (0, 1, 2))(params, xs, carry)

    args = [(*one, reset) for one, reset in zip(each, resets, strict=True)]
    stacked = jax.tree.map(lambda axis, *a: jnp.stack(a, axis), axes, *args)
    got = jax.jit(jax.vmap(graded, axes, (0, axes[:3])))(*stacked)
    alone = jax.jit(lambda *one: graded(*one, engine=sc.Scan()))
    loop = [alone(*one) for one in args]
    values, gradients = zip(*loop, strict=True)
    expected = jax.tree.map(lambda axis, *a: jnp.stack(a, axis), axes[:3], *gradients)
    assert_close(got, (jnp.stack(values), expected))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["kept", "batched"])
def test_second_derivatives_of_many_members_are_those_of_the_plain_scan(way):
    def all_of(way):
        loss = Loss("gru-after-double", way)
        params, xs, carry = loss.args
        stacked = jax.tree.map(lambda a: jnp.stack([a, -0.5 * a]), params)
        graded = jax.grad(lambda params: loss(params, xs, carry))

        def back(params):
            return jax.grad(lambda params: dot(graded(params), loss.direction[0]))(params)

        forth = jax.vmap(lambda params: jax.jvp(graded, (params,), (loss.direction[0],))[1])
        outside = jax.grad(lambda many: dot(jax.vmap(graded)(many), many))
        return jax.vmap(back)(stacked), forth(stacked), outside(stacked)

    assert_as_the_scan(way, all_of)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_learned_carry_has_its_gradient(reverse):
    case = CASES["lstm-bias"]
    problem = draw(case, (BATCH,), steps=STEPS)
    resets = np.zeros((STEPS, BATCH), bool)
    resets[3] = True

    def loss(fresh, engine):
        flags = {"resets": resets, "reset_carry": fresh, "engine": engine, "reverse": reverse}
        return jnp.sum(jnp.sin(sc.unroll(case.cell, problem.params, problem.xs, **flags)[1]))

    graded = jax.jit(jax.grad(loss))
    assert_close(*(graded(problem.carry, engine) for engine in (ENGINES["again"], sc.Scan())))


def many(count=3):
    return jax.vmap(lambda key: sc.GRU(4).init(key, 2))(jax.random.split(jax.random.key(0), count))


def products(f, *args):
    """The shapes of the products in a program."""
    text = jax.jit(f).lower(*args).as_text()
    return {line.split("->")[-1].strip() for line in text.splitlines() if "dot_general" in line}


@pytest.mark.parametrize("vmap_sequentially", [True, False])
def test_a_batch_of_weights_is_run_one_after_another_where_asked_for(vmap_sequentially):
    engine, xs = sc.Deferred(vmap_sequentially=vmap_sequentially), jnp.ones((6, 5, 2), jnp.float32)

    def loss(params):
        return jnp.sum(sc.unroll(sc.GRU(4), params, xs, engine=engine)[1])

    shapes = products(jax.vmap(jax.grad(loss)), jax.tree.map(jnp.float32, many(11)))
    assert shapes
    assert any("<11x" in shape for shape in shapes) is not vmap_sequentially


def test_a_batch_of_data_alone_is_one_batch():
    params = jax.tree.map(lambda a: jnp.float32(a[0]), many())
    xs = jnp.ones((11, 6, 5, 2), jnp.float32)
    engine = sc.Deferred(project_ahead=False)
    run = jax.vmap(lambda xs: sc.unroll(sc.GRU(4), params, xs, engine=engine)[1])
    assert products(run, xs) == {"tensor<11x5x12xf32>", "tensor<11x12x5xf32>"} & products(run, xs)
    assert products(run, xs)


@dataclasses.dataclass(frozen=True)
class Own(sc.SplitCell):
    """A split cell of one's own, with a kind of gate and a kind of carry."""

    kind: str = "elementwise"

    def init(self, key, input_size):
        return jax.random.normal(key, (input_size, 3)), jnp.eye(3)

    def init_carry(self, x, params=None):
        zeros = jnp.zeros_like(x, shape=(*x.shape[:-1], 3))
        return (zeros, jnp.zeros_like(zeros, dtype=int)) if self.kind == "counting" else zeros

    def project(self, params, x):
        return x @ params[0].astype(x.dtype)

    def mix(self, params, carry):
        h = carry[0] if self.kind == "counting" else carry
        return h @ params[1].astype(h.dtype)

    def gate(self, carry, drive, mixed):
        if self.kind == "counting":
            return jnp.tanh(drive + mixed), carry[1] + 1
        new = jax.nn.relu(jnp.where(drive > 0, drive, mixed) * carry + jax.nn.softplus(mixed))
        return new / (1 + jnp.sum(new, -1, keepdims=True)) if self.kind == "normal" else new

    def read(self, params, carry, drive):
        return carry[0] if self.kind == "counting" else carry


def test_a_split_cell_of_ones_own_is_taken():
    cell, xs = Own(), jax.random.normal(jax.random.key(1), (7, 2, 2))
    params = cell.init(jax.random.key(0), 2)
    assert isinstance(sc.select_engine(cell, xs), sc.Deferred)

    def loss(params, engine):
        return jnp.sum(jnp.sin(sc.unroll(cell, params, xs, engine=engine)[1]))

    graded = jax.jit(jax.grad(loss))
    assert_close(*(graded(params, engine) for engine in (sc.Deferred(chunk=3), sc.Scan())))


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (Own("normal"), "not elementwise: it has reduce_sum"),
        (Own("counting"), "not real numbers"),
        (sc.GRU(3, reset_after=False), "two products in sequence"),
        (sc.MinGRU(3), "not a SplitCell"),
        (sc.LSTM(3, proj_size=2), "second product projects the new h"),
        (sc.LEM(3), "second product reads the new z"),
    ],
)
def test_what_cannot_be_deferred_is_scanned_and_the_error_says_why(cell, reason):
    xs = jnp.ones((7, 2, 2))
    assert sc.select_engine(cell, xs) == sc.Scan()
    with pytest.raises(ValueError, match=reason):
        sc.select_engine(cell, xs, engine=sc.Deferred())


def test_slopes_are_there_only_where_a_leaf_depends_on_another():
    h, c, *sums = (jnp.linspace(-1, 1, 6).reshape(2, 3) * 0.1 * i for i in range(10))
    cell, carry = sc.LSTM(3), sc.LSTMCarry(h, c)
    drive, mixed = tuple(sums[:4]), tuple(sums[4:])
    table = slopes.slopes(cell.gate, carry, drive, mixed)
    there = [[slope is not None for slope in row] for row in table]
    # h comes from the new c, and besides from the gate o alone; c from the old c and three gates.
    of_h, of_c = (
        [False, False, *[False, False, False, True] * 2],
        [False, True, *[True, True, True, False] * 2],
    )
    assert there == [[*of_h, False, True], [*of_c, False, False]]
    i, f, g, _ = (np.asarray(a + b) for a, b in zip(drive, mixed, strict=True))
    np.testing.assert_allclose(table[1][1], 1 / (1 + np.exp(-f)), 1e-12)  # dc / dc
    np.testing.assert_allclose(table[1][4], (1 - np.tanh(g) ** 2) / (1 + np.exp(-i)), 1e-12)


GATES = {
    "sum": (lambda a, b: jnp.tanh(a + b), [0, 0]),
    "sum of scaled": (lambda a, b: jnp.tanh(2 * a + b), [0, 1]),
    "read again": (lambda a, b: jnp.tanh(a + b) * b, [0, 1]),
    "returned": (lambda a, b: (a + b, b), [0, 1]),
    "twice": (lambda a, b: a + a + b, [0, 1]),
    "with a number": (lambda a, b: (a + 1) * b, [0, 1]),
    "of three": (lambda a, b, c: jnp.sin(b + c) * a, [0, 1, 1]),
    "backwards": (lambda a, b, c: jnp.sin(c + a) * b, [0, 1, 0]),
}


@pytest.mark.parametrize("way", ["slopes", "joined", "columns"])
def test_members_in_a_shard_map_have_the_gradients_of_the_plain_scan(way):
    """What a step makes varies over the mesh as its inputs do, or residuals would have no place."""

    def of_members(way):
        loss = Loss("lstm-bias", way)
        mesh = jax.make_mesh((1,), ("members",), axis_types=(AxisType.Auto,))
        params, xs, carry = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), loss.args)
        rows = PartitionSpec("members")
        grads = jax.shard_map(jax.vmap(jax.grad(loss)), mesh=mesh, in_specs=rows, out_specs=rows)
        return grads(params, xs, carry)

    assert_as_the_scan(way, of_members)


@pytest.mark.parametrize("name", GATES)
def test_a_slope_that_equals_another_is_stored_once(name):
    gate, first = GATES[name]
    args = tuple(jnp.linspace(-1, 1, 6) * (i + 1) for i in range(len(first)))
    assert slopes.twins(gate, *args) == first
    assert_slopes(gate, args)
    for row in slopes.distinct(gate, *args):
        assert [row[i] for i, j in enumerate(first) if i != j] == [None] * (
            len(set(first)) < len(first)
        )


def assert_slopes(gate, args):
    """The slopes, completed, are those by forward mode."""
    table = slopes.complete(gate, args, slopes.distinct(gate, *args))
    rows = [row[: len(args)] for row in table], [row[len(args) :] for row in table]
    for column, arg in enumerate(args):
        turned = lambda one, at=column: gate(*args[:at], one, *args[at + 1 :])  # noqa: E731
        for row, slope in zip(
            slopes.substituted(*rows),
            jax.tree.leaves(jax.jvp(turned, (arg,), (jnp.ones_like(arg),))[1]),
            strict=True,
        ):
            assert_close(jnp.zeros_like(arg) if row[column] is None else row[column], slope, 1e-15)


def one_of_two(a, b, c):
    first = jnp.sin(a * b)
    return first + c, first


def of_one_equation(a, b, c):
    first, other = jax.jit(lambda: (a * b * c, jnp.sin(b)))()
    return first, jnp.cos(first) + other


def through_the_last(a, b, c):
    last = a * b * c
    middle = jnp.tanh(last) * a
    return jnp.sin(middle) + b, middle, last


@pytest.mark.parametrize(
    ("gate", "there"),
    [  # by a, b, c, then by the new leaves
        (one_of_two, ["..x.x", "xx..."]),
        (through_the_last, [".x..x.", "x....x", "xxx..."]),
        (lambda a, b: (a * b, a * b + 1), ["xx..", "xx.."]),  # no leaf is computed from the other
        (lambda a, b: (a, a * b), ["x...", "xx.."]),
        (lambda a, b: (2.0, jnp.sin(a * b)), ["....", "xx.."]),
        (of_one_equation, ["xxx..", "xxx.."]),
    ],
)
def test_a_leaf_that_is_computed_from_another_has_its_slope_by_that(gate, there):
    args = tuple(jnp.linspace(-1, 1, 6) * (i + 1) for i in range(len(there[0]) - len(there)))
    table = slopes.slopes(gate, *args)
    assert ["".join(".x"[slope is not None] for slope in row) for row in table] == there
    assert_slopes(gate, args)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("length", "size"), [(12, 4), (13, 4), (7, 7), (5, 2), (3, 1), (1, 1)])
def test_windows_read_every_step_once(length, size, reverse):
    windows = Windows(length, size, reverse)
    times = jnp.arange(length)
    cut = windows.cut(times)
    np.testing.assert_array_equal(windows.join(cut), times)
    live = np.ones(cut.shape, bool) if windows.live is None else windows.live
    np.testing.assert_array_equal(np.sort(np.asarray(cut)[live]), times)
    order = slice(None, None, -1) if reverse else slice(None)
    read = [
        int(t)
        for start, row in list(zip(windows.starts, live, strict=True))[order]
        for t in np.asarray(windows.at(start, times))[order][row[order]]
    ]
    assert read == list(range(length))[order]
    before = [int(windows.before(start, -1, times)) for start in windows.starts]
    firsts = [-1, *windows.starts[1:] - 1]
    lasts = [*windows.starts[:-1] + size, -1]
    assert before == list(lasts if reverse else firsts)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"chunk": 0}, ValueError, "chunk: expected an int >= 1, got 0"),
        ({"keep": "drive"}, TypeError, "keep: expected a tuple"),
        (
            {"keep": ("gates",)},
            ValueError,
            "keep: expected one of 'drive', 'mixed', 'slopes', got 'gates'",
        ),
        ({"product": "cols"}, ValueError, "product: expected one of 'rows', 'joined', 'columns'"),
        ({"project_ahead": "yes"}, TypeError, "project_ahead: expected True or False"),
        ({"vmap_sequentially": 1}, TypeError, "vmap_sequentially: expected True or False"),
    ],
)
def test_a_wrong_option_raises(options, error, message):
    with pytest.raises(error, match=message):
        sc.Deferred(**options)


def test_an_option_that_is_false_or_empty_is_taken():
    """At sizes for which the other value would be chosen."""
    xs = jax.ShapeDtypeStruct((128, 16, 1024), "float32")
    own = sc.select_engine(sc.GRU(1024), xs)
    assert (own.project_ahead, own.vmap_sequentially) == (True, True)
    assert own.keep
    given = {"keep": (), "project_ahead": False, "vmap_sequentially": False}
    chosen = sc.select_engine(sc.GRU(1024), xs, engine=sc.Deferred(**given))
    assert chosen == dataclasses.replace(own, **given)


def temp_bytes(engine, steps=2000, members=None):
    return programs.temp_bytes(sc.GRU(16), engine, steps, 8, 2, members=members)


def test_what_is_kept_is_not_computed_again():
    def count(keep):
        text = programs.gradient(sc.GRU(4), sc.Deferred(3, keep), 6, 5, 2).as_text()
        return len([line for line in text.splitlines() if " dot(" in line])

    assert (count(("mixed",)), count(("drive", "mixed"))) == (count(()) - 1, count(()) - 2)
    assert count(("slopes",)) == count(()) - 2


def test_of_a_long_sequence_little_more_than_the_carries_is_stored():
    deferred = sc.Deferred(chunk=100, keep=(), project_ahead=False)
    assert temp_bytes(deferred) < 0.4 * temp_bytes(sc.Scan())


def test_of_many_members_nothing_is_kept_that_can_be_computed_again():
    kept, again = (sc.Deferred(20, keep) for keep in (("mixed",), ()))
    one, other = (temp_bytes(engine, steps=100, members=20) for engine in (kept, again))
    assert one < 1.1 * other
    assert temp_bytes(kept, steps=100) > 1.3 * temp_bytes(again, steps=100)  # as one alone does


@pytest.mark.parametrize(("batch", "across"), [((5,), 0), ((), 1)])
def test_no_matrix_is_read_across_going_back(batch, across):
    lowered = programs.lowered(sc.GRU(4), sc.Deferred(3, ()), 6, *batch, 2)
    compiled = lowered.compile().as_text()
    read = [line for line in compiled.splitlines() if "rhs_contracting_dims={1}" in line]
    assert len(read) == across  # one row times a matrix is as quick either way
    turned = re.findall(r"transpose.*tensor<4x12xf32>\) -> tensor<12x4xf32>", lowered.as_text())
    assert len(turned) == 1 - across
