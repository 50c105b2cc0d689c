"""Unbiased online recurrent optimisation: the influence as a random product of rank one."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._static import exported
from seqcells._types import Params, PyTree
from seqcells.engines._platform import varying
from seqcells.online import _forms
from seqcells.online._influence import Dense, Influence
from seqcells.online._moment import Moment, Row, State, flat, unflat
from seqcells.online._rule import Rule

EPS = 1e-7  # beside norms, as in the paper


@exported
class RankOne(NamedTuple):
    """The influence of `UORO`: by_state [S] times by_params, for each row."""

    by_state: jax.Array  # [*B, S]
    by_params: PyTree  # as params, [*B, *leaf.shape]; None for a leaf that does not reach the carry


@dataclasses.dataclass(frozen=True)
class UORO(Rule):
    """Unbiased online recurrent optimisation (Tallec & Ollivier 2018), for every model.

    The influence P_t of `RTRL` is replaced by a product of two vectors whose mean over random signs
    is P_t. With nu_t of independent signs in every step, and F_t as in `RTRL`::

        s_t = rho_0 J_t s_{t-1} + rho_1 nu_t                float[S]
        q_t = q_{t-1} / rho_0 + nu_t F_t / rho_1            as the parameters
        dL_t/dtheta = (dL_t/dh_t s_t) q_t                   and what y reads of theta directly

        rho_0 = sqrt(|q_{t-1}| / |J_t s_{t-1}|), rho_1 = sqrt(|nu_t F_t| / |nu_t|)

    A step costs about as much as the forward and the backward pass of a step, in a memory of the
    size of the parameters for each row, whatever the model. The mean of the gradient is exact, if
    the parameters stay the same; its variance grows with S and with the steps that are remembered,
    so rates of learning must be small. Rows have signs of their own.

    `step` needs a key, another one for each step. The signs do not disturb the noise of a model,
    which the same key draws.

    Args:
        model: any cell or layer that can step.

    Raises:
        TypeError: if this is no model. `step` raises it without a key, and `init` without one if
            the first carry is learned.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> rule, x = sc.online.UORO(sc.GRU(4)), jnp.ones((3, 2))
    >>> params = rule.model.init(jax.random.key(0), 2)
    >>> trace, y = rule.step(params, rule.init(params, x), x, key=jax.random.key(1))
    >>> trace.influence.by_state.shape, trace.influence.by_params.w_hh.shape
    ((3, 4), (3, 4, 12))
    """

    def _fresh(self, moment: Moment) -> RankOne:
        form = self._form(moment)
        learned = any(jax.tree.leaves(_forms.learned(moment)))
        signs = self._signs(moment, 1) if learned else None  # the influence is zero without it

        def row(row: Row, signs: jax.Array | None) -> tuple[jax.Array, Influence]:
            some, put = form.cut(row.params)
            state, back = jax.vjp(lambda some: flat(row.start(put(some))), some)
            nu = jnp.zeros_like(state) if signs is None else signs.astype(state.dtype)
            nu = varying(nu, state)
            return nu, back(nu)[0]

        by_state, by_params = moment.of_rows(row, signs)
        return RankOne(by_state, form.as_tree(by_params, moment.params))

    def _update(self, moment: Moment, influence: RankOne) -> RankOne:
        form, signs = self._form(moment), self._signs(moment, 0)

        def row(row: Row, s: jax.Array, q: Influence, signs: jax.Array) -> tuple:
            some, put = form.cut(row.params)
            carry = flat(row.carry)

            def state(carry: jax.Array, some: Influence) -> jax.Array:
                return flat(row.step(put(some), unflat(carry, row.carry)))

            moved = jax.jvp(lambda h: state(h, some), (carry,), (s[: carry.size],))[1]
            nu = varying(signs.astype(moved.dtype), moved)
            new = jax.vjp(lambda some: state(carry, some), some)[1](nu)[0]
            rho_0, rho_1 = _ratio(q, moved), _ratio(new, nu)
            s = rho_0 * moved + rho_1 * nu
            pairs = zip(q, new, strict=True)
            return s, [a / rho_0.astype(a.dtype) + b / rho_1.astype(a.dtype) for a, b in pairs]

        q = form.as_list(influence.by_params, moment.params)
        by_state, by_params = moment.of_rows(row, influence.by_state, q, signs)
        return RankOne(by_state, form.as_tree(by_params, moment.params))

    def _pull(self, moment: Moment, cotangent: State, influence: RankOne) -> Params:
        def row(row: Row, cotangent: State, influence: RankOne) -> PyTree:
            weight = jnp.vdot(flat(cotangent), influence.by_state)
            return jax.tree.map(lambda q: weight.astype(q.dtype) * q, influence.by_params)

        return moment.of_rows(row, cotangent, influence)

    def _form(self, moment: Moment) -> Dense:
        return Dense(_forms.traced(moment))

    def _signs(self, moment: Moment, place: int) -> jax.Array:
        """Draw signs for each row and number of the state."""
        if moment.key is None:
            raise TypeError("key: expected a random key, from which UORO draws its signs, got None")
        shape = jax.eval_shape(
            lambda: moment.of_rows(lambda row: flat(row.start(row.params)))
        ).shape
        # folded, so that the noise of the model, which has the key itself, is independent of them
        return jax.random.rademacher(jax.random.fold_in(moment.key, place), shape, jnp.int8)


def _ratio(one: Influence, other: jax.Array) -> jax.Array:
    """Return the square root of the ratio of two norms, above 0, in the dtype of the second."""
    squares = [jnp.sum(a * a).astype(other.dtype) for a in one]
    norm = jnp.sqrt(functools.reduce(jnp.add, squares))
    return jnp.sqrt(norm / (jnp.sqrt(jnp.sum(other * other)) + EPS)) + EPS
