"""What only a device can show; `python -m benchmarks gpu` runs these first.

Everything is compared with the plain scan in float64, which the other tests hold to NumPy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells._flags import Flags

PLATFORM = jax.default_backend()
pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(PLATFORM == "cpu", reason="needs a GPU or a TPU"),
]
KERNELS = {"gpu": (sc.PallasTriton, sc.CUDACluster), "tpu": (sc.PallasTPU,)}.get(PLATFORM, ())
BEST = [pytest.param(kernel, kernel.PRECISIONS[-1], id=kernel.__name__) for kernel in KERNELS]
EVERY = [
    pytest.param(kernel, precision, id=f"{kernel.__name__}-{precision}")
    for kernel in KERNELS
    for precision in kernel.PRECISIONS
]
BOUNDS = {"float32": 2e-5, "tf32x3": 2e-5, "tf32": 3e-3, "bfloat16": 3e-2}  # of norms
CELLS = (sc.GRU, sc.LSTM, sc.RNN)
STEPS, BATCH, INPUTS = 67, 37, 5
FLAGS = {
    "lengths": np.arange(BATCH) % (STEPS + 1),
    "resets": np.arange(STEPS * BATCH).reshape(STEPS, BATCH) % 11 == 3,
}


@pytest.fixture(autouse=True)
def _exact_products():
    """Outside of a kernel, which has a precision of its own: a GPU would multiply in tf32."""
    with jax.default_matmul_precision("highest"):
        yield


def problem(make, size, dtype="float32", steps=STEPS):
    cell = make(size, dtype=dtype)
    params = cell.init(jax.random.key(0), INPUTS)
    return cell, params, jax.random.normal(jax.random.key(1), (steps, BATCH, INPUTS), dtype)


def graded(make, size, dtype, engine, **flags):
    cell = make(size, dtype=dtype)

    def loss(params, xs):
        carry, ys = sc.unroll(cell, params, xs, engine=engine, **flags)
        some = sum(jnp.mean(jnp.square(a)) for a in jax.tree.leaves(carry))
        wide = jnp.promote_types(ys.dtype, jnp.float32)
        return jnp.mean(jnp.square(ys.astype(wide))) + some

    return jax.value_and_grad(loss, (0, 1))


def exact(make, size, params, xs, **flags):
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        args = jax.tree.map(lambda a: jnp.asarray(np.asarray(a).astype(np.float64)), (params, xs))
        return jax.jit(graded(make, size, "float64", sc.Scan(), **flags))(*args)


def assert_near(got, right, bound):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(right), strict=True):
        a, b = (np.asarray(one).astype(np.float64) for one in (a, b))
        assert np.linalg.norm(a - b) <= bound * np.linalg.norm(b)


def poison():
    """Leave NaN in memory that is free: what a kernel forgets to write is seen then."""
    jax.block_until_ready([jnp.full((STEPS, BATCH, 512), jnp.nan) for _ in range(8)])


@pytest.mark.parametrize("flags", [{}, FLAGS, FLAGS | {"reverse": True}], ids=["no", "yes", "back"])
@pytest.mark.parametrize(("kernel", "precision"), EVERY)
@pytest.mark.parametrize("size", [21, 64, 200, 384])
@pytest.mark.parametrize("make", CELLS, ids=lambda make: make.__name__)
def test_a_kernel_computes_what_float64_does(make, size, kernel, precision, flags):
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    cell, params, xs = problem(make, size, dtype)
    engine = kernel(precision, chunk=30)
    reason = engine.why_not(cell, xs, Flags())
    if reason is not None:
        pytest.skip(reason)
    poison()
    got = jax.jit(graded(make, size, dtype, engine, **flags))(params, xs)
    assert_near(got, exact(make, size, params, xs, **flags), BOUNDS[precision])


@pytest.mark.parametrize("options", [None, sc.gpu_compiler_options()], ids=["plain", "graph"])
@pytest.mark.parametrize("make", CELLS, ids=lambda make: make.__name__)
def test_the_chosen_engine_computes_what_float64_does(make, options):
    if options and PLATFORM != "gpu":
        pytest.skip("graphs are a GPU's")
    _, params, xs = problem(make, 64)
    poison()
    f = jax.jit(graded(make, 64, "float32", None, **FLAGS), compiler_options=options)
    got = f(params, xs)
    assert_near(got, exact(make, 64, params, xs, **FLAGS), BOUNDS["float32"])


@pytest.mark.parametrize(("kernel", "precision"), BEST)
def test_many_weights_are_a_grid_axis(kernel, precision):
    _, params, xs = problem(sc.GRU, 64)
    many = jax.tree.map(lambda a: jnp.stack([a, -a, 0.5 * a]), params)
    f = graded(sc.GRU, 64, "float32", kernel(precision))
    together = jax.jit(jax.vmap(f, (0, None)))(many, xs)
    for i in range(3):
        alone = jax.jit(f)(jax.tree.map(lambda a, i=i: a[i], many), xs)
        assert_near(jax.tree.map(lambda a, i=i: a[i], together), alone, BOUNDS[precision] / 2)


@pytest.mark.parametrize(("kernel", "precision"), BEST)
def test_more_than_a_window_of_steps_is_the_same(kernel, precision):
    _, params, xs = problem(sc.GRU, 64, steps=20_000)
    whole, parts = (
        jax.jit(graded(sc.GRU, 64, "float32", kernel(precision, chunk=chunk)))(params, xs)
        for chunk in (20_000, 3_000)
    )
    assert_near(parts, whole, 5 * BOUNDS[precision])


# Of a cluster: two blocks, eight with all matrices in registers, eight with some in memory.
@pytest.mark.parametrize("options", [None, sc.gpu_compiler_options()], ids=["plain", "graph"])
@pytest.mark.parametrize("size", [64, 200, 512])
@pytest.mark.parametrize(("kernel", "precision"), BEST)
def test_a_kernel_computes_the_same_bits_every_time(kernel, precision, size, options):
    if options and PLATFORM != "gpu":
        pytest.skip("graphs are a GPU's")
    steps, rows = 1000, 600  # clusters begin and end beside each other
    cell, engine = sc.GRU(size), kernel(precision)
    params = cell.init(jax.random.key(0), INPUTS)
    xs = jax.random.normal(jax.random.key(1), (steps, rows, INPUTS))
    reason = engine.why_not(cell, xs, Flags())
    if reason is not None:
        pytest.skip(reason)
    lengths = steps - np.arange(rows)
    f = jax.jit(graded(sc.GRU, size, "float32", engine, lengths=lengths), compiler_options=options)
    first, *others = ([np.asarray(a) for a in jax.tree.leaves(f(params, xs))] for _ in range(10))
    for other in others:  # blocks that do not wait for each other would now and then differ
        assert all(map(np.array_equal, first, other))
