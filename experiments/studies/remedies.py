"""Remedies for gradients that vanish or explode, compared on one task.

A tanh net with independent normal recurrent weights must recall a symbol over increasing lags. Each
remedy is tried by itself: clipping, a penalty on gradients that lose their norm or on Lyapunov
exponents, another initialisation, weights projected to a norm, other cells.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Hashable
from typing import NamedTuple

import optax

from experiments import lab
from seqcells import initializers, probes, remedies, train


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 5  # runs per setting, each with its own random seed
    lags: tuple[int, ...] = (10, 20, 40)  # lags of delayed recall, steps
    rates: tuple[float, ...] = (1e-3, 3e-3)  # learning rates; each remedy is judged at its best
    steps: int = 1000
    """maximal training steps; a group stops early once all its runs have learned"""
    hidden_size: int = 48  # units of every net
    batch_size: int = 32  # sequences per training step


def projected(member: lab.Member) -> optax.GradientTransformation:
    """AdamW, followed by projection of the recurrent weights to a spectral norm of at most 1."""
    return optax.chain(lab.optimizer(member), remedies.project_spectral_norm(1.0))


class Remedy(NamedTuple):
    """A net, its training, and the paper that recommends it."""

    arm: lab.Arm
    source: str = ""
    max_norm: float = 1.0  # norm to which gradients are clipped
    penalty: lab.Penalty | None = None
    optimizer: train.Optimizer = lab.optimizer


PLAIN = lab.rnn("tanh", "tanh", initializers.Lecun())
NOTHING, CLIPPED = "nothing", "clipping"
PASCANU = "Pascanu, Mikolov & Bengio 2013"
REMEDIES = {
    NOTHING: Remedy(PLAIN, max_norm=math.inf),
    CLIPPED: Remedy(PLAIN, PASCANU),
    "Omega": Remedy(PLAIN, PASCANU, penalty=lab.Omega(4.0, "paper")),
    "Omega, their code": Remedy(PLAIN, PASCANU, penalty=lab.Omega(2.0, "code")),
    "flossing": Remedy(PLAIN, "Engelken 2023", penalty=lab.Flossing(1.0, k=8)),
    "spectral norm": Remedy(PLAIN, "Miyato et al. 2018", optimizer=projected),
    "orthogonal": Remedy(lab.TANH, "Saxe et al. 2014"),
    "critical": Remedy(
        lab.rnn("critical", "tanh", initializers.Critical(1 / probes.DelayedRecall().input_size)),
        "Chen, Pennington & Schoenholz 2018",
    ),
    "identity, ReLU": Remedy(lab.IRNN, "Le, Jaitly & Hinton 2015"),
    "GRU": Remedy(lab.GRU, "the guide"),
    "GRU chrono": Remedy(lab.CHRONO, "Tallec & Ollivier 2018"),
}


def _group(s: Settings, names: list[str]) -> lab.RunGroup:
    longest, first, runs = max(s.lags), REMEDIES[names[0]], []
    for name, lag in itertools.product(names, s.lags):
        labels, knobs = {"task": "recall", "arm": name, "length": lag}, {"lag": lag}
        start, max_norm = REMEDIES[name].arm.start(s.hidden_size, longest), REMEDIES[name].max_norm
        runs += lab.list_runs(labels, start, s.rates, s.seeds, knobs, max_norm=max_norm)
    probe, cell = probes.DelayedRecall(longest), first.arm.run(s.hidden_size)
    task = lab.Task(cell, probe, s.batch_size, first.penalty)
    return lab.RunGroup(names[0], task, tuple(runs), s.steps, first.optimizer)


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups: remedies that differ only in data share one program."""
    alike: dict[Hashable, list[str]] = {}
    for name, remedy in REMEDIES.items():
        key = remedy.arm.run(s.hidden_size), remedy.penalty, remedy.optimizer
        alike.setdefault(key, []).append(name)
    return [_group(s, names) for names in alike.values()]


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims: clipping against no remedy, and each remedy against clipping."""
    clipped = lab.Claim(
        "Clipping does no harm: as many runs learn as without it",
        PASCANU,
        lab.not_behind(CLIPPED, NOTHING),
    )
    return [clipped] + [
        lab.Claim(
            f"{name} helps: more runs learn than with clipping alone",
            remedy.source,
            lab.ahead(name, CLIPPED),
        )
        for name, remedy in REMEDIES.items()
        if name not in (NOTHING, CLIPPED)
    ]


STUDY = lab.Study(
    name="remedies",
    title="Remedies for gradients that vanish or explode",
    lead="Delayed recall: a symbol shown once is named some steps later. A tanh net that starts "
    "with independent normals, and one remedy each; all but the first clip gradients to a global "
    "norm of 1. Omega is weighted by 4, or by 2 as in its authors' code; flossing by 1, of 8 "
    "exponents, all through training. Adam, each at its best learning rate.",
    settings=Settings(),
    quick=Settings(seeds=4, lags=(10, 20), rates=(3e-3,), steps=300, hidden_size=24, batch_size=16),
    groups=groups,
    claims=claims,
    draw=lambda rows, path: lab.draw_grid(lab.at_best(rows), path, "remedy"),
    caption=lab.BY_TASK,
)
