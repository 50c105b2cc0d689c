"""Sweeps over hyperparameters: hundreds of runs in one program, resumable after a kill."""

from seqcells.sweep._batch import STATUSES
from seqcells.sweep._executor import WorkersLost
from seqcells.sweep._load import load
from seqcells.sweep._pbt import PBT
from seqcells.sweep._plan import Halving
from seqcells.sweep._pool import processes
from seqcells.sweep._run import Progress, run
from seqcells.sweep._search import from_optuna, search, to_optuna
from seqcells.sweep._space import Space, Trial, linear, log, log_uniform, uniform
from seqcells.sweep._table import AllFailed, Result
from seqcells.sweep._task import Task, from_loss
from seqcells.sweep._worker import Worker, workers

__all__ = [
    "PBT",
    "STATUSES",
    "AllFailed",
    "Halving",
    "Progress",
    "Result",
    "Space",
    "Task",
    "Trial",
    "Worker",
    "WorkersLost",
    "from_loss",
    "from_optuna",
    "linear",
    "load",
    "log",
    "log_uniform",
    "processes",
    "run",
    "search",
    "to_optuna",
    "uniform",
    "workers",
]
