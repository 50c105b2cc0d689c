"""Chrono initialisation: a GRU with a slow initial update gate, against the default.

Tallec & Ollivier (2018) initialise the update gate so that memories last up to the length of the
task. On delayed recall and on temporal order, where an answer must be carried over a long lag, such
a GRU learns in a few hundred steps what the default GRU does not learn in a thousand.
"""

from __future__ import annotations

import dataclasses

from experiments import lab
from seqcells import probes

TASKS = {
    "delayed recall": probes.DelayedRecall,
    "temporal order": probes.TemporalOrder,
}


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 20  # runs per setting, each with its own random seed
    lengths: tuple[int, ...] = (100, 200)
    """lengths of temporal order and lags of delayed recall, steps"""
    learning_rate: float = 3e-3  # learning rate of both GRUs
    chrono_steps: int = 600
    """maximal training steps of the slow GRU; fewer once all runs of a group have learned"""
    default_steps: int = 1000
    """maximal training steps of the default GRU; fewer once all runs of a group have learned"""
    hidden_size: int = 64  # units of every net
    batch_size: int = 32  # sequences per training step


def _group(s: Settings, task: str, arm: lab.Arm, length: int, steps: int) -> lab.RunGroup:
    labels = {"task": task, "arm": arm.name, "length": length}
    runs = lab.list_runs(labels, arm.start(s.hidden_size, length), (s.learning_rate,), s.seeds)
    model = lab.Task(arm.run(s.hidden_size), TASKS[task](length), s.batch_size)
    return lab.RunGroup(f"{task} {length} {arm.name}", model, runs, steps)


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups."""
    return [
        _group(s, task, arm, length, steps)
        for task in TASKS
        for length in s.lengths
        for arm, steps in ((lab.CHRONO, s.chrono_steps), (lab.GRU, s.default_steps))
    ]


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    source = "Tallec & Ollivier 2018"
    return [
        claim
        for task in TASKS
        for length in s.lengths
        for claim in (
            lab.Claim(
                f"{task}, {length} steps: most chrono GRUs solve it in {s.chrono_steps} steps of "
                "training",
                source,
                lab.share_at_least(
                    0.5, s.chrono_steps, task=task, arm=lab.CHRONO.name, length=length
                ),
            ),
            lab.Claim(
                f"{task}, {length} steps: most default GRUs do not solve it in {s.default_steps} "
                "steps of training",
                source,
                lab.share_at_most(0.5, s.default_steps, task=task, arm=lab.GRU.name, length=length),
            ),
        )
    ]


STUDY = lab.Study(
    name="chrono",
    title="A GRU that starts slow, and one that does not",
    lead="Delayed recall: a symbol shown once must be named after a fixed lag of distractors. "
    "Temporal order: which two symbols occurred, and in which order. Chrono: the bias of the "
    "update gate starts at -ln U[1, T - 1], so that a unit's memory lasts 2 to T steps. Adam, one "
    "learning rate for both, gradients clipped to a global norm of 1.",
    settings=Settings(),
    quick=Settings(seeds=4, lengths=(50,), default_steps=600),
    groups=groups,
    claims=claims,
    draw=lab.draw_success,
    caption=lab.BY_LENGTH,
)
