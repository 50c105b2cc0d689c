"""Rules that compute gradients forward in time, against gradients of `unroll` and their papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import seqcells as sc
from seqcells import online
from tests.support import laws
from tests.support.laws import CASES, assert_close, assert_same_bits, over_online

AUTO = jax.sharding.AxisType.Auto
pytestmark = pytest.mark.usefixtures("strict", "x64")

T, B, D, H = 3, 2, 2, 3
KEY = jax.random.key(0)
MASK = np.array([[1, 1], [1, 0], [1, 1]], bool)
RESETS = np.array([[0, 0], [0, 1], [1, 0]], bool)  # one of them at padding


@functools.partial(jax.jit, static_argnums=0)
def run(rule, params, xs, dys, carry=None, flags=None, fresh=None, keys=None):
    """Step through xs; return (last carry, ys), the summed gradients of sum(ys * dys), the trace.

    flags: a dict of arrays [T, *B], named as the arguments of `step`. keys: one for each step.
    """

    def body(trace, inputs):
        x, dy, flags, key = inputs
        trace, y = rule.step(params, trace, x, **flags, reset_carry=fresh, key=key)
        return trace, (y, rule.gradient(params, trace, dy))

    key = None if keys is None else jax.random.fold_in(keys[0], 1)
    trace = rule.init(params, xs[0], carry, key=key)
    trace, (ys, grads) = jax.lax.scan(body, trace, (xs, dys, flags or {}, keys))
    return (trace.carry, ys), jax.tree.map(lambda a: a.sum(0), grads), trace


@functools.partial(jax.jit, static_argnums=0)
def graded(model, params, xs, dys, carry=None, flags=None, fresh=None):
    """What `run` returns but the trace, by `jax.grad` of `unroll`."""
    engine = sc.Scan() if isinstance(model, sc.Cell) else None

    def loss(params):
        options = {"engine": engine, "reset_carry": fresh, **(flags or {})}
        out = sc.unroll(model, params, xs, carry, **options)
        return jnp.vdot(out[1], dys), out

    grads, out = jax.grad(loss, has_aux=True)(params)
    return out, grads


def drawn(model, batch=(B,), steps=T, seed=0):
    """Draw params, xs and the weights of a loss, all in float64."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: model.init(KEY, D))
    params = jax.tree.map(lambda a: 0.6 * rng.normal(size=a.shape), shapes)
    xs = rng.normal(size=(steps, *batch, D))
    _, ys = jax.eval_shape(functools.partial(sc.unroll, model), params, xs)
    return params, xs, rng.normal(size=ys.shape)


def few(rows, *names):
    """All rows of a table, of which only these run by default."""
    return [pytest.param(n, marks=[pytest.mark.slow] * (n not in names)) for n in rows]


@over_online
@pytest.mark.laws("online")
def test_rtrl_is_the_gradient_of_unrolling(case):
    """With resets, and padding that holds NaN, from given carries."""
    problem = laws.draw(case, (B,), steps=T)
    xs = np.where(laws.whole(MASK, problem.xs), problem.xs, np.nan)
    fresh = jax.tree.map(lambda a: 0.5 * a, problem.weigh_carry)
    args = problem.params, xs, problem.weigh_ys, problem.carry
    expected = graded(case.cell, *args, {"mask": MASK, "resets": RESETS}, fresh)
    *got, _ = run(online.RTRL(case.cell), *args, {"mask": MASK, "reset": RESETS}, fresh)
    assert_close(tuple(got), expected)


LEARNED = {
    "cell": sc.Recurrent(sc.LSTM(H), learned_carry=True),
    "stack": sc.Stack((sc.Dense(H), sc.Recurrent(sc.MinGRU(H), learned_carry=True), sc.RNN(2))),
}


@pytest.mark.parametrize("name", few(LEARNED, "stack"))
def test_rtrl_of_layers_and_of_learned_first_carries_is_exact(name):
    model, flags = LEARNED[name], {"mask": MASK}
    args = drawn(model)
    expected = graded(model, *args, None, flags | {"resets": RESETS})
    *got, _ = run(online.RTRL(model), *args, None, flags | {"reset": RESETS})
    assert_close(tuple(got), expected)
    start = jax.tree.leaves(expected[1])[0]
    assert np.abs(start).max() > 1e-3


def expect_within_layers(net, params, xs, dys, flags):
    """For the loss of each step, what a layer reads from the one below in earlier steps is data."""

    def loss(params, t):
        seen = xs
        for layer, own in zip(net.layers, params, strict=True):
            seen = jnp.concatenate([jax.lax.stop_gradient(seen[:t]), seen[t:]])
            _, seen = sc.unroll(layer, own, seen, **flags)
        return jnp.vdot(seen[t], dys[t])

    steps = [jax.grad(loss)(params, t) for t in range(len(xs))]
    return jax.tree.map(lambda *parts: sum(parts), *steps)


def test_within_layers_ignores_what_a_layer_below_put_out_before():
    """With resets and padding; in the layers from the last one with a memory on, it is exact."""
    pattern = sc.SparsePattern(0.5, seed=1)  # so that a cell is settled
    layers = sc.Dense(2), sc.Recurrent(sc.MinGRU(2)), sc.Constrained(sc.RNN(2), pattern=pattern)
    net = sc.Stack((*layers, sc.Dense(1)))
    params, xs, dys = drawn(net)
    xs, flags = np.where(MASK[..., None], xs, np.nan), {"mask": MASK, "resets": RESETS}
    rule = online.RTRL(net, within_layers=True)
    out, got, trace = run(rule, params, xs, dys, None, {"mask": MASK, "reset": RESETS})
    expected, exact = graded(net, params, xs, dys, None, flags)
    assert_close(out, expected)
    assert_close(got, jax.jit(expect_within_layers, static_argnums=0)(net, params, xs, dys, flags))
    assert_close(got[2:], exact[2:])
    assert np.abs(got[1].w_ih - exact[1].w_ih).max() > 1e-3
    of_dense, of_cell, _, _ = trace.influence.layers
    assert of_dense == ()
    assert of_cell.w_ih.shape == (B, 1, 2, 4)  # the size of the parameters: it is elementwise


ELEMENTWISE = ("indrnn-tanh-nobias", "mingru-identity-bias", "minlstm-identity-bias", "lru-skip")
ELEMENTWISE += ("s5-zoh", "rglru-heads", "unicornn", "mamba", "retnet-heads")


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_elementwise_recurrence_has_a_trace_of_the_size_of_its_parameters(name):
    """A declared one; others have an axis for the units, and none has S of them twice."""
    case = CASES[name]
    params = jax.eval_shape(lambda: case.cell.init(KEY, case.features))
    x = jax.ShapeDtypeStruct((B, *case.x), "float64")
    trace = jax.eval_shape(online.RTRL(case.cell).init, params, x)
    leaves = jax.tree.leaves(trace.carry)
    declared = vars(type(case.cell)).get("UNIT_WEIGHTS") or ()
    for field, leaf in params._asdict().items():
        if leaf is None:
            continue
        own = field in declared
        got, units = getattr(trace.influence, field), leaves[0].shape[1:]
        if field in ("w_ho", "d"):  # which reach y alone
            assert got is None
        else:
            assert got.shape == (B, len(leaves), *(() if own else units), *leaf.shape)


@pytest.mark.parametrize("name", few(("mingru-identity-bias", "lru-skip"), "mingru-identity-bias"))
def test_snap_1_is_exact_on_an_elementwise_recurrence(name):
    case = CASES[name]
    problem = laws.draw(case, (B,), steps=T)
    args = problem.params, problem.xs, problem.weigh_ys
    one, two = (run(rule(case.cell), *args)[:2] for rule in (online.SnAp, online.RTRL))
    assert_same_bits(one, two)


def expect_snap(cell, params, xs, dys, reach):
    """SnAp by its definition: after each step, what a unit does not reach is set to zero.

    reach: bool[H, H], whether a parameter of the unit of the row reaches that of the column.
    """
    flat, back = ravel_pytree(params)
    h, carry_back = ravel_pytree(cell.init_carry(xs[0]))
    leaves = jax.tree.leaves(params)
    columns = [np.broadcast_to(np.arange(a.shape[-1]) % H, a.shape).ravel() for a in leaves]
    reached = reach[np.concatenate(columns)].T.astype(float)
    mask = np.tile(reached, (h.size // H, 1))  # [S, numbers of params]

    def step(flat, h, x):
        return ravel_pytree(cell.step(back(flat), carry_back(h), x)[0])[0]

    def read(h):
        return cell.read(params, carry_back(h), None)

    slopes = jax.jit(jax.jacobian(step, (0, 1)))
    p, total = np.zeros((h.size, flat.size)), np.zeros(flat.size)
    for x, dy in zip(xs, dys, strict=True):
        by_params, by_carry = slopes(flat, h, x)
        p = mask * (by_carry @ p + by_params)
        h = step(flat, h, x)
        total += dy @ (jax.jacobian(read)(h) @ p)
    return back(total)


PATTERN, ALONE = sc.SparsePattern(0.4, seed=6), np.eye(H, dtype=bool)
SNAP = {
    "gru": (online.SnAp(sc.GRU(H)), ALONE),
    "lstm": (online.SnAp(sc.LSTM(H)), ALONE),
    "ctrnn": (online.SnAp(sc.CTRNN(H, dt=50.0, form="current", learn_tau=True)), ALONE),
    "sparse-1": (online.SnAp(sc.Constrained(sc.RNN(H), pattern=PATTERN)), ALONE),
    "sparse-2": (
        online.SnAp(sc.Constrained(sc.LSTM(H), pattern=PATTERN), 2),
        ALONE | PATTERN.mask(H),
    ),
}


@pytest.mark.parametrize("name", few(SNAP, "gru"))
def test_snap_sets_to_zero_what_a_parameter_does_not_reach(name):
    rule, reach = SNAP[name]
    params, xs, dys = drawn(rule.model, batch=(), steps=4)
    _, got, _ = run(rule, params, xs, dys)
    assert_close(got, expect_snap(rule.model, params, xs, dys, reach))
    exact = graded(rule.model, params, xs, dys)[1]
    assert np.abs(got.w_hh - exact.w_hh).max() > 1e-6


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def expect_eprop(params, xs, signals):
    """E-prop of an LSTM, as Bellec et al. (2020) have it: eligibilities of c pass its forget gate.

    signals: L_t float[T, H]. For one sequence.
    """
    w_ih, w_hh, b = params[:3]
    h, c = np.zeros(H), np.zeros(H)
    eps = [np.zeros((n, 4, H)) for n in (D, H, 1)]  # of w_ih, w_hh and b, gate by gate
    total = [np.zeros((n, 4, H)) for n in (D, H, 1)]
    for x, signal in zip(xs, signals, strict=True):
        i, f, g, o = np.split(x @ w_ih + h @ w_hh + b, 4)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        slopes = np.stack([g * i * (1 - i), c * f * (1 - f), i * (1 - g * g), 0 * o])  # of c
        c = f * c + i * g
        by_o = o * (1 - o) * np.tanh(c)
        for place, pre in enumerate((x, h, np.ones(1))):
            eps[place] = f * eps[place] + pre[:, None, None] * slopes
            e = o * (1 - np.tanh(c) ** 2) * eps[place]
            e[:, 3] += pre[:, None] * by_o
            total[place] += signal * e
        h = o * np.tanh(c)
    sums = [a.reshape(len(a), 4 * H) for a in total]
    return sc.LSTMParams(sums[0], sums[1], sums[2][0])


def test_eprop_is_that_of_the_paper():
    params, xs, dys = drawn(sc.LSTM(H), batch=(), steps=4)
    _, got, _ = run(online.EProp(sc.LSTM(H)), params, xs, dys)
    assert_close(got, expect_eprop(params, xs, dys))


def test_random_feedback_takes_errors_of_a_readout():
    rule = online.EProp(sc.LSTM(H), feedback="random")
    params, xs, _ = drawn(rule.model, batch=(), steps=1)
    feedback = rule.init_feedback(KEY, errors=2, outputs=H)
    assert feedback.shape == (2, H)
    error = np.array([0.3, -2.0])

    @jax.jit
    def learn(x):
        trace, _ = rule.step(params, rule.init(params, x), x)
        return rule.gradient(params, trace, error, feedback)

    got = learn(xs[0])
    assert_close(got, expect_eprop(params, xs, (error @ np.asarray(feedback))[None]))


def expect_rflo(params, xs, signals, a, form):
    """RFLO, as Murray (2019) has it: p <- (1 - a) p + a act'(u) r."""
    w_ih, w_hh, b = params[:3]
    memory = np.zeros(H)
    p = [np.zeros((n, H)) for n in (D, H, 1)]
    total = [np.zeros((n, H)) for n in (D, H, 1)]
    for x, signal in zip(xs, signals, strict=True):
        rate = memory if form == "rate" else np.tanh(memory)
        u = x @ w_ih + rate @ w_hh + b
        slope = 1 - np.tanh(u) ** 2 if form == "rate" else np.ones(H)
        memory = (1 - a) * memory + a * (np.tanh(u) if form == "rate" else u)
        own = signal if form == "rate" else signal * (1 - np.tanh(memory) ** 2)
        for place, pre in enumerate((x, rate, np.ones(1))):
            p[place] = (1 - a) * p[place] + a * pre[:, None] * slope
            total[place] += own * p[place]
    return sc.CTRNNParams(total[0], total[1], total[2][0])


@pytest.mark.parametrize("form", ["rate", pytest.param("current", marks=pytest.mark.slow)])
def test_rflo_is_that_of_the_paper(form):
    cell = sc.CTRNN(H, tau=100.0, dt=30.0, form=form)
    params, xs, dys = drawn(cell, batch=(), steps=4)
    _, got, _ = run(online.RFLO(cell, feedback="symmetric"), params, xs, dys)
    assert_close(got, expect_rflo(params, xs, dys, 0.3, form))
    assert online.RFLO(cell).feedback == "random"


@pytest.mark.slow
def test_the_mean_of_uoro_is_the_gradient():
    """Every entry within 4.5 standard errors of the exact gradient, of 10,000 draws of signs."""
    draws, steps = 10_000, 5
    model = sc.Recurrent(sc.RNN(2), learned_carry=True)
    params, xs, dys = drawn(model, batch=(), steps=steps)
    keys = jax.random.split(jax.random.key(3), (draws, steps))
    resets = np.array([0, 0, 0, 1, 0], bool)
    rule, flags = online.UORO(model), {"reset": resets}
    many = jax.jit(jax.vmap(lambda k: run(rule, params, xs, dys, None, flags, None, k)[1]))(keys)
    expected = graded(model, params, xs, dys, None, {"resets": resets})[1]
    for got, exact in zip(jax.tree.leaves(many), jax.tree.leaves(expected), strict=True):
        error = np.std(got, axis=0) / draws**0.5
        np.testing.assert_array_less(np.abs(np.mean(got, axis=0) - exact), 4.5 * error + 1e-12)
        assert np.std(got, axis=0).max() > 1e-2  # and it is random


NOISY = {
    "zoneout": sc.Zoneout(sc.LRU(2, skip=True), 0.5),  # whose y reads the drive, too
    "variational": sc.VariationalDropout(sc.GRU(H), 0.4),
    "ctrnn": sc.CTRNN(H, tau=2.0, dt=1.0, noise=0.5, learn_tau=True),
}


@pytest.mark.parametrize("name", few(NOISY, "ctrnn"))
def test_noise_is_that_of_a_step_with_the_same_key(name):
    model, keys = NOISY[name], jax.random.split(KEY, T)
    params, xs, dys = drawn(model, batch=(B, 1))

    @jax.jit
    def expected(params):
        carry, ys = model.init_carry(xs[0], params), []
        for t in range(T):
            carry, y = model.step(params, carry, xs[t], key=keys[t])
            ys.append(y)
        return jnp.vdot(jnp.stack(ys), dys), (carry, jnp.stack(ys))

    grads, out = jax.grad(expected, has_aux=True)(params)
    *got, _ = run(online.RTRL(model), params, xs, dys, keys=keys)
    assert_close(tuple(got), (out, grads))


def test_traces_of_bfloat16_are_float32():
    cell = sc.MinGRU(2, dtype="bfloat16", param_dtype="bfloat16")
    params, x = cell.init(KEY, D), jnp.ones((B, D), "bfloat16")
    for rule in (online.RTRL(cell), online.SnAp(cell), online.UORO(cell)):
        first = jax.eval_shape(rule.init, params, x)
        trace, y = jax.eval_shape(lambda *a, rule=rule: rule.step(*a, key=KEY), params, first, x)
        grads = jax.eval_shape(rule.gradient, params, trace, y)
        assert y.dtype == "bfloat16"
        assert laws.dtypes((trace.influence, grads, trace.carry)) == {jnp.dtype("float32")}


def test_a_gradient_can_be_differentiated():
    """By the parameters, along a direction: as by differences."""
    cell = sc.RNN(2)
    params, xs, dys = drawn(cell, batch=(), steps=2)

    def of(t):
        moved = jax.tree.map(lambda a: a * (1 + t), params)
        return run(online.RTRL(cell), moved, xs, dys)[1].w_hh

    slope = jax.jvp(of, (0.0,), (1.0,))[1]
    assert_close(slope, (of(1e-5) - of(-1e-5)) / 2e-5, 1e-8)


@pytest.mark.parametrize("kind", [online.RTRL, online.SnAp, online.UORO])
def test_nets_on_several_devices_may_read_the_same_stream(kind):
    """Under a checked shard_map, a loop accepts a trace only if it is marked as varying."""
    rule = kind(sc.RNN(2))
    params, xs, _ = drawn(rule.model, batch=(), steps=2)

    def learn(params):
        def step(trace, inputs):
            trace, y = rule.step(params, trace, inputs[0], key=inputs[1])
            return trace, rule.gradient(params, trace, 2 * y)

        inputs = xs, jax.random.split(KEY, len(xs))
        return jax.lax.scan(step, rule.init(params, xs[0]), inputs)[1]

    mesh, rows = jax.make_mesh((1,), ("nets",), (AUTO,)), jax.sharding.PartitionSpec("nets")
    many = jax.shard_map(jax.vmap(learn), mesh=mesh, in_specs=rows, out_specs=rows)
    got = jax.jit(many)(jax.tree.map(lambda a: a[None], params))
    assert_close(jax.tree.map(lambda a: a[0], got), jax.jit(learn)(params))


RULES = {
    "rtrl": online.RTRL(sc.GRU(8)),
    "units": online.RTRL(sc.MinGRU(8)),
    "snap": online.SnAp(sc.GRU(8)),
    "uoro": online.UORO(sc.GRU(8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_memory_does_not_grow_with_time(name):
    """Inputs are made in the loop, and gradients are summed there."""
    rule = RULES[name]
    params = rule.model.init(KEY, 4)

    def learn(params, steps):
        def body(memory, t):
            trace, total = memory
            x = jnp.full((2, 4), jnp.sin(t))
            trace, y = rule.step(params, trace, x, key=jax.random.fold_in(KEY, t))
            grads = rule.gradient(params, trace, y)
            return (trace, jax.tree.map(jnp.add, total, grads)), None

        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), params)
        first = rule.init(params, jnp.zeros((2, 4)), key=KEY), zeros
        return jax.lax.scan(body, first, jnp.arange(steps))[0][1]

    sizes = [
        jax.jit(learn, static_argnums=1).lower(params, n).compile().memory_analysis()
        for n in (100, 1000, 10_000)
    ]
    temporary = [size.temp_size_in_bytes for size in sizes]
    assert temporary[2] - temporary[0] <= 8 * 10_000  # the steps themselves, int64
    assert temporary[0] > 0


REAL = {"indrnn": sc.IndRNN(32), "mingru": sc.MinGRU(32), "minlstm": sc.MinLSTM(32)}
REAL |= {"rglru": sc.RGLRU(32)}


@pytest.mark.parametrize("name", few(REAL, "mingru"))
def test_a_step_of_an_elementwise_recurrence_takes_at_most_three_forward_steps(name):
    cell, rule = REAL[name], online.RTRL(REAL[name])
    with jax.enable_x64(False):
        params, x = cell.init(KEY, 32), jnp.ones((1, 32))
        trace = jax.eval_shape(rule.init, params, x)

        def operations(step, *args):
            return jax.jit(step).lower(*args).compile().cost_analysis()["flops"]

        alone = operations(cell.step, params, trace.carry, x)
        assert operations(rule.step, params, trace, x) <= 3 * alone


GRU = sc.GRU(H)
PARAMS, X = GRU.init(KEY, D), np.ones((B, D))
REFUSED = {
    "no model": (lambda: online.RTRL(3), TypeError, "model: .*GRU"),
    "a layer": (lambda: online.SnAp(sc.Stack((GRU,))), TypeError, "model: .*Cell"),
    "a dense recurrence": (lambda: online.SnAp(GRU, 2), ValueError, r"n: .*RTRL\(cell\)"),
    "layers within a cell": (
        lambda: online.RTRL(GRU, within_layers=True),
        ValueError,
        "within_layers: .*it is not a Stack",
    ),
    "layers within a stack that skips": (
        lambda: online.RTRL(sc.Stack((GRU, GRU), skip=True), within_layers=True),
        ValueError,
        "within_layers: .*skip=True",
    ),
    "noise within layers": (
        lambda: run(
            online.RTRL(sc.Stack((GRU, GRU), dropout=0.5), within_layers=True),
            *((PARAMS, GRU.init(KEY, H)), X[None], np.ones((1, B, H))),
            keys=KEY[None],
        ),
        ValueError,
        "key: .*whose layers draw some",
    ),
    "n of zero": (lambda: online.SnAp(GRU, 0), ValueError, "n: .*>= 1"),
    "no leaky units": (lambda: online.RFLO(GRU), TypeError, "model: .*CTRNN"),
    "feedback": (lambda: online.EProp(GRU, feedback="none"), ValueError, "feedback: .*'random'"),
    "a missing matrix": (
        lambda: online.EProp(GRU, feedback="random").gradient(PARAMS, None, X),
        TypeError,
        "feedback: .*matrix",
    ),
    "no split": (
        lambda: online.SnAp(sc.GRU(H, reset_after=False)).init(PARAMS, X),
        ValueError,
        r"model: .*reset_after.*RTRL or UORO",
    ),
    "undeclared weights": (
        lambda: online.EProp(sc.LEM(H)).init(sc.LEM(H).init(KEY, D), X),
        ValueError,
        r"model: .*EProp.*RTRL or UORO",
    ),
    "no key": (
        lambda: online.UORO(GRU).step(PARAMS, online.UORO(GRU).init(PARAMS, X), X),
        TypeError,
        "key: .*UORO",
    ),
    "noise within a layer": (
        lambda: run(
            online.UORO(sc.Stack((GRU, GRU), dropout=0.5)),
            *((PARAMS, GRU.init(KEY, H)), X[None], np.ones((1, B, H))),
            keys=KEY[None],
        ),
        ValueError,
        "key: .*whose layers draw some",
    ),
    "recurrent dropout": (
        lambda: run(
            online.RTRL(sc.VariationalDropout(GRU, 0.1, 0.1)),
            *(PARAMS, X[None], np.ones((1, B, H))),
            keys=KEY[None],
        ),
        ValueError,
        "key: .*recurrent_rate=0",
    ),
    "a dy of another shape": (
        lambda: online.RTRL(GRU).gradient(PARAMS, online.RTRL(GRU).init(PARAMS, X), X),
        ValueError,
        r"dy: expected float64\[2, 3\].*got float64\[2, 2\]",
    ),
    "a mask of another shape": (
        lambda: online.RTRL(GRU).step(
            PARAMS, online.RTRL(GRU).init(PARAMS, X), X, mask=np.ones(3, bool)
        ),
        ValueError,
        r"mask: expected bool\[2\]",
    ),
    "integer parameters": (
        lambda: online.RTRL(
            sc.FunctionCell(lambda p, h, x: (h + p, h), lambda x: 0 * x, None)
        ).init(jnp.int32(1), X),
        TypeError,
        "params: .*int32",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_with_the_reason(name):
    call, kind, match = REFUSED[name]
    with pytest.raises(kind, match=match):
        call()
