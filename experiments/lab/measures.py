"""Measurements of a study's nets besides their scores."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

import jax
import numpy as np

from experiments.lab.cache import Row
from experiments.lab.models import Task
from experiments.lab.runs import Trained
from experiments.lab.training import over_members

AT_START, AT_END = "initialisation", "after training"


@dataclasses.dataclass(frozen=True)
class GradientByLag:
    """The gradient by lag: the table "gradients".

    A row has the norm of the derivative of a sample's loss by the memory `lag` steps before the
    last, mean over the samples and median over the runs, at initialisation and after training.

    Attributes:
        where: the labels of the runs to measure, such as {"arm": "GRU default"}; runs of the same
            arm form a curve.
        samples: fresh sequences per run.
    """

    where: Mapping[str, object]
    samples: int = 256
    table: ClassVar[str] = "gradients"
    columns: ClassVar[Sequence[str]] = ("arm", "when", "lag", "norm")

    def rows(self, trained: Trained) -> list[Row]:
        """Measure the rows; none if the group has none of the runs."""
        arms: dict[str, list[int]] = {}
        for i, run in enumerate(trained.runs):
            if self.where.items() <= run.labels.items():
                arms.setdefault(run.labels["arm"], []).append(i)
        return list(self._rows(trained, arms)) if arms else []

    def _rows(self, trained: Trained, arms: dict[str, list[int]]) -> Iterator[Row]:
        measure = gradient(trained.task, self.samples)
        for when, params in ((AT_START, trained.before), (AT_END, trained.after)):
            norms = np.asarray(measure(params, trained.keys, trained.members))
            for arm, runs in arms.items():
                for lag, norm in enumerate(np.median(norms[runs], axis=0)):
                    yield {"arm": arm, "when": when, "lag": lag, "norm": float(norm)}


@functools.lru_cache(maxsize=8)
def gradient(task: Task, samples: int) -> Callable[..., jax.Array]:
    """Make the program (params, keys, members) -> norms by lag, float[R, T]."""
    return jax.jit(over_members(lambda p, key, member: task.gradient(p, key, member, samples)))
