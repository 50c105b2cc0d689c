"""Adding and copying over long sequences, as in table 1 of Bai, Kolter & Koltun (2018).

The recurrent nets with which they compare their convolutional net: over 600 steps a GRU learns to
add and a tanh net does not; over 1000 blanks none learns to copy. The full form needs a GPU.
"""

from __future__ import annotations

import dataclasses
import functools

import seqcells as sc
from experiments import lab
from seqcells import probes

ARMS: dict[str, lab.Make] = {"LSTM": sc.LSTM, "GRU": sc.GRU, "tanh": sc.RNN}


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 3  # runs per setting, each with its own random seed
    adding: tuple[int, ...] = (600,)  # lengths of adding, steps
    copying: tuple[int, ...] = (1000,)  # blanks and delimiter before the copy, steps
    adding_size: int = 70_000  # approximate parameters of a net for adding
    copying_size: int = 16_000  # approximate parameters of a net for copying
    adding_steps: int = 20_000
    """maximal training steps of adding; a group stops early once all its runs have learned"""
    copying_steps: int = 5000
    """maximal training steps of copying; a group stops early once all its runs have learned"""
    rates: tuple[float, ...] = (1e-3, 3e-3)  # learning rates; each net is judged at its best
    batch_size: int = 32  # sequences per training step


Probe = probes.AddingTCN | probes.Copy


def _group(s: Settings, arm: str, probe: Probe, size: int, steps: int) -> lab.RunGroup:
    task = "copying" if isinstance(probe, probes.Copy) else "adding"
    cell = ARMS[arm](lab.as_large(ARMS[arm], probe.input_size, size))
    labels = {"task": task, "arm": arm, "length": probe.length}
    labels |= {"parameters": lab.parameters(cell, probe.input_size)}
    runs, model = lab.list_runs(labels, cell, s.rates, s.seeds), lab.Task(cell, probe, s.batch_size)
    return lab.RunGroup(f"{task} {probe.length} {arm}", model, runs, steps)


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups."""
    adding = [(probes.AddingTCN(n), s.adding_size, s.adding_steps) for n in s.adding]
    copying = [(probes.Copy(n), s.copying_size, s.copying_steps) for n in s.copying]
    return [_group(s, arm, *one) for one in (*adding, *copying) for arm in ARMS]


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims; a net that learns nothing has the loss of guessing."""
    source, listed = "Bai, Kolter & Koltun 2018, table 1", []
    for n in s.adding:
        judge = functools.partial(lab.loss_between, task="adding", length=n)
        listed += [
            lab.Claim(f"Adding {n}: GRU below 0.001", source, judge(0, 1e-3, arm="GRU")),
            lab.Claim(f"Adding {n}: tanh in 0.15 to 0.18", source, judge(0.15, 0.18, arm="tanh")),
        ]
    for n in s.copying:
        guess = probes.Copy(n).baseline
        listed += [
            lab.Claim(
                f"Copying over {n}: {arm} within 5 % of {guess:.4f}, the cost of guessing",
                source,
                lab.loss_between(0.95 * guess, 1.05 * guess, task="copying", arm=arm, length=n),
            )
            for arm in ARMS
        ]
    return listed


STUDY = lab.Study(
    name="tcn",
    title="Adding and copying over long sequences",
    lead="Adding: two numbers of a sequence are marked, and the answer is their sum. Copying: ten "
    "symbols are repeated after many blanks. Nets of one layer and about as many parameters, "
    "Adam, gradients clipped to a global norm of 1; the loss is what is published.",
    settings=Settings(),
    quick=Settings(
        seeds=2,
        adding=(40,),
        copying=(40,),
        rates=(3e-3,),
        adding_size=4000,
        copying_size=4000,
        adding_steps=1500,
        copying_steps=300,
    ),
    groups=groups,
    claims=claims,
    draw=functools.partial(lab.draw_success, label="steps"),
    caption=f"Marks near 1 are nets that solve the task. {lab.OVERLAP}",
)
