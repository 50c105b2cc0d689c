"""How far the gradient of a rule points along the true one, as a whole and by lag."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import seqcells as sc
from experiments import lab
from experiments.lab.models import ReaderParams
from experiments.lab.runs import Trained
from experiments.lab.training import over_members, pad
from experiments.studies.online.learning import BACKWARD, ByRule
from seqcells import online, train

COMPARED = {"GRU": ("SnAp-1", "e-prop", "UORO"), "CTRNN": ("e-prop", "RFLO")}
BY_LAG = ("SnAp-1", "e-prop", "RFLO")  # rules whose trace is a sum over the steps before
SAMPLES = 64  # sequences by which gradients are compared
EARLY = 50  # updates
WHEN = (lab.AT_START, f"after {EARLY} updates", lab.AT_END)


def by_lag(
    rule: online.Rule, params: Any, xs: jax.Array, dy: jax.Array, *feedback: jax.Array
) -> jax.Array:
    """Split the gradient of the last step's loss by how long before the parameters were used.

    A step adds the influence of its own use, and moves on that of earlier ones, which is linear.

    Args:
        rule: a rule whose trace is a sum over uses.
        params: of its model.
        xs: float[T, N, D].
        dy: what `rule.gradient` takes at the last step, such as float[N, H].
        feedback: the matrix of random feedback, if the rule has one.

    Returns:
        float[T, P], for each lag from 0 on, the parameters as one vector.
    """
    trace = rule.init(params, xs[0])
    nothing = jax.tree.map(jnp.zeros_like, trace.influence)

    def step(memory: tuple, x: jax.Array) -> tuple[tuple, None]:
        trace, parts = memory

        def move(influence: Any) -> Any:
            return rule.step(params, trace._replace(influence=influence), x)[0].influence

        own, push = jax.linearize(move, nothing)
        pushed = jax.vmap(push)(parts)
        parts = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:-1]]), own, pushed)
        return (rule.step(params, trace, x)[0], parts), None

    parts = jax.tree.map(lambda a: jnp.zeros((len(xs), *a.shape), a.dtype), nothing)
    (trace, parts), _ = jax.lax.scan(step, (trace, parts), xs)

    def pull(part: Any) -> jax.Array:
        own = rule.gradient(params, trace._replace(influence=part), dy, *feedback)
        return ravel_pytree(own)[0]

    return jax.vmap(pull)(parts)


def exact_by_lag(cell: sc.Cell, params: Any, xs: jax.Array, dy: jax.Array) -> jax.Array:
    """Split the true gradient as `by_lag` does: by a copy of the parameters for each step."""
    copies = jax.tree.map(lambda a: jnp.broadcast_to(a, (len(xs), *a.shape)), params)

    def last(copies: Any) -> jax.Array:
        def step(carry: Any, inputs: tuple) -> tuple[Any, jax.Array]:
            return cell.step(inputs[0], carry, inputs[1])

        return jnp.vdot(jax.lax.scan(step, cell.init_carry(xs[0]), (copies, xs))[1][-1], dy)

    return jax.vmap(lambda tree: ravel_pytree(tree)[0])(jax.grad(last)(copies))[::-1]


def cosine(one: jax.Array, two: jax.Array) -> jax.Array:
    """Return the cosine of vectors along the last axis; 0 where one is zero."""
    norms = jnp.linalg.norm(one, axis=-1) * jnp.linalg.norm(two, axis=-1)
    return jnp.where(norms > 0, jnp.sum(one * two, axis=-1) / jnp.where(norms > 0, norms, 1), 0)


@functools.partial(jax.jit, static_argnums=0)
def compare(task: ByRule, params: ReaderParams, key: jax.Array) -> tuple[jax.Array, ...]:
    """Return the cosine of the whole gradient to the true one; and those by lag, if any, [T]."""
    k_sample, k_rule = jax.random.split(key)
    sample = task.probe.sample(k_sample, SAMPLES)

    def loss(cell: Any) -> jax.Array:
        answers = task.reader(params._replace(cell=cell), sample)
        return task.probe.score(answers, sample.targets).loss

    own = task.graded(params, sample, k_rule)[1].cell
    whole = cosine(*(ravel_pytree(tree)[0] for tree in (own, jax.grad(loss)(params.cell))))
    if task.rule not in BY_LAG:
        return (whole,)
    _, ys = sc.unroll(task.cell, params.cell, sample.xs)

    def last(out: jax.Array) -> jax.Array:
        return task.probe.score(out[None], sample.targets[-1:]).loss

    error = jax.grad(last)(task.reader.read(params, ys[-1]))
    parts = by_lag(task.made, params.cell, sample.xs, *task.signals(params, error))
    exact = exact_by_lag(task.cell, params.cell, sample.xs, error @ params.w.T)
    return whole, cosine(parts, exact)


def train_early(trained: Trained) -> ReaderParams:
    """Train the nets again from their start, for `EARLY` updates on the same data."""

    def begin(params: ReaderParams, member: Any, seed: jax.Array) -> train.TrainState:
        _, k_train, _ = jax.random.split(jax.random.key(seed), 3)
        return train.init(params, member, k_train, lab.optimizer)

    seeds = pad(jnp.asarray([run.seed for run in trained.runs]))
    state = jax.jit(over_members(begin))(trained.before, trained.members, seeds)
    options = {"segment": EARLY, "optimizer": lab.optimizer, "transform": over_members}
    return train.fit(trained.task, state, trained.members, EARLY, **options)[0].params


@dataclasses.dataclass(frozen=True)
class Cosines:
    """Cosines of the rules' gradients to the true one, of nets trained by backprop: "cosines".

    A row without a lag is about the gradient of all answers together.

    Attributes:
        tasks: of these tasks; the parts by lag of long sequences take minutes.
    """

    tasks: tuple[str, ...] = ()

    table: ClassVar[str] = "cosines"
    columns: ClassVar[Sequence[str]] = ("task", "cell", "rule", "when", "seed", "lag", "cosine")

    def rows(self, trained: Trained) -> list[Mapping[str, object]]:
        """Measure the rows; none of nets that another rule trained."""
        labels = trained.runs[0].labels
        name, _, by = labels["arm"].partition(", ")
        if by != BACKWARD or labels["task"] not in self.tasks:
            return []
        found: list[Mapping[str, object]] = []
        nets = trained.before, train_early(trained), trained.after
        for when, params in zip(WHEN, nets, strict=True):
            params = jax.tree.map(np.asarray, params)
            for run, rule in ((run, rule) for run in trained.runs for rule in COMPARED[name]):
                i = trained.runs.index(run)
                task = ByRule(trained.task.net, trained.task.probe, SAMPLES, rule=rule)
                own = jax.tree.map(lambda a, i=i: a[i], params)
                whole, *lags = compare(task, own, jax.random.key(run.seed))
                labels = {"task": run.labels["task"], "cell": name, "rule": rule, "when": when}
                values = [(math.nan, float(whole)), *enumerate(map(float, np.ravel(lags)))]
                found += [{**labels, "seed": run.seed, "lag": k, "cosine": c} for k, c in values]
        return found
