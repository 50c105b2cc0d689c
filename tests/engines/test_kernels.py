"""Kernels of devices, run in plain JAX operations: what they compute, and what they refuse.

That they equal NumPy under every flag is a law of all engines (`helpers.ENGINES`).
"""

import contextlib
import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells._flags import Flags
from seqcells.engines import _platform
from seqcells.engines.kernels import _blocks, _nvidia
from tests.support import reference
from tests.support.laws import ENGINES, B, D, H, assert_close, loss

pytestmark = pytest.mark.usefixtures("strict")

STEPS, BATCH, INPUTS, UNITS = 21, 19, 3, 37  # no multiple of any tile, and more than one of each
KERNELS = {"triton": sc.PallasTriton, "tpu": sc.PallasTPU}
EXACT = {sc.PallasTriton: "tf32x3", sc.PallasTPU: "float32"}  # in interpret mode, float32
CELLS = {"gru": (sc.GRU, reference.gru_step), "rnn": (sc.RNN, reference.rnn_step)}
CELLS["lstm"] = (sc.LSTM, reference.lstm_step)
SLOW = pytest.mark.slow
over_kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
ROUGH = KERNELS | {"cluster": sc.CUDACluster}  # the last multiplies in bfloat16 alone
over_all_kernels = pytest.mark.parametrize("kernel", ROUGH.values(), ids=ROUGH)


def problem(make, dtype="float32", size=UNITS):
    cell = make(size, dtype=dtype)
    params = cell.init(jax.random.key(0), INPUTS)
    return cell, params, jax.random.normal(jax.random.key(1), (STEPS, BATCH, INPUTS), dtype)


FLAGS = {
    "lengths": np.arange(BATCH) % (STEPS + 1),
    "resets": np.arange(STEPS * BATCH).reshape(STEPS, BATCH) % 5 == 3,
}


WAYS = {"no": {}, "yes": FLAGS, "back": FLAGS | {"reverse": True}}
PADDED = [(kernel, name, way) for kernel in KERNELS for name in CELLS for way in WAYS]
TELLING = {("triton", "gru", "yes"), ("tpu", "lstm", "back")}


@pytest.mark.parametrize(
    ("kernel", "name", "way"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row not in TELLING)) for row in PADDED],
)
def test_any_size_is_padded_and_computed_as_the_plain_scan_does(kernel, name, way):
    kernel, flags = KERNELS[kernel], WAYS[way]
    cell, params, xs = problem(CELLS[name][0])
    engines = (kernel(EXACT[kernel], chunk=19, interpret=True), sc.Scan())
    got, expected = (
        jax.jit(jax.value_and_grad(loss(cell, engine, **flags), (0, 1)))(params, xs)
        for engine in engines
    )
    assert_close(got, expected, 1e-4)


@pytest.mark.parametrize("kernel", [sc.PallasTriton, pytest.param(sc.PallasTPU, marks=SLOW)])
def test_windows_may_fill_no_block_of_steps(kernel):
    cell, params, xs = problem(sc.GRU, size=5)
    xs = jnp.concatenate([xs, xs])  # two windows of 21 steps, with no padding in either
    engines = (kernel(EXACT[kernel], chunk=STEPS, interpret=True), sc.Scan())
    got, expected = (jax.jit(jax.grad(loss(cell, engine)))(params, xs) for engine in engines)
    assert_close(got, expected, 1e-4)


NARROW = [("triton", "gru"), ("tpu", "lstm"), ("cluster", "gru")]


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        pytest.param(*row, marks=[pytest.mark.slow] * (row not in NARROW))
        for row in ((kernel, name) for kernel in ROUGH for name in CELLS)
    ],
)
def test_in_bfloat16_the_carry_stays_in_float32(kernel, name):
    kernel = ROUGH[kernel]
    make, step = CELLS[name]
    cell, params, xs = problem(make, "bfloat16")
    carry, ys = jax.jit(lambda: sc.unroll(cell, params, xs, engine=kernel(interpret=True)))()
    assert ys.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(carry))
    exact, xs = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, xs))
    fresh = jax.tree.map(lambda a: np.zeros(a.shape[1:]), carry)
    for row in (0, BATCH - 1):
        _, expected, _ = reference.unroll(step, exact, xs[:, row], fresh, fresh)
        np.testing.assert_allclose(np.asarray(ys[:, row], np.float64), expected, atol=0.03)


def test_a_carry_in_float32_adds_what_bfloat16_would_lose():
    """A product of 1 + 2**-9 units and the identity: rounded to bfloat16, the sum stays at 256."""
    cell = sc.RNN(1, "identity", bias="none", dtype="bfloat16")
    params = sc.RNNParams(jnp.ones((1, 1)), jnp.ones((1, 1)), None)
    xs = jnp.ones((300, 1, 1), jnp.bfloat16)
    exact = sc.PallasTriton("float32", interpret=True)
    assert float(sc.unroll(cell, params, xs, engine=exact)[0][0, 0]) == 300
    rounded = sc.PallasTriton("bfloat16", interpret=True)
    assert float(sc.unroll(cell, params, xs, engine=rounded)[0][0, 0]) < 300


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that are launched while something is traced."""
    names, call = [], _blocks.call

    def named(name, *args, **options):
        names.append(name)
        return call(name, *args, **options)

    monkeypatch.setattr(_blocks, "call", named)
    return names


def within(f):
    return jax.vmap(jax.grad(f), (0, None))


def outside(f):
    return jax.grad(lambda many, xs: jnp.sum(jax.vmap(f, (0, None))(many, xs)))


@pytest.mark.parametrize(
    ("kernel", "way"),
    [
        pytest.param(sc.PallasTriton, within, id="triton-within"),
        pytest.param(sc.PallasTPU, outside, id="tpu-outside"),
        pytest.param(sc.PallasTriton, outside, id="triton-outside", marks=pytest.mark.slow),
        pytest.param(sc.PallasTPU, within, id="tpu-within", marks=pytest.mark.slow),
    ],
)
def test_a_gradient_takes_one_kernel_each_way_and_many_weights_take_no_more(kernel, way, launched):
    cell, params, xs = problem(sc.GRU, size=4)
    engine = kernel("float32", interpret=True)
    many = jax.tree.map(lambda a: jnp.stack([a, -a, 0.5 * a]), params)
    traced = jax.jit(way(loss(cell, engine, lengths=FLAGS["lengths"]))).trace(many, xs)
    launched.clear()  # of tracing for shapes
    got = traced.lower().compile()(many, xs)
    assert launched == ["seqcells_forward", "seqcells_backward"]
    plain = jax.jit(jax.grad(loss(cell, sc.Scan(), lengths=FLAGS["lengths"])))
    each = [plain(jax.tree.map(lambda a, i=i: a[i], many), xs) for i in range(3)]
    assert_close(got, jax.tree.map(lambda *a: jnp.stack(a), *each), 1e-4)


@pytest.mark.parametrize("kernel", [sc.PallasTriton, pytest.param(sc.PallasTPU, marks=SLOW)])
def test_many_inputs_share_the_gradient_of_their_weights(kernel):
    """Wherever the members stand."""
    cell, params, xs = problem(sc.GRU, size=4)
    xs = jnp.stack([xs, 0.5 * xs, -xs], 3)

    def graded(engine):
        many = jax.vmap(loss(cell, engine), (None, 3))
        return jax.jit(jax.grad(lambda *args: jnp.sum(many(*args)), (0, 1)))(params, xs)

    assert_close(graded(kernel("float32", interpret=True)), graded(sc.Scan()), 1e-4)


@over_all_kernels
def test_infinity_stays_infinite_beside_units_that_are_padding(kernel):
    cell = sc.RNN(5, "relu", bias="none", dtype="bfloat16")
    params = sc.RNNParams(jnp.ones((1, 5)), 1e30 * jnp.ones((5, 5)), None)
    xs = jnp.ones((5, 2, 1)).at[:, 1].set(0)
    engines = (kernel(interpret=True), sc.Scan())
    got, right = (sc.unroll(cell, params, xs, engine=engine) for engine in engines)
    assert not np.isfinite(right[1][-1, 0]).any()
    np.testing.assert_array_equal(got[0], right[0])


@over_kernels
@pytest.mark.parametrize("shape", [(5, 2), (5, 2, 3, 2), (0, 3, 2), (5, 0, 2)])
def test_any_batch_axes_will_do_also_none_and_empty_ones(kernel, shape):
    cell = sc.GRU(3)
    params, xs = cell.init(jax.random.key(0), 2), jax.random.normal(jax.random.key(1), shape)
    engines = (kernel("float32", interpret=True), sc.Scan())
    assert_close(*(sc.unroll(cell, params, xs, engine=engine) for engine in engines), 1e-5)


@dataclasses.dataclass(frozen=True, repr=False)
class Doubled(sc.GRU):
    """Another product than that of its base, whose weights it does not declare."""

    def mix(self, params, carry):
        return super().mix(params, 2 * carry)


XS = jax.ShapeDtypeStruct((100, 16, 8), "float32")
ON_GPU, ON_TPU = sc.PallasTriton(interpret=True), sc.PallasTPU(interpret=True)
REFUSED = {
    "subclass": (Doubled(8), ON_TPU, "its class Doubled"),
    "cpu": (sc.GRU(64), sc.PallasTriton(), "for a GPU, and this runs on a CPU"),
    "tpu": (sc.GRU(64), sc.PallasTPU(), "for a TPU, and this runs on a CPU"),
    "cell": (sc.IndRNN(8), ON_GPU, "its class IndRNN declares no"),
    "reset": (sc.GRU(8, reset_after=False), ON_GPU, "two products"),
    "large": (sc.GRU(129), ON_GPU, "3 matrices of 256x256 in tf32"),
    "large-tpu": (sc.GRU(2048), ON_TPU, "3 matrices of 2048x2048"),
}


@pytest.mark.parametrize(("cell", "engine", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_kernel_says_which_limit_stands_in_the_way(cell, engine, reason):
    with pytest.raises(ValueError, match="engine: ") as error:
        sc.select_engine(cell, XS, engine=engine)
    assert reason in str(error.value)


@pytest.mark.parametrize("explicit", [False, True])
def test_a_kernel_refuses_what_jax_may_have_sharded(explicit, monkeypatch):
    """Also under explicit axes of one device."""
    if not explicit:
        monkeypatch.setattr(jax, "device_count", lambda: 2)
    mesh = jax.sharding.AbstractMesh((1,), ("batch",), (jax.sharding.AxisType.Explicit,))
    under = jax.sharding.use_abstract_mesh(mesh) if explicit else contextlib.nullcontext()
    with under, pytest.raises(ValueError, match="shard_map"):
        sc.select_engine(sc.GRU(8), XS, engine=sc.PallasTriton(interpret=True))


TRITON, CLUSTER = sc.PallasTriton("tf32"), sc.CUDACluster("bfloat16")
SHARED = {"8.0": 163, "8.6": 99, "8.9": 99, "9.0": 227, "12.0": 99}  # KiB
GPUS = [
    (TRITON, 128, "7.5", "compute capability 8.0 or above, got '7.5'"),
    (TRITON, 128, "gfx942", "got 'gfx942'"),
    (TRITON, 128, "", "got ''"),
    (TRITON, 128, "8.0", "216 KiB of a multiprocessor's 163 KiB"),
    (TRITON, 128, "8.6", "3 matrices of 128x128 in tf32 take 216 KiB of a multiprocessor's 99"),
    (TRITON, 128, "9.0", None),
    (TRITON, 128, "99.0", "a multiprocessor's 99 KiB"),  # the least of any
    (CLUSTER, 128, "8.9", "compute capability 9.0 or above, got '8.9'"),
    (CLUSTER, 512, "9.0", None),
    (CLUSTER, 513, "9.0", "of a multiprocessor's 227 KiB"),
    (CLUSTER, 256, "12.0", None),
    (CLUSTER, 512, "12.0", "of a multiprocessor's 99 KiB"),
]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("engine", "size", "capability", "reason"), GPUS)
def test_what_fits_depends_on_the_gpu(monkeypatch, engine, size, capability, reason):
    memory = {"shared_memory_per_block_optin": 1024 * SHARED.get(capability, 0)}
    known = memory if capability in SHARED else {}
    gpu = types.SimpleNamespace(compute_capability=capability, **known)
    monkeypatch.setattr(_nvidia, "gpu", lambda: gpu)
    monkeypatch.setattr(_nvidia, "why_no_compiler", lambda: None)
    got = engine.why_not(sc.GRU(size), XS, Flags())
    assert got is None if reason is None else reason in got


@pytest.mark.usefixtures("gpu")
def test_a_cluster_needs_a_compiler_and_says_where_it_is_found(monkeypatch):
    monkeypatch.setattr(_nvidia, "_library", lambda: None)
    with pytest.raises(ValueError, match=r"needs NVRTC.*pip install .jax\[cuda13\]."):
        sc.select_engine(sc.GRU(8, dtype="bfloat16"), XS, engine=sc.CUDACluster())


ROUNDED = [("bfloat16", None, True), ("float32", None, False)]
ROUNDED += [("float32", "tensorfloat32", False), ("float32", "bfloat16", True)]


@pytest.mark.parametrize(("dtype", "asked", "runs"), ROUNDED)
def test_a_cluster_rounds_to_bfloat16_only_where_that_is_asked_for(dtype, asked, runs):
    with jax.default_matmul_precision(asked):
        cell, engine = sc.GRU(8, dtype=dtype), sc.CUDACluster(interpret=True)
        reason = engine.why_not(cell, XS, Flags())
        assert reason is None if runs else 'pass precision="bfloat16"' in reason
        assert sc.CUDACluster("bfloat16", interpret=True).why_not(cell, XS, Flags()) is None


@pytest.mark.parametrize("options", [{"precision": "tf31"}, {"chunk": 0}, {"interpret": 1}])
@over_all_kernels
def test_options_are_checked(kernel, options):
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        kernel(**options)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(_platform, "platform", lambda xs: "gpu")


PRECISIONS = [("float32", None, "tf32"), ("bfloat16", None, "bfloat16")]
PRECISIONS += [("float32", "highest", "float32"), ("float32", "default", "tf32")]
PRECISIONS += [("float32", "BF16_BF16_F32_X6", "tf32x3"), ("float16", None, "tf32")]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("dtype", "asked", "precision"), PRECISIONS)
def test_precision_follows_the_dtype_and_the_configuration_of_jax(dtype, asked, precision):
    with jax.default_matmul_precision(asked):
        engine = sc.select_engine(sc.GRU(64, dtype=dtype), XS, engine=sc.PallasTriton())
    assert engine == sc.PallasTriton(precision, chunk=100)


@pytest.mark.usefixtures("gpu", "x64")
def test_a_device_computes_no_float64():
    xs = jax.ShapeDtypeStruct((100, 16, 8), "float64")
    with pytest.raises(ValueError, match="float32 and narrower"):
        sc.select_engine(sc.GRU(64), xs, engine=sc.PallasTriton())


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_the_lean_scan_is_chosen_until_a_kernel_was_measured():
    chosen = sc.select_engine(sc.GRU(64), XS)
    assert chosen == sc.Deferred(
        100, (), project_ahead=True, vmap_sequentially=False, unroll=8, product="rows"
    )
    long = sc.select_engine(sc.GRU(64), jax.ShapeDtypeStruct((100_000, 16, 64), "float32"))
    assert isinstance(long, sc.Deferred)
    assert long.chunk < 10_000


@pytest.mark.parametrize("way", ["deferred", "triton", "tpu"])
def test_a_bias_of_the_last_gate_alone_is_one_with_zeros_before_it(way):
    one, both = sc.GRU(H, bias="candidate"), sc.GRU(H)
    params = one.init(jax.random.key(0), D)._replace(b_hh=jnp.arange(1.0, H + 1))
    full = params._replace(b_hh=jnp.concatenate([jnp.zeros(2 * H), params.b_hh]))
    xs = jnp.sin(jnp.arange(3.0 * B * D)).reshape(3, B, D)

    @jax.jit
    def run(params, full):
        ways = ((one, params, ENGINES[way]), (both, full, sc.Scan()))
        vjps = [
            jax.vjp(lambda p, c=c, e=e: sc.unroll(c, p, xs, engine=e)[1], p) for c, p, e in ways
        ]
        return [(ys, back(ys)[0]) for ys, back in vjps]

    (ys, grads), (expected, wanted) = run(params, full)
    assert_close(ys, expected, 1e-5)
    assert_close(grads, wanted._replace(b_hh=wanted.b_hh[-H:]), 1e-5)
