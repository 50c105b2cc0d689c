"""Real-time recurrent learning: the exact gradient, forward in time."""

from __future__ import annotations

import dataclasses

from seqcells import _check
from seqcells._types import Outputs, Params, PyTree
from seqcells.online import _forms, _within
from seqcells.online._influence import Form
from seqcells.online._moment import Moment
from seqcells.online._rule import Formed


@dataclasses.dataclass(frozen=True)
class RTRL(Formed):
    """Real-time recurrent learning (Williams & Zipser 1989): exact, for every model.

    With theta the parameters, h_t the carry of S numbers and L_t the loss of step t::

        P_t = J_t P_{t-1} + F_t              J_t = dh_t/dh_{t-1}, F_t = the step's own dh_t/dtheta
        dL_t/dtheta = dL_t/dh_t P_t          and what y reads of theta directly

    The sum over t is the gradient of the sum of the losses by the parameters, if they stay the
    same. If they are updated on the way, P_t has terms of earlier parameters.

    The influence P_t of a row is float[S, *leaf.shape] for each parameter; a step costs S times the
    memory of the parameters, and a product of J_t [S, S] with it. If the recurrence is elementwise,
    as in `IndRNN`, `MinGRU`, `LRU` or `RGLRU`, P_t has the size of the parameters for each leaf of
    the carry, and a step costs a few operations for each of their numbers (Zucchet et al. 2023;
    Irie et al. 2024). The step of the cell shows whether it is, and the cell declares the
    parameters of which an entry reaches one unit (`Cell.UNIT_WEIGHTS`). Others, such as the
    projections B and C of `Mamba`, keep an influence on all units.

    The influence of a `Stack` is that of all its parameters on all its carries. With
    `within_layers=True`, each layer has the influence of its own parameters on its own carry
    instead, and the loss reaches lower layers through the layers above in the same step (as Zucchet
    et al. 2023 train deep nets). The gradient of the last layer with a memory, and of what is above
    it, stays exact. That of lower layers lacks what a layer put out in an earlier step and a layer
    above has kept since.

    Args:
        model: any cell or layer that can step.
        within_layers: whether each layer of a `Stack`, which has no skip and is not tied, has an
            influence of its own.

    Raises:
        TypeError: if this is no model, or `within_layers` no bool.
        ValueError: if `within_layers` is True and the model is no such `Stack`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> rule = sc.online.RTRL(sc.GRU(4))
    >>> params, xs = rule.model.init(jax.random.key(0), 2), jnp.ones((5, 3, 2))
    >>> def step(trace, x):
    ...     trace, y = rule.step(params, trace, x)
    ...     return trace, rule.gradient(params, trace, 2 * y)  # of sum(y ** 2)
    >>> trace, grads = jax.lax.scan(step, rule.init(params, xs[0]), xs)
    >>> def loss(params):
    ...     return jnp.sum(sc.unroll(rule.model, params, xs)[1] ** 2)
    >>> bool(jnp.allclose(grads.w_hh.sum(0), jax.grad(loss)(params).w_hh, atol=1e-5))
    True
    """

    within_layers: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.flag("within_layers", self.within_layers)
        why_not = _within.why_not(self.model) if self.within_layers else None
        if why_not is not None:
            raise ValueError(
                "within_layers: expected False unless the model is a Stack without skip and not "
                f"tied, got True for {self.model}: {why_not}"
            )

    def _form(self, moment: Moment) -> Form:
        return _forms.exact(moment)

    def _fresh(self, moment: Moment) -> PyTree:
        own = super()._fresh
        return _within.start(own, moment) if self.within_layers else own(moment)

    def _update(self, moment: Moment, influence: PyTree) -> PyTree:
        own = super()._update
        if not self.within_layers:
            return own(moment, influence)
        if moment.key is not None:
            _forms.traced(moment)  # which refuses noise
        return _within.update(own, moment, influence)

    def _gradient(self, moment: Moment, dy: Outputs, influence: PyTree) -> Params:
        own = super()._gradient
        if not self.within_layers:
            return own(moment, dy, influence)
        return _within.gradient(own, moment, dy, influence)
