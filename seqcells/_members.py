"""Stop members of a vmapped training while the others continue."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells._trees import select
from seqcells._types import PyTree


def done(answer: object, members: tuple[int, ...]) -> np.ndarray:
    """Return which members are done, bool[M], or without vmap whether training is, bool[].

    Args:
        answer: the result of `on_segment` of `train.fit`.
        members: (M,), or () without vmap.
    """
    if not isinstance(answer, (np.ndarray, jax.Array)) or not answer.ndim:
        return np.asarray(bool(answer))
    if answer.shape != members or answer.dtype != bool:
        raise ValueError(
            f"on_segment: expected to return True, False, None or bool{list(members)}, got "
            f"{_check.describe_one(answer)}"
        )
    return np.asarray(answer)


def keep(done: np.ndarray, before: PyTree, after: PyTree, metrics: PyTree) -> tuple[PyTree, PyTree]:
    """Keep the old state of members that are done, and set their metrics [M, N] to NaN."""
    if not done.any():
        return after, metrics
    nan = jax.tree.map(lambda values: np.where(done[..., None], np.nan, values), metrics)
    return _select(done, before, after), nan


@jax.jit
def _select(done: jax.Array, before: PyTree, after: PyTree) -> PyTree:
    def leaf(a: jax.Array, b: jax.Array) -> jax.Array:
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            return select(done, a, b)
        data = select(done, jax.random.key_data(a), jax.random.key_data(b))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))

    return jax.tree.map(leaf, before, after)
