"""Random feedback local online learning, for networks of leaky units."""

from __future__ import annotations

import dataclasses

from seqcells import _check
from seqcells.cells import CTRNN
from seqcells.online.eprop import EProp


@dataclasses.dataclass(frozen=True)
class RFLO(EProp):
    """Random feedback local online learning (Murray 2019), for leaky units.

    For `CTRNN`, with a = dt / tau, u_t the input of a unit and p_t its eligibility for the weight
    from unit or input j, form="rate"::

        p_t = (1 - a) p_{t-1} + a act'(u_t) j_t         j_t = r_{t-1} of a unit, x_t of an input
        dL_t/dw = L p_t                                 L = B^T error, with a random matrix B

    These are the equations of `EProp`, in which D_t is the leak 1 - a. In form="current", act' is
    in the learning signal instead, because y = act(v_t). The paper's rule has random feedback; with
    feedback="symmetric", L is the true derivative of the loss by y.

    Args:
        model: a `CTRNN`, or a `Constrained` one.
        feedback: "random" or "symmetric", as for `EProp`.
        feedback_init: initialiser of the feedback matrix float[K, H].

    Raises:
        TypeError: if this is no cell with leaky units.
        ValueError: on an unknown feedback.
    """

    feedback: str = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.instance("model", self.model.settled, CTRNN, "CTRNN(64)")
