"""An engine whose gradient is computed forward in time, in memory that does not grow with it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from seqcells._cell import Cell
from seqcells._flags import Flags
from seqcells._static import Static
from seqcells._trees import scan, select, silence, zeros_like
from seqcells._types import Carry, Inputs, Outputs, Params, PyTree
from seqcells.engines import Engine, Scan
from seqcells.online import _forms
from seqcells.online._influence import Exact, Form, added
from seqcells.online._moment import Moment, Row, State


@dataclasses.dataclass(frozen=True)
class ForwardMode(Engine):
    """Run `cell.step` in a scan, and compute its gradient forward in time, as `online.RTRL` does.

    The gradient by the parameters, the initial carry and `reset_carry` is the same as that of
    `Scan`, and no carry or residual of a step is stored: beside xs, ys and the cotangent of ys,
    memory does not grow with T. For that, the backward pass runs the sequence a second time, with
    the influence of `online.RTRL`, whose memory and time are given there: for elementwise
    recurrences, a few times those of the parameters for each row; for others S times, for a carry
    of S numbers. This engine runs only if you name it.

    There is no gradient by xs, because the influence of each input would have to be kept from its
    step on. So nothing below this cell can be trained through it: a `Dense` before it, or another
    cell, needs another engine, or `jax.lax.stop_gradient`.

    Forward-mode derivatives (`jax.jvp`) are not defined: use `Scan`, which has them in the same
    memory.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell, xs = sc.MinGRU(4), jnp.ones((100, 2))
    >>> def loss(params, xs):
    ...     return jnp.sum(sc.unroll(cell, params, xs, engine=sc.ForwardMode())[1] ** 2)
    >>> grads = jax.grad(loss)(cell.init(jax.random.key(0), 2), xs)
    >>> grads.w_ih.shape
    (2, 8)
    """

    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return None: it runs every cell."""
        return None

    def run(
        self, cell: Cell, params: Params, xs: Inputs, carry: Carry, flags: Flags
    ) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        where = (flags.valid, flags.restart)
        return _unrolled(cell, flags.reverse, xs, where, params, carry, flags.fresh)


@dataclasses.dataclass(frozen=True)
class _Asked(Static):
    """Of which arguments the gradient is asked for: some of "params", "carry" and "fresh"."""

    names: tuple[str, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _unrolled(
    cell: Cell,
    reverse: bool,
    xs: Inputs,
    where: PyTree,
    params: Params,
    carry: Carry,
    fresh: Carry,
) -> tuple[Carry, Outputs]:
    valid, restart = where
    flags = Flags(valid, restart, fresh, reverse)
    return Scan().run(cell, params, xs, carry, flags)


def _forward(cell: Cell, reverse: bool, *primals: PyTree) -> tuple[PyTree, PyTree]:
    def asked(tree: PyTree) -> bool:
        return any(leaf.perturbed for leaf in jax.tree.leaves(tree, is_leaf=_is_primal))

    xs, _, params, carry, fresh = primals
    if asked(xs):
        raise ValueError(
            f"engine: ForwardMode has no gradient by the inputs xs of {cell}, because it would "
            "have to keep the influence of each input from its step on; differentiate by params "
            "alone, stop what is below this cell with jax.lax.stop_gradient(xs), or use another "
            "engine"
        )
    trees = {"params": params, "carry": carry, "fresh": fresh}
    values = jax.tree.map(lambda leaf: leaf.value, primals, is_leaf=_is_primal)
    names = _Asked(tuple(name for name, tree in trees.items() if asked(tree)))
    return _unrolled(cell, reverse, *values), (names, values)


def _backward(cell: Cell, reverse: bool, residuals: PyTree, cotangents: PyTree) -> PyTree:
    asked, (xs, where, params, carry, fresh) = residuals
    last, dys = jax.tree.map(_instantiate, cotangents, is_leaf=_is_symbolic)
    second = _Second(Moment(cell, params, carry, jax.tree.map(_no_input, xs)), fresh, asked.names)
    by_params, *by_carries = second.run((xs, *where, dys), last, reverse)
    pairs = zip(by_carries, (carry, fresh), strict=True)
    by_carries = (zeros_like(like) if a is None else a for a, like in pairs)
    return None, None, *jax.tree.map(_like, (by_params, *by_carries), (params, carry, fresh))


@dataclasses.dataclass(frozen=True)
class _Second:
    """The second run over the sequences.

    Attributes:
        first: the moment before the first step.
        fresh: the carry after a reset.
        names: of which arguments the gradient is asked for.
    """

    first: Moment
    fresh: Carry
    names: tuple[str, ...]

    @functools.cached_property
    def form(self) -> Exact:
        """The form of the influence of the parameters."""
        return _forms.exact(self.first)

    def form_of(self, name: str) -> Form:
        """Return the form of the influence of an argument."""
        return self.form if name == "params" else self.form.of_carry()

    def run(
        self, inputs: PyTree, last: Carry, reverse: bool
    ) -> tuple[Params, Carry | None, Carry | None]:
        """Return the gradients by params, the initial carry and the fresh one; None if not asked.

        Args:
            inputs: xs, valid, restart and the cotangent of ys, [T, *B, ...].
            last: the cotangent of the last carry.
            reverse: whether time is read from the end.
        """
        first = self.first
        none = first.of_rows(lambda row: self.form.derivative(row.start, row.params))
        itself = first.of_rows(self.form.of_carry().identity)
        none, nothing = zeros_like((none, itself))
        starts = self._some({"params": none, "carry": itself, "fresh": nothing})
        restarts = self._some({"params": none, "carry": nothing, "fresh": itself})
        sums = zeros_like(self._pull(first, first.with_output(last), starts))
        memory = first.carry, starts, zeros_like(first.held()[0]), sums
        step = functools.partial(self._step, restarts)
        (_, influences, direct, sums), _ = scan(step, memory, inputs, reverse=reverse)
        ends = self._pull(first, first.with_output(last), influences)
        sums = jax.tree.map(jnp.add, sums, ends)
        if "params" in sums:
            direct = added(direct, self.form.as_tree(sums["params"], first.params))
        return direct, self._as_carry(sums.get("carry")), self._as_carry(sums.get("fresh"))

    def _step(self, restarts: PyTree, memory: PyTree, inputs: PyTree) -> tuple[PyTree, None]:
        (carry, influences, direct, sums), (x, valid, restart, dy) = memory, inputs
        if restart is not None:
            carry, influences = select(restart, (self.fresh, restarts), (carry, influences))
        x, dy = silence(valid, (x, dy))
        before = dataclasses.replace(self.first, carry=carry, x=x, fresh=restart)
        new = before.advance()[0], before.of_rows(self._move, influences)
        carry, influences = new if valid is None else select(valid, new, (carry, influences))
        after = dataclasses.replace(self.first, carry=carry, x=x)
        by_params, state = after.split(dy)
        parts = by_params, self._pull(after, state, influences)
        direct, sums = jax.tree.map(jnp.add, (direct, sums), parts)
        return (carry, influences, direct, sums), None

    def _move(self, row: Row, influences: PyTree) -> PyTree:
        """Return the influences after a step of a row."""
        blocks = self.form.jacobian(row)
        moved = {name: self.form_of(name).push(blocks, p) for name, p in influences.items()}
        if "params" in moved:
            moved["params"] = self.form.plus_immediate(row, moved["params"])
        return moved

    def _pull(self, moment: Moment, state: State, influences: PyTree) -> PyTree:
        """Return the gradients of a cotangent of the state; by params summed over the batch."""

        def row(_: Row, state: State, influences: PyTree) -> PyTree:
            return {name: self.form_of(name).pull(state, p) for name, p in influences.items()}

        pulled, axes = moment.of_rows(row, state, influences), tuple(range(len(moment.batch)))
        if "params" in pulled:
            pulled["params"] = [a.sum(axes) for a in pulled["params"]]
        return pulled

    def _some(self, trees: dict[str, PyTree]) -> dict[str, PyTree]:
        return {name: trees[name] for name in self.names}

    def _as_carry(self, pulled: PyTree) -> Carry | None:
        if pulled is None:
            return None
        return self.first.of_rows(lambda row, a: self.form.as_carry(a, row.carry), *pulled)


def _like(gradient: jax.Array, primal: jax.Array) -> jax.Array | np.ndarray:
    """Return a cotangent in the dtype that JAX expects."""
    if jnp.issubdtype(primal.dtype, jnp.floating):
        return gradient.astype(primal.dtype)
    return np.zeros(primal.shape, jax.dtypes.float0)


def _no_input(leaf: jax.Array) -> jax.Array:
    """Return zeros shaped as one step of xs, also where there is no step."""
    return jnp.zeros_like(leaf[0]) if leaf.shape[0] else jnp.zeros(leaf.shape[1:], leaf.dtype)


def _is_primal(leaf: object) -> bool:
    return hasattr(leaf, "perturbed")


def _is_symbolic(leaf: object) -> bool:
    return isinstance(leaf, SymbolicZero)


def _instantiate(leaf: Any) -> jax.Array:
    return jnp.zeros(leaf.shape, leaf.dtype) if _is_symbolic(leaf) else leaf


_unrolled.defvjp(_forward, _backward, symbolic_zeros=True)
