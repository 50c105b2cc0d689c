"""Batches trained by workers of an executor, whatever it is: submitted, watched and collected."""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

from seqcells import _check
from seqcells._types import Json
from seqcells.sweep import _lease
from seqcells.sweep._driver import LOOK, Standing, Sweep, jobs, log, width_of
from seqcells.sweep._job import Job, buckets
from seqcells.sweep._lines import Row
from seqcells.sweep._part import PartFolder
from seqcells.sweep._plan import Plan
from seqcells.sweep._space import Trial
from seqcells.sweep._store import Folder, Memory
from seqcells.sweep._worker import DRIVER_FILE, Outcome, Trainer, Work, switches

PATIENCE = 3  # times that a batch is sent again without progress
AUTO = 32  # trials of a batch, at most, unless the user gives a number
PAUSE = 0.02  # seconds between two looks at the futures
GRACE = 10.0  # seconds that workers have to return, after they have saved
SPAWN = (
    "ProcessPoolExecutor(n, mp_context=multiprocessing.get_context('spawn')), or sc.sweep."
    "processes(n)"
)


class Executor(Protocol):
    """Whatever runs a function elsewhere, such as an executor of `concurrent.futures`."""

    def submit(self, f: Callable[..., Any], /, *args: Any) -> Any:
        """Have `f(*args)` run; return a future with `done`, `result` and `cancel`."""
        ...


class WorkersLost(RuntimeError):
    """The workers of an executor have died, and it starts no others."""


def check(executor: object, plan: Plan, trials: Sequence[Trial], store: Memory) -> None:
    """Raise unless an executor can train these trials."""
    if not callable(getattr(executor, "submit", None)):
        got = _check.describe_one(executor)
        raise TypeError(f"executor: expected an object with submit(f, *args), got {got}")
    context = getattr(executor, "_mp_context", None) or getattr(executor, "_context", None)
    method = getattr(context, "get_start_method", multiprocessing.get_start_method)()
    if context is not None and method == "fork":
        raise ValueError(
            f"executor: expected a pool that spawns its processes, got one that forks, in which "
            f"JAX hangs; write {SPAWN}"
        )
    if not isinstance(store, Folder):
        raise ValueError("out: expected a folder that all workers see, got None")
    _check_pickle("make", plan.make)
    if context is not None and _is_typed_in(plan.make):
        raise TypeError(
            f"make: expected a function of a module, which a new process can import, got "
            f"{_check.describe_one(plan.make)} of an interactive session; write it into a file"
        )
    for bucket in buckets(trials):
        for name, value in bucket[0].static.items():
            _check_pickle(name, value)


def _check_pickle(name: str, value: object) -> None:
    try:
        ForkingPickler.dumps(value)
    except Exception as error:  # pickle raises errors of many types
        raise TypeError(
            f"{name}: expected a value that pickle can send to a worker, such as a function of a "
            f"module, got {_check.describe_one(value)} ({error}); define it at the top of a module"
        ) from None


def _is_typed_in(make: object) -> bool:
    """Whether a function was typed into a notebook or a shell, where no file has it."""
    while isinstance(make, functools.partial):
        make = make.func
    main = sys.modules["__main__"]
    return getattr(make, "__module__", "") == "__main__" and not hasattr(main, "__file__")


def run_there(sweep: Sweep, executor: Executor, in_flight: int) -> None:
    """Have the batches trained by the workers of an executor.

    Args:
        sweep: what is trained; its store is a folder.
        executor: submits a function; `check` has accepted it.
        in_flight: batches that are submitted at a time, at most.

    Raises:
        WorkersLost: the workers have died, and the executor starts no others.
        Exception: what a task has raised in a worker.
    """
    assert isinstance(sweep.store, Folder)
    batches, left = _Batches(sweep, sweep.store, executor), _jobs(sweep)
    try:
        while not sweep.stop():
            room = max(0, in_flight - len(batches.open))
            batches.open += map(batches.of, itertools.islice(left, room))
            if not batches.open:
                return
            batches.look()
            time.sleep(PAUSE)
    finally:
        if batches.open:
            batches.stop()
    batches.collect_trained()


def _jobs(sweep: Sweep) -> Iterator[Job]:
    """Yield the batches that are left; widths do not depend on the devices of this process."""
    begun = sweep.store.begun()
    for trials in buckets(sweep.trials):
        width = functools.partial(width_of, sweep.plan, sweep.store, trials, 1, _fit)
        yield from jobs(sweep.store, trials, begun, width)


def _fit(width: int, fixed: bool) -> int:
    """Return the width of batches, which workers compare with their memory."""
    return width if fixed else min(width, AUTO)


class _Sent:
    """A batch that a worker trains, or that waits to be sent."""

    def __init__(self, job: Job, part: PartFolder) -> None:
        self.job, self.part = job, part
        self.future: Any = None  # None while it waits
        self.since = 0.0  # when it may be sent, a time of `time.monotonic`
        self.times = 0  # that it was sent
        self.vain = 0  # times that it came back without progress
        self.saved: list[str] = []  # the checkpoints that it had then
        self.shown: Json = {}  # what its worker has last shown
        self.said = False  # that another worker holds it

    @property
    def training(self) -> int:
        """The steps that its trials alive have taken in all, as last shown."""
        return self.shown.get("step", 0) * self.shown.get("alive", 0)

    def rows(self) -> list[Row]:
        """Return a row of each trial that was trained in the last segment shown."""
        return self.job.rows(self.part.history_at(self.shown["step"]))

    def came_back(self) -> int:
        """Return how often it has come back untrained since it last made progress."""
        saved = sorted(path.name for path in self.part.folder.glob("checkpoints/*/generation-*"))
        self.vain = 1 + self.vain * (saved == self.saved)
        self.saved, self.future = saved, None
        return self.vain


class _Batches:
    """The batches that are sent, or wait because another worker holds them."""

    def __init__(self, sweep: Sweep, store: Folder, executor: Executor) -> None:
        self.sweep, self.store, self.executor = sweep, store, executor
        self.trainer, self.switches = Trainer(), switches()
        self.open: list[_Sent] = []
        self.next_look = 0.0

    def of(self, job: Job) -> _Sent:
        """Return a batch that is to be sent."""
        return _Sent(job, self.store.part(job))

    def look(self) -> None:
        """Send what waits, collect what is trained, and report what has got further."""
        for one in list(self.open):
            if one.future is None and time.monotonic() >= one.since:
                self._send(one)
            elif one.future is not None and one.future.done():
                self._take(one)
        if time.monotonic() >= self.next_look:
            self.next_look = time.monotonic() + LOOK
            for one in self.open:
                self._report(one)

    def _send(self, one: _Sent) -> None:
        """Submit a batch, unless a worker of an earlier run still holds it."""
        one.since = time.monotonic() + LOOK
        holder = _lease.holder(one.part.folder)
        if holder is not None and not one.said:
            doing = "wait for" if holder.lives else "take over from"
            where, silent = one.part.folder, f"silent for {holder.silent:.0f} s"
            log.warning(
                "%s: %s %s, which trains this batch (%s)", where, doing, holder.name, silent
            )
            one.said = True
        if holder is None or not holder.lives:
            one.times += 1
            work = Work(
                plan=self.sweep.plan,
                job=one.job,
                out=self.store.out,
                config=self.store.config,
                run=self.sweep.run,
                attempt=one.times,
                switches=self.switches,
            )
            with _lost_if_broken():
                one.future = self.executor.submit(self.trainer, work)

    def _take(self, one: _Sent) -> None:
        """Collect a batch that is trained; send it again if its worker has died or stopped."""
        try:
            with _lost_if_broken():
                outcome: Outcome = one.future.result()
        except (ImportError, AttributeError) as error:
            raise WorkersLost(
                f"executor: expected workers that can import make and seqcells, got {error!r}; "
                "install the same packages there, and define make in one of them"
            ) from error
        except WorkersLost:
            raise
        except Exception as error:  # a worker has died, or was taken away: each engine has its own
            self._again(one, error)
            return
        if outcome.state == "failed":
            assert outcome.error is not None
            raise outcome.error
        if outcome.state == "done":
            self._collect_if_trained(one)
        elif outcome.state == "held":
            one.future = None
        else:
            self._again(one, RuntimeError("it was told to stop"))

    def _again(self, one: _Sent, error: Exception) -> None:
        log.info("%s: sent again, because its worker has ended (%r)", one.part.folder, error)
        if one.came_back() >= PATIENCE:
            raise WorkersLost(
                f"executor: expected workers that train {one.part.folder}, got workers that ended "
                f"{PATIENCE} times without a new checkpoint, the last with {error!r}; if they run "
                "out of memory, pass a smaller batch; if they are preempted, lower save_seconds"
            ) from error

    def _collect_if_trained(self, one: _Sent) -> None:
        """Collect a batch whose rows are there; on a shared disk they may come later."""
        one.part.read()
        if one.part.rows:
            self.store.collect(one.part)
            self.open.remove(one)

    def _report(self, one: _Sent) -> None:
        at = _lease.facts(one.part.folder) if one.future is not None else {}
        if "step" in at and at != one.shown:
            one.shown = at
            training = sum(other.training for other in self.open)
            self.sweep.report(
                Standing(one.job.static, at["step"], at["alive"], at["best"], training, one.rows)
            )

    def stop(self) -> None:
        """Tell all workers to stop, and wait until they have saved."""
        (self.store.out / DRIVER_FILE).unlink(missing_ok=True)
        sent = [one for one in self.open if one.future is not None]
        while any(holder.lives for one in sent if (holder := _lease.holder(one.part.folder))):
            time.sleep(PAUSE)
        futures = [one.future for one in sent]
        for future in futures:
            with contextlib.suppress(Exception):
                future.cancel()
        end = time.monotonic() + GRACE
        while time.monotonic() < end and not all(future.done() for future in futures):
            time.sleep(PAUSE)

    def collect_trained(self) -> None:
        """Collect what was trained while the workers stopped."""
        for one in list(self.open):
            self._collect_if_trained(one)


@contextlib.contextmanager
def _lost_if_broken() -> Iterator[None]:
    """Raise `WorkersLost` if a pool has broken."""
    try:
        yield
    except BrokenExecutor as error:
        raise WorkersLost(
            f"executor: expected a pool whose workers live, got one in which a worker has died "
            f"({error}); what is trained is kept: make a new pool, and call run again to go on. If "
            "no worker starts, see that the script makes the pool below if __name__ == '__main__':"
        ) from error
