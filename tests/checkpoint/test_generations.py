"""Generations: the newest is loaded, and one is on the disk in full before it has its name."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from seqcells import _checkpoint
from seqcells._checkpoint import CheckpointError, Checkpoints, _files
from tests.support.checkpoints import CONFIG, TREE, bits, generations


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


def test_a_full_disk_raises_at_once_and_the_generation_before_stays(saved, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(_files, "sync_all", full)
    refusal = rf"{saved.folder}.*step 3 .*No space left.*as it was"
    with pytest.raises(CheckpointError, match=refusal):
        saved.save(3, TREE)
    assert len(list(saved.folder.iterdir())) == 3  # two generations and the lock
    assert saved.load(TREE).step == 2


def test_the_public_names_are_these():
    assert set(_checkpoint.__all__) == {"CheckpointError", "Checkpoints", "RunLocked", "Saved"}
