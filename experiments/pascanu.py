"""Temporal order by plain gradient descent, as Pascanu et al. (2013) trained it.

Plain gradient descent, with and without clipping, from three initialisations. Over 20 steps both
are said to solve the task from every start.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import optax

import seqcells as sc
from experiments import _check
from experiments._arms import Arm
from experiments._model import Member, Reader, Task
from experiments._picture import draw_success
from experiments._race import Claim, Study, share_at_least
from experiments._trial import Run, Trials
from seqcells import initializers, probes


def _arm(name: str, activation: str, w_hh_init: Any, w_ih_init: Any) -> Arm:
    def start(size: int, _: int) -> sc.RNN:
        return sc.RNN(size, activation, w_ih_init=w_ih_init, w_hh_init=w_hh_init)

    return Arm(name, start, lambda size: sc.RNN(size, activation))


_SMALL, _TENTH = initializers.Normal(0.01), initializers.Normal(0.1)
ARMS = (
    _arm("sigmoid", "sigmoid", _SMALL, _SMALL),
    _arm("tanh", "tanh", _TENTH, _TENTH),
    _arm("smart tanh", "tanh", initializers.Sparse(15, 0.95), _TENTH),
)
CLIPPED = {"SGD": math.inf, "SGD-C": 1.0}  # the norm to which gradients are clipped


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the study."""

    seeds: int = 5
    lengths: tuple[int, ...] = (20,)
    steps: int = 50_000
    learning_rate: float = 0.01
    hidden_size: int = 50
    batch_size: int = 20

    def __post_init__(self) -> None:
        _check.all_of(self)


QUICK = Settings(seeds=2, lengths=(10,), steps=5000)


def sgd(member: Member) -> optax.GradientTransformation:
    """Gradient descent behind clipping by the global norm."""
    clip = optax.clip_by_global_norm(member.hparams.max_norm)
    return optax.chain(clip, optax.sgd(member.hparams.learning_rate))


def groups(s: Settings) -> list[Trials]:
    """List the trials."""
    made = []
    for length in s.lengths:
        probe = probes.TemporalOrder(length)
        for arm in ARMS:
            runs = tuple(
                Run(
                    {"task": how, "arm": arm.name, "length": length},
                    arm.start(s.hidden_size, length),
                    seed,
                    {"learning_rate": s.learning_rate, "max_norm": norm},
                )
                for how, norm in CLIPPED.items()
                for seed in range(s.seeds)
            )
            reader = Reader(arm.run(s.hidden_size), probe.output_size)
            task = Task(reader, probe, s.batch_size)
            made.append(Trials(f"{arm.name} {length}", task, runs, s.steps, sgd, segment=500))
    return made


def claims(settings: dict[str, Any]) -> list[Claim]:
    """Say what is judged."""
    return [
        Claim(
            f"{arm.name}: {how} solves temporal order over {length} steps, 5 of 5 seeds, by "
            f"{settings['steps']:,} updates",
            "Pascanu, Mikolov & Bengio 2013, fig. 7",
            share_at_least(1.0, settings["steps"], task=how, arm=arm.name, length=length),
        )
        for length in settings.get("lengths", ())
        for arm in ARMS
        for how in CLIPPED
    ]


STUDY = Study(
    name="pascanu",
    title="Temporal order by plain gradient descent",
    lead="Which of two symbols came at two places of a sequence, and in which order: four answers. "
    "Nets of one layer; sigmoid: weights N(0, 0.01^2); tanh: N(0, 0.1^2); smart tanh: 15 recurrent "
    "weights a unit, scaled to a spectral radius of 0.95. SGD-C clips gradients to a norm of 1.",
    groups=groups,
    claims=claims,
    draw=functools.partial(draw_success, x="length", panel="task", label="length, steps"),
)
run, report = STUDY.run, STUDY.report
