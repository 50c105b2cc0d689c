"""Callbacks that show the curves of a sweep in TensorBoard, MLflow or Weights & Biases.

`python -m examples.track_sweep` uses them. A run is a configuration: all fields but `seed`. Its
curves are means over the seeds whose value is finite; `finite_seeds` counts those whose metrics are
all finite. With `each=True`, which populations need, a run is a trial; what changes is a curve too.

- Train the seeds of a configuration in one batch: make `seed` the last field of the space, and
  `batch` a multiple of the number of seeds; `search` does so. Another batch of the configuration
  begins at the first step again, so it is another run, with a suffix: "lr=0.1-2".
- A sweep that is killed loses the points of its last seconds, at most 15. When it is called again,
  its curves go on in TensorBoard; MLflow and Weights & Biases have another run of the same name.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import seqcells as sc

Fields = dict[str, Any]
Metrics = dict[str, float]
Run = tuple[Callable[[int, Metrics], object], Callable[[bool], object]]  # (log, close)


class Tracker(contextlib.AbstractContextManager):
    """Logs the progress of a sweep; a context manager, which closes the runs.

    Args:
        open: (name, fields, first metrics) -> log(step, metrics) and close(failed) of a run.
        each: whether a run is a trial, instead of a configuration.
    """

    def __init__(self, open: Callable[[str, Fields, Metrics], Run], each: bool = False):
        self.open, self.each = open, each
        self.names: dict[str, str] = {}  # of runs, by ids of trials
        self.fields: dict[str, Fields] = {}  # by names of runs
        self.runs: dict[str, Run] = {}  # by names

    def __call__(self, progress: sc.sweep.Progress) -> None:
        """Log the trials that were trained in a segment of a batch."""
        groups: dict[str, list[Metrics]] = {}  # by names of runs
        here: dict[str, str] = {}  # names of the runs of this batch, by their fields
        for row in sorted(progress.rows, key=lambda row: row["id"] not in self.names):
            at = list(row).index("steps")  # a row is `id`, fields, `steps`, metrics
            fields = {n: row[n] for n in list(row)[1:at] if self.each or n != "seed"}
            metrics = {n: row[n] for n in list(row)[at + 1 :]}
            name = (
                self.names.get(row["id"]) or here.get(str(fields)) or self._begin(fields, metrics)
            )
            self.names[row["id"]] = here[str(fields)] = name
            changed = {n: v for n, v in fields.items() if v != self.fields[name][n]}
            groups.setdefault(name, []).append(changed | metrics)
        for name, rows in groups.items():
            log, _ = self.runs[name]
            log(progress.step, self._means(rows))

    def _begin(self, fields: Fields, metrics: Metrics) -> str:
        """Open a run; return its name, which can be that of a folder."""
        words = (f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={v}" for n, v in fields.items())
        first = re.sub(r"[^\w.=,+-]", "_", ",".join(words))[:100] or "all"
        names = itertools.chain([first], (f"{first}-{i}" for i in itertools.count(2)))
        name = next(name for name in names if name not in self.runs)
        shown = {n: v if isinstance(v, (int, float)) else str(v) for n, v in fields.items()}
        self.runs[name], self.fields[name] = self.open(name, shown, metrics), fields
        return name

    def _means(self, rows: list[Metrics]) -> Metrics:
        """Return the mean of each metric over the rows in which it is finite."""
        finite = {n: [row[n] for row in rows if np.isfinite(row.get(n, np.nan))] for n in rows[0]}
        means = {n: float(np.mean(values)) for n, values in finite.items() if values}
        seeds = sum(all(map(np.isfinite, row.values())) for row in rows)
        return means if self.each else {**means, "finite_seeds": seeds}

    def __exit__(self, error: object, *further: object) -> None:
        for _, close in self.runs.values():
            close(error is not None)


def tensorboard(folder: str, each: bool = False) -> Tracker:
    """Write event files, a folder for each run, of which three stay open: see `ulimit -n`."""
    library = importlib.import_module("tensorboardX")

    def open(name: str, fields: Fields, metrics: Metrics) -> Run:
        writer = library.SummaryWriter(f"{folder}/{name}", flush_secs=10)
        for part in library.summary.hparams(fields, metrics):
            writer.file_writer.add_summary(part)

        def log(step: int, metrics: Metrics) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)

        return log, lambda failed: writer.close()

    return Tracker(open, each)


def mlflow(uri: str, experiment: str = "sweep", each: bool = False) -> Tracker:
    """Write to a database, such as `sqlite:///mlflow.db`: each run every ten seconds, in 15 ms."""
    library, thread = importlib.import_module("mlflow"), ThreadPoolExecutor(1)
    client, entities = library.MlflowClient(uri), library.entities
    known = client.get_experiment_by_name(experiment)
    place = known.experiment_id if known else client.create_experiment(experiment)

    def open(name: str, fields: Fields, metrics: Metrics) -> Run:
        run = client.create_run(place, run_name=name).info.run_id
        client.log_batch(run, params=[entities.Param(n, str(v)) for n, v in fields.items()])
        waiting, sent, last = [], [], 0

        def log(step: int, metrics: Metrics) -> None:
            now = int(1000 * time.time())
            waiting.extend(entities.Metric(n, v, now, step) for n, v in metrics.items())
            if now > last + 10_000 or len(waiting) > 900:  # MLflow takes 1000 at once
                write(now)

        def write(now: int) -> None:
            nonlocal waiting, last
            sent.append(thread.submit(client.log_batch, run, waiting))
            waiting, last = [], now

        def close(failed: bool) -> None:
            write(last)
            for one in sent:
                one.result()  # raises what the thread has raised
            client.set_terminated(run, "FAILED" if failed else "FINISHED")

        return log, close

    return Tracker(open, each)


def wandb(project: str, folder: str = ".", each: bool = False) -> Tracker:
    """Write offline runs, each opened in 0.1 s; `wandb sync FOLDER/wandb/offline-*` sends them."""
    library = importlib.import_module("wandb")
    settings = {"silent": True, "console": "off", "x_disable_stats": True}
    options = {"project": project, "dir": folder, "mode": "offline", "settings": settings}

    def open(name: str, fields: Fields, metrics: Metrics) -> Run:
        run = library.init(**options, name=name, config=fields, reinit="create_new")
        return lambda step, m: run.log(m, step=step), lambda failed: run.finish(int(failed))

    return Tracker(open, each)
