"""Laws of a batch that is split over the cores of a CPU."""

import os
import re

import jax
import pytest

import seqcells as sc
from seqcells.distributed import _available
from tests.support.processes import run_parts

HEAD = """
import re, warnings
warnings.simplefilter("error")
import jax
import seqcells as sc
mesh = sc.cores(2)
import dataclasses, functools
import jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
from tests.support.laws import draw_flags

def near(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-5)

def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), "float32")

def flagged(batch):
    return jax.tree.map(jnp.asarray, draw_flags(batch=batch))

def splits(function, *args):
    return str(jax.make_jaxpr(function)(*args)).count("shard_map[")

KEY = jax.random.key(1)
"""

EQUAL = """
# A call has the values and gradients of one device: of params, inputs and carries.
def turned(params, carry, x):  # its slope at a carry of zeros is NaN
    carry = carry / jnp.linalg.norm(carry, axis=-1, keepdims=True) + x["a"] + params * x["b"]
    return carry, {"y": carry, "first": carry[..., 0]}

TREE = sc.FunctionCell(turned, lambda x: jnp.ones_like(x["a"]), lambda key, size: jnp.float32(2))
NOISY = sc.Stack((sc.Zoneout(sc.GRU(3)), sc.LSTM(3)), dropout=0.5)
MASKED = sc.VariationalDropout(sc.LSTM(3), 0.2, 0.2)
LEARNED = sc.Recurrent(sc.GRU(3), learned_carry=True)
TOKENS = sc.Stack((sc.Embed(9, 2), sc.GRU(3)))
tokens = jnp.arange(7 * 5).reshape(7, 5) % 9
xs = normal(7, 5, 2)
ROWS = (  # the model, its inputs, further arguments, whether carries are given
    (NOISY, xs, {"key": KEY}, False),
    (sc.Bidirectional(sc.GRU(3)), xs, flagged(5), False),
    (TREE, {"a": xs, "b": -xs}, {}, True),
    (LEARNED, xs, flagged(5) | {"reverse": True}, False),
    (TOKENS, tokens, {"lengths": jnp.arange(5)}, False),
    (MASKED, xs[:, :4], {"key": KEY, "engine": sc.Scan(checkpoint=3)}, True),
    (NOISY, normal(7, 2, 3, 2), {"key": KEY}, True),
    (sc.LRU(3), normal(7, 4, 2), flagged(4) | {"engine": sc.AssociativeScan()}, True),
    (sc.GatedDeltaNet(4), xs, flagged(5) | {"engine": sc.Chunkwise(3), "reverse": True}, True),
    (sc.LSTM(3), xs, flagged(5) | {"engine": sc.Deferred(chunk=3), "reverse": True}, True),
    (sc.GRU(3), normal(2, 7, 2), {"time_axis": 1}, False),
    (sc.Zoneout(sc.GRU(3)), xs, {"key": KEY} | flagged(5), True),
)

def equal(net, xs, given, carried):
    axis = given.get("time_axis", 0)
    first = jax.tree.map(lambda a: a.take(0, axis), xs)
    params = net.init(jax.random.key(0), net.input_size(first))
    carry = jax.tree.map(lambda a: a + 0.5, net.init_carry(first, params)) if carried else None
    arrays = {name: a for name, a in given.items() if isinstance(a, jax.Array)}
    static = {name: a for name, a in given.items() if name not in arrays}

    def loss(params, xs, carry, arrays):
        given = arrays | static | {"reset_carry": carry}
        last, ys = sc.unroll(net, params, xs, carry, **given)
        every = [jnp.sum(jnp.square(a)) for a in jax.tree.leaves((last, ys))]
        return sum(every), (last, ys)

    def trace(params, xs, carry, arrays):
        given = {name: a for name, a in (arrays | static).items() if name not in ("key", "engine")}
        return sc.trajectory(net, params, xs, carry, **given)

    floats = (0, 2) if net is TOKENS else (0, 1, 2)
    graded, args = jax.jit(jax.value_and_grad(loss, floats, True)), (params, xs, carry, arrays)
    expected = graded(*args)
    with jax.set_mesh(mesh):
        assert splits(graded, *args) == 2, net  # forward and backward
        near(graded(*args), expected)
    if not net.x_ndim == 0 and not isinstance(net, sc.Bidirectional):
        expected = jax.jit(trace)(*args)
        with jax.set_mesh(mesh):
            assert splits(trace, *args) == 1, net
            near(jax.jit(trace)(*args), expected)

for row in ROWS[FIRST:LAST]:
    try:
        equal(*row)
    except Exception as error:
        raise AssertionError(row[0]) from error
"""

ONCE = r"""
# A gradient has one all-reduce, after the loop, and a call none.
one = r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
for cell, engine in ((sc.LSTM(3), None), (sc.GRU(3, reset_after=False), sc.Scan())):
    params, xs = cell.init(jax.random.key(0), 2), normal(7, 4, 2)
    ys = functools.partial(sc.unroll, cell, engine=engine)
    loss = lambda params, xs: jnp.sum(jnp.square(ys(params, xs)[1]))
    with jax.set_mesh(mesh):
        text = jax.jit(ys).lower(params, xs).compile().as_text()
        assert re.findall(one, text) == [], text
        text = jax.jit(jax.grad(loss)).lower(params, xs).compile().as_text()
        assert re.findall(one, text[text.index("\nENTRY") :]) == ["all-reduce"]
        assert re.findall(one, text) == ["all-reduce"]
        assert ys(params, xs)[1].sharding.spec == P(None, "cores")  # also where it is not jitted
        many = jax.vmap(lambda scale: ys(jax.tree.map(lambda a: scale * a, params), xs)[1])
        assert splits(many, jnp.arange(2.0)) == 1
        near(many(jnp.arange(2.0))[1], ys(params, xs)[1])
"""

WHETHER = r"""
# What is split, and what is not.
@dataclasses.dataclass(frozen=True)
class Shaken(sc.GRU):  # it draws as it likes
    def noisy(self, params, xs, key):
        return self, params, xs + jax.random.normal(key, xs.shape)

class Plain(sc.GRU):
    pass

class Own(sc.Recurrent):
    pass

def split(net, *batch, key=None):
    params, xs = net.init(jax.random.key(0), 2), normal(7, *batch, 2)
    return splits(lambda params, xs: sc.unroll(net, params, xs, key=key), params, xs)

def counter(params, carry, x):
    return carry + 1, x

gru = sc.GRU(3)
assert split(gru, 4) == 0  # there is no mesh
explicit = jax.make_mesh((2,), ("cores",), axis_types=(AxisType.Explicit,))
other = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
for not_cores in (explicit, other):
    with jax.set_mesh(not_cores):
        assert split(gru, 4) == 0
with jax.set_mesh(mesh):
    assert [split(gru), split(gru, 1), split(gru, 2), split(gru, 3, 1)] == [0, 0, 1, 1]
    nets = (Shaken(3), sc.Stack((gru, sc.Residual(Shaken(3)))), sc.Zoneout(Plain(3)), Own(gru))
    assert [split(net, 4) for net in nets] == [1, 1, 1, 1]
    assert [split(net, 4, key=KEY) for net in nets] == [0, 0, 1, 0]
    count = sc.FunctionCell(counter, lambda x: jnp.int32(0), lambda key, size: ())
    assert split(count, 4) == 0  # its carry has no row for each sequence
    assert int(sc.unroll(count, (), normal(7, 4, 2))[0]) == 7
    params = gru.init(jax.random.key(0), 2)
    ys, by_step = lambda xs: sc.unroll(gru, params, xs)[1], P(None, "cores")
    manual = jax.shard_map(ys, in_specs=by_step, out_specs=by_step)
    assert splits(manual, normal(7, 4, 2)) == 1  # its own
    for wrong, message in (
        ({"carry": jnp.ones((3, 3))}, r"carry: expected float32\[4, 3\]"),
        ({"engine": sc.AssociativeScan()}, "engine: AssociativeScan.* cannot run"),
        ({"lengths": jnp.full(4, 8)}, "lengths: expected values from 0 to T=7"),
    ):
        try:
            sc.unroll(gru, params, normal(7, 4, 2), **wrong)
        except ValueError as error:
            assert re.match(message, str(error)), error
        else:
            raise AssertionError(wrong)
    listed = sc.unroll(gru, params, normal(7, 2, 2), [[0.0] * 3, np.zeros(3)])[0]
    near(listed, sc.unroll(gru, params, normal(7, 2, 2))[0])
    read = jax.jit(lambda n: sc.unroll(gru, params, normal(7, 4, 2), lengths=n)[0])
    near(sc.debug.checked(read)(jnp.arange(4)), read(jnp.arange(4)))
    batch = jax.ShapeDtypeStruct(jax.export.symbolic_shape("7, b, 2"), "float32")
    jax.export.export(jax.jit(lambda xs: sc.unroll(gru, params, xs)[1]))(batch)
"""

TRAINED = """
# Training under the mesh is that of one device; with `mesh=` each core has a key of its own.
from tests.support import sweeps
cell = sc.GRU(3)

def loss(params, key, hparams):
    xs = jax.random.normal(key, (7, 4, 2))
    return jnp.mean(jnp.square(sc.unroll(cell, params, xs)[1] - xs[..., :1])), {}

def whole(params, key, hparams):
    each = [loss(params, jax.random.fold_in(key, rank), hparams)[0] for rank in range(2)]
    return sum(each) / 2, {}

def fitted(loss, **more):
    hparams = sc.train.HParams(0.1)
    state = sc.train.init(cell.init(jax.random.key(0), 2), hparams, jax.random.key(1))
    state, metrics = sc.train.fit(loss, state, hparams, 3, segment=3, **more)
    return state.params, metrics

expected = fitted(loss)
with jax.set_mesh(mesh):
    near(fitted(loss), expected)
near(fitted(loss, mesh=mesh), fitted(whole))

# A sweep spreads its trials over the cores, under the mesh, too.
from seqcells.sweep import _bucket
programs, build = [], _bucket.build
_bucket.build = lambda *given: programs.append(build(*given)) or programs[-1]
with jax.set_mesh(mesh):
    rows = sc.sweep.run(sweeps.make, sweeps.space(lr=[0.1], seeds=3), 20, segment=10).rows
assert [row["status"] for row in rows] == ["done"] * 3
(program,) = programs
widths = {leaf.sharding.num_devices for leaf in jax.tree.leaves(program.like)}
assert (program.width, widths) == (4, {2})
"""


def equal(first, last):
    return EQUAL.replace("FIRST:LAST", f"{first}:{last}")


def test_a_split_batch_has_the_values_and_gradients_of_one_device():
    run_parts(HEAD, WHETHER, equal(0, 1))


@pytest.mark.slow
def test_every_kind_of_model_and_argument_is_split():
    run_parts(HEAD, equal(1, None), ONCE)


@pytest.mark.slow
def test_training_and_sweeps_use_the_cores():
    run_parts(HEAD, TRAINED)


@pytest.mark.slow
def test_the_page_shows_what_runs(pytestconfig):
    page = (pytestconfig.rootpath / "docs" / "distributed.md").read_text("utf-8")
    (shown,) = re.findall(r"^```py\n(.*?)^```", page, re.S | re.M)
    run_parts(HEAD, shown.replace("sc.cores()", "sc.cores(2)"))


def test_when_jax_has_started_it_says_with_how_many_devices():
    count = jax.local_device_count()
    mesh = sc.cores(count)
    assert (mesh.axis_names, mesh.devices.tolist()) == (("cores",), jax.local_devices())
    assert mesh == sc.cores(count)
    message = f"n: expected JAX to start with {count + 1} CPU devices, got JAX started with {count}"
    with pytest.raises(RuntimeError, match=message):
        sc.cores(count + 1)


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (0, ValueError, "n: expected an int >= 1, got 0"),
        (2.0, TypeError, "n: expected an int >= 1, got 2.0"),
        (True, TypeError, "n: expected an int >= 1, got True"),
    ],
)
def test_a_number_of_cores_is_a_number(n, error, message):
    with pytest.raises(error, match=message):
        sc.cores(n)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),  # half a core
        ("0::/\n", {"cpu.max": "299999 100000\n"}, 2),  # rounded down
        ("0::/\n", {"cpu.max": "900000 100000\n"}, 8),  # above the affinity
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000", "a/cpu.max": "400000 100000"}, 2),
        ("0::/of/the/host\n", {"cpu.max": "400000 100000"}, 4),
        ("4:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "-1"}, 8),
        *(
            (
                f"3:memory:/\n2:{names}:/{path}\n0::/\n",
                {
                    f"{names}/{where}cpu.cfs_quota_us": "500000",
                    f"{names}/{where}cpu.cfs_period_us": "100000",
                },
                5,
            )
            for names in ("cpu", "cpu,cpuacct")
            for path, where in (("", ""), ("a/b", "a/"), ("of/host", ""))
        ),
        ("4:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "1", "cpuset/cpu.cfs_period_us": "1"}, 8),
        ("", {}, 8),
        (None, {}, 8),
    ],
)
def test_the_cores_are_those_that_the_process_may_use(own, files, expected, tmp_path, monkeypatch):
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if own is not None:
        (tmp_path / "own").write_text(own, encoding="utf-8")
    monkeypatch.setattr(_available, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(_available, "OWN", tmp_path / "own")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert _available.count() == expected
