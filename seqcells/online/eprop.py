"""E-prop: eligibility traces that pass through each unit, and learning signals that come to it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._cell import Cell, SplitCell
from seqcells._types import Outputs, Params
from seqcells.initializers import Initializer
from seqcells.online import _forms
from seqcells.online._influence import Form, Units
from seqcells.online._moment import Moment, Row
from seqcells.online._rule import Formed, Trace
from seqcells.online.snap import one_unit_each, split_blocks, split_cell


@dataclasses.dataclass(frozen=True)
class EProp(Formed):
    """E-prop (Bellec et al. 2020), for any split cell.

    A unit j keeps an eligibility e for each of its parameters, which passes through the unit's own
    memory, but not through the recurrent product, and receives a learning signal L_j::

        e_t = D_t e_{t-1} + F_t           D_t = dh_t/dh_{t-1} while the recurrent product is fixed
        dL_t/dtheta = L_t e_t             and what y reads of theta directly

        L_t = dL_t/dh_t                   feedback="symmetric"
        L_t = B^T error_t                 feedback="random": B [K, H], fixed

    It is `SnAp` with n = 1 without the self-connections of the recurrent matrix, at the same cost.
    For an LSTM or the paper's spiking units, D_t is the forget gate or the leak; for an `RNN`, it
    is zero, and only the last step counts. In a cell without a recurrent product, it is `RTRL`.

    Args:
        model: a `SplitCell` each of whose parameters reaches one unit in a step, as for `SnAp`; or
            a cell whose recurrence is elementwise.
        feedback: "symmetric", where `gradient` takes the derivative by y; or "random", where it
            takes the error of a readout of K numbers, and a matrix of `init_feedback`.
        feedback_init: initialiser of that matrix, called on float[K, H].

    Raises:
        TypeError: if this is no cell.
        ValueError: on an unknown feedback. `init` and `step` raise it for an unsuitable cell.
    """

    model: Cell
    feedback: str = "symmetric"
    feedback_init: Initializer = initializers.Lecun()

    def __post_init__(self) -> None:
        _check.instance("model", self.model, Cell, "LSTM(64)")
        _check.choice("feedback", self.feedback, ("symmetric", "random"))
        initializers.check("feedback_init", self.feedback_init, 1)

    def init_feedback(self, key: jax.Array, errors: int, outputs: int) -> jax.Array:
        """Draw a feedback matrix, float[errors, outputs].

        Args:
            key: one random key.
            errors: K, the numbers of the error, as the readout puts out.
            outputs: the numbers of y, which the readout takes.
        """
        _check.key("key", key)
        shape = _check.size("errors", errors, least=1), _check.size("outputs", outputs, least=1)
        return self.feedback_init(key, shape, jnp.float32)

    def gradient(
        self, params: Params, trace: Trace, dy: Outputs, feedback: jax.Array | None = None
    ) -> Params:
        """Return the gradient of this step's loss by the parameters, summed over the batch.

        Args:
            params: the parameters.
            trace: that of the step.
            dy: with symmetric feedback, the derivative of the loss by y. With random feedback, that
                by the output of the readout, [*B, K], such as the error of a squared loss.
            feedback: the matrix [K, H] of `init_feedback`; None if feedback is symmetric.

        Returns:
            A tree like params, in at least float32.

        Raises:
            TypeError: if a feedback matrix is missing, or not expected.
            ValueError: if shapes do not fit.
        """
        if (feedback is not None) != (self.feedback == "random"):
            raise TypeError(
                f'feedback: expected a matrix exactly if feedback="random", got {feedback!r} for '
                f"{self}"
            )
        if feedback is not None:
            dy = jnp.asarray(dy)
            dy = jnp.matmul(dy, feedback.astype(dy.dtype))
        return super().gradient(params, trace, dy)

    def _form(self, moment: Moment) -> Form:
        cell, traced, own = one_unit_each(self, moment)
        if isinstance(cell, SplitCell):
            return Unmixed(traced, own, _forms.all_pairs(moment))
        pairs = _forms.elementwise(moment)
        assert pairs is not None  # for the type checker: `one_unit_each` has raised
        return Units(traced, own, pairs)


@dataclasses.dataclass(frozen=True)
class Unmixed(Units):
    """Of J_t, what does not pass through the recurrent product of a split cell."""

    def jacobian(self, row: Row) -> list[list[jax.Array]]:
        """Differentiate the gate by the carry."""
        cell, params, x = split_cell(row)
        mixed = cell.mix(params, row.carry)
        return split_blocks(cell, params, row.carry, x, lambda carry: mixed)
