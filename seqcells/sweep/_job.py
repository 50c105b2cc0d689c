"""A batch as it is planned: which trials one program trains together, and how wide it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from seqcells._types import Json
from seqcells.sweep._identity import digest
from seqcells.sweep._lines import Row
from seqcells.sweep._space import Static, Trial


class Job(NamedTuple):
    """A batch as it is planned."""

    trials: tuple[Trial, ...]  # of one bucket
    width: int  # of the first program, at least as many as there are trials

    @property
    def static(self) -> Static:
        """The static fields of the bucket."""
        return self.trials[0].static

    @property
    def bucket(self) -> str:
        """The id of the bucket."""
        return self.trials[0].bucket

    @property
    def about(self) -> Json:
        """The bucket, the width and the ids of the trials, as JSON."""
        ids = [trial.id for trial in self.trials]
        return {"bucket": self.bucket, "width": self.width, "ids": ids}

    def rows(self, lines: Sequence[Row]) -> list[Row]:
        """Return lines of the history as rows, with the fields of their trials.

        In a population, metrics have the names of the fields that changed, and their values.
        """
        fields = {trial.id: trial.fields for trial in self.trials}
        return [
            {"id": one["id"], **fields[one["id"]], "steps": one["step"], **one["metrics"]}
            for one in lines
        ]

    @property
    def id(self) -> str:
        """12 hexadecimal digits of a hash of `about`."""
        return digest(self.about)


def buckets(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Group adjacent trials with equal static fields."""
    for _, bucket in itertools.groupby(trials, lambda trial: trial.bucket):
        yield list(bucket)


def cut(trials: Sequence[Trial], width: int) -> Iterator[Job]:
    """Cut trials of one bucket into batches of a width; the last one may have fewer."""
    for i in range(0, len(trials), width):
        yield Job(tuple(trials[i : i + width]), width)
