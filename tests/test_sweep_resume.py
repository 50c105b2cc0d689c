"""Laws of a sweep that is killed: the same bits, no trial lost, none twice."""

import functools
import json
import os
import signal
import subprocess
import sys

import jax
import pytest

from seqcells import sweep
from seqcells._checkpoint import Checkpoints, RunLocked
from seqcells.sweep import _store
from tests.sweeps import compile_once, make, plain, space

SWEEP = {"steps": 40, "segment": 10, "chunk": 4, "halving": sweep.Halving(20), "save_seconds": 0}


@pytest.fixture(autouse=True)
def _once(monkeypatch):
    compile_once(monkeypatch)


def run(out, some=None, **changed):
    return sweep.run(make, some or space(boom=(-1, 25)), out=out, **(SWEEP | changed))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def history(result):
    return sorted(map(str, result.history))


class Killed(BaseException):
    """The end of a process."""


class Instants:
    """Every call that changes the folder, cut short, in the middle of or after the call `at`."""

    def __init__(self, monkeypatch, at=None):
        self.at, self.seen, self.dead = at, 0, False
        for place, name in ((_store, "_append"), (_store, "write_whole")):
            monkeypatch.setattr(place, name, self.around(getattr(place, name)))
        for name in ("save", "delete"):
            monkeypatch.setattr(Checkpoints, name, self.around(getattr(Checkpoints, name)))

    def around(self, call):
        @functools.wraps(call)
        def cut(*args, **named):
            if self.dead:
                raise Killed
            for moment in (lambda: None, lambda: half(call, args), lambda: call(*args, **named)):
                if moment() is False:
                    continue
                self.seen += 1
                if self.seen == self.at:
                    self.dead = True
                    raise Killed

        return cut


def half(call, args):
    """Write half of what is to be appended; only that can be half done.

    Returns:
        False if there is no half, so this is no moment.
    """
    if call.__name__ != "_append" or not args[1]:
        return False
    text = _store._lines(args[1])
    before = args[0].read_bytes() if args[0].exists() else b""
    half.undo = lambda: args[0].write_bytes(before)
    args[0].write_bytes(before + text[: len(text) * 2 // 3].encode())
    return True


def test_killed_at_any_instant_it_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        instants = Instants(patch)
        patch.setattr(sys.modules[__name__], "half", lambda *_: False)
        run(tmp_path / "counted")
    assert instants.seen > 60
    for at in range(1, 10**6):
        out = tmp_path / str(at)
        with monkeypatch.context() as patch:
            instants = Instants(patch, at)
            try:
                run(out)
            except Killed:
                pass
            else:
                break
        resumed = run(out)
        assert plain(resumed.rows) == plain(whole.rows), at
        assert history(resumed) == history(whole), at
        assert len(lines(out / "trials.jsonl")) == len(whole.rows)
        assert len(lines(out / "metrics.jsonl")) == len(whole.history)
