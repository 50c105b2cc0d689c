"""Folders: one run at a time, under any name."""

import os

import pytest

from seqcells._checkpoint import CheckpointError, Checkpoints, RunLocked
from tests.support.checkpoints import CONFIG, TREE


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
        with pytest.raises(ValueError, match=f"folder: expected a local folder.*{url[:4]}"):
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
