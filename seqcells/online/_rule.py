"""The base class of rules: a trace that a step moves on, and the gradient of each step's loss."""

from __future__ import annotations

import abc
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._cell import Cell
from seqcells._linear import wide
from seqcells._model import Model, as_arrays, carry_shapes, like, start_carry
from seqcells._static import Static, exported
from seqcells._trees import select, silence, zeros_like
from seqcells._types import Carry, Inputs, Outputs, Params, PyTree
from seqcells.engines._platform import varying
from seqcells.online._influence import Form, Influence, added
from seqcells.online._moment import Moment, Row, State


@exported
class Trace(NamedTuple):
    """What a rule keeps from step to step; its size does not depend on how many there were."""

    carry: Carry  # after the step, [*B, ...]
    x: Inputs  # of the step, [*B, ...]; zeros at padding and before the first step
    valid: jax.Array  # bool[*B], False at padding and before the first step
    influence: PyTree  # of the parameters on the carry, for each row; in the form of the rule


@dataclasses.dataclass(frozen=True)
class Rule(Static, abc.ABC):
    """The base of rules that compute gradients forward in time, step by step.

    A rule is a static value that is made for a model. The sum over time of `gradient` is the
    gradient of the sum of the losses, exactly or as the rule approximates it.

    Args:
        model: the cell or layer.
    """

    model: Model

    def __post_init__(self) -> None:
        _check.instance("model", self.model, Model, "GRU(64)")

    def init(
        self, params: Params, x: Inputs, carry: Carry = None, *, key: jax.Array | None = None
    ) -> Trace:
        """Return the trace before the first step.

        Args:
            params: the parameters, as `model.init` makes them.
            x: one step's input [*B, D]; its values are not used.
            carry: the memory before the first step, which is then taken for a constant; that of
                `model.init_carry` if None, through which a learned first carry has a gradient.
            key: one random key, for rules that draw random numbers and a learned first carry.

        Returns:
            The trace, a tree of arrays [*B, ...].

        Raises:
            TypeError: if x has the wrong dtype, or a parameter is not floating.
            ValueError: if shapes do not fit, or the rule cannot train this model.
        """
        params, x, batch = self._checked(params, x)
        model, own = settled(self.model.resolve(x), params)
        first = start_carry(model, x, own)
        given = carry is not None
        if given:
            first = like("carry", carry, carry_shapes(model, x, own), x)
        x = zeros_like(x)
        moment = Moment(model, own, first, x, key=key)
        fresh = self._fresh(moment)
        influence = zeros_like(fresh) if given else fresh
        first, influence = varying((first, influence), (params, x, carry))
        return Trace(first, x, jnp.zeros(batch, bool), influence)

    def step(
        self,
        params: Params,
        trace: Trace,
        x: Inputs,
        reset: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
        reset_carry: Carry = None,
        key: jax.Array | None = None,
    ) -> tuple[Trace, Outputs]:
        """Take one step of the model, and move the trace on; a body for `jax.lax.scan`.

        Values are those of `model.step`. At a reset, the influence of a row is replaced by the
        derivative of the fresh carry, which is zero unless that carry is learned.

        Args:
            params: the parameters.
            trace: that of `init` or of the step before.
            x: float[*B, D]; the input of this step.
            reset: bool[*B]; True = a new sequence starts here, before x is read.
            mask: bool[*B]; False = padding: the row keeps carry and influence, its y is zero, and
                neither x nor a reset there is read.
            reset_carry: the fresh carry, taken for a constant; that of `model.init_carry` if None.
            key: one random key, for the noise of the model and for rules that draw random numbers.

        Returns:
            The trace after the step, and the output y.

        Raises:
            TypeError: if a flag is not bool, x has the wrong dtype, or the key is not a random key.
            ValueError: if shapes do not fit, or the rule cannot train this model.
        """
        params, x, batch = self._checked(params, x)
        if key is not None:
            _check.key("key", key)
        model, own = settled(self.model.resolve(x), params)
        shapes = carry_shapes(model, x, own)
        carry, influence = like("carry", trace.carry, shapes, x), trace.influence
        if mask is not None:
            mask = _check.boolean("mask", mask, batch, "the batch axes of x")
            x = silence(mask, x)
        fresh = None
        if reset is not None:
            fresh = _check.boolean("reset", reset, batch, "the batch axes of x")
            fresh = fresh if mask is None else fresh & mask
            first = self._fresh(Moment(model, own, carry, x, key=key))
            if reset_carry is not None:
                first = zeros_like(first)
                reset_carry = like("reset_carry", reset_carry, shapes, x)
            else:
                reset_carry = start_carry(model, x, own)
            carry, influence = select(fresh, (reset_carry, first), (carry, influence))
        moment = Moment(model, own, carry, x, fresh, key)
        new, y = moment.advance()
        moved = self._update(moment, influence)
        valid = jnp.ones(batch, bool)
        if mask is not None:
            new, moved = select(mask, (new, moved), (carry, influence))
            y, valid = silence(mask, y), mask
        return Trace(new, x, valid, moved), y

    def gradient(self, params: Params, trace: Trace, dy: Outputs) -> Params:
        """Return the gradient of this step's loss by the parameters, summed over the batch.

        Call it after `step` with the same parameters, before they are updated.

        Args:
            params: the parameters.
            trace: that of the step.
            dy: the derivative of the loss by y, shaped as y; ignored at padding.

        Returns:
            A tree like params, in at least float32.

        Raises:
            ValueError: if dy is not shaped as y.
        """
        params, x, _ = self._checked(params, trace.x)
        model, own = settled(self.model.resolve(x), params)
        moment = Moment(model, own, trace.carry, x)
        y = jax.eval_shape(moment.advance)[1]
        dy = like("dy", dy, y, jax.tree.map(jnp.shape, x), "; it is shaped as y")
        grads = self._gradient(moment, silence(trace.valid, dy), trace.influence)
        return through_settling(self.model.resolve(x), params, grads)

    def _gradient(self, moment: Moment, dy: Outputs, influence: PyTree) -> Params:
        """Return the gradient for a cotangent of y after a step, summed over the batch."""
        direct, state = moment.split(dy)
        pulled, axes = self._pull(moment, state, influence), tuple(range(len(moment.batch)))
        return added(direct, jax.tree.map(lambda a: jnp.sum(a, axis=axes), pulled))

    @abc.abstractmethod
    def _fresh(self, moment: Moment) -> PyTree:
        """Return the influence on the fresh carry."""

    @abc.abstractmethod
    def _update(self, moment: Moment, influence: PyTree) -> PyTree:
        """Return the influence after a step."""

    @abc.abstractmethod
    def _pull(self, moment: Moment, cotangent: State, influence: PyTree) -> PyTree:
        """Return a cotangent of the state times the influence: [*B, *leaf.shape], or None."""

    def _checked(self, params: Params, x: Inputs) -> tuple[Params, Inputs, tuple[int, ...]]:
        x, batch = _check.inputs("x", x, self.model.x_ndim, self.model.x_dtypes, "*B")
        params = as_arrays(params)
        self.model.check_params(params, self.model.input_size(x))
        return params, x, batch


def settled(model: Model, params: Params) -> tuple[Model, Params]:
    """Return what a loop over time runs in the place of a resolved model."""
    if isinstance(model, Cell):
        return model.settled, model.settle(params)
    return model, params


def through_settling(model: Model, params: Params, grads: Params) -> Params:
    """Turn a gradient by the settled parameters into one by the parameters."""
    if not isinstance(model, Cell) or model.settled is model:
        return grads
    out, back = jax.vjp(model.settle, Moment(model, params, None, None).held()[0])
    return back(jax.tree.map(lambda g, a: g.astype(a.dtype), grads, out))[0]


class Formed(Rule):
    """The base of rules whose influence is that of one `Form`."""

    @abc.abstractmethod
    def _form(self, moment: Moment) -> Form:
        """Choose the form for a model and parameters, of which only the shapes are used."""

    def _fresh(self, moment: Moment) -> PyTree:
        form = self._form(moment)

        def row(row: Row) -> Influence:
            out = form.derivative(row.start, row.params)
            return [a.astype(wide(a.dtype)) for a in out]

        return form.as_tree(moment.of_rows(row), moment.params)

    def _update(self, moment: Moment, influence: PyTree) -> PyTree:
        form = self._form(moment)

        def row(row: Row, influence: Influence) -> Influence:
            return form.plus_immediate(row, form.push(form.jacobian(row), influence))

        moved = moment.of_rows(row, form.as_list(influence, moment.params))
        return form.as_tree(moved, moment.params)

    def _pull(self, moment: Moment, cotangent: State, influence: PyTree) -> PyTree:
        form = self._form(moment)
        some = form.as_list(influence, moment.params)
        pulled = moment.of_rows(lambda row, *args: form.pull(*args), cotangent, some)
        return form.as_tree(pulled, moment.params)
