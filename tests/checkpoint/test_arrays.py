"""Arrays: loading returns the bits and the placement that were saved."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqcells._checkpoint import CheckpointError, Checkpoints, _orbax
from tests.support.checkpoints import TREE, bits

MESH = jax.sharding.NamedSharding(
    jax.sharding.Mesh(np.array(jax.devices()[:1]), ("i",)), jax.sharding.PartitionSpec()
)
with jax.enable_x64(True):
    WIDE = jnp.float64(0.1)
KINDS = {
    "float32": jnp.array([[1.5, -0.0], [jnp.nan, jnp.inf]]),
    "bfloat16": jnp.full(3, 0.1, jnp.bfloat16),
    "float8": jnp.full(3, 0.1, jnp.float8_e4m3fn),
    "int4": jnp.full(3, -3, jnp.int4),
    "bool": jnp.array([True, False]),
    "complex": jnp.array([1 + 2j]),
    "zeros": jnp.zeros((2, 2)),
    "scalar": jnp.int32(4),
    "float64": WIDE,
    "empty": jnp.zeros((0, 3)),
    "none": None,
    "key": jax.random.key(3),
    "keys": jax.random.split(jax.random.key(3, impl="rbg"), 4),
    "numpy": np.arange(3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "numpy scalar": np.float64(0.1),
    "number": 3,
    "truth": True,
    "sharded": jax.device_put(np.ones(3), MESH),
    "optimiser": optax.adam(1e-3).init({"w": jnp.ones(2)}),
    "nothing": {},
    "odd/../names": [{"a.b": jnp.ones(1)}, {"a": {"b": jnp.zeros(1)}}],
}


@pytest.mark.parametrize("kind", KINDS)
def test_loading_returns_the_bits_that_were_saved(tmp_path, kind):
    tree = {kind: KINDS[kind]}
    Checkpoints(tmp_path, {}).save(1, tree)
    assert bits(Checkpoints(tmp_path, {}).load(tree).tree) == bits(tree)


def test_like_may_be_a_tree_of_shapes(tmp_path):
    tree = {name: KINDS[name] for name in ("float32", "float64", "empty", "key", "keys")}
    Checkpoints(tmp_path, {}).save(1, tree)
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
    assert bits(Checkpoints(tmp_path, {}).load(like).tree) == bits(tree)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int4", "scalar", "keys"])
def test_a_process_that_is_not_the_first_writes_its_arrays_too(tmp_path, kind, monkeypatch):
    """Orbax writes the NumPy arrays of process 0 alone."""
    first = Checkpoints(tmp_path / "0", {})
    first.save(1, KINDS[kind])
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    other = Checkpoints(tmp_path / "1", {})
    other.save(1, KINDS[kind])
    assert bits(other.load(KINDS[kind]).tree) == bits(KINDS[kind])
    chunks = [
        {p.relative_to(one.folder): p.read_bytes() for p in one.folder.rglob("arrays/0/*")}
        for one in (first, other)
    ]
    headers = [
        json.loads(chunk.pop(next(p for p in chunk if p.name == ".zarray"))) for chunk in chunks
    ]
    assert chunks[0] == chunks[1]
    assert headers[0] == headers[1]


SPLIT = """
import sys, tempfile
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from jax.sharding import NamedSharding, PartitionSpec as P
from seqcells._checkpoint import Checkpoints
assert "orbax" not in sys.modules
mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
split, whole = NamedSharding(mesh, P("i")), NamedSharding(mesh, P())
tree = {"a": jax.device_put(jnp.arange(4.0), split), "step": jax.device_put(jnp.int32(3), whole),
        "keys": jax.device_put(jax.random.split(jax.random.key(0), 4), split)}
checkpoints = Checkpoints(tempfile.mkdtemp(), {})
checkpoints.save(1, tree)
like = jax.tree.map(lambda leaf: jax.device_put(leaf, whole), tree) | {"a": tree["a"]}
got = checkpoints.load(like).tree
for name, leaf in got.items():
    assert leaf.sharding.is_equivalent_to(like[name].sharding, leaf.ndim), (name, leaf.sharding)
assert not got["a"].sharding.is_equivalent_to(whole, 1)
for name in ("a", "step"):
    np.testing.assert_array_equal(got[name], tree[name])
np.testing.assert_array_equal(*(jax.random.key_data(t["keys"]) for t in (got, tree)))
print("held")
"""


def test_sharded_arrays_come_back_sharded_as_like_and_orbax_is_imported_late():
    run = [sys.executable, "-c", SPLIT]
    done = subprocess.run(run, capture_output=True, encoding="utf-8", check=False)
    assert done.stdout == "held\n", done.stderr


@pytest.mark.parametrize("wrong", ["missing", "elsewhere", "changed"])
def test_arrays_that_are_not_on_the_disk_as_given_fail_the_save(saved, monkeypatch, wrong):
    write = _orbax.write

    def careless(folder, arrays):
        write(folder, arrays if wrong == "missing" else {n: a + 1 for n, a in arrays.items()})
        if wrong == "missing":
            (folder / "1" / "0.0").unlink()
        if wrong == "elsewhere":
            folder.rename(folder.parent / "other")

    monkeypatch.setattr(_orbax, "write", careless)
    with pytest.raises(
        CheckpointError, match=r"step 3 could not be written .*on the disk differs from"
    ):
        saved.save(3, TREE)
    assert saved.load(TREE).step == 2
