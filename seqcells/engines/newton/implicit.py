"""The carries as an implicit function of what determines them, with its derivative.

The carries solve h_t = f_t(h_{t-1}), where f_t also depends on the parameters, the inputs and the
carries before the first step. Write ' for a tangent, and b_t for the tangent of f_t by all of
these. By the implicit function theorem, the tangent of the solution solves the same equations,
linearized::

    h'_t = J_t h'_{t-1} + b_t

at the solution, whatever way it was found. So the derivative needs neither the iterations nor their
approximations of J_t. Its transpose gives the cotangents: the recurrence from the last step to the
first, with J_t transposed, and then those of the parameters and inputs for all steps at once, each
weight gradient in one matrix product.

The tangents are computed by a parallel scan, with the blocks of J_t. They are computed step by
step, as those of a plain scan, where the layout leaves slopes out, where steps are run one after
another anyway, and where Newton's method has failed: a product of Jacobians that overflows would
make NaN of a tangent that is zero.

As one operation of `primitive`, the derivative computes J_t again instead of storing it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells._types import TreeDef
from seqcells.engines.deferred.primitive import Arrays, Function, Marks, Operation
from seqcells.engines.newton import affine, jacobians
from seqcells.engines.newton.recurrence import Given, Recurrence


def implicit(
    recurrence: Recurrence, scan: str, given: Given, carries: jax.Array, sound: jax.Array
) -> jax.Array:
    """Return carries that solve a recurrence, with their derivative by `given`.

    Args:
        recurrence: the steps.
        scan: how tangents are computed, a name in `affine.SCANS`.
        given: what determines the carries.
        carries: the solution, float[T, *B, U, K]; its own derivative is not used.
        sound: bool[], whether a parallel scan may be used.

    Returns:
        The same carries.
    """
    args, structure = jax.tree.flatten((given, carries, sound))
    (carries,) = Operation(Carries(recurrence, scan, structure), len(args), weights=0)(*args)
    return carries


@dataclasses.dataclass(frozen=True)
class Carries(Function):
    """The solution, which is its last argument but one."""

    recurrence: Recurrence
    scan: str
    structure: TreeDef  # of (given, carries, sound)

    def __call__(self, *args: jax.Array) -> Arrays:
        """Return the solution."""
        return (args[-2],)

    def jvp(self, perturbed: Marks, outputs: int) -> Function:
        """Return the tangent by the implicit function theorem."""
        return CarriesJvp(self, perturbed)


@dataclasses.dataclass(frozen=True)
class CarriesJvp(Function):
    """The tangent of the solution, of (*arguments, solution, *tangents)."""

    carries: Carries
    perturbed: Marks

    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the tangents of the carries."""
        count = len(self.perturbed)
        own, carries, tangents = list(args[:count]), args[count], args[count + 1 :]
        recurrence = self.carries.recurrence
        marked = [i for i, mark in enumerate(self.perturbed) if mark]

        def after(*some: jax.Array) -> jax.Array:
            """Take each step from the carries that were found, as a function of all else."""
            leaves = list(own)
            for i, leaf in zip(marked, some, strict=True):
                leaves[i] = leaf
            given, *_ = jax.tree.unflatten(self.carries.structure, leaves)
            return recurrence.all(given, recurrence.before(given, carries))

        b = jax.jvp(after, tuple(own[i] for i in marked), tuple(tangents))[1]
        given, _, sound = jax.tree.unflatten(self.carries.structure, own)
        before = recurrence.before(given, carries)

        def in_turn(b: jax.Array) -> jax.Array:
            return recurrence.tangents_in_turn(given, before, b)

        def at_once(b: jax.Array) -> jax.Array:
            a = jacobians.blocks(recurrence, given, before)
            a = jnp.where(sound, a, jnp.zeros_like(a))  # for a batch, `cond` runs both branches
            return affine.solve(self.carries.scan, a, b[..., None])[..., 0]

        if self.carries.scan == "sequential" or not recurrence.layout.exact:
            return (in_turn(b),)
        return (jax.lax.cond(sound, at_once, in_turn, b),)
