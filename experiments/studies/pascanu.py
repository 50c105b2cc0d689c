"""Temporal order by plain gradient descent, as Pascanu et al. (2013) trained it.

Plain gradient descent from three initialisations, with and without clipping, and with a penalty on
gradients that vanish. The claim: over 20 steps all solve the task from every initialisation; over
more steps the penalty does better than clipping, and clipping better than no remedy.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import optax

from experiments import lab
from seqcells import initializers, probes


class Descent(NamedTuple):
    """Gradient descent, with a remedy for gradients that explode or vanish."""

    max_norm: float  # norm to which gradients are clipped
    penalty: lab.Penalty | None = None


_SMALL, _TENTH = initializers.Normal(0.01), initializers.Normal(0.1)
ARMS = (
    lab.rnn("sigmoid", "sigmoid", _SMALL, w_ih_init=_SMALL),
    lab.rnn("tanh", "tanh", _TENTH, w_ih_init=_TENTH),
    lab.rnn("smart tanh", "tanh", initializers.Sparse(15, 0.95), w_ih_init=_TENTH),
)
DESCENTS = {
    "SGD": Descent(math.inf),
    "SGD-C": Descent(1.0),
    "SGD-CR": Descent(1.0, lab.Omega(4.0, "paper")),
    "SGD-CR, their code": Descent(1.0, lab.Omega(2.0, "code")),
}
CLIMB = (("SGD-C", "SGD"), ("SGD-CR", "SGD-C"))  # the claim: each is at least as good as the next


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 5  # runs per setting, each with its own random seed
    lengths: tuple[int, ...] = (20,)  # lengths of temporal order, steps
    steps: int = 50_000
    """maximal training steps; a group stops early once all its runs have learned"""
    learning_rate: float = 0.01  # learning rate of plain gradient descent
    hidden_size: int = 50  # units of every net
    batch_size: int = 20  # sequences per training step


def sgd(member: lab.Member) -> optax.GradientTransformation:
    """Gradient descent after clipping by the global norm."""
    clip = optax.clip_by_global_norm(member.hparams.max_norm)
    return optax.chain(clip, optax.sgd(member.hparams.learning_rate))


def _group(s: Settings, arm: lab.Arm, length: int, names: Sequence[str]) -> lab.RunGroup:
    start, runs = arm.start(s.hidden_size, length), []
    for how in names:
        labels, max_norm = {"task": arm.name, "arm": how, "length": length}, DESCENTS[how].max_norm
        runs += lab.list_runs(labels, start, (s.learning_rate,), s.seeds, max_norm=max_norm)
    cell, penalty = arm.run(s.hidden_size), DESCENTS[names[0]].penalty
    task = lab.Task(cell, probes.TemporalOrder(length), s.batch_size, penalty)
    name = f"{arm.name} {length} {names[-1]}"
    return lab.RunGroup(name, task, tuple(runs), s.steps, sgd, segment=500)


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups: runs with the same penalty share a program."""
    by_penalty: dict[lab.Penalty | None, list[str]] = {}
    for how, descent in DESCENTS.items():
        by_penalty.setdefault(descent.penalty, []).append(how)
    return [
        _group(s, arm, length, names)
        for length in s.lengths
        for names in by_penalty.values()
        for arm in ARMS
    ]


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    source, steps = "Pascanu, Mikolov & Bengio 2013, fig. 7", s.steps
    solved = [
        lab.Claim(
            f"{arm.name}: most seeds of {how} solve temporal order over {length} steps by "
            f"{steps:,} updates",
            source,
            lab.share_at_least(0.5, steps, task=arm.name, arm=how, length=length),
        )
        for length in s.lengths
        for arm in ARMS
        for how in ("SGD", "SGD-C")
    ]
    climb = [
        lab.Claim(
            f"{arm.name}: {how} solves it at least as often as {than}, at every length",
            source,
            lab.not_behind(how, than, task=arm.name),
        )
        for arm in ARMS
        for how, than in CLIMB
    ]
    return solved + climb


STUDY = lab.Study(
    name="pascanu",
    title="Temporal order by plain gradient descent",
    lead="Which of two symbols came at two places of a sequence, and in which order: four answers. "
    "Nets of one layer; sigmoid: weights N(0, 0.01^2); tanh: N(0, 0.1^2); smart tanh: 15 recurrent "
    "weights per unit, scaled to a spectral radius of 0.95. SGD-C clips gradients to a norm of "
    "1; SGD-CR adds Omega, which is 0 if gradients keep their norm going back in time, as in the "
    "paper (times 4) and as in its authors' code (times 2).",
    settings=Settings(),
    quick=Settings(seeds=4, lengths=(10,), steps=3000),
    groups=groups,
    claims=claims,
    draw=lab.draw_success,
    caption="Each panel is one start of the weights. Marks near 1 are methods that solve the task "
    f"from there. {lab.OVERLAP}",
)
