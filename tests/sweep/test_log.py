"""Logs and their copies in Parquet: what is read is always what the log says."""

import itertools
import json
import math
import random
import sys

import pytest

from seqcells import sweep
from seqcells.sweep import _files, _log
from seqcells.sweep._columns import Lines
from seqcells.sweep._files import append
from seqcells.sweep._lines import METRICS, TRIAL
from seqcells.sweep._log import Log
from tests.support.sweeps import SPACE, Killed, run

pytest.importorskip("pyarrow")
NUMBERS = [0.0, -0.0, 5e-324, 0.1, 1 / 3, -1.7e308, 2.0**-1074, math.nan, math.inf, 1e16, 7.0]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Compact logs of any length, and parse a few lines at a time."""
    monkeypatch.setattr(_log, "LEAST", 0)
    monkeypatch.setattr(_log, "_PARSED", 200)


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "metrics.jsonl", METRICS)


def rows(count, seed=0):
    """Lines of several trials, of which some lack a metric, or have one that others lack."""
    rng = random.Random(seed)
    names = ["loss", "accuracy", "ü"]
    return [
        {
            "id": f"{i % 5:012x}",
            "step": i,
            "metrics": {n: rng.choice(NUMBERS) for n in names if rng.random() < 0.7},
        }
        for i in range(count)
    ]


def one_by_one(path):
    """Read a log without the code of the library: null is NaN."""
    lines = [json.loads(line) for line in path.read_bytes().decode().split("\n")[:-1]]
    for line in lines:
        metrics = line["metrics"].items()
        line["metrics"] = {n: math.nan if v is None else float(v) for n, v in metrics}
    return lines


def bits(rows):
    """Rows as text that distinguishes all floats, without the order of metrics."""
    return [str({**row, "metrics": sorted(row["metrics"].items())}) for row in rows]


def parsed(monkeypatch):
    """Note the lines that are parsed, which are not taken from the copy."""
    seen, parse = [], _log.parse
    monkeypatch.setattr(
        _log, "parse", lambda lines, *rest: seen.extend(lines) or parse(lines, *rest)
    )
    return seen


def test_a_log_is_read_to_the_bit_with_and_without_its_copy(log, monkeypatch):
    seen = parsed(monkeypatch)
    for seed in range(4):  # after no line, then a copy of the first, and so on
        append(log.path, rows(40, seed))
        with log.path.open("ab") as file:  # as others may write it
            file.write(b' {"id": "x", "extra": [1], "step": 3, "metrics": {"loss": 2}}\r\n')
        seen.clear()
        assert bits(log.read()) == bits(
            {name: row[name] for name in METRICS} for row in one_by_one(log.path)
        )
        assert len(seen) == 41
        log.compact()
    seen.clear()
    assert len(log.read()) == 4 * 41
    assert not seen


def test_rows_are_read_to_the_bit_with_their_other_columns(tmp_path):
    log = Log(tmp_path / "trials.jsonl", TRIAL)
    status = itertools.cycle(["done", "pruned", "diverged"])
    append(
        log.path,
        [r | {"status": next(status), "steps": r["step"], "seconds": 0.1} for r in rows(9)],
    )
    log.compact()
    read = [{name: row[name] for name in TRIAL} for row in one_by_one(log.path)]
    assert bits(log.read()) == bits(read)


def moments(monkeypatch, at):
    """Kill a compaction at one of its moments; a part that was written stays."""
    seen = itertools.count(1)

    def cut(place, name):
        call = getattr(place, name)

        def killed(*args, **named):
            if next(seen) == at:
                raise Killed
            result = call(*args, **named)
            if next(seen) == at:
                raise Killed
            return result

        monkeypatch.setattr(place, name, killed)

    for place, name in ((_files.tempfile, "mkstemp"), (_files.os, "fsync"), (_files.os, "replace")):
        cut(place, name)
    monkeypatch.setattr(_files.Path, "unlink", lambda *_, **__: None)


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("before", [0, 20])
def test_a_compaction_that_is_killed_loses_nothing(log, monkeypatch, at, before):
    """Before, in and after the temporary file, and before and after it gets its name."""
    append(log.path, rows(before))
    log.compact()
    append(log.path, rows(20, 1))
    with monkeypatch.context() as patch:
        moments(patch, at)
        with pytest.raises(Killed):
            log.compact()
    for seed in (2, 3):
        again = Log(log.path, METRICS)
        assert bits(again.read()) == bits(one_by_one(log.path))
        append(log.path, rows(20, seed))
        assert bits(again.read()) == bits(one_by_one(log.path))
        again.compact()


def test_a_copy_of_a_log_that_was_changed_since_is_not_believed(log, monkeypatch):
    append(log.path, rows(20))
    log.compact()
    data, seen = log.path.read_bytes(), parsed(monkeypatch)
    changed = [
        data.replace(b'"step": 3', b'"step": 4'),  # a line in it
        b"".join(data.splitlines(keepends=True)[1:]),  # one line fewer
        b"",
        data.replace(b'"step": 3,', b'"step" : 3,'),  # the same numbers in other bytes
    ]
    for text in changed:
        log.path.write_bytes(text)
        seen.clear()
        assert bits(log.read()) == bits(one_by_one(log.path))
        assert len(seen) == text.count(b"\n")
    log.path.unlink()
    assert list(log.read()) == []


def test_a_damaged_copy_is_not_believed(log):
    append(log.path, rows(20))
    log.compact()
    copy, expected = log.copy.read_bytes(), bits(log.read())
    for i in range(0, len(copy), len(copy) // 60):
        log.copy.write_bytes(copy[:i] + bytes([copy[i] ^ 255]) + copy[i + 1 :])
        assert bits(log.read()) == expected, i
        log.copy.write_bytes(copy[:i])
        assert bits(log.read()) == expected, i
    Log(log.path, METRICS).compact()
    assert log.copy.read_bytes() == copy


def test_a_damaged_line_is_named_by_its_number_in_the_log(log):
    append(log.path, rows(20))
    log.compact()
    append(log.path, rows(5))
    with log.path.open("ab") as file:
        file.write(b'{"id": "x", "step": 99999999999999999999, "metrics": {}}\n')
    with pytest.raises(ValueError, match=r"got line 26 of .* with 9{20} for step; put back"):
        log.read()
    with pytest.raises(ValueError, match="line 26"):
        log.compact()


def test_what_a_kill_left_of_a_line_is_dropped_and_not_compacted(log):
    append(log.path, rows(20))
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + b'{"id": "0000')
    log.compact()
    assert bits(log.read()) == bits(rows(20)[:0]) + bits(one_by_one(log.path))
    assert log.path.read_bytes() != whole
    log.read(truncate=True)
    assert log.path.read_bytes() == whole
    append(log.path, rows(1))
    assert bits(log.read()) == bits(one_by_one(log.path))


def test_a_line_that_is_written_while_it_is_read_is_not_taken_for_a_damaged_one(log, monkeypatch):
    """The reader sees a part of the line; before it looks again, the rest is there."""
    append(log.path, rows(3))
    whole, parse = log.path.read_bytes(), _log.parse
    log.path.write_bytes(whole[:-9])

    def parse_slowly(lines, *rest):
        log.path.write_bytes(whole)
        return parse(lines, *rest)

    monkeypatch.setattr(_log, "parse", parse_slowly)
    assert len(log.read()) == 2
    assert len(log.read()) == 3


def test_metrics_are_floats_and_ids_may_be_any_text(log):
    """As others may write them."""
    log.path.write_text('{"id": "\\ud800", "step": 1, "metrics": {"loss": 1}}\n', encoding="utf-8")
    for _ in range(2):
        (row,) = log.read()
        assert row["id"] == "\ud800"
        assert type(row["metrics"]["loss"]) is float
        log.compact()  # no copy can be made
    assert not log.copy.exists()


def test_all_compactions_of_a_growing_log_take_time_in_proportion_to_it(log, monkeypatch):
    sizes, write = [], _log.write_whole
    monkeypatch.setattr(_log, "write_whole", lambda *a: sizes.append(len(log.read())) or write(*a))
    for i in range(64):
        append(log.path, rows(4, i))
        log.compact(growth=1.0)
    assert 4 < len(sizes) < 9
    log.compact()
    log.compact()  # nothing is new
    assert sizes[-1] == 256
    assert len(set(sizes)) == len(sizes)
    assert sum(sizes[:-1]) <= 2 * 256


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ModuleNotFoundError()])
def test_without_a_copy_a_log_is_read_all_the_same(log, monkeypatch, error):
    """The disk is full, or pyarrow is missing."""

    def fails(*_):
        raise error

    append(log.path, rows(20))
    if isinstance(error, OSError):
        monkeypatch.setattr(_files.os, "fsync", fails)
    else:
        log.compact()
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    log.compact()
    assert bits(log.read()) == bits(one_by_one(log.path))


def test_lines_are_a_sequence_of_rows(log):
    some = rows(9)
    lines = Lines.of(some, METRICS)
    assert lines[3] == some[3]
    assert lines[-1]["step"] == 8
    assert lines[1:6:2] == tuple(some[1:6:2])
    assert str(lines[:0]) == "()"
    assert repr(lines[:2]) == repr(tuple(lines)[:2])
    assert lines == [*lines] == lines
    assert lines != some[:8]
    assert lines != rows(9, 1)
    with pytest.raises(IndexError):
        lines[9]
    whole = Lines.of([{"id": "x", "step": 1, "metrics": {"loss": 1}}], METRICS)
    assert type(whole[0]["metrics"]["loss"]) is float
    repeated = Lines.join([lines, Lines.of(some[4:] + rows(12, 1)[9:], METRICS)])
    assert [line["step"] for line in repeated.first("id", "step")] == [*range(12)]
    assert [line["step"] for line in repeated.first("id")] == [*range(5)]
    assert sorted(line["step"] for line in lines.last()) == [*range(4, 9)]


@pytest.mark.usefixtures("once")
def test_a_finished_sweep_is_read_from_its_copies(tmp_path, monkeypatch):
    result = run(tmp_path)
    seen = parsed(monkeypatch)
    read = sweep.load(tmp_path, SPACE)
    assert (str(read.rows), str(read.history)) == (str(result.rows), str(result.history))
    assert not seen
    for copy in tmp_path.glob("*.parquet"):
        copy.unlink()
    read = sweep.load(tmp_path, SPACE)
    assert (str(read.rows), str(read.history)) == (str(result.rows), str(result.history))
    assert len(seen) == len(result.rows) + len(result.history)


@pytest.mark.parametrize("each", [1, 3, 40])
def test_the_last_lines_are_read_from_the_end(log, each):
    every = [{**row, "step": i // each} for i, row in enumerate(rows(6 * each))]
    append(log.path, every)
    with log.path.open("a", encoding="utf-8") as file:
        file.write('{"id": "0')  # is being written
    for step in range(7):
        assert bits(log.last("step", step)) == bits(
            [r for r in one_by_one(log.path) if r["step"] == step]
        )
