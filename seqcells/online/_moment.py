"""One step of a model on a batch, and the same step of each of its rows, to be differentiated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from seqcells._cell import Cell, FunctionCell
from seqcells._model import Model, leading
from seqcells._trees import closed_over, zeros_like
from seqcells._types import Carry, Inputs, Outputs, Params, PyTree

State = tuple[Carry, Outputs]  # the carry, and y if the state keeps it; else an empty tuple


@dataclasses.dataclass(frozen=True)
class Row:
    """A step of one row.

    Attributes:
        model: the model, resolved and settled.
        params: its parameters in at least float32.
        carry: the memory before the step, after a reset.
        drawn: `params -> (model, params, x)`, what the step is computed with: the model as it is
            and the row's input, or what noise makes of them.
        step: `(params, carry) -> state` after the step.
        start: `params -> state` with which a sequence starts.
    """

    model: Model
    params: Params
    carry: Carry
    drawn: Callable[[Params], tuple[Model, Params, Inputs]]
    step: Callable[[Params, Carry], State]
    start: Callable[[Params], State]


@dataclasses.dataclass(frozen=True)
class Moment:
    """A step of a batch.

    Attributes:
        model: the model, resolved and settled.
        params: its parameters.
        carry: the memory before the step, after resets; [*B, ...].
        x: the inputs of the step, [*B, ...].
        fresh: bool[*B], True where a sequence starts by a reset; None where none does.
        key: one random key for noise, or None.
    """

    model: Model
    params: Params
    carry: Carry
    x: Inputs
    fresh: jax.Array | None = None
    key: jax.Array | None = None

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch axes."""
        return leading(self.model, self.x)

    def held(self) -> tuple[Params, Callable[[Params], Params]]:
        """Return the parameters in at least float32, and the way back to what the model takes."""
        held, back = closed_over(self.params)
        casts = isinstance(self.model, Cell) and self.model.casts_params
        return held, (lambda params: params) if casts else back

    def advance(self) -> tuple[Carry, Outputs]:
        """Take the step."""
        return self.model.advance(self.params, self.carry, self.x, self.fresh, self.key)

    def split(self, dy: Outputs) -> tuple[Params, State]:
        """Split a cotangent of y into the gradient by what reads y, and a cotangent of the state.

        `carry` is here that after the step. The gradient is a tree like `held`, summed over rows.
        """
        held, back = self.held()
        if self.keeps_output():
            return zeros_like(held), (zeros_like(self.carry), dy)

        def read(held: Params, carry: Carry) -> Outputs:
            params, model = back(held), self.model
            assert isinstance(model, Cell)  # for the type checker: its state does not keep y
            return model.read(params, carry, model.project(params, self.x))

        direct, by_carry = jax.vjp(read, held, self.carry)[1](dy)
        return direct, (by_carry, ())

    def with_output(self, carry: Carry) -> State:
        """Return a cotangent of the carry as one of the state."""
        y = jax.eval_shape(self.advance)[1] if self.keeps_output() else ()
        return carry, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), y)

    def keeps_output(self) -> bool:
        """Whether the state keeps y beside the carry, because y cannot be read from the carry.

        So it is for layers and for functions, whose y may use the carry before the step; and for
        cells with noise, if y depends on more than the carry.
        """
        model = self.model
        if not isinstance(model, Cell) or isinstance(model, FunctionCell):
            return True
        if not has_noise(model):
            return False
        drive = jax.eval_shape(model.project, self.params, self.x)
        params, _, drive = reaching(model.read, self.params, self.carry, drive)
        return any(jax.tree.leaves((params, drive)))

    def of_rows(self, function: Callable[..., PyTree], *trees: PyTree) -> PyTree:
        """Call `function(row, *trees)` for each row, and stack the results, [*B, ...].

        Rows do not read each other, so derivatives by row are those of the batch.
        """
        batch, keeps = self.batch, self.keeps_output()
        (held, back), noise = self.held(), self.key if has_noise(self.model) else None

        def of(
            place: jax.Array, carry: Carry, x: Inputs, fresh: jax.Array | None, *trees: PyTree
        ) -> PyTree:
            def drawn(params: Params) -> tuple[Model, Params, Inputs]:
                if noise is None:
                    return self.model, back(params), x
                assert isinstance(self.model, Cell)  # for the type checker: it has noise
                xs = jax.tree.map(lambda a: a[None], self.x)  # noise is that of the whole batch
                given = back(params)
                model, params, xs = self.model.noisy(given, xs, noise)
                if jax.tree.structure(params) != jax.tree.structure(given):
                    raise ValueError(
                        f"key: expected None for {self.model}, whose mask of the carry is drawn "
                        "for all rows and kept with the parameters; set recurrent_rate=0, or use "
                        "Zoneout"
                    )
                return model, params, jax.tree.map(lambda a: a.reshape(-1, *a.shape[n:])[place], xs)

            def step(params: Params, carry: Carry) -> State:
                model, params, x = drawn(params)
                carry, y = model.advance(params, carry, x, fresh)
                return carry, (y if keeps else ())

            def start(params: Params) -> State:
                y = jax.eval_shape(step, params, carry)[1]
                return self.model.init_carry(zeros_like(x), back(params)), zeros_like(y)

            return function(Row(self.model, held, carry, drawn, step, start), *trees)

        n = 1 + len(batch)
        for _ in batch:
            of = jax.vmap(of)
        places = jnp.arange(math.prod(batch)).reshape(batch)
        return of(places, self.carry, self.x, self.fresh, *trees)


def has_noise(model: Model) -> bool:
    """Whether a model is a cell that may draw noise from a key."""
    return isinstance(model, Cell) and type(model).noisy is not Cell.noisy


def reaching(function: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """Return, for each leaf of `args`, whether it may reach the result, as the jaxpr shows."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    live = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    for eqn in reversed(jaxpr.eqns):
        if any(var in live for var in eqn.outvars):
            live |= {atom for atom in eqn.invars if not isinstance(atom, Literal)}
    reached = [var in live for var in jaxpr.invars]
    return jax.tree.unflatten(jax.tree.structure(args), reached)


def floats(tree: PyTree) -> list[jax.Array]:
    """Return the leaves of floating dtype: derivatives by others do not exist."""
    return [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.floating)]


def flat(tree: PyTree) -> jax.Array:
    """Join the floating leaves of a row's tree to one vector, float[S]."""
    leaves = [a.ravel() for a in floats(tree)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)


def unflat(vector: jax.Array, like: PyTree) -> PyTree:
    """Undo `flat`; leaves of other dtypes are those of `like`."""
    leaves, structure = jax.tree.flatten(like)
    out, start = [], 0
    for leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            part = jax.lax.slice_in_dim(vector, start, start + leaf.size)
            out.append(part.reshape(leaf.shape).astype(leaf.dtype))
            start += leaf.size
        else:
            out.append(leaf)
    return jax.tree.unflatten(structure, out)
