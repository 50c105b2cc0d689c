"""Laws of engines: which one runs, what a refusal says, what checkpointing saves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import _unroll
from seqcells._flags import Flags
from seqcells.engines import _machine, _platform
from seqcells.engines._engine import best
from tests.support import laws, programs
from tests.support.laws import CASES, B, D, T, assert_close, assert_same_bits, draw, run, weigh

pytestmark = pytest.mark.usefixtures("strict")

XS = jax.ShapeDtypeStruct((T, B, D), "float32")


@dataclasses.dataclass(frozen=True)
class Picky(sc.Engine):
    """An engine that runs forward GRUs only, and whose outputs differ from all others."""

    def why_not(self, cell, xs, flags):
        if flags.reverse:
            return "it reads forward alone"
        return None if isinstance(cell, sc.GRU) else f"it knows no {type(cell).__name__}"

    def run(self, cell, params, xs, carry, flags):
        return carry, jnp.full((*xs.shape[:-1], 1), 42.0)


def test_every_engine_is_in_the_table():
    here = {type(engine) for engine in laws.ENGINES.values()}
    missing = laws.public(sc.Engine) - here - set(laws.NOT_ENGINES)
    assert not missing, f"add a row to ENGINES of tests/support/laws.py: {missing}"
    assert not here & set(laws.NOT_ENGINES)


@laws.over_pairs
def test_the_engine_that_is_named_is_selected(case, engine):
    xs = jax.ShapeDtypeStruct((T, B, *case.x), "float32")
    chosen = sc.select_engine(case.cell, xs, engine=engine)
    assert chosen == engine.resolve(case.cell, xs, Flags()).engine
    assert type(chosen) is type(engine)


@laws.over_cells
def test_split_cells_are_deferred_and_others_scanned_where_no_engine_is_named(case):
    flags = {"lengths": jnp.ones(B, int), "mask": jnp.ones((T, B), bool), "reverse": True}
    split = isinstance(case.cell, sc.SplitCell) and case.cell.why_not_split() is None
    expected, shape = sc.Deferred if split else sc.Scan, (T, B, *case.x)
    xs = jax.ShapeDtypeStruct(shape, "float32")
    assert isinstance(sc.select_engine(case.cell, xs), expected)
    assert isinstance(sc.select_engine(case.cell, jnp.zeros(shape), **flags), expected)


def test_time_axis_and_abstract_inputs_select_as_concrete_ones_do():
    mask = jnp.ones((B, T), bool)
    for xs in (jnp.zeros((B, T, D)), jax.ShapeDtypeStruct((B, T, D), "float32")):
        for axis in (1, -2):
            chosen = sc.select_engine(sc.GRU(2), xs, mask=mask, time_axis=axis)
            assert chosen == sc.select_engine(sc.GRU(2), XS)


def test_eager_calls_with_equal_cells_compile_once():
    calls = []

    def step(params, carry, x):
        calls.append(x)
        return carry + x, carry + x

    for _ in range(3):
        cell = sc.FunctionCell(step, jnp.zeros_like)
        sc.unroll(cell, None, jnp.ones((T, B, D)), lengths=jnp.ones(B, int))
        sc.trajectory(cell, None, jnp.ones((T, B, D)))
    assert len(calls) == 2  # one of each


@pytest.mark.parametrize(
    ("platform", "engine"), [("cpu", sc.Scan()), ("gpu", sc.AssociativeScan())]
)
def test_a_linear_cell_is_run_at_once_where_it_is_faster(monkeypatch, platform, engine):
    monkeypatch.setattr(_platform, "platform", lambda xs: platform)
    assert sc.select_engine(sc.MinGRU(2), XS) == engine
    assert sc.select_engine(sc.MinGRU(2), XS, engine=sc.AssociativeScan()) == sc.AssociativeScan()


def test_a_matrix_memory_is_run_in_chunks_from_64_steps_on():
    for steps, engine in ((63, sc.Scan), (64, sc.Chunkwise)):
        xs = jax.ShapeDtypeStruct((steps, B, D), "float32")
        assert isinstance(sc.select_engine(sc.MLSTM(2), xs), engine)
    assert sc.select_engine(sc.MLSTM(2), XS, engine=sc.Chunkwise(2)) == sc.Chunkwise(2)
    with pytest.raises(ValueError, match=r"GRU.*ChunkCell.*Deferred"):
        sc.select_engine(sc.GRU(2), XS, engine=sc.Chunkwise())


def test_where_every_engine_is_slow_it_is_the_last_that_can(monkeypatch):
    monkeypatch.setattr(sc.Scan, "why_slow", lambda *args: "it is slow")
    cell, flags = sc.GRU(2), Flags()
    engines = (sc.AssociativeScan(), sc.Scan(checkpoint=2), sc.Scan(), sc.AssociativeScan())
    assert best(engines, cell, XS, flags) == sc.Scan()
    assert best((*engines, sc.Deferred()), cell, XS, flags) == sc.Deferred()


def test_the_platform_is_that_of_the_inputs_or_of_what_is_traced():
    assert _platform.platform(jnp.ones(2)) == _platform.platform(XS) == "cpu"
    seen = []
    jax.jit(lambda x: seen.append(_platform.platform(x)))(1.0)
    with jax.default_device(jax.devices("cpu")[0]):
        seen.append(_platform.platform(XS))
    assert seen == ["cpu", "cpu"]


def test_sqrt_checkpoints_are_the_root_of_time_apart():
    """Carries stored between chunks: their number is the leading axis of the outer loop."""
    params = sc.GRU(2).init(jax.random.key(0), D)
    engine = sc.Scan(checkpoint="sqrt")
    trace = jax.make_jaxpr(lambda xs: sc.unroll(sc.GRU(2), params, xs, engine=engine))
    for steps, chunk in ((16, 4), (20, 5), (100, 10)):
        assert f"f32[{steps // chunk},{chunk},{B},{D}]" in str(trace(jnp.zeros((steps, B, D))))


REFUSED = [
    pytest.param(sc.RNN(2), {}, "it knows no RNN", id="cell"),
    pytest.param(sc.GRU(2), {"reverse": True}, "it reads forward alone", id="flag"),
]


@pytest.mark.parametrize(("cell", "flags", "reason"), REFUSED)
def test_an_engine_that_refuses_says_why_and_which_would_do(cell, flags, reason):
    params = cell.init(jax.random.key(0), D)
    calls = (
        lambda: sc.select_engine(cell, XS, engine=Picky(), **flags),
        lambda: sc.unroll(cell, params, jnp.zeros((T, B, D)), engine=Picky(), **flags),
    )
    for call in calls:
        with pytest.raises(ValueError, match="engine: ") as error:
            call()
        for part in ("Picky()", reason, type(cell).__name__, "Deferred("):
            assert part in str(error.value)


def test_what_select_engine_returns_is_what_runs(monkeypatch):
    monkeypatch.setattr(_unroll, "ENGINES", (Picky(), sc.Scan()))  # preferred, where it can
    xs = jnp.ones((T, B, D))
    for cell, engine in ((sc.GRU(2), Picky()), (sc.RNN(2), sc.Scan())):
        assert sc.select_engine(cell, xs) == engine
        _, ys = sc.unroll(cell, cell.init(jax.random.key(0), D), xs)
        assert bool(jnp.all(ys == 42)) == (engine == Picky())


@pytest.mark.parametrize("key", [None, 0])
def test_an_engine_is_resolved_once_and_for_the_cell_that_runs(key):
    resolved = []

    class Noted(sc.Scan):
        def resolve(self, cell, xs, flags):
            resolved.append(cell)
            return super().resolve(cell, xs, flags)

    cell = sc.Zoneout(sc.GRU(2), 0.5)
    key = None if key is None else jax.random.key(key)
    params = cell.init(jax.random.key(0), D)
    sc.unroll(cell, params, jnp.ones((T, B, D)), engine=Noted(), key=key)
    assert len(resolved) == 1
    assert isinstance(resolved[0], sc.Zoneout) == (key is None)


@laws.over_families
def test_an_engine_is_a_static_argument_of_jit(case):
    problem = jax.tree.map(jnp.float32, draw(case))
    args = (case.cell, problem.params, problem.xs)
    assert_same_bits(run(*args, engine=sc.Scan(unroll=1)), run(*args, engine=sc.Scan()))
    assert jax.tree.leaves(sc.Scan(unroll=2)) == []


@pytest.mark.parametrize("checkpoint", [None, "sqrt", 2])
def test_one_turn_of_the_loop_holds_as_many_steps_as_asked_for(checkpoint):
    engine = sc.Scan(unroll=5, checkpoint=checkpoint)
    params = sc.GRU(2).init(jax.random.key(0), D)
    jaxpr = jax.make_jaxpr(lambda xs: sc.unroll(sc.GRU(2), params, xs, engine=engine))
    assert "unroll=5" in str(jaxpr(jnp.zeros((T, B, D))))


@pytest.mark.parametrize(("name", "reverse"), [("function", False), ("lstm-bias", True)])
@pytest.mark.usefixtures("x64")
def test_a_window_stops_the_gradient_and_nothing_else(name, reverse):
    case, flags = CASES[name], laws.draw_flags()
    problem = draw(case)
    args = (case.cell, problem.params)
    window = 3

    def by_hand(params, xs, carry):  # T = 7: windows of 3, 3 and 1 steps, in the order of reading
        ys = []
        for start in range(0, T, window):
            steps = slice(start, start + window)
            if reverse:
                steps = slice(max(T - start - window, 0), T - start)
            carry = carry if start == 0 else jax.lax.stop_gradient(carry)
            part = {"lengths": np.clip(flags["lengths"] - steps.start, 0, len(xs[steps]))}
            part |= {name: flags[name][steps] for name in ("mask", "resets")}
            carry, y = sc.unroll(case.cell, params, xs[steps], carry, **part, reverse=reverse)
            ys.append(y)
        return carry, jnp.concatenate(ys[::-1] if reverse else ys)

    def loss(params, xs, carry, unrolled):
        out = unrolled(params, xs, carry)
        return weigh(problem, *out), out

    def truncated(params, xs, carry):
        engine = sc.Truncated(window, sc.Scan(checkpoint=2))
        return sc.unroll(case.cell, params, xs, carry, **flags, reverse=reverse, engine=engine)

    del flags["resets" if reverse else "lengths"]  # which by_hand would need to look ahead for
    flags.setdefault("lengths", np.full(B, T))
    flags.setdefault("resets", np.zeros((T, B), bool))
    inputs = (args[1], problem.xs, problem.carry)
    graded = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True), static_argnums=3)
    (got, out), (expected, same) = (graded(*inputs, f) for f in (truncated, by_hand))
    assert_close(got, expected)
    assert_close(out, same)
    assert_close(out, sc.unroll(*args, *inputs[1:], **flags, reverse=reverse))


@pytest.mark.parametrize("window", [T, T + 1])
def test_a_window_of_all_steps_is_the_full_gradient(window):
    case = CASES["lstm-bias"]
    problem = jax.tree.map(jnp.float32, draw(case))

    def loss(params, engine):
        return weigh(problem, *sc.unroll(case.cell, params, problem.xs, engine=engine))

    full, windowed = (jax.grad(loss)(problem.params, e) for e in (None, sc.Truncated(window)))
    assert_same_bits(windowed, full)


def test_one_turn_of_a_deferred_loop_holds_as_many_steps_as_asked_for():
    params = sc.GRU(2).init(jax.random.key(0), D)
    engine = sc.Deferred(unroll=5)
    jaxpr = jax.make_jaxpr(lambda xs: sc.unroll(sc.GRU(2), params, xs, engine=engine))
    assert "loops=Scans(unroll=5)" in str(jaxpr(jnp.zeros((T, B, D))))


def temp_bytes(checkpoint, steps=1024):
    return programs.temp_bytes(sc.GRU(8), sc.Scan(checkpoint=checkpoint), steps, 4, D)


def test_checkpoints_save_memory():
    plain, sqrt, coarse = temp_bytes(None), temp_bytes("sqrt"), temp_bytes(128)
    assert sqrt < plain / 8
    assert sqrt < coarse < plain


def test_sqrt_checkpoints_make_memory_grow_as_the_root_of_time():
    assert temp_bytes("sqrt", 4096) < 6 * temp_bytes("sqrt", 256)  # 4 would be the root of 16
    assert temp_bytes(None, 4096) > 12 * temp_bytes(None, 256)  # without, as time itself


BIG = (2000, 64, 16)  # residuals of about 300 MiB


@pytest.mark.parametrize(
    ("cell", "shape", "chunk"),
    [
        (sc.LEM(64), BIG, 40),  # a divisor near the square root
        (sc.LEM(64), (2000, 4, 16), 500),  # 8 MiB of residuals
        (sc.LEM(64), (200, 4, 16), None),  # few
        (sc.GRU(64, reset_after=False), (2003, 64, 16), 45),  # a prime number of steps
        (sc.FunctionCell(lambda p, c, x: (c, x), lambda x: x), BIG, None),  # makes no parameters
    ],
    ids=["root", "bytes", "few", "prime", "function"],
)
def test_much_that_a_scan_would_store_is_computed_again(cell, shape, chunk, monkeypatch):
    monkeypatch.setattr(_machine, "maps_cheaply", lambda: False)
    xs = jax.ShapeDtypeStruct(shape, "float32")
    assert sc.select_engine(cell, xs) == sc.Scan(checkpoint=chunk)
    assert sc.select_engine(cell, xs, engine=sc.Scan()) == sc.Scan()
    monkeypatch.setattr(_platform, "platform", lambda xs: "gpu")  # where it was not measured
    assert sc.select_engine(cell, xs) == sc.Scan()


def test_a_step_with_effects_is_not_repeated():
    def total(params, carry, x):
        jax.debug.print("{}", x[0, 0])
        return carry + params * jnp.sin(x), carry

    cell = sc.FunctionCell(total, jnp.zeros_like, lambda key, size: jnp.ones(size))
    silent = sc.FunctionCell(
        lambda p, c, x: (c + p * jnp.sin(x), c), *dataclasses.astuple(cell)[1:]
    )
    xs = jax.ShapeDtypeStruct((9000, 64, 64), "float32")
    assert sc.select_engine(cell, xs) == sc.Scan()
    assert sc.select_engine(silent, xs).checkpoint is not None
