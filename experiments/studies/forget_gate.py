"""The forget gate alone: JANET against LSTM and GRU, all of whose gates start slow.

Van der Westhuizen & Lasenby (2018) take everything but the forget gate out of an LSTM, start that
gate by chrono initialisation, and report that the rest was not needed.
"""

from __future__ import annotations

import dataclasses

import seqcells as sc
from experiments import lab
from seqcells import initializers, probes
from seqcells.initializers import Chrono

SOURCE = "van der Westhuizen & Lasenby 2018"
TASKS = {"delayed recall": probes.DelayedRecall, "adding": probes.AddingURNN}


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 10  # trainings of every setting, each from its own random start
    lengths: tuple[int, ...] = (50, 100, 200)
    """lags of delayed recall and lengths of adding, steps"""
    learning_rate: float = 3e-3  # of all nets
    steps: int = 600
    """steps of training at most; fewer where all runs of a group have learned"""
    hidden_size: int = 48  # units of every net
    batch_size: int = 32  # fresh sequences in a step of training


def _janet(size: int, longest: int) -> sc.JANET:
    return sc.JANET(size, b_init=(Chrono(longest, kept=True), initializers.zeros))


def _lstm(size: int, longest: int) -> sc.LSTM:
    zeros = initializers.zeros
    return sc.LSTM(size, b_init=(Chrono(longest), Chrono(longest, kept=True), zeros, zeros))


JANET = lab.Arm("JANET chrono", _janet, sc.JANET)
LSTM = lab.Arm("LSTM chrono", _lstm, sc.LSTM)


def _group(s: Settings, task: str, arm: lab.Arm, length: int) -> lab.RunGroup:
    labels = {"task": task, "arm": arm.name, "length": length}
    runs = lab.list_runs(labels, arm.start(s.hidden_size, length), (s.learning_rate,), s.seeds)
    model = lab.Task(arm.run(s.hidden_size), TASKS[task](length), s.batch_size)
    return lab.RunGroup(f"{task} {length} {arm.name}", model, runs, s.steps)


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups."""
    return [
        _group(s, task, arm, length)
        for task in TASKS
        for length in s.lengths
        for arm in (JANET, LSTM, lab.CHRONO)
    ]


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    longest = max(s.lengths)
    solved = [
        lab.Claim(
            f"{task}, {longest} steps: most JANETs solve it in {s.steps} steps of training",
            SOURCE,
            lab.share_at_least(0.5, s.steps, task=task, arm=JANET.name, length=longest),
        )
        for task in TASKS
    ]
    compared = [
        lab.Claim(
            f"{task}: at equal width, with half the parameters, JANET solves every length at least "
            "as often as LSTM",
            SOURCE,
            lab.not_behind(JANET.name, LSTM.name, task=task),
        )
        for task in TASKS
    ]
    return solved + compared


STUDY = lab.Study(
    name="forget_gate",
    title="The forget gate alone",
    lead="Delayed recall: a symbol shown once must be named after a fixed lag of distractors. "
    "Adding: the sum of two marked numbers. JANET is an LSTM without input and output gates. In "
    "all three nets the gates start slow, by chrono initialisation for the length of the task; in "
    "the LSTM the forget gate and the input gate do. Adam, one learning rate, gradients clipped to "
    "a global norm of 1.",
    settings=Settings(),
    quick=Settings(seeds=4, lengths=(40,), steps=400, hidden_size=32),
    groups=groups,
    claims=claims,
    draw=lab.draw_success,
    caption=lab.BY_LENGTH,
)
