"""The adding problem: GRU, tanh and IRNN, with the settings of the uRNN paper.

The claim: a GRU solves it over 100 and 200 steps within 1000 steps of training, and a tanh net
does no better than always answering 1, at every learning rate.
"""

from __future__ import annotations

import dataclasses
import functools

from experiments import lab
from seqcells import probes


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 20  # runs per setting, each with its own random seed
    lengths: tuple[int, ...] = (100, 200)  # lengths of adding, steps; tanh has only the first
    gru_rate: float = 1e-2  # learning rate of the GRU
    gru_steps: int = 1000
    """maximal training steps of GRU and IRNN; a group stops early once all its runs have learned"""
    irnn_rate: float = 1e-3  # learning rate of the IRNN
    tanh_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)  # learning rates of tanh
    tanh_steps: int = 6000
    """maximal training steps of tanh; a group stops early once all its runs have learned"""
    hidden_size: int = 64  # units of every net
    batch_size: int = 32  # sequences per training step


def _group(
    s: Settings, arm: lab.Arm, length: int, rates: tuple[float, ...], steps: int
) -> lab.RunGroup:
    task = lab.Task(arm.run(s.hidden_size), probes.AddingURNN(length), s.batch_size)
    start, runs = arm.start(s.hidden_size, length), []
    for rate in rates:
        labels = {"task": "adding", "arm": f"{arm.name}, rate {rate:g}", "length": length}
        runs += lab.list_runs(labels, start, (rate,), s.seeds)
    return lab.RunGroup(f"{arm.name} {length}", task, tuple(runs), steps)


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups."""
    return [
        *(_group(s, lab.GRU, length, (s.gru_rate,), s.gru_steps) for length in s.lengths),
        *(_group(s, lab.IRNN, length, (s.irnn_rate,), s.gru_steps) for length in s.lengths),
        _group(s, lab.TANH, s.lengths[0], s.tanh_rates, s.tanh_steps),
    ]


def _tanh_stays(rows: lab.Frame, near: float) -> lab.Verdict:
    rows = rows[rows["arm"].str.startswith(lab.TANH.name)]
    if rows.empty:
        return lab.NOT_RUN
    by_rate, baseline = lab.losses_by_rate(rows), probes.AddingURNN().baseline
    ends = (1 - near) * baseline, (1 + near) * baseline
    holds = lab.all_hold(loss.within(*ends) for loss in by_rate.values())
    return lab.Verdict(holds, lab.losses_text(by_rate))


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    steps, source = s.gru_steps, "Arjovsky, Shah & Bengio 2016"
    gru = f"{lab.GRU.name}, rate {s.gru_rate:g}"
    return [
        *(
            lab.Claim(
                f"Most GRUs solve {length} steps within {steps} steps of training",
                source,
                lab.share_at_least(0.5, steps, arm=gru, length=length),
            )
            for length in s.lengths
        ),
        lab.Claim(
            "tanh stays within 10 % of the trivial loss 1/6 at every rate",
            source,
            functools.partial(_tanh_stays, near=0.1),
        ),
    ]


STUDY = lab.Study(
    name="adding",
    title="Adding: GRU, IRNN and tanh",
    lead="Two numbers of a sequence are marked, and the answer at its end is their sum; solved "
    "below a squared error of 0.01, where always answering 1 costs 1/6. Adam, gradients clipped to "
    "a global norm of 1.",
    settings=Settings(),
    quick=Settings(seeds=4, lengths=(50,), tanh_rates=(1e-3, 1e-2), tanh_steps=1000),
    groups=groups,
    claims=claims,
    draw=lab.draw_success,
    caption=lab.BY_LENGTH,
)
