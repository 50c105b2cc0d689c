"""A model that reads what it puts out: free running, forced by a teacher, or sampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer
from seqcells._model import Model, as_arrays, carry_shapes, is_function, like, start_carry
from seqcells._static import exported
from seqcells._trees import closed_over, leaves_like, over, select, silence
from seqcells._types import Carry, Inputs, Outputs, Params
from seqcells.engines._platform import varying

State = tuple[Carry, Outputs]  # the memory, and the y that the next step reads


@exported
class ClosedLoop(NamedTuple):
    """What `closed_loop` returns."""

    carry: Carry  # after the last step of each sequence
    ys: Outputs  # [steps, *B, ...]; zero after a sequence has stopped
    lengths: jax.Array  # int32[*B], the steps that each sequence took


def closed_loop(
    model: Model,
    params: Params,
    readout: Callable[..., Outputs],
    y0: Outputs,
    steps: int,
    *,
    carry: Carry = None,
    key: jax.Array | None = None,
    feed: Callable[[Outputs], Inputs] = lambda y: y,
    force: Outputs = None,
    where: ArrayLike | None = None,
    alpha: ArrayLike | None = None,
    inverse: Callable[[Outputs, Carry], Carry] | None = None,
    stop: Callable[[Outputs], jax.Array] | None = None,
) -> ClosedLoop:
    """Run a model on its own outputs.

    Without a teacher this is the loop::

        y = y0
        for t in range(steps):
            carry, h = model.step(params, carry, feed(y))
            y = readout(h)                            # readout(h, key of step t) with a key
            ys.append(y)

    **Teacher forcing.** `force` is what a teacher puts out, and the next step reads it in the place
    of y. With `where`, it does so at these steps alone: with random ones this is scheduled sampling
    (Bengio et al. 2015), with every tenth one it is sparse forcing (Mikhaeil et al. 2022). ys are
    the model's own in any case, so a loss compares them with `force`.

    **Generalised teacher forcing** (Hess et al. 2023, arXiv 2306.04406). With `alpha`, the next
    step starts from a mixture of carries, and reads the model's own y::

        carry = (1 - alpha) * carry + alpha * inverse(force[t], carry)

    `inverse` estimates a carry from what the teacher puts out. For a linear readout, y = h W, it
    may be `y @ pinv(W)`, as in the paper; or `h + (y - h @ W) @ pinv(W)`, the closest carry to the
    model's own that has this readout, which keeps what y does not show. Gradients shrink by
    up to 1 - alpha at each step. 0 is free running, and 1 starts each step from the data.

    To decode text, let `readout` draw a token from logits, and let `stop` compare it with the token
    that ends a text.

    Args:
        model: any cell or layer that can step.
        params: its parameters.
        readout: from a step's output h to y [*B, ...]; with `key`, from h and a key of the step.
        y0: y before the first step, [*B, ...]; an array or a tree of arrays, as `readout` makes it.
        steps: the most steps to take.
        carry: the memory before the first step; a fresh one if None.
        key: one random key, folded with the step, for `readout`. The model runs without noise.
        feed: from y to the model's input; it reads y itself by default. For a model without inputs,
            `lambda y: y[..., :0]`.
        force: [steps, *B, ...] like y, what the teacher puts out; none if None.
        where: bool[steps] or bool[steps, *B], the steps at which the teacher is used; all if None.
        alpha: the teacher's share of the carry, from 0 to 1: a number, or float[*B].
        inverse: from the teacher's y and the model's carry to a carry like it; needed with `alpha`.
        stop: from y to bool[*B]: whether a sequence has ended. From the next step on its carry
            stays unchanged and its ys are zero. The loop ends when all have ended, so it has no
            reverse derivative.

    Returns:
        The carry, ys and the steps that each sequence took.

    Raises:
        TypeError: if an argument has the wrong type, or `readout` returns a tree unlike y0.
        ValueError: if an argument has the wrong shape or needs another one, or the model cannot
            step.

    >>> import jax.numpy as jnp, seqcells as sc
    >>> cell = sc.FunctionCell(lambda params, h, x: (h + x, h + x), jnp.zeros_like)
    >>> ys = sc.closed_loop(cell, None, lambda h: h, jnp.ones(1), steps=5).ys
    >>> ys[:, 0].tolist()  # each is the sum of those before
    [1.0, 2.0, 4.0, 8.0, 16.0]
    """
    _check.instance("model", model, (Cell, Layer), "GRU(64)")
    functions = {"readout": readout, "feed": feed}
    functions |= {"inverse": inverse} if inverse is not None else {}
    functions |= {"stop": stop} if stop is not None else {}
    for name, function in functions.items():
        if not is_function(function):
            raise TypeError(f"{name}: expected a function, got {_check.describe_one(function)}")
    steps = _check.size("steps", steps, least=0)
    if key is not None:
        _check.key("key", key)
    y0, params = jax.tree.map(jnp.asarray, y0), as_arrays(params)
    x, batch = _check.inputs("feed(y0)", feed(y0), model.x_ndim, model.x_dtypes, "*B")
    teacher = _teacher(y0, steps, batch, force, where, alpha, inverse)
    resolved = model.resolve(x)
    if carry is None:
        carry = start_carry(resolved, x, params)
    carry = like("carry", carry, carry_shapes(resolved, x, params), x)
    held, back = closed_over(params)

    def step(state: State, t: jax.Array) -> tuple[State, Outputs]:
        """Take one step; return the carry and the y that the next one reads, and y."""
        carry, y = state
        carry, h = model.step(back(held), carry, feed(y))
        y = readout(h) if key is None else readout(h, jax.random.fold_in(key, t))
        return teacher.use(t, carry, _checked(y, y0)), y

    # What a readout closes over may vary over the devices of a shard_map, as nothing else does.
    outputs = jax.make_jaxpr(step)((carry, y0), jnp.zeros((), int)).out_avals
    start = varying((carry, y0), outputs)
    if stop is None:
        (carry, _), ys = jax.lax.scan(step, start, jnp.arange(steps))
        return ClosedLoop(carry, ys, jnp.full(batch, steps, jnp.int32))
    return _until(stop, step, start, steps, batch)


class _Teacher(NamedTuple):
    """Checked arguments of a teacher, for any number of steps and sequences."""

    force: Outputs  # [steps, *B, ...], None without a teacher
    where: jax.Array | None  # bool[steps, *B]
    alpha: jax.Array | None  # float[*B]
    inverse: Callable[[Outputs, Carry], Carry] | None

    def use(self, t: jax.Array, carry: Carry, y: Outputs) -> State:
        """Return the carry and the y for the next step, after step t."""
        if self.force is None:
            return carry, y
        theirs = jax.tree.map(lambda a: a[t], self.force)
        if self.inverse is None or self.alpha is None:
            return carry, theirs if self.where is None else select(self.where[t], theirs, y)
        given = like("inverse(force)", self.inverse(theirs, carry), carry, theirs)
        alpha = self.alpha

        def mix(own: jax.Array, other: jax.Array) -> jax.Array:
            share = alpha.reshape(*alpha.shape, *[1] * (own.ndim - alpha.ndim)).astype(own.dtype)
            return (1 - share) * own + share * other

        mixed = jax.tree.map(mix, carry, given)
        return mixed if self.where is None else select(self.where[t], mixed, carry), y


def _teacher(
    y0: Outputs,
    steps: int,
    batch: tuple[int, ...],
    force: Outputs,
    where: ArrayLike | None,
    alpha: ArrayLike | None,
    inverse: Callable[[Outputs, Carry], Carry] | None,
) -> _Teacher:
    """Check the arguments of a teacher."""
    given = {"where": where, "alpha": alpha, "inverse": inverse}
    unused = [name for name, value in given.items() if value is not None and force is None]
    if unused:
        raise ValueError(f"{unused[0]}: expected None without force, got one; give force too")
    if (alpha is None) != (inverse is None):
        lacks, has = ("alpha", "inverse") if alpha is None else ("inverse", "alpha")
        raise ValueError(f"{lacks}: expected one beside {has}, got None")
    if force is not None:
        every = jax.tree.map(lambda a: jax.ShapeDtypeStruct((steps, *a.shape), a.dtype), y0)
        force = like("force", force, every, y0)
    if where is not None:
        axes = (steps, *batch)
        where = _check.boolean("where", where, axes[: max(jnp.ndim(where), 1)], "steps, batch")
        where = over(where, axes)
    if alpha is not None:
        if jnp.shape(alpha) not in ((), batch):
            got = _check.describe_one(alpha)
            raise ValueError(f"alpha: expected a number or float{list(batch)}, got {got}")
        _check.within("alpha", alpha, 0, 1, "numbers from 0 to 1")
        alpha = jnp.broadcast_to(jnp.asarray(alpha, float), batch)
    return _Teacher(force, where, alpha, inverse)


def _checked(y: Outputs, y0: Outputs) -> Outputs:
    """Return y in the dtypes of y0, or raise if it is another tree or has other shapes."""
    leaves = leaves_like(y, y0)
    if leaves is None:
        got = _check.describe(y)
        raise ValueError(f"y0: expected {got}, as readout makes it, got {_check.describe(y0)}")
    wanted, structure = jax.tree.flatten(y0)
    pairs = zip(leaves, wanted, strict=True)
    return structure.unflatten([a.astype(b.dtype) for a, b in pairs])


def _until(
    stop: Callable[[Outputs], jax.Array],
    step: Callable[[State, jax.Array], tuple[State, Outputs]],
    start: State,
    steps: int,
    batch: tuple[int, ...],
) -> ClosedLoop:
    """Take steps until all sequences have stopped."""

    class Running(NamedTuple):
        t: jax.Array
        state: State
        runs: jax.Array  # bool[*B]
        ys: Outputs  # [steps, *B, ...]
        lengths: jax.Array  # int32[*B]

    def body(now: Running) -> Running:
        state, y = step(now.state, now.t)
        ended = _check.boolean("stop(y)", stop(y), batch, "the batch axes of y0")
        ys = jax.tree.map(lambda a, b: a.at[now.t].set(b), now.ys, silence(now.runs, y))
        state = select(now.runs, state, now.state)
        lengths = now.lengths + now.runs.astype(jnp.int32)
        return Running(now.t + 1, state, now.runs & ~ended, ys, lengths)

    first = jax.eval_shape(step, start, jnp.zeros((), int))[1]
    ys = jax.tree.map(lambda a: jnp.zeros((steps, *a.shape), a.dtype), first)
    empty = jnp.ones(batch, bool), ys, jnp.zeros(batch, jnp.int32)
    running = Running(jnp.zeros((), int), start, *varying(empty, start))
    end = jax.lax.while_loop(lambda now: (now.t < steps) & jnp.any(now.runs), body, running)
    return ClosedLoop(end.state[0], end.ys, end.lengths)
