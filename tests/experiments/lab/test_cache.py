"""Measuring group by group: what is kept, and what a change measures again."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from experiments.lab import BadInput, cache, read_about


class Fake:
    """A group of a study that counts how often it was measured."""

    steps = 2

    def __init__(self, name: str, error: BaseException | None = None) -> None:
        self.name, self.error, self.measured = name, error, 0

    def part(self, out: Path) -> cache.Part:
        columns = {"results": ["who"]}
        return cache.Part(out / "parts", self.name, {"name": self.name}, columns, ())

    def measure(self, progress):
        self.measured += 1
        progress(1)
        if self.error is not None:
            raise self.error
        return {"results": [{"who": self.name}]}


def test_what_is_finished_outlives_an_interruption(tmp_path):
    first, second = Fake("first"), Fake("second", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        cache.measure([first, second], tmp_path, Console(quiet=True), {"command": "x"})
    assert (tmp_path / "results.csv").read_text("utf-8").split() == ["who", "first"]
    assert read_about(tmp_path)["unfinished"] == ["second"]
    second.error = None
    cache.measure([first, second], tmp_path, Console(quiet=True), {"command": "x"})
    assert (first.measured, second.measured) == (1, 2)
    assert (tmp_path / "results.csv").read_text("utf-8").split() == ["who", "first", "second"]
    about = read_about(tmp_path)
    assert (about["command"], about["unfinished"], len(about["made_with"])) == ("x", [], 1)


def test_a_folder_of_parts_that_takes_no_file_is_named_before_training(tmp_path):
    (tmp_path / "parts").write_text("in the way", encoding="utf-8")
    group = Fake("first")
    with pytest.raises(BadInput, match=r"^out: expected a folder .*parts"):
        cache.measure([group], tmp_path, Console(quiet=True), {})
    assert group.measured == 0


def test_a_part_is_of_its_settings_and_of_its_code_and_whole(tmp_path):
    code, package = tmp_path / "code.py", tmp_path / "package"
    (package / "sub").mkdir(parents=True)
    (package / "sub" / "a.py").write_text("1", encoding="utf-8")
    code.write_text("1", encoding="utf-8")

    def part(steps=1):
        cache.fingerprint.cache_clear()
        paths = (code, package)
        return cache.Part(tmp_path, "part", {"steps": steps}, {"results": ["a"]}, paths)

    part().save({"results": [{"a": 1}, {"a": 2}]})
    assert part().load()["rows"] == {"results": [{"a": 1}, {"a": 2}]}
    assert part(steps=2).load() is None
    whole = part().path.read_text("utf-8")
    no_table = json.dumps({**json.loads(whole), "rows": {"gradients": []}})
    no_column = whole.replace('"a": 1', '"b": 1')
    bare = '{"rows": {"results": []}}'  # without what it was measured with
    for text in (whole[:-9], "[]", "{}", bare, '{"rows": []}', no_table, no_column, "\xff"):
        part().path.write_text(text, encoding="latin1")
        assert part().load() is None, text
    part().path.write_text(whole, encoding="utf-8")
    for file in (code, package / "sub" / "a.py"):
        file.write_text("2", encoding="utf-8")
        assert part().load() is None
        file.write_text("1", encoding="utf-8")
        assert part().load() is not None
