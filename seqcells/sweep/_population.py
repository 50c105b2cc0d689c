"""A population: a batch whose worst trials become copies of its best ones."""

from __future__ import annotations

import jax
import numpy as np

from seqcells.sweep._batch import UNFINISHED, Batch
from seqcells.sweep._lines import Row
from seqcells.sweep._pbt import FINAL, PARENT, number, number_of


class Population(Batch):
    """A batch of a program with an `Evolution`: hyperparameters are a part of its state."""

    def advance(self, segment: int) -> list[Row]:
        """Train for a segment, then replace trials if it is due.

        Returns:
            The metrics of every trial that was alive or is replaced. With them, the numbers by
            which it was trained, and, if it is replaced, the id of its `parent`, as a number.
        """
        hparams = self._values()
        lines = {line["id"]: line for line in super().advance(segment)}
        copies = np.flatnonzero(self.parents != np.arange(len(self.parents))).tolist()
        for row in copies:
            line = {"id": self._id(row), "step": self.step, "metrics": self._metrics(row)}
            line = lines.setdefault(line["id"], line)  # it has one, unless it diverged before
            line["metrics"][PARENT] = number_of(self._id(self.parents[row]))
        self._copy(copies, self.parents[copies])
        after = self._values() if copies else []
        self.changed = [after[row] for row in copies]
        for row in range(len(self.trials)):
            if (line := lines.get(self._id(row))) is not None:
                line["metrics"] |= hparams[row]
        return list(lines.values())

    def rows(self) -> list[Row]:
        """Return a row for every trial, with its last hyperparameters among its metrics."""
        rows = super().rows()
        for row, hparams in zip(rows, self._values(), strict=True):
            row["metrics"] |= {FINAL + name: value for name, value in hparams.items()}
        return rows

    def _call_program(self, segment: int) -> tuple[jax.Array, dict[str, jax.Array]]:
        place, step = self.program.place, np.int32(self.step + segment)
        self.state, alive, means, parents = self.program.advance(
            self.state, self.hparams, place(self.alive), place(self.slots >= 0), step
        )
        self.parents = np.asarray(parents)
        return alive, means

    def _copy(self, rows: list[int], parents: np.ndarray) -> None:
        """Give the rows of copies the metrics of their parents."""
        record = self.record
        record.status[rows] = UNFINISHED
        for values in (record.steps, *record.metrics.values()):
            values[rows] = values[parents]

    def _values(self) -> list[dict[str, float]]:
        """Return the hyperparameters of each trial."""
        host = {name: np.asarray(values) for name, values in self.state.hparams.items()}
        names = self.trials[0].hparams  # in the order of the space
        return [{n: number(host[n][row]) for n in names} for row in range(len(self.trials))]
