"""Training by a rule of `sc.online`, and what a step of each rule costs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

import seqcells as sc
from experiments import lab
from experiments.lab.models import Member, ReaderParams
from experiments.lab.runs import Trained
from seqcells import initializers, online, probes

BACKWARD, WINDOW = "backprop", "backprop, window"
RULES: dict[str, Callable[[sc.Cell], online.Rule]] = {
    "RTRL": online.RTRL,
    "SnAp-1": online.SnAp,
    "e-prop": online.EProp,
    "RFLO": functools.partial(online.RFLO, feedback_init=initializers.Normal(1.0)),
    "UORO": online.UORO,
}


@dataclasses.dataclass(frozen=True)
class ByRule(lab.Task):
    """A task whose gradient by the cell's parameters is that of a rule, summed over the steps."""

    rule: str = "RTRL"

    def __call__(
        self, params: ReaderParams, key: jax.Array, member: Member
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the loss of a fresh batch, and the measure of its success."""
        k_sample, k_rule = jax.random.split(key)
        sample = self.probe.sample(k_sample, self.batch_size, **member.knobs)
        found: Any = _loss(self, params, sample, k_rule)
        return found[0], {"measure": found[1]}

    @property
    def made(self) -> online.Rule:
        """The rule for the cell."""
        return RULES[self.rule](self.cell)

    def graded(
        self, params: ReaderParams, sample: probes.Sample, key: jax.Array
    ) -> tuple[probes.Score, ReaderParams]:
        """Return the score, and the gradient of the loss as the rule has it."""
        _, ys = sc.unroll(self.cell, params.cell, sample.xs)
        outs, through = jax.vjp(self.reader.read, params, ys)

        def loss(outs: jax.Array) -> tuple[jax.Array, probes.Score]:
            score = self.probe.score(sample.pick(outs), sample.targets)
            return score.loss, score

        errors, score = jax.grad(loss, has_aux=True)(outs)
        grads, _ = through(errors)  # those of the readout
        rule, (dys, *feedback) = self.made, self.signals(params, errors)

        def step(memory: tuple, inputs: tuple) -> tuple[tuple, None]:
            (trace, total), (x, dy, key) = memory, inputs
            trace, _ = rule.step(params.cell, trace, x, key=key)
            own = rule.gradient(params.cell, trace, dy, *feedback)
            return (trace, jax.tree.map(jnp.add, total, own)), None

        keys = jax.random.split(key, len(ys))
        start = rule.init(params.cell, sample.xs[0]), grads.cell
        (_, own), _ = jax.lax.scan(step, start, (sample.xs, dys, keys))
        return score, grads._replace(cell=own)

    def signals(self, params: ReaderParams, errors: jax.Array) -> tuple[jax.Array, ...]:
        """Return what `rule.gradient` takes, given the derivative by the answers [..., O]."""
        rule = self.made
        if isinstance(rule, online.EProp) and rule.feedback == "random":
            return errors, rule.init_feedback(jax.random.key(1), *params.w.shape[::-1])
        return (errors @ params.w.T,)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(
    task: ByRule, params: ReaderParams, sample: probes.Sample, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return _forward(task, params, sample, key)[0]


def _forward(
    task: ByRule, params: ReaderParams, sample: probes.Sample, key: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], ReaderParams]:
    score, grads = task.graded(params, sample, key)
    return (score.loss, getattr(score, task.probe.success.measure)), grads


def _backward(task: ByRule, grads: ReaderParams, by_loss: tuple) -> tuple:
    return jax.tree.map(lambda g: by_loss[0] * g, grads), None, None


_loss.defvjp(_forward, _backward)


def task(cell: sc.Cell, probe: probes.Probe, batch_size: int, rule: str) -> lab.Task:
    """Return the task of training a cell by a rule, or by backprop."""
    if rule in RULES:
        return ByRule(cell, probe, batch_size, rule=rule)
    engine = sc.Truncated(window(cell, probe.input_size)) if rule == WINDOW else None
    return lab.Task(sc.Recurrent(cell, engine=engine) if engine else cell, probe, batch_size)


@functools.lru_cache(maxsize=64)
def kept(cell: sc.Cell, rule: str, features: int) -> int:
    """Count the numbers that are kept of a sequence from step to step: by backprop, of one step."""
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), features))

    def size(batch: int) -> int:
        x = jnp.zeros((batch, features))
        if rule in RULES:
            memory = jax.eval_shape(RULES[rule](cell).init, params, x)
        else:
            carry = cell.init_carry(x)
            memory = jax.eval_shape(lambda p: jax.vjp(cell.step, p, carry, x)[1], params)
        return sum(leaf.size for leaf in jax.tree.leaves(memory))

    return size(2) - size(1)  # without what does not grow with the batch, such as parameters


def window(cell: sc.Cell, features: int) -> int:
    """Return the steps of backprop that fit into the memory of SnAp-1."""
    return max(1, kept(cell, "SnAp-1", features) // kept(cell, BACKWARD, features))


def operations(cell: sc.Cell, rule: str, features: int) -> float:
    """Count the operations of a step of one sequence with its gradient, as XLA does."""
    params, x = cell.init(jax.random.key(0), features), jnp.ones((1, features))
    carry, dy = cell.step(params, cell.init_carry(x), x)
    made = RULES.get(rule, online.RTRL)(cell)
    feedback = (jnp.eye(dy.shape[-1]),) * (rule == "RFLO")

    def forward(params: Any, trace: Any, x: jax.Array, dy: jax.Array) -> Any:
        trace, _ = made.step(params, trace, x, key=jax.random.key(0))
        return trace, made.gradient(params, trace, dy, *feedback)

    def backward(params: Any, carry: Any, x: jax.Array, dy: jax.Array) -> Any:
        out, back = jax.vjp(lambda p, h: cell.step(p, h, x), params, carry)
        return out, back((carry, dy))

    program, memory = (forward, made.init(params, x)) if rule in RULES else (backward, carry)
    compiled: Any = jax.jit(program).lower(params, memory, x, dy).compile()
    return float(compiled.cost_analysis()["flops"])


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a step of each rule costs: the table "costs". RTRL of a GRU is not trained."""

    table: ClassVar[str] = "costs"
    columns: ClassVar[Sequence[str]] = ("task", "arm", "operations", "kept")

    def rows(self, trained: Trained) -> list[Mapping[str, object]]:
        """Count, once for a group."""
        labels, probe = trained.runs[0].labels, trained.task.probe
        net, features = trained.task.net, probe.input_size
        cell: Any = net.cell if isinstance(net, sc.Recurrent) else net
        steps = len(probe.sample(jax.random.key(0), 1).xs)
        name, _, rule = labels["arm"].partition(", ")
        found = []
        for one in (rule, "RTRL") if labels["arm"] == f"GRU, {BACKWARD}" else (rule,):
            times = {BACKWARD: steps, WINDOW: window(cell, features) if rule == WINDOW else 1}
            numbers = times.get(one, 1) * kept(cell, one if one in RULES else BACKWARD, features)
            row = {"task": labels["task"], "arm": f"{name}, {one}", "kept": numbers}
            found.append({**row, "operations": operations(cell, one, features)})
        return found
