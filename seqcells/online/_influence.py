"""The influence of parameters on the carry, dh_t/dtheta, and how a step moves it.

With J_t = dh_t/dh_{t-1} and F_t = the derivative of step t by theta while h_{t-1} is held fixed,
the influence of each row obeys::

    P_t = J_t P_{t-1} + F_t

A form says how J, P and F are stored for one row. `Dense` stores all their numbers. `Units` is for
recurrences in which a unit reads itself alone: of J it stores a block for each unit, and of P and F
a number for each entry of the parameter, because an entry reaches one unit.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from seqcells._static import Static
from seqcells._trees import zeros_like
from seqcells._types import Carry, Params, PyTree
from seqcells.online._moment import Row, State, flat, floats, unflat

Influence = list[jax.Array]  # for each traced leaf of the parameters
Blocks = PyTree


class Form(Static, abc.ABC):
    """How the influence of a row is stored.

    Attributes:
        traced: the positions, among the leaves of the parameters, of those that reach the carry.
            Others have no influence, and are not stored.
    """

    traced: tuple[int, ...]

    @abc.abstractmethod
    def jacobian(self, row: Row) -> Blocks:
        """Compute J."""

    @abc.abstractmethod
    def derivative(self, function: Callable[[Params], State], params: Params) -> Influence:
        """Differentiate a state by the parameters: F, or the influence on a fresh carry."""

    @abc.abstractmethod
    def push(self, blocks: Blocks, influence: Influence) -> Influence:
        """Multiply J P."""

    @abc.abstractmethod
    def pull(self, cotangent: State, influence: Influence) -> Influence:
        """Multiply a cotangent of the state by P: a gradient of each traced leaf."""

    def plus_immediate(self, row: Row, influence: Influence) -> Influence:
        """Add F."""
        new = self.derivative(lambda params: row.step(params, row.carry), row.params)
        return [a + b.astype(a.dtype) for a, b in zip(influence, new, strict=True)]

    def cut(self, params: Params) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Params]]:
        """Return the traced leaves, and a function that puts others in their place."""
        leaves, structure = jax.tree.flatten(params)

        def put(some: Sequence[jax.Array]) -> Params:
            place = dict(zip(self.traced, some, strict=True))
            return structure.unflatten([place.get(i, leaf) for i, leaf in enumerate(leaves)])

        return [leaves[i] for i in self.traced], put

    def as_tree(self, influence: Influence, params: Params) -> PyTree:
        """Return a tree like params, with None for each leaf that is not traced."""
        leaves, structure = jax.tree.flatten(params)
        place = dict(zip(self.traced, influence, strict=True))
        return structure.unflatten([place.get(i) for i in range(len(leaves))])

    def as_list(self, tree: PyTree, params: Params) -> Influence:
        """Undo `as_tree`."""
        leaves = jax.tree.structure(params).flatten_up_to(tree)
        return [leaves[i] for i in self.traced]


def added(direct: Params, tree: PyTree) -> Params:
    """Add two trees like params, of which the second has None for some leaves."""
    leaves, structure = jax.tree.flatten(direct)
    pairs = zip(leaves, structure.flatten_up_to(tree), strict=True)
    return structure.unflatten([a if b is None else a + b.astype(a.dtype) for a, b in pairs])


class Exact(Form):
    """A form that leaves nothing out, and can also store the influence of an earlier carry."""

    @abc.abstractmethod
    def identity(self, row: Row) -> Influence:
        """Return the influence of the carry on itself: one array, in the form of `of_carry`."""

    @abc.abstractmethod
    def of_carry(self) -> Exact:
        """Return the form of the influence of an earlier carry, as `identity` starts it."""

    @abc.abstractmethod
    def as_carry(self, pulled: jax.Array, like: Carry) -> Carry:
        """Return a gradient by the earlier carry, which `pull` gives, in the form of a carry."""


@dataclasses.dataclass(frozen=True)
class Dense(Exact):
    """Every number: J [S, S], and P [S, *leaf.shape], for a carry of S numbers.

    If the state keeps y, with Y numbers, J and P have Y more rows, the last ones.
    """

    traced: tuple[int, ...]

    def jacobian(self, row: Row) -> jax.Array:
        """Compute J by forward mode, a tangent for each number of the carry."""

        def of(carry: jax.Array) -> jax.Array:
            return flat(row.step(row.params, unflat(carry, row.carry)))

        return jax.jacfwd(of)(flat(row.carry))

    def derivative(self, function: Callable[[Params], State], params: Params) -> Influence:
        """Differentiate by reverse mode, a cotangent for each number of the state."""
        some, put = self.cut(params)
        return jax.jacrev(lambda some: flat(function(put(some))))(some)

    def push(self, blocks: jax.Array, influence: Influence) -> Influence:
        """Multiply J by the rows of the carry in P."""
        size = blocks.shape[1]
        return [jnp.tensordot(blocks.astype(p.dtype), p[:size], 1) for p in influence]

    def pull(self, cotangent: State, influence: Influence) -> Influence:
        """Sum over the numbers of the state."""
        weights = flat(cotangent)
        return [jnp.tensordot(weights.astype(p.dtype), p, 1) for p in influence]

    def identity(self, row: Row) -> Influence:
        """Return the influence of the S numbers of the carry, [S, S], or [S + Y, S]."""
        rows = sum(a.size for a in floats(jax.eval_shape(row.step, row.params, row.carry)))
        carry = flat(row.carry)
        return [jnp.eye(rows, carry.size, dtype=carry.dtype)]

    def of_carry(self) -> Dense:
        """Return the form of one array with an axis of S."""
        return Dense((0,))

    def as_carry(self, pulled: jax.Array, like: Carry) -> Carry:
        """Cut S numbers into leaves."""
        return unflat(pulled, like)


@dataclasses.dataclass(frozen=True)
class Units(Exact):
    """Numbers of a unit: J [k, k, *U], for a carry of k leaves [*U], each entry of which is a unit.

    P is [k, *leaf.shape] for a parameter whose entries reach one unit each, and for another one,
    which all units share, [k, *U, *leaf.shape].

    Attributes:
        own: for each traced leaf, whether an entry reaches one unit: that of the last axes of the
            parameter, the last of them modulo the units.
        pairs: for each leaf of the new carry, the leaves of the old one on which it depends.
    """

    traced: tuple[int, ...]
    own: tuple[bool, ...]
    pairs: tuple[tuple[int, ...], ...]

    def jacobian(self, row: Row) -> list[list[jax.Array]]:
        """Compute J by one tangent of ones for each leaf: no unit depends on another."""

        def along(tangent: Carry) -> Carry:
            def new(carry: Carry) -> Carry:
                return row.step(row.params, carry)[0]

            return jax.jvp(new, (row.carry,), (tangent,))[1]

        return unit_blocks(along, row.carry)

    def derivative(self, function: Callable[[Params], State], params: Params) -> Influence:
        """Differentiate by one cotangent of ones for each leaf, where an entry reaches one unit."""
        some, put = self.cut(params)
        mine = [a for a, own in zip(some, self.own, strict=True) if own]
        shared = [a for a, own in zip(some, self.own, strict=True) if not own]

        def of(mine: list[jax.Array], shared: list[jax.Array]) -> list[jax.Array]:
            one, two = iter(mine), iter(shared)
            joined = [next(one) if own else next(two) for own in self.own]
            return floats(function(put(joined))[0])

        new, back = jax.vjp(lambda mine: of(mine, shared), mine)
        zeros = zeros_like(new)
        by_own = iter(zip(*(back(ones_in(zeros, i))[0] for i in range(len(new))), strict=True))
        every = jax.jacrev(lambda shared: of(mine, shared))(shared) if shared else [[] for _ in new]
        by_shared = iter(zip(*every, strict=True))
        return [jnp.stack(next(by_own if own else by_shared)) for own in self.own]

    def push(self, blocks: list[list[jax.Array]], influence: Influence) -> Influence:
        """Multiply the block of each unit by what reaches the unit."""

        def leaf(p: jax.Array, own: bool) -> jax.Array:
            def total(i: int) -> jax.Array:
                terms = [spread(blocks[i][j], p[j], own) * p[j] for j in self.pairs[i]]
                return functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(p[i])

            return jnp.stack([total(i) for i in range(len(blocks))])

        return [leaf(p, own) for p, own in zip(influence, self.own, strict=True)]

    def pull(self, cotangent: State, influence: Influence) -> Influence:
        """Sum over the leaves of the carry; of a parameter that units share, over the units too."""

        def leaf(p: jax.Array, own: bool) -> jax.Array:
            weights = floats(cotangent[0])
            if own:
                terms = (spread(w, a, own) * a for w, a in zip(weights, p, strict=True))
                return functools.reduce(jnp.add, terms)
            return jnp.tensordot(jnp.stack(weights).astype(p.dtype), p, 1 + weights[0].ndim)

        return [leaf(p, own) for p, own in zip(influence, self.own, strict=True)]

    def identity(self, row: Row) -> Influence:
        """Return the influence of the k leaves of the carry, [k, k, *U]."""
        leaves = floats(row.carry)
        zeros = zeros_like(leaves)
        return [jnp.stack([jnp.stack(ones_in(zeros, i)) for i in range(len(leaves))])]

    def of_carry(self) -> Units:
        """Return the form of one array, each entry of which belongs to one unit."""
        return Units((0,), (True,), self.pairs)

    def as_carry(self, pulled: jax.Array, like: Carry) -> Carry:
        """Cut the first axis, that of the leaves."""
        return jax.tree.unflatten(jax.tree.structure(like), list(pulled))


def ones_in(zeros: list[jax.Array], place: int) -> list[jax.Array]:
    """Return a list of zeros with ones in one place."""
    return [jnp.ones_like(a) if i == place else a for i, a in enumerate(zeros)]


def unit_blocks(along: Callable[[Carry], Carry], carry: Carry) -> list[list[jax.Array]]:
    """Apply a derivative, in which no unit depends on another one, to ones in each leaf.

    Args:
        along: the tangent of the new carry, given that of the old one.
        carry: the old carry.

    Returns:
        J[new leaf][old leaf], a number for each unit.
    """
    leaves, structure = jax.tree.flatten(carry)
    zeros = zeros_like(leaves)
    tangents = (structure.unflatten(ones_in(zeros, i)) for i in range(len(leaves)))
    columns = [jax.tree.leaves(along(tangent)) for tangent in tangents]
    return [list(row) for row in zip(*columns, strict=True)]


def spread(a: jax.Array, over: jax.Array, own: bool) -> jax.Array:
    """Repeat numbers of units, a [*U], over another array, in its dtype.

    Args:
        a: a number for each unit.
        over: [..., *U[:-1], G * U[-1]] if `own`, else [*U, ...].
        own: whether the last axes stand for units, or the first ones.
    """
    a, shape = a.astype(over.dtype), over.shape
    if not own:
        return a.reshape(*a.shape, *[1] * (len(shape) - a.ndim))
    gates = shape[-1] // a.shape[-1]
    alike = jnp.broadcast_to(a[..., None, :], (*a.shape[:-1], gates, a.shape[-1]))
    return alike.reshape(*[1] * (len(shape) - a.ndim), *a.shape[:-1], shape[-1])
