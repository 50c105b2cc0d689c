"""Checkpoints: loading returns the bits that were saved, and damaged files are never used."""

import collections
import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

pytest.importorskip("orbax.checkpoint")

from seqcells import _checkpoint
from seqcells._checkpoint import CheckpointError, Checkpoints, RunLocked, _files, _orbax

CONFIG = {"lr": 0.1, "cell": {"name": "GRU", "sizes": (3, 4)}}
TREE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}
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


def bits(tree):
    """Return types, placement, dtypes and bytes of a tree."""

    def of(leaf):
        committed = getattr(leaf, "committed", None), getattr(leaf, "sharding", None)
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return str(leaf.dtype), committed, np.asarray(jax.random.key_data(leaf)).tobytes()
        dtype = str(getattr(leaf, "dtype", None))
        return type(leaf), dtype, committed, np.shape(leaf), np.asarray(leaf).tobytes()

    return jax.tree.map(of, tree)


@pytest.fixture
def saved(tmp_path):
    """Two generations."""
    checkpoints = Checkpoints(tmp_path / "run", CONFIG)
    for step in (1, 2):
        checkpoints.save(step, TREE, {"best": step})
    return checkpoints


def generations(checkpoints):
    return sorted(checkpoints.folder.glob("generation-*"))


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


def test_the_newest_is_loaded_with_its_facts(saved):
    step, tree, about, config = saved.load(TREE)
    assert (step, about, config["cell"]["sizes"]) == (2, {"best": 2}, [3, 4])
    assert bits(tree) == bits(TREE)


def test_without_a_generation_there_is_none(tmp_path):
    assert Checkpoints(tmp_path / "not yet", {}).load(TREE) is None


def test_keep_generations_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, {}, keep=3)
    for step in range(5):
        checkpoints.save(step, TREE)
    numbers = [int(path.name.split("-")[1]) for path in generations(checkpoints)]
    assert numbers == [2, 3, 4]


def test_a_generation_is_on_the_disk_before_it_has_its_name(saved, monkeypatch):
    """Every file and folder of it, at its full length; then the list of names."""
    synced, sync, rename = {}, os.fsync, Path.rename

    def note(handle):
        path = Path(f"/proc/self/fd/{handle}").resolve()
        synced[path] = os.fstat(handle).st_size if path.is_file() else None
        sync(handle)

    def renamed(part, whole):
        inside = [part, *part.rglob("*")]
        assert {p: p.stat().st_size if p.is_file() else None for p in inside} == {
            p: synced[p] for p in inside
        }
        assert len(generations(saved)) == 3  # with the older ones
        synced.clear()
        return rename(part, whole)

    monkeypatch.setattr(os, "fsync", note)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", renamed)
        patch.setattr(saved, "_prune", lambda: None)  # which renames what it removes
        saved.save(3, TREE)
    assert len(generations(saved)) == 3
    assert saved.folder in synced


def test_the_manifest_has_what_it_promises(saved):
    text = (generations(saved)[-1] / "manifest.json").read_text("utf-8")
    manifest = json.loads(text)["content"]
    config = json.loads(json.dumps(CONFIG))
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    assert (manifest["step"], manifest["about"], manifest["config"]) == (2, {"best": 2}, config)
    assert manifest["config_sha256"] == digest
    assert set(manifest["versions"]) == {"seqcells", "jax", "orbax"}
    for leaf, name in zip(manifest["leaves"], sorted(TREE), strict=True):
        shape, dtype = list(TREE[name].shape), str(TREE[name].dtype)
        assert (leaf["path"], leaf["shape"], leaf["dtype"]) == (name, shape, dtype)
        assert leaf["sha256"] == hashlib.sha256(TREE[name].tobytes()).hexdigest()


def test_leaves_in_another_order_are_refused(tmp_path):
    """Leaves of one shape and dtype, whose places alone say which is which."""
    Pair, Other = (
        collections.namedtuple("Pair", names) for names in (("one", "two"), ("two", "one"))
    )
    Checkpoints(tmp_path, {}).save(1, Pair(np.zeros(2), np.ones(2)))
    with pytest.raises(CheckpointError, match="the same in another order"):
        Checkpoints(tmp_path, {}).load(Other(np.zeros(2), np.zeros(2)))


def test_delete_removes_all(saved):
    (saved.folder / "generation-00000009.part").mkdir()
    saved.delete()
    assert [path.name for path in saved.folder.iterdir()] == ["lock"]
    assert saved.load(TREE) is None


def test_a_half_written_generation_is_ignored_and_removed_by_the_next_save(saved):
    half = saved.folder / "generation-00000002.part"
    half.mkdir()
    assert saved.load(TREE).step == 2
    saved.save(3, TREE)
    assert not half.exists()
    assert saved.load(TREE).step == 3


def damage(generation):
    file = generation / "arrays" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)


def test_a_flipped_bit_falls_back_with_a_warning_that_names_both(saved):
    old, new = generations(saved)
    damage(new)
    with pytest.warns(UserWarning, match=f"step 1 of {old}, as {new}: arrays/0/0 is not what"):
        assert saved.load(TREE).step == 1
    saved.save(3, TREE)  # the broken one goes, not the good one
    assert [path.name for path in generations(saved)] == [old.name, "generation-00000002"]


def test_if_all_are_damaged_the_error_names_them_and_a_remedy(saved):
    old, new = generations(saved)
    damage(old), damage(new)
    with pytest.raises(
        CheckpointError, match=rf"{new}: .*{old}: .* remove the folder {saved.folder} "
    ):
        saved.load(TREE)


def test_wrong_values_from_orbax_are_detected(saved, monkeypatch):
    def wrong(folder, shapes):
        return {name: np.full(one.shape, 7, one.dtype) for name, one in shapes.items()}

    monkeypatch.setattr(_orbax, "read", wrong)
    with pytest.raises(CheckpointError, match="b: its numbers are not those that were saved"):
        saved.load(TREE)


def reseal(generation, change=lambda content: None):
    """Write a manifest that agrees with the files, as an attacker would."""
    path = generation / "manifest.json"
    content = json.loads(path.read_text("utf-8"))["content"]
    for name, one in content["files"].items():
        data = (generation / name).read_bytes()
        one.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    change(content)
    path.write_text(_files.seal(content), encoding="utf-8")


HOSTILE = {
    "shape": ({"shape": [1 << 40], "chunks": [1 << 40]}, "stored as"),
    "chunks": ({"chunks": [1 << 40]}, "stored as"),
    "objects": ({"dtype": "|O", "filters": [{"id": "pickle"}]}, "stored as"),
    "records": ({"dtype": [["a", "<f4", [1 << 40]]]}, "stored as"),
    "bomb": ({"compressor": {"id": "zstd", "level": 1}}, "stored as"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_array_that_is_not_as_like_needs_it_is_never_opened(saved, kind, monkeypatch):
    monkeypatch.setattr(_orbax, "_checkpointer", lambda ocp: pytest.fail("was opened"))
    change, reason = HOSTILE[kind]
    for generation in generations(saved):
        path = generation / "arrays" / "0" / ".zarray"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), encoding="utf-8")
        reseal(generation)
    with pytest.raises(CheckpointError, match=reason):
        saved.load(TREE)


def more(content):
    content["files"]["arrays/manifest.ocdbt"] = {"size": 0, "sha256": ""}


FORGED = {
    "format": (lambda c: c.update(format="other"), "expected the format"),
    "files": (more, "arrays/manifest.ocdbt: missing"),
    "key": (lambda c: c["leaves"][0].update(key="rbg"), None),
    "no leaves": (lambda c: c.pop("leaves"), "KeyError: 'leaves'"),
    "list": (lambda c: c.update(files=[]), "AttributeError"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_manifest_is_refused_or_harmless(saved, kind):
    change, reason = FORGED[kind]
    for generation in generations(saved):
        reseal(generation, change)
    if reason is None:
        assert bits(saved.load(TREE).tree) == bits(TREE)
        return
    with pytest.raises(CheckpointError, match=reason):
        saved.load(TREE)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 2_000_000, "{}", "\x00", '"a"'])
def test_a_manifest_of_rubbish_is_refused(saved, text):
    for generation in generations(saved):
        (generation / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"manifest.json (cannot be read|is longer than)"):
        saved.load(TREE)


@pytest.mark.parametrize(("was", "is_now"), [('"step": 2', '"step": 3'), ("{", "{ ")])
def test_a_changed_manifest_is_refused(saved, was, is_now):
    _, new = generations(saved)
    text = (new / "manifest.json").read_text("utf-8")
    (new / "manifest.json").write_text(text.replace(was, is_now), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"manifest.json is not what was written"):
        assert saved.load(TREE).step == 1


def test_files_that_do_not_belong_there_are_refused(saved):
    old, new = generations(saved)
    (new / "arrays" / "code.py").write_text("raise SystemExit", encoding="utf-8")
    (old / "arrays" / "0" / "0").unlink()
    (old / "arrays" / "0" / "0").symlink_to("/dev/zero")
    refusal = r"code\.py does not belong there.*0 is not a regular file"
    with pytest.raises(CheckpointError, match=refusal):
        saved.load(TREE)


def test_more_bytes_than_the_tree_needs_are_not_read(saved):
    for generation in generations(saved):
        (generation / "arrays" / "_METADATA").write_bytes(b" " * (1 << 21))
        reseal(generation)
    with pytest.raises(CheckpointError, match="bytes are more than like has room for"):
        saved.load(TREE)


def test_a_link_to_an_intact_file_is_refused_too(saved, tmp_path):
    """What it leads to could change after it was looked at."""
    _, new = generations(saved)
    file = new / "arrays" / "0" / "0"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="0 is not a regular file"):
        assert saved.load(TREE).step == 1


LIKES = {
    "dtype": (TREE | {"w": np.zeros((2, 3), np.float16)}, r"saved w float32\[2, 3\].*w float16"),
    "shape": (TREE | {"w": np.zeros((3, 2), np.float32)}, r"like has w float32\[3, 2\]"),
    "more": (TREE | {"c": np.ones(1)}, r"like has c float64\[1\]"),
    "fewer": ({"w": TREE["w"]}, r"saved b float32\[2\]; like has fewer leaves"),
    "none": (TREE | {"b": None}, r"saved b float32\[2\]; like has b none"),
}


@pytest.mark.parametrize("kind", LIKES)
def test_a_tree_unlike_the_one_that_was_saved_is_refused_with_the_difference(saved, kind):
    like, reason = LIKES[kind]
    with pytest.raises(CheckpointError, match=reason):
        saved.load(like)


def test_keys_of_another_kind_are_refused(tmp_path):
    Checkpoints(tmp_path, {}).save(1, jax.random.key(0))
    refusal = r"saved the tree key<fry>\[\]; like has the tree key<rbg>"
    with pytest.raises(CheckpointError, match=refusal):
        Checkpoints(tmp_path, {}).load(jax.random.key(0, impl="rbg"))


def test_a_changed_configuration_is_refused_with_the_difference(saved):
    now = Checkpoints(saved.folder, {"lr": 0.2, "cell": {"name": "GRU"}, "new": None})
    difference = r"cell.sizes: \[3, 4\] -> absent; lr: 0.1 -> 0.2; new: absent -> null; "
    with pytest.raises(CheckpointError, match=difference):
        now.load(TREE)


@pytest.mark.parametrize("other", [1.0, True, "1", None])
def test_a_configuration_of_another_type_is_another(tmp_path, other):
    Checkpoints(tmp_path, {"a": 1, "b": float("nan")}).save(1, TREE)
    assert Checkpoints(tmp_path, {"a": 1, "b": float("nan")}).load(TREE).step == 1
    with pytest.raises(CheckpointError, match="a: 1 -> "):
        Checkpoints(tmp_path, {"a": other, "b": float("nan")}).load(TREE)


def test_a_full_disk_raises_at_once_and_the_generation_before_stays(saved, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(_files, "sync_all", full)
    refusal = rf"{saved.folder}.*step 3 .*No space left.*as it was"
    with pytest.raises(CheckpointError, match=refusal):
        saved.save(3, TREE)
    assert len(list(saved.folder.iterdir())) == 3  # two generations and the lock
    assert saved.load(TREE).step == 2


def test_a_second_run_is_refused_naming_the_first(saved):
    second = Checkpoints(saved.folder, CONFIG)
    with saved.lock():
        saved.save(3, TREE)
        for forbidden in (second.lock().__enter__, second.delete, lambda: second.save(4, TREE)):
            with pytest.raises(RunLocked, match=f"{saved.folder}: .* pid {os.getpid()} on "):
                forbidden()
        assert second.load(TREE).step == 3  # looking is free
    second.save(4, TREE)


def test_a_lock_is_freed_when_a_run_fails(saved):
    with pytest.raises(ZeroDivisionError), saved.lock():
        raise ZeroDivisionError
    with Checkpoints(saved.folder, CONFIG).lock():
        pass


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match="run: cannot be locked"):
        Checkpoints(tmp_path / "run", {}).save(1, TREE)


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


PATHS = [
    "a%20b",
    "a?b#c",
    "a[b]*",
    " a ",
    "ünï 漢",
    "a:b",
    "..a",
    "~",
    "a'b",
    "x" * 250,
    "y" * 250 + "/z",
]


@pytest.mark.parametrize("name", PATHS, ids=range(len(PATHS)))
def test_a_folder_may_have_any_name(tmp_path, name):
    Checkpoints(tmp_path / name, {}).save(1, {"w": TREE["w"]})
    loaded = Checkpoints(tmp_path / name, {}).load({"w": TREE["w"]})
    assert loaded.tree["w"].tobytes() == TREE["w"].tobytes()
    assert [path.name for path in tmp_path.iterdir()] == [name.split("/")[0]]


def test_a_backslash_and_a_url_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="expected a path without a backslash"):
        Checkpoints(tmp_path / "a\\b", {}).save(1, TREE)
    for url in ("s3://bucket/a", "gs://bucket/a", "file:///a"):
        with pytest.raises(
            ValueError, match=f"folder: expected a folder of this machine.*{url[:4]}"
        ):
            Checkpoints(url, {})
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_and_a_link_stay_where_they_are(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other")
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints("link/run", {})
    monkeypatch.chdir("/")
    checkpoints.save(1, {"w": TREE["w"]})
    assert (tmp_path / "other/run/generation-00000000/manifest.json").exists()
    assert checkpoints.load({"w": TREE["w"]}).step == 1


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
    with pytest.raises(CheckpointError, match=r"step 3 could not be written .*not on the disk as"):
        saved.save(3, TREE)
    assert saved.load(TREE).step == 2


NUMBERS, JSON = "w: expected an array of numbers", "about: expected values that JSON can hold"
REFUSED = {
    "text": ({"w": "text"}, {}, TypeError, NUMBERS),
    "objects": ({"w": np.array([{}])}, {}, TypeError, NUMBERS),
    "big-endian": ({"w": np.ones(1, ">f4")}, {}, TypeError, NUMBERS),
    "array in about": (TREE, {"a": np.ones(2)}, TypeError, JSON),
    "long about": (TREE, {"a": "a" * 300_000}, ValueError, "about: expected at most 262144 bytes"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_checkpoint_cannot_hold_is_refused_before_anything_is_written(tmp_path, kind):
    tree, about, error, reason = REFUSED[kind]
    with pytest.raises(error, match=reason):
        Checkpoints(tmp_path, {}).save(1, tree, about)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_checked(tmp_path):
    with pytest.raises(ValueError, match="keep: expected an int >= 1, got 0"):
        Checkpoints(tmp_path, {}, keep=0)
    with pytest.raises(TypeError, match="config: expected a dict"):
        Checkpoints(tmp_path, None)
    with pytest.raises(ValueError, match="step: expected an int >= 0, got -1"):
        Checkpoints(tmp_path, {}).save(-1, TREE)


def test_without_orbax_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    for act in (lambda: saved.save(3, TREE), lambda: saved.load(TREE)):
        with pytest.raises(ImportError, match=r'^orbax.*pip install "seqcells\[sweep\]"$'):
            act()


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


def test_the_public_names_are_these():
    assert set(_checkpoint.__all__) == {"CheckpointError", "Checkpoints", "RunLocked", "Saved"}
