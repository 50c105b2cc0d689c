"""Kernels of clusters: their CUDA, run on a CPU a lane at a time (`tests.support.emulator`)."""

import ctypes
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells.engines import _platform
from seqcells.engines.kernels import _scalar, cluster
from tests.support import emulator, reference
from tests.support.laws import loss

STEPS, BATCH, INPUTS = 6, 19, 3  # more than one tile of rows
CELLS = {
    "gru": sc.GRU,
    "gru-single": lambda *args, **more: sc.GRU(*args, bias="single", **more),
    "lstm": sc.LSTM,
    "mgu": lambda *args, **more: sc.MGU(*args, reset_after=True, **more),
    "identity": lambda *args, **more: sc.RNN(*args, activation="identity", **more),
    "relu": lambda *args, **more: sc.RNN(*args, activation="relu", **more),
    "sigmoid": lambda *args, **more: sc.RNN(*args, activation="sigmoid", **more),
    "rnn": sc.RNN,
    "janet": sc.JANET,
    "ligru": sc.LiGRU,
    "coupled": sc.CoupledLSTM,
}
FLAGS = {
    "lengths": np.arange(BATCH) % (STEPS + 1),
    "resets": np.arange(STEPS * BATCH).reshape(STEPS, BATCH) % 5 == 3,
}


@pytest.fixture
def launched(monkeypatch):
    """A GPU that is a CPU; the kernels that are launched on it."""
    if emulator.COMPILER is None:
        pytest.skip("needs g++")
    monkeypatch.setattr(cluster, "execute", emulator.execute)
    monkeypatch.setattr(sc.CUDACluster, "why_not_device", lambda self: None)
    monkeypatch.setattr(_platform, "platform", lambda xs: "gpu")
    emulator.LAUNCHED.clear()
    return emulator.LAUNCHED


def problem(make, size):
    cell = make(size)
    params = cell.init(jax.random.key(0), INPUTS)
    return cell, params, jax.random.normal(jax.random.key(1), (STEPS, BATCH, INPUTS))


def graded(cell, engine, **flags):
    return jax.jit(jax.value_and_grad(loss(cell, engine, **flags), (0, 1)))


def assert_near(got, right):
    """Compare norms: a sum in another order is now and then rounded to another bfloat16."""
    assert jax.tree.structure(got) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        assert np.linalg.norm(a - b) <= 1e-3 * np.linalg.norm(b)


WAYS = {"no": {}, "yes": FLAGS, "back": FLAGS | {"reverse": True}}
TELLING = {("lstm", "yes")}  # each takes 5 s: the others are slow


def some(rows, telling):
    """Rows of a table, of which all but the telling ones are slow."""
    marks = [[] if row in telling else [pytest.mark.slow] for row in rows]
    return [pytest.param(*row, marks=own) for row, own in zip(rows, marks, strict=True)]


@pytest.mark.parametrize(
    ("name", "flags"), some([(name, flags) for name in CELLS for flags in WAYS], TELLING)
)
def test_cuda_computes_what_a_scan_that_multiplies_in_bfloat16_does(name, flags, launched):
    flags = WAYS[flags]
    cell, params, xs = problem(CELLS[name], 40)
    engine = sc.CUDACluster("bfloat16", chunk=4)
    scan = dataclasses.replace(engine, interpret=True)
    got, expected = (graded(cell, one, **flags)(params, xs) for one in (engine, scan))
    assert {kernel.name for kernel in launched} == {"seqcells_forward", "seqcells_backward"}
    assert_near(got, expected)


# Blocks of a cluster, by H; only in the largest there is more than registers hold.
SIZES = {20: 1, 50: 2, 100: 4, 150: 8, 448: 8}


@pytest.mark.slow
@pytest.mark.parametrize(("size", "blocks"), SIZES.items())
def test_cuda_is_right_for_clusters_of_any_size(size, blocks, launched):
    cell, params, xs = problem(sc.GRU, size)
    got = graded(cell, sc.CUDACluster("bfloat16"), **FLAGS)(params, xs)
    layouts = {kernel.layout for kernel in launched}
    assert {layout.blocks for layout in layouts} == {blocks}
    assert any(one.kept < one.units // 16 for one in layouts) == (size == max(SIZES))
    assert_near(got, graded(cell, sc.CUDACluster("bfloat16", interpret=True), **FLAGS)(params, xs))


@pytest.mark.parametrize("axis", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_gradient_takes_one_launch_each_way_and_many_weights_take_no_more(axis, launched):
    cell, params, xs = problem(sc.GRU, 20)
    many = jax.tree.map(lambda a: jnp.stack([a, -a, 0.5 * a, 2 * a]), params)
    some = jax.tree.map(lambda a: jnp.stack([a[:2], a[2:]]), many)
    engines = (sc.CUDACluster("bfloat16"), sc.CUDACluster("bfloat16", interpret=True))

    def together(engine):
        one = jax.grad(loss(cell, engine, lengths=FLAGS["lengths"]), (0, 1))
        return jax.vmap(jax.vmap(one, (0, None)), (axis, None))

    some = jax.tree.map(lambda a: jnp.moveaxis(a, 0, axis), some)
    got = jax.block_until_ready(jax.jit(together(engines[0]))(some, xs))
    assert [kernel.name for kernel in launched] == ["seqcells_forward", "seqcells_backward"]
    assert_near(got, jax.jit(together(engines[1]))(some, xs))


@pytest.mark.parametrize("name", ["gru", pytest.param("rnn", marks=pytest.mark.slow)])
def test_cuda_computes_what_numpy_does(name, launched):
    make, step = {"gru": (sc.GRU, reference.gru_step), "rnn": (sc.RNN, reference.rnn_step)}[name]
    cell, params, xs = problem(make, 40)
    _, ys = sc.unroll(cell, params, xs, engine=sc.CUDACluster("bfloat16"))
    assert len(launched) == 1
    exact, inputs = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, xs))
    fresh = np.zeros(40)
    for row in (0, BATCH - 1):
        _, expected, _ = reference.unroll(step, exact, inputs[:, row], fresh, fresh)
        np.testing.assert_allclose(np.asarray(ys[:, row]), expected, atol=0.02)


@pytest.mark.usefixtures("launched")
def test_infinity_stays_infinite_beside_units_that_are_padding():
    cell = sc.RNN(5, "relu", bias="none")
    params = sc.RNNParams(jnp.ones((1, 5)), 1e30 * jnp.ones((5, 5)), None)
    xs = jnp.ones((5, 2, 1)).at[:, 1].set(0)
    engines = (sc.CUDACluster("bfloat16"), sc.Scan())
    got, right = (sc.unroll(cell, params, xs, engine=engine) for engine in engines)
    np.testing.assert_array_equal(got[0], right[0])


def test_no_members_of_a_vmap_make_none(launched):
    cell, params, xs = problem(sc.GRU, 20)
    none = jax.tree.map(lambda a: jnp.zeros((0, *a.shape)), params)
    run = jax.vmap(lambda p: sc.unroll(cell, p, xs, engine=sc.CUDACluster("bfloat16"))[1])
    assert jax.jit(run)(none).shape == (0, STEPS, BATCH, 20)
    assert not launched


OPERATIONS = {
    "add": lambda x, y: x + y,
    "broadcast_in_dim": lambda x, y: jnp.full_like(x, 2) + y,
    "convert_element_type": lambda x, y: (x == y).astype(jnp.float32),
    "eq": lambda x, y: jnp.where(x == y, 1.0, 2.0),
    "logistic": lambda x, y: jax.nn.sigmoid(x),
    "max": lambda x, y: jnp.maximum(x, y),
    "mul": lambda x, y: x * y,
    "ne": lambda x, y: jnp.where(x != y, x, -1e-5),
    "select_n": lambda x, y: jnp.where(x == 0.3, y, -0.0),
    "sub": lambda x, y: x - y,
    "tanh": lambda x, y: jnp.tanh(x),
}


def test_every_operation_is_written_in_c_as_jax_computes_it():
    if emulator.COMPILER is None:
        pytest.skip("needs g++")
    assert set(OPERATIONS) == set(_scalar.WRITTEN)
    numbers = np.array([0.0, 1.0, -1.0, 0.3, -2.5, 7.0, np.inf, -np.inf, np.nan], np.float32)
    x, y = (a.ravel() for a in np.meshgrid(numbers, numbers))
    one = jax.ShapeDtypeStruct((1, 1), "float32")
    source = []
    for name, operation in OPERATIONS.items():
        assert name in {str(e.primitive) for e in _every(jax.make_jaxpr(operation)(one, one).jaxpr)}
        lines, (value,) = _scalar.statements(operation, (one, one), ["x", "y"])
        body = " ".join([*lines, f"return {value};"])
        source.append(f'extern "C" float run_{name}(float x, float y) {{ {body} }}')
    library = emulator.build(
        (emulator.HERE / "emulator.cuh").read_text("utf-8") + "\n".join(source)
    )
    for name, operation in OPERATIONS.items():
        run = getattr(library, f"run_{name}")
        run.argtypes, run.restype = [ctypes.c_float] * 2, ctypes.c_float
        got = [run(*pair) for pair in zip(x, y, strict=True)]
        right = operation(jnp.asarray(x)[:, None], jnp.asarray(y)[:, None])[:, 0]
        np.testing.assert_allclose(got, right, 1e-6, err_msg=name)


def _every(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        within = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        yield from () if within is None else _every(getattr(within, "jaxpr", within))


REFUSED = {
    "erf": jax.scipy.special.erf,
    "scan": lambda x: jax.lax.fori_loop(0, 3, lambda _, x: x * 2, x),
    "convert_element_type of float32": lambda x: x.astype("float16"),
    "select_n of int32": lambda x: jax.lax.select_n((x == 0) + jnp.int32(1), x, x + 1, x + 2),
    "constant": lambda x: x + np.ones((1, 2), "float32"),
    "constant: expected one finite number, got inf": lambda x: x + jnp.inf,
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_that_is_not_written_in_c_is_named(name):
    one = jax.ShapeDtypeStruct((1, 1), "float32")
    with pytest.raises(NotImplementedError, match="expected") as error:
        _scalar.statements(REFUSED[name], (one,), ["x"])
    assert name in str(error.value)


@pytest.fixture
def _forgotten():
    """Programs do not outlive the test, nor do those of other tests reach it."""
    jax.clear_caches()
    yield
    jax.clear_caches()


BROKEN = {
    "one buffer": ("step % 2 * BUFFER", "0", "a race"),
    "no barrier": ("    wait();\n\n    float sums", "    float sums", "between arrive and wait"),
    "begins at once": ("  arrive();\n  wait();  //", "  //", "a race|may not have begun"),
    "one block waits": ("    wait();\n\n", "    if (block) wait();\n\n", "between arrive and wait"),
    "half a warp waits": (
        "    wait();\n\n",
        "    if (lane & 1) wait();\n\n",
        "of a warp part|between arrive",
    ),
    "overlaps": ("* STRIDE + unit, b, word)", "* STRIDE, b, word)", "a race"),
    "one word for all": ("* 32 + lane) * 2 + i;", "* 32) * 2 + i;", "a race"),
    "too little memory": ("others = shared + BUFFER", "others = shared + 2 * BUFFER", "outside of"),
    "rows that are not there": ("if (live[i]) pair =", "pair =", "no array's"),
    "codes that are not there": ("live[i] ? codes[at] : STEP", "codes[at]", "no array's"),
    "more rows are written": ("if (live[i]) put(writes[n] +", "put(writes[n] +", "no array's"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.usefixtures("launched", "_forgotten")
def test_the_emulator_sees_what_a_gpu_would_do_only_sometimes(name, monkeypatch):
    old, new, failure = BROKEN[name]
    execute = cluster.execute

    def broken(kernel, *args):
        assert old in kernel.source
        return execute(kernel._replace(source=kernel.source.replace(old, new)), *args)

    monkeypatch.setattr(cluster, "execute", broken)
    cell, params, xs = problem(sc.LSTM, 320)  # some of it is not kept in registers
    engine = sc.CUDACluster("bfloat16")
    with pytest.raises(Exception, match=f"emulator: .*({failure})"):
        jax.block_until_ready(sc.unroll(cell, params, xs, engine=engine, **FLAGS))


WRONG = {
    "another number of arrays": lambda args: args[1:],
    "an array of another dtype": lambda args: (args[0].astype("int16"), *args[1:]),
}


@pytest.mark.slow
@pytest.mark.parametrize("failure", WRONG)
@pytest.mark.usefixtures("launched", "_forgotten")
def test_the_emulator_sees_arrays_that_the_kernel_does_not_take(failure, monkeypatch):
    def wrong(kernel, members, args, out):
        return emulator.execute(kernel, members, WRONG[failure](args), out)

    monkeypatch.setattr(cluster, "execute", wrong)
    cell, params, xs = problem(sc.GRU, 20)
    with pytest.raises(Exception, match=f"emulator: {failure}"):
        jax.block_until_ready(sc.unroll(cell, params, xs, engine=sc.CUDACluster("bfloat16")))
