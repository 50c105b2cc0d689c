"""What a worker does: it trains one batch in its own folder, while the sweep wants it."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import math
import multiprocessing
import multiprocessing.connection
import os
import platform
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from seqcells._signals import deferred
from seqcells._types import Json
from seqcells.sweep import _lease, _machine
from seqcells.sweep._batch import Batch
from seqcells.sweep._bucket import Bucket
from seqcells.sweep._job import Job
from seqcells.sweep._lines import DRIVER, read_json
from seqcells.sweep._part import parts
from seqcells.sweep._plan import Plan
from seqcells.sweep._space import Trial
from seqcells.sweep._store import BATCHES, Folder
from seqcells.sweep._train import train

DRIVER_FILE = "driver.json"  # names the run that wants batches to be trained
LOOK = 0.5  # seconds between two looks at that file
SWITCHES: dict[str, Callable[[Any], Any]] = {  # JAX's settings that the bits depend on
    "jax_enable_x64": jax.enable_x64,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_default_prng_impl": jax.default_prng_impl,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_threefry_partitionable": jax.threefry_partitionable,
}
_busy = threading.Lock()  # a process trains one batch at a time: Orbax is not thread-safe


class Work(NamedTuple):
    """A batch, as it is sent to a worker."""

    plan: Plan
    job: Job
    out: Path
    config: Json
    run: str  # of the driver that sends it
    attempt: int  # makes every sending different: engines may reuse results of equal calls
    switches: dict[str, Any]  # values of SWITCHES


class Outcome(NamedTuple):
    """What became of a batch."""

    state: Literal["done", "stopped", "held", "failed"]
    error: Exception | None = None


def switches() -> dict[str, Any]:
    """Return the settings of JAX that the bits depend on."""
    return {name: getattr(jax.config, name) for name in SWITCHES}


class Trainer:
    """The function that is sent: trains a batch until it is done, or no longer wanted."""

    def __call__(self, work: Work) -> Outcome:
        """Train a batch; an error of the task is returned, so that others are the engine's."""
        _follow_parent()
        with _busy:
            try:
                return _train(work)
            except _lease.Held as error:
                return Outcome("held", error)
            except _lease.Lost:
                return Outcome("stopped")
            except Exception as error:
                return Outcome("failed", _sendable(error))

    def __submitit_checkpoint__(self, work: Work) -> Any:
        """Ask Slurm, by submitit, to run the batch again after a preemption or a time limit."""
        helpers = importlib.import_module("submitit.helpers")
        return helpers.DelayedSubmission(self, work)


def _train(work: Work) -> Outcome:
    wanted = _Wanted(work)
    if not wanted():
        return Outcome("stopped")
    _machine.check(work.out)
    part = Folder(work.out, work.config).part(work.job)
    with _switched(work.switches), deferred() as signalled, part.locked() as lease:
        bucket = _bucket(work.run, work.plan, work.job.trials[0])
        sharing = sum(one.host == platform.node() for one in workers(work.out))
        bucket.fit(work.job.width, fixed=True, sharing=sharing)

        def report(batch: Batch, _: object) -> None:
            if wanted.is_due:
                best = batch.best(work.plan.metric, work.plan.sign)
                lease.show(step=batch.step, alive=int(batch.alive.sum()), best=best)

        done = bool(part.rows) or train(
            bucket, work.job, part, lambda: signalled or not wanted(), report
        )
    if signalled.signal == signal.SIGTERM:
        os.kill(os.getpid(), signal.SIGTERM)  # the batch is saved: end as the sender wants
    return Outcome("done" if done else "stopped")


class Worker(NamedTuple):
    """A process that trains a batch, as it has last shown."""

    host: str
    pid: int  # its number on the host
    trials: tuple[str, ...]  # the ids of the trials of its batch
    step: int  # steps that they have taken
    alive: int  # trials that are still training
    best: float  # best metric of these; NaN if none is alive
    silent: float  # seconds since its last sign of life, which it gives every few seconds


def workers(out: str | os.PathLike[str]) -> list[Worker]:
    """Return the processes that train batches in a folder; writes nothing.

    A process that was killed is listed until another takes its batch over.

    Args:
        out: the folder of a sweep.
    """
    found = []
    for part in parts(Path(out) / BATCHES):
        shown = {"step": 0, "alive": len(part.about["ids"]), "best": math.nan}
        shown |= _lease.facts(part.folder)
        with contextlib.suppress(FileNotFoundError, KeyError):  # nobody holds it
            silent = max(0.0, time.time() - (part.folder / _lease.LOCK).stat().st_mtime)
            shown |= {"trials": tuple(part.about["ids"]), "silent": silent}
            found.append(Worker(**{name: shown[name] for name in Worker._fields}))
    return found


class _Wanted:
    """Whether the driver still wants the batch; looks at its file twice a second at most."""

    def __init__(self, work: Work) -> None:
        self.path, self.run = work.out / DRIVER_FILE, work.run
        self.next, self.last = 0.0, True

    @property
    def is_due(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() >= self.next

    def __call__(self) -> bool:
        """Look, if it is time."""
        if self.is_due:
            self.next = time.monotonic() + LOOK
            self.last = (read_json(self.path, DRIVER) or {}).get("run") == self.run
        return self.last and not _orphaned.is_set()


@functools.lru_cache(maxsize=4)
def _programs(run: str, bucket: str) -> dict[str, Bucket]:
    """Return where the bucket of a run is kept, so that its programs are compiled once."""
    return {}


def _bucket(run: str, plan: Plan, trial: Trial) -> Bucket:
    kept = _programs(run, trial.bucket)
    return kept.setdefault("", Bucket(plan, trial))


@contextlib.contextmanager
def _switched(values: dict[str, Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(SWITCHES[name](value))
        yield


def _sendable(error: Exception) -> Exception:
    """Return an error that pickle can send, with the traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        ForkingPickler.dumps(error)
        copy.copy(error)  # made from its arguments, as by pickle
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


_orphaned = threading.Event()


@functools.cache
def _follow_parent() -> None:
    """End this process after its parent, if that is one of multiprocessing.

    The workers of a pool would otherwise wait for ever when the process that made the pool is
    killed. Ctrl-C reaches them too, but the driver tells them to stop, so they ignore it.
    """
    parent = multiprocessing.parent_process()
    if parent is None or parent.sentinel is None:  # loky's workers end by themselves
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        _orphaned.set()
        with _busy:  # the batch is saved
            os._exit(1)

    threading.Thread(target=follow, name="seqcells-parent", daemon=True).start()
