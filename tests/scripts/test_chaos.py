"""The faults of `scripts.chaos` in their short form, and signals as a flag."""

import os
import signal
import threading

import pytest

from seqcells import _signals

for package in ("orbax.checkpoint", "tyro", "rich"):
    pytest.importorskip(package)
from scripts.chaos.__main__ import ROWS  # noqa: E402
from scripts.chaos.trials import Options, Trials  # noqa: E402

COUNTS = {"kill": 1, "signals": 2, "full": 2, "flip": 16, "twice": 1, "changed": 8}
COUNTS |= {"diverge": 1, "resume": 1, "dead": 1, "hung": 1, "workers": 1, "search": 1}
SLOW = tuple(row for row in COUNTS if row not in ("flip", "changed"))


@pytest.mark.parametrize(
    "row", [pytest.param(r, marks=[pytest.mark.slow] * (r in SLOW)) for r in COUNTS]
)
def test_nothing_is_lost(tmp_path, row, capsys):
    count = COUNTS[row]
    number, function = next((n, f) for n, f in ROWS.items() if f.__name__ == row)
    assert function(Options(out=tmp_path, count=count, seed=1)), capsys.readouterr().out
    assert f"row {number}: tried {count}, passed {count}\n" in capsys.readouterr().out


def test_a_row_with_a_failed_trial_fails_and_the_same_command_continues_it(tmp_path, capsys):
    first = Trials(4, 3, Options(out=tmp_path))
    assert list(first) == [0, 1, 2]
    first.add(True)
    first.add(False, why="lost")
    again = Trials(4, 3, Options(out=tmp_path))
    assert list(again) == [2]
    assert not again.report()
    again.add(True)
    assert not again.report()
    assert "row 4: tried 3, passed 2" in capsys.readouterr().out
    late = Trials(4, 3, Options(out=tmp_path, fresh=True, minutes=0))
    assert list(late) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_is_a_flag_and_the_second_is_as_before(number, code):
    received = []
    before = signal.signal(number, lambda *_: received.append(number))
    try:
        with _signals.deferred() as stop:
            assert not stop
            assert stop.exit_code == 0
            os.kill(os.getpid(), number)
            assert stop
            assert (stop.exit_code, received) == (code, [])
            os.kill(os.getpid(), number)
            assert received == [number]
        os.kill(os.getpid(), number)
        assert received == [number, number]
    finally:
        signal.signal(number, before)


def test_elsewhere_than_in_the_main_thread_the_flag_stays_down():
    seen = []

    def work():
        with _signals.deferred() as stop:
            seen.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
