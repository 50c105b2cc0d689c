"""The faults of `scripts/chaos.py` in their short form, and signals as a flag."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from seqcells import _signals

for package in ("orbax.checkpoint", "tyro", "rich"):
    pytest.importorskip(package)
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
chaos = pytest.importorskip("chaos")
tally = pytest.importorskip("_tally")

TRIALS = {"kill": 1, "signals": 2, "full": 2, "flip": 16, "twice": 1, "changed": 8}
TRIALS |= {"diverge": 1, "resume": 1, "dead": 1, "hung": 1}
SLOW = ("signals", "twice", "diverge", "resume", "dead", "hung")


@pytest.mark.parametrize(
    "row", [pytest.param(r, marks=[pytest.mark.slow] * (r in SLOW)) for r in TRIALS]
)
def test_nothing_is_lost(tmp_path, row, capsys):
    options = chaos.Options(out=tmp_path, count=TRIALS[row], seed=1)
    number = {row.__name__: number for number, row in chaos.ROWS.items()}[row]
    assert getattr(chaos, row)(options), capsys.readouterr().out
    count = TRIALS[row]
    assert f"row {number}: tried {count}, survived {count}\n" in capsys.readouterr().out


def test_a_row_in_which_one_was_lost_fails_and_the_same_command_goes_on(tmp_path, capsys):
    first = tally.Tally(4, 3, chaos.Options(out=tmp_path))
    assert list(first.trials()) == [0, 1, 2]
    first.add(True)
    first.add(False, why="lost")
    again = tally.Tally(4, 3, chaos.Options(out=tmp_path))
    assert list(again.trials()) == [2]
    assert not again.report()
    again.add(True)
    assert not again.report()
    assert "row 4: tried 3, survived 2" in capsys.readouterr().out
    late = tally.Tally(4, 3, chaos.Options(out=tmp_path, fresh=True, minutes=0))
    assert list(late.trials()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_is_a_flag_and_the_second_is_as_before(number, code):
    came = []
    before = signal.signal(number, lambda *_: came.append(number))
    try:
        with _signals.deferred() as stop:
            assert not stop
            assert stop.exit_code == 0
            os.kill(os.getpid(), number)
            assert stop
            assert (stop.exit_code, came) == (code, [])
            os.kill(os.getpid(), number)
            assert came == [number]
        os.kill(os.getpid(), number)
        assert came == [number, number]
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
