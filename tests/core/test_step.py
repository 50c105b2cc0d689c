"""The law of the one verb: stepping equals unrolling, whatever has a memory."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import seqcells as sc
from seqcells._model import Model
from seqcells._types import Inputs, Params
from tests.support import laws
from tests.support.laws import (
    BACKWARD,
    CASES,
    FORWARD,
    NETS,
    assert_close,
    assert_same_bits,
    by_path,
)

pytestmark = pytest.mark.usefixtures("strict", "x64")

T, B, D = 3, 4, 3  # D is the H of the table of cells: rows share what is compiled
KEY = jax.random.key(7)
RESETS = np.eye(T, B, dtype=bool)  # at each position one sequence starts, and one goes through


class Row(NamedTuple):
    """A model, what its inputs are, and how it is called."""

    model: Model
    xs: Inputs = None  # [T, B, ...]; float[T, B, D] if None
    key: jax.Array | None = None
    calls: Callable[[Model, Params], tuple[Callable, Callable]] = lambda model, params: (
        functools.partial(sc.unroll, model, params),
        functools.partial(model.step, params),
    )


def in_nnx(model, params):
    rnn = sc.nnx.RNN(model, D, rngs=nnx.Rngs(0))
    rnn.load(params)
    return rnn, rnn.step


def in_linen(model, params):
    apply = functools.partial(sc.linen.RNN(model).apply, {"params": by_path(params)})
    return apply, functools.partial(apply, method="step")


class Observed(NamedTuple):
    """Values, which of them were observed, and the time since the step before."""

    values: jax.Array  # float[*B, D]
    observed: jax.Array  # bool[*B, D]
    elapsed: jax.Array  # float[*B, 1]


def decay(params, carry, x):
    kept = carry * jnp.exp(-x.elapsed[..., 0] * params["rate"])
    carry = kept + jnp.sum(jnp.where(x.observed, x.values * params["w"], 0), axis=-1)
    return carry, jnp.stack([carry, kept], axis=-1)


def decay_init(key, size):
    return {"rate": jnp.float32(0.3), "w": jnp.ones(size.values)}


def image(params, carry, x):
    carry = jnp.tanh(params * carry + jnp.mean(x, axis=(-3, -2)))
    return carry, jnp.sum(carry, axis=-1, keepdims=True)


def flat(params, x):
    return x.reshape(*x.shape[:-3], -1)


def token(params, carry, x):
    carry = 0.5 * carry + params[x]
    return carry, carry


def token_carry(x):
    return jnp.stack([jnp.zeros_like(x, dtype=float)] * D, axis=-1)


@dataclasses.dataclass(frozen=True)
class Started(sc.SplitCell):
    """A cell that reads a dict, and whose first carry is a parameter."""

    def init(self, key, input_size):
        return {"w": jnp.ones((input_size["x"], D)), "h": jnp.ones(D)}

    def init_carry(self, x, params=None):
        return params["h"] + jnp.zeros_like(x["x"][..., :1])

    def project(self, params, x):
        return x["gain"] * (x["x"] @ params["w"])

    def mix(self, params, carry):
        return 0.5 * carry

    def gate(self, carry, drive, mixed):
        return jnp.tanh(drive + mixed)

    def read(self, params, carry, drive):
        return carry


def paramless(params, carry, x):
    return carry + x, carry


TREES = sc.FunctionCell(
    decay, lambda x: 0 * x.values[..., 0], decay_init, x_dtypes=(jnp.floating, jnp.bool_)
)
IMAGES = sc.FunctionCell(
    image, lambda x: jnp.zeros_like(x[..., 0, 0, :]), lambda key, size: jnp.ones(size[2]), x_ndim=3
)
TOKENS = sc.FunctionCell(
    token, token_carry, lambda key, size: jnp.ones((5, D)), x_ndim=0, x_dtypes=(jnp.integer,)
)
RNG = np.random.default_rng(1)
OTHER_INPUTS = {
    "tree": Row(
        TREES,
        Observed(
            RNG.normal(size=(T, B, D)), RNG.random((T, B, D)) < 0.6, RNG.random((T, B, 1)) + 0.1
        ),
    ),
    "images": Row(IMAGES, RNG.normal(size=(T, B, 2, 3, D))),
    "dict": Row(
        sc.Stack((sc.Zoneout(Started()), sc.GRU(D))),
        {"x": RNG.normal(size=(T, B, D)), "gain": RNG.normal(size=(T, B, 1))},
    ),
    "normalised": Row(
        sc.LayerNorm(Started()),
        {"x": RNG.normal(size=(T, B, D)), "gain": RNG.normal(size=(T, B, 1))},
    ),
    "residual-images": Row(
        sc.Residual(sc.FunctionCell(paramless, jnp.zeros_like, lambda key, size: None, x_ndim=3)),
        RNG.normal(size=(T, B, 2, 3, D)),
    ),
    "images-net": Row(
        sc.Stack(
            (
                *(
                    sc.LayerNorm(sc.ConvLSTM(2, bias="none", kernel_size=(1, 3))),
                    sc.Dense(D, "tanh"),
                ),
                sc.Residual(sc.Recurrent(sc.ConvGRU(D, kernel_size=1), learned_carry=True)),
                *(sc.CausalConv(2), sc.RGLRU(D), sc.Pointwise(None, flat, x_ndim=3), sc.GRU(2)),
            )
        ),
        RNG.normal(size=(T, B, 2, 3, D)),
    ),
    "paramless": Row(
        sc.Stack((sc.FunctionCell(paramless, jnp.zeros_like, lambda key, size: None), sc.GRU(D)))
    ),
    "tokens": Row(sc.Stack((TOKENS, sc.GRU(D))), RNG.integers(0, 5, (T, B))),
}
VARIATIONAL = sc.VariationalDropout(sc.GRU(D), 0.4, 0.4)
XS = RNG.normal(size=(T, B, laws.D))
LAYERS = {name: Row(net, XS) for name, net in FORWARD.items()} | {
    "wrapped": Row(sc.LayerNorm(sc.LSTM(D))),
    "variational": Row(VARIATIONAL, key=KEY),
    "variational-stack": Row(sc.Stack((VARIATIONAL, sc.Residual(VARIATIONAL))), key=KEY),
    "nnx": Row(sc.Stack((sc.GRU(D), sc.RNN(D))), calls=in_nnx),
    "linen": Row(sc.Recurrent(sc.GRU(D), learned_carry=True), calls=in_linen),
}
WIDE = {  # cells that take no D features
    name: RNG.normal(size=(T, B, *case.x))
    for name, case in CASES.items()
    if len(case.x) > 1 or case.x[0] > D
}
ROWS = {name: Row(case.cell, WIDE.get(name)) for name, case in CASES.items()}
ROWS |= LAYERS | OTHER_INPUTS


def drawn(row):
    """Draw parameters, inputs, two carries and the weights of a loss, all float64."""
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(T, B, D)) if row.xs is None else row.xs

    def draw(tree):
        return jax.tree.map(lambda a: 0.6 * rng.normal(size=a.shape), tree)

    model, x = row.model, jax.tree.map(lambda a: a[0], xs)
    params = draw(jax.eval_shape(lambda: model.init(KEY, model.input_size(x))))
    carry = jax.eval_shape(model.init_carry, x, params)
    return params, xs, draw(carry), draw(carry)


def unrolled(row, params, xs, carry, fresh, resets):
    unroll, _ = row.calls(row.model, params)
    flags = {"resets": resets, "reset_carry": fresh, "engine": sc.Scan(), "key": row.key}
    return unroll(xs, carry, **flags)


def stepped(row, params, xs, carry, fresh, resets):
    """Step as an actor does, one call after the other."""
    _, step = row.calls(row.model, params)
    ys = []
    for t in range(T):
        x = jax.tree.map(lambda a, t=t: a[t], xs)
        carry, y = step(carry, x, resets[t], reset_carry=fresh, key=row.key)
        ys.append(y)
    return carry, jax.tree.map(lambda *a: jnp.stack(a), *ys)


def graded(run, name, args, resets):
    """Return what a run puts out, and the gradient of a loss of all of it by all of `args`."""

    def loss(params, xs, carry, fresh):
        out = run(ROWS[name], params, xs, carry, fresh, resets)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out)), out

    with jax.disable_jit():  # all rows share the compiled operations: no program is used twice
        gradient, out = jax.grad(loss, (0, 1, 2, 3), has_aux=True, allow_int=True)(*args)
    floats = [leaf for leaf in jax.tree.leaves(gradient) if leaf.dtype != jax.dtypes.float0]
    return out, floats


def farthest(one, two):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return max(np.abs(a - b).max() for a, b in pairs)


FEW = {*LAYERS, *OTHER_INPUTS, "gru-after-double", "gru-before-double", "lstm-peep", "function"}
FEW |= {"mingru-identity-bias", "lru", "layernorm-gru", "zoneout-lstm"}  # other cells are slow
FEW -= {*laws.MODELS, "perceptrons", "images-net"}
GRADED = {"gru-after-double", "lstm-peep", "deep", "learned", "tree", "dict", "linen"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in ROWS]
)
def test_stepping_with_resets_equals_unrolling_with_them(name):
    row, args = ROWS[name], drawn(ROWS[name])
    with jax.disable_jit():
        expected, got = (run(row, *args, RESETS) for run in (unrolled, stepped))
    assert_close(got, expected)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in GRADED)) for name in ROWS]
)
def test_the_gradient_of_stepping_is_that_of_unrolling(name):
    args = drawn(ROWS[name])
    expected, got = (graded(run, name, args, RESETS)[1] for run in (unrolled, stepped))
    assert_close(got, expected)


@pytest.mark.parametrize("name", ["gru-after-double", "deep", "tree"])
def test_it_matters_where_a_reset_stands(name):
    """So the law above would see one that is ignored or stands elsewhere."""
    args = drawn(ROWS[name])
    one, two = (graded(stepped, name, args, np.roll(RESETS, by, axis=0)) for by in (0, 1))
    assert farthest(one[0][1], two[0][1]) > 1e-3
    assert farthest(one[1], two[1]) > 1e-3


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW))
        for name in (*LAYERS, *OTHER_INPUTS)
    ],
)
def test_without_a_reset_carry_a_sequence_starts_with_the_models_own(name):
    row = ROWS[name]
    params, xs, carry, _ = drawn(row)
    with jax.disable_jit():
        got, expected = (run(row, params, xs, carry, None, RESETS) for run in (stepped, unrolled))
    assert_close(got, expected)


@pytest.mark.parametrize("name", ["nnx", "linen"])
def test_the_first_carry_of_a_flax_module_is_that_of_its_model(name):
    row = ROWS[name]
    params, xs, _, _ = drawn(row)
    if name == "nnx":
        got = in_nnx(row.model, params)[0].init_carry(xs[0])
    else:
        got = in_linen(row.model, params)[0](xs[0], method="init_carry")
    assert_same_bits(got, row.model.init_carry(xs[0], params))


@pytest.fixture
def without_jit():
    """Compile operations alone: programs for one shape each would take longer."""
    with jax.disable_jit():
        yield


@pytest.mark.parametrize(
    ("name", "reverse"),
    [
        pytest.param(name, reverse, marks=[pytest.mark.slow] * (not reverse or name != "tree"))
        for name in OTHER_INPUTS
        for reverse in (False, True)
    ],
)
@pytest.mark.usefixtures("without_jit")
def test_flags_mean_the_same_for_inputs_of_every_kind(name, reverse):
    row = ROWS[name]
    params, xs, carry, fresh = drawn(row)
    mask = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1]], bool)

    def spoil(a):
        padding = ~mask.reshape(T, B, *[1] * (a.ndim - 2))
        return np.where(padding, np.nan if a.dtype == float else np.ones((), a.dtype), a)

    flags = {"mask": mask, "resets": RESETS, "reset_carry": fresh, "reverse": reverse}
    swapped = jax.tree.map(lambda a: np.swapaxes(spoil(a), 0, 1), xs)
    batch_first = flags | {"mask": mask.T, "resets": RESETS.T, "time_axis": 1}
    got, ys = sc.unroll(row.model, params, swapped, carry, **batch_first)
    for b in range(B):
        kept = np.flatnonzero(mask[:, b])
        own = jax.tree.map(lambda a, b=b, kept=kept: a[kept, b], xs)
        start, first = (jax.tree.map(lambda a, b=b: a[b], tree) for tree in (carry, fresh))
        alone = {"resets": RESETS[kept, b], "reset_carry": first, "reverse": reverse}
        end, expected = sc.unroll(row.model, params, own, start, **alone)
        assert_close(jax.tree.map(lambda a, b=b: a[b], got), end)
        assert_close(ys[b][kept], expected)
        assert not np.any(ys[b][~mask[:, b]])


def test_one_key_keeps_one_mask_and_other_noise_is_drawn_anew():
    row = ROWS["variational"]
    params, xs, carry, _ = drawn(row)
    ones = jnp.ones_like(xs[0])
    keys = (KEY, KEY, jax.random.key(8))
    one, same, other = (row.model.step(params, carry, ones, key=key)[1] for key in keys)
    assert_same_bits(one, same)
    assert np.abs(one - other).max() > 1e-3
    zoneout = sc.Zoneout(sc.GRU(D), 0.5)
    keys = jax.random.split(KEY, 2)
    one, two = (zoneout.step(params, carry, ones, key=key)[1] for key in keys)
    assert np.abs(one - two).max() > 1e-3


@pytest.mark.parametrize("name", BACKWARD)
def test_what_reads_from_the_end_has_no_step_and_says_why(name):
    net = BACKWARD[name]
    params, x = drawn(Row(net, XS))[0], jnp.ones((B, laws.D))
    with pytest.raises(ValueError, match=r"step: .*GRU\(3.* from its end.*call unroll"):
        net.step(params, net.init_carry(x), x)
    with pytest.raises(ValueError, match=r"step: .* from its end"):
        sc.trajectory(net, params, x[None])


@pytest.mark.parametrize("name", ["deep", "learned", *BACKWARD])
@pytest.mark.usefixtures("without_jit")
def test_in_reverse_every_cell_of_a_layer_reads_in_the_other_direction(name):
    net = NETS[name]
    params, xs, _, _ = drawn(Row(net, XS))
    carry, ys = sc.unroll(net, params, xs, reverse=True)
    expected, flipped = sc.unroll(net, params, xs[::-1])
    assert_close((carry, ys[::-1]), (expected, flipped))
    if name != "bidirectional":
        assert np.abs(ys - sc.unroll(net, params, xs)[1]).max() > 1e-3


def test_a_trajectory_of_a_layer_is_its_carry_after_every_step():
    row = ROWS["deep"]
    params, xs, carry, fresh = drawn(row)
    flags = {"resets": RESETS, "reset_carry": fresh}
    got = sc.trajectory(row.model, params, xs, carry, **flags)
    for t in range(T):
        carry, _ = row.model.step(params, carry, xs[t], RESETS[t], reset_carry=fresh)
        assert_close(jax.tree.map(lambda a, t=t: a[t], got), carry)


def test_an_engine_is_that_of_all_cells_that_name_none():
    net = sc.Stack((sc.Recurrent(sc.GRU(D), engine=sc.Scan()), sc.MinGRU(D)))
    params, xs, _, _ = drawn(Row(net))
    expected = sc.unroll(net, params, xs)
    assert_close(sc.unroll(net, params, xs, engine=sc.AssociativeScan()), expected)
    with pytest.raises(ValueError, match=r"engine: .*not linear"):
        sc.unroll(sc.Stack((sc.GRU(D),)), params[:1], xs, engine=sc.AssociativeScan())


GRU = sc.GRU(D)
VALUES = {
    "a reset a step": (lambda p, x: GRU.step(p, x, x, RESETS), r"reset: .*bool\[4\]"),
    "a tree of two lengths": (
        lambda p, x: sc.unroll(TREES, None, Observed(x[None], x[None] > 0, x[None, :1])),
        r"xs: expected arrays with the same axes \[T, \*B\].*elapsed",
    ),
    "a flat image": (lambda p, x: sc.unroll(IMAGES, None, x), "xs: .*the last 3 of them features"),
    "an x_ndim below 0": (
        lambda p, x: sc.FunctionCell(token, token_carry, x_ndim=-1),
        "x_ndim: .*-1",
    ),
    "a reset_carry of one row": (
        lambda p, x: GRU.step(p, x, x, RESETS[0], reset_carry=x[0]),
        r"reset_carry: expected float64\[4, 3\].*got float64\[3\]",
    ),
    "a carry of one row": (
        lambda p, x: GRU.step(p, x[0], x),
        r"carry: .*\[4, 3\].*got float64\[3\]",
    ),
    "no carry": (lambda p, x: GRU.step(p, None, x), "carry: .*got None"),
    "half the params": (lambda p, x: GRU.step(p._replace(b_hh=None), x, x), "params: .*b_hh"),
    "params without the carry": (
        lambda p, x: sc.unroll(LAYERS["learned"].model, p, x[None]),
        "params: .*RecurrentParams.*GRUParams",
    ),
    "a first carry unlearned": (
        lambda p, x: LAYERS["learned"].model.init_carry(x),
        "params: .*RecurrentParams.*got None",
    ),
}
TYPES = {
    "a reset of ints": (lambda p, x: GRU.step(p, x, x, np.ones(B, int)), "reset: .*int64"),
    "no key": (lambda p, x: GRU.step(p, x, x, key=3), "key: .*3"),
    "tokens for a GRU": (lambda p, x: sc.unroll(GRU, p, x.astype(int)), "xs: .*floating"),
    "floats for tokens": (
        lambda p, x: sc.unroll(TOKENS, None, x),
        "xs: expected an integer dtype, got float64",
    ),
    "a tree for a GRU": (lambda p, x: sc.unroll(GRU, p, {"a": x[None]}), "xs: .*one array"),
    "one kind of dtype": (
        lambda p, x: sc.FunctionCell(token, token_carry, x_dtypes=jnp.integer),
        "x_dtypes: .*tuple.*integer",
    ),
}


@pytest.mark.parametrize("name", [*VALUES, *TYPES])
def test_a_wrong_argument_says_what_was_expected(name):
    call, message = (VALUES | TYPES)[name]
    with pytest.raises(ValueError if name in VALUES else TypeError, match=message):
        call(GRU.init(KEY, D), jnp.ones((B, D)))
