"""Initialisation against task: which initialisation of an RNN or a GRU learns which task.

Orthogonal, identity and critical recurrent weights, and slow update gates, on tasks of memory,
arithmetic and order.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp

import seqcells as sc
from experiments import lab
from seqcells import initializers, probes

LECUN, GLOROT, CRITICAL = "tanh Lecun", "tanh Glorot", "tanh critical"


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 5  # runs per setting, each with its own random seed
    recall: tuple[int, ...] = (20, 60)  # lags of delayed recall, steps
    order: tuple[int, ...] = (40,)  # lengths of temporal order, steps
    adding: tuple[int, ...] = (60,)  # lengths of adding, steps
    parity: tuple[int, ...] = (10,)  # lengths of parity, steps
    rates: tuple[float, ...] = (1e-3, 3e-3)  # learning rates; each start is judged at its best
    steps: int = 1000
    """maximal training steps; a group stops early once all its runs have learned"""
    hidden_size: int = 48  # units of every net
    batch_size: int = 32  # sequences per training step


TASKS = {
    "recall": probes.DelayedRecall,
    "order": probes.TemporalOrder,
    "adding": probes.AddingURNN,
    "parity": probes.Parity,
}


@functools.cache
def _variance(probe: probes.Probe) -> float:
    """Return the mean square of an input."""
    sample = jax.jit(lambda key: jnp.mean(jnp.square(probe.sample(key, 1000).xs)))
    return float(sample(jax.random.key(0)))


def arms(probe: probes.Probe) -> list[lab.Arm]:
    """List the initialisations; the critical one depends on the input."""
    critical = initializers.Critical(_variance(probe))
    return [
        lab.rnn(LECUN, "tanh", initializers.Lecun()),
        lab.rnn(GLOROT, "tanh", initializers.Glorot()),
        lab.TANH,
        lab.rnn(CRITICAL, "tanh", critical),
        lab.IRNN,
        lab.GRU,
        lab.CHRONO,
    ]


def _group(s: Settings, task: str, length: int) -> Iterable[lab.RunGroup]:
    """List the groups of a task: all initialisations of a cell share one program."""
    probe = TASKS[task](length)
    by_cell: dict[sc.Cell, list[lab.Arm]] = {}
    for arm in arms(probe):
        by_cell.setdefault(arm.run(s.hidden_size), []).append(arm)
    for cell, some in by_cell.items():
        model, runs = lab.Task(cell, probe, s.batch_size), []
        for arm in some:
            labels = {"task": task, "arm": arm.name, "length": length}
            start = arm.start(s.hidden_size, length)
            runs += lab.list_runs(labels, start, s.rates, s.seeds)
        yield lab.RunGroup(f"{task} {length} {some[0].name}", model, tuple(runs), s.steps)


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups."""
    return [
        trials
        for task in TASKS
        for length in getattr(s, task)
        for trials in _group(s, task, length)
    ]


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    return [
        lab.Claim(
            "Orthogonal weights solve a task more often than Lecun's, and none less often",
            "Saxe et al. 2014; Henaff et al. 2016",
            lab.ahead(lab.TANH.name, LECUN),
        ),
        lab.Claim(
            "Critical weights solve a task more often than Lecun's, and none less often",
            "Chen, Pennington & Schoenholz 2018",
            lab.ahead(CRITICAL, LECUN),
        ),
        lab.Claim(
            "The identity with ReLU solves adding at least as often as orthogonal tanh",
            "Le, Jaitly & Hinton 2015",
            lab.not_behind(lab.IRNN.name, lab.TANH.name, task="adding"),
        ),
        lab.Claim(
            "A GRU that starts slow solves a task more often than the default, and none less often",
            "Tallec & Ollivier 2018",
            lab.ahead(lab.CHRONO.name, lab.GRU.name),
        ),
    ]


STUDY = lab.Study(
    name="initialisation",
    title="Initialisation against task",
    lead="Recall: a symbol shown once is named some steps later. Order: which two symbols "
    "occurred, and in which order. Adding: the sum of two marked numbers. Parity: whether the ones "
    "so far are even, at every step. Lecun: independent normals of variance 1 / units; Glorot: "
    "uniform; critical: normals of the size at which gradients keep their norm for this input. "
    "Adam, each start at its best learning rate, gradients clipped to a global norm of 1.",
    settings=Settings(),
    quick=Settings(
        seeds=4,
        recall=(15,),
        order=(20,),
        adding=(20,),
        parity=(5,),
        rates=(3e-3,),
        steps=500,
        hidden_size=32,
    ),
    groups=groups,
    claims=claims,
    draw=lambda rows, path: lab.draw_grid(lab.at_best(rows), path, "how the net starts"),
    caption=lab.BY_TASK,
)
