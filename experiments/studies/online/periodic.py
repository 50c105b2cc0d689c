"""The task of a published figure: a periodic output without input (Murray 2019, fig. 2)."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

import seqcells as sc
from experiments import lab
from experiments.lab.models import Member
from experiments.studies.online.cosines import Cosines
from experiments.studies.online.learning import Costs, task
from experiments.studies.online.verdicts import PERIODIC
from seqcells import initializers, probes

CYCLE, UNITS, TAU, RATE = 200, 30, 10.0, 0.015


@dataclasses.dataclass(frozen=True)
class Periodic(probes.Numbers):
    """Put out three sine waves after a pulse at the first step (compare Murray 2019, fig. 2)."""

    length: int = CYCLE

    input_size = 1
    baseline = (1 + 1 / 4 + 1 / 16) / 2
    success = probes.Success("loss", baseline / 10)

    def sample(self, key: jax.Array, batch_size: int) -> probes.Sample:
        """Return the one sequence, which is not random, `batch_size` times."""
        times = 2 * math.pi * jnp.arange(1, self.length + 1) / self.length
        waves = jnp.sin(times) + jnp.sin(2 * times) / 2 + jnp.sin(4 * times) / 4
        pulse = (jnp.arange(self.length) == 0).astype(jnp.float32)
        xs, ys = (jnp.tile(a[:, None], (1, batch_size)) for a in (pulse, waves))
        return probes.Sample.at_every_step(xs[..., None], ys)

    def guess(self, sample: probes.Sample) -> jax.Array:
        """Return zeros."""
        return jnp.zeros((*sample.targets.shape, 1))


def descent(member: Member) -> optax.GradientTransformation:
    """Return plain gradient descent."""
    return optax.sgd(member.hparams.learning_rate)


def group(seeds: int, trials: int, rule: str) -> lab.RunGroup:
    """Return the trainings by a rule."""
    weights = initializers.Normal(1.5 / UNITS**0.5)
    cell = sc.CTRNN(UNITS, tau=TAU, dt=1.0, w_hh_init=weights, bias="none")
    model = task(cell, Periodic(), 1, rule)
    labels = {"task": PERIODIC, "arm": f"CTRNN, {rule}", "length": CYCLE}
    return lab.RunGroup(
        f"{PERIODIC} {rule}",
        model,
        lab.list_runs(labels, model.net, (RATE,), seeds),
        trials,
        descent,
        segment=500,
        eval_size=1,
        strictness=1000,
        measures=(Costs(), Cosines()),
    )
