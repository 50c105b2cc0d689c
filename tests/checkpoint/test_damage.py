"""Damaged and hostile files are never used."""

import hashlib
import json

import numpy as np
import pytest

from seqcells._checkpoint import CheckpointError, _files, _orbax
from tests.support.checkpoints import TREE, bits, generations


def damage(generation):
    file = generation / "arrays" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)


def test_a_flipped_bit_falls_back_with_a_warning_that_names_both(saved):
    old, new = generations(saved)
    damage(new)
    with pytest.warns(UserWarning, match=f"step 1 of {old}, because {new}: arrays/0/0 is not what"):
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
    with pytest.raises(CheckpointError, match="b: its values differ from those that were saved"):
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
