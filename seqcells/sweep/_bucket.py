"""A bucket: the trials with equal static fields, which share a task and its programs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from seqcells import _check
from seqcells.sweep._batch import columns
from seqcells.sweep._pbt import reserved
from seqcells.sweep._plan import Plan
from seqcells.sweep._program import Program, build, largest_that_fits
from seqcells.sweep._space import RESERVED, Trial
from seqcells.sweep._task import Task


class Bucket:
    """The task of the trials with equal static fields, and its programs by width.

    Args:
        plan: the settings of the sweep.
        trial: one of the trials.
    """

    def __init__(self, plan: Plan, trial: Trial) -> None:
        self.plan, self.trial = plan, trial
        self.program = functools.cache(self._build)

    def check(self, trials: Sequence[Trial]) -> None:
        """Raise if a number of a trial is out of range, according to the task."""
        self._check([trial.hparams for trial in trials])

    def check_perturbed(self, values: Sequence[Mapping[str, float]]) -> None:
        """Raise if a hyperparameter that a population has perturbed is out of range."""
        try:
            self._check(values)
        except ValueError as error:
            raise ValueError(
                f"pbt.perturb: expected factors that keep fields in range, got {error}; make "
                "the field a distribution, to whose range its values are clipped"
            ) from error

    def _check(self, values: Sequence[Mapping[str, float]]) -> None:
        if callable(check := getattr(self._task, "check", None)):
            for one in values:
                check(one)

    def fit(self, width: int, fixed: bool, sharing: int = 1) -> int:
        """Return the width, or less if it is not fixed, that fits into memory."""
        return largest_that_fits(self.program, width, fixed=fixed, sharing=sharing).width

    @functools.cached_property
    def _task(self) -> Task:
        task = self.plan.make(**self.trial.static)
        if not all(callable(getattr(task, name, None)) for name in ("init", "segment")):
            got = _check.describe_one(task)
            raise TypeError(f"make: expected to return a task with init and segment, got {got}")
        return task

    def _build(self, width: int) -> Program:
        plan, hparams = self.plan, columns([self.trial])
        program = build(
            self._task,
            hparams,
            width,
            plan.segment,
            plan.metric,
            plan.random_key,
            plan.evolution,
        )
        taken = [*RESERVED, *self.trial.fields, *(reserved(hparams) if plan.evolution else ())]
        both = [name for name in program.metrics if name in taken]
        if both:
            raise ValueError(
                f"segment: expected metrics with other names than fields of the space and the "
                f"columns {', '.join(RESERVED)}, got {', '.join(both)}"
            )
        return program
