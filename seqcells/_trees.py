"""Trees of arrays: selection, zeros, constants of a loop, and comparison of structures."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

    from seqcells._types import PyTree


P = ParamSpec("P")
R = TypeVar("R")


def cached_shapes(maxsize: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that caches a function of shapes, separately with and without x64.

    Cached shapes drop their sharding, which belongs to the mesh of the first call.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.lru_cache(maxsize)
        def known(_x64: bool, *args: P.args, **kwargs: P.kwargs) -> R:
            return jax.tree.map(_unsharded, function(*args, **kwargs))

        @functools.wraps(function)
        def cached(*args: P.args, **kwargs: P.kwargs) -> R:
            return known(jax.config.read("jax_enable_x64"), *args, **kwargs)

        return cached

    return decorate


def _unsharded(leaf: object) -> object:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return leaf


def scan(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    xs: PyTree,
    *,
    reverse: bool = False,
    unroll: int = 1,
) -> tuple[PyTree, PyTree]:
    """Call `jax.lax.scan`; also for 0 steps under `jax_disable_jit`, which JAX does not support."""
    empty = jax.tree.leaves(xs)[0].shape[0] == 0
    with jax.disable_jit(False) if empty else contextlib.nullcontext():
        return jax.lax.scan(step, carry, xs, reverse=reverse, unroll=unroll)


def select(where: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """Choose between two trees of arrays [*B, ...] by `where` bool[*B].

    A selection, not a product, so NaN on the side that is not selected has no effect.
    """

    def leaf(a: jax.Array, b: jax.Array) -> jax.Array:
        rows = where.reshape(where.shape + (1,) * (a.ndim - where.ndim))
        return jnp.where(*sharded_alike(rows, a, b))

    return jax.tree.map(leaf, yes, no)


def sharded_alike(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Shard arrays of equal rank alike, over all explicit mesh axes that shard one of them.

    Some operations, such as `jnp.where`, need that, and a random mask is not sharded by itself.
    """
    specs = [jax.typeof(a).sharding.spec for a in arrays]
    if not any(axis is not None for spec in specs for axis in spec):
        return arrays
    merged = jax.sharding.PartitionSpec(
        *(next(filter(None, axes), None) for axes in zip(*specs, strict=True))
    )
    shape = jnp.broadcast_shapes(*(jnp.shape(a) for a in arrays))
    return tuple(jax.sharding.reshard(jnp.broadcast_to(a, shape), merged) for a in arrays)


def over(where: jax.Array | None, axes: tuple[int, ...]) -> jax.Array | None:
    """Repeat flags bool[*B] over the axes that follow in `axes` = [*B, ...]; None stays."""
    if where is None or where.ndim == len(axes):
        return where
    rows = where.reshape(where.shape + (1,) * (len(axes) - where.ndim))
    return jnp.broadcast_to(rows, axes)


def silence(valid: jax.Array | None, tree: PyTree) -> PyTree:
    """Set padding to zero; `valid` is bool[*B] for arrays [*B, ...], or None without padding."""
    return tree if valid is None else select(valid, tree, zeros_like(tree))


def shard_rows(tree: PyTree, spec: Sequence[PyTree]) -> PyTree:
    """Shard the batch axes of arrays [*B, ...] over a mesh's explicit axes, one entry per axis."""
    if all(axis is None for axis in spec):
        return tree

    def leaf(a: jax.Array) -> jax.Array:
        own = jax.typeof(a).sharding.spec
        rows = (mine or given for mine, given in zip(own, spec, strict=False))
        return jax.sharding.reshard(a, jax.sharding.PartitionSpec(*rows, *own[len(spec) :]))

    return jax.tree.map(leaf, tree)


def as_rows(a: jax.Array, like: jax.Array) -> jax.Array:
    """Add leading axes of size 1 to a [H], as many as `like` [*B, H] has.

    JAX would add them itself, unless `jax_numpy_rank_promotion` forbids it.
    """
    return jnp.expand_dims(a, tuple(range(jnp.ndim(like) - jnp.ndim(a))))


def closed_over(tree: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Return a tree for a loop to close over, and a function that restores the original tree.

    JAX sums the gradient of a loop's constants step by step in their dtype, and in bfloat16 a sum
    of ones stops at 256. Leaves narrower than float32 are therefore kept in float32 and cast back
    within the loop: values do not change, and gradients are summed in float32. Without such leaves
    the tree is unchanged.
    """
    if not any(map(_is_narrow, jax.tree.leaves(tree))):
        return tree, lambda held: held
    held = jax.tree.map(lambda a: a.astype(jnp.float32) if _is_narrow(a) else a, tree)
    return held, lambda held: jax.tree.map(
        lambda a, own: a.astype(own.dtype) if _is_narrow(own) else a, held, tree
    )


def _is_narrow(leaf: object) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32


def distinct(tree: PyTree) -> PyTree:
    """Copy an array that occurs twice in a tree, because a buffer cannot be donated twice.

    Within `jit` nothing changes: XLA gives every output its own buffer.
    """
    seen = set()

    def once(leaf: PyTree) -> PyTree:
        if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
            return leaf
        again = id(leaf) in seen
        seen.add(id(leaf))
        return leaf.copy() if again else leaf

    return jax.tree.map(once, tree)


def zeros_like(tree: PyTree) -> PyTree:
    """Return a tree of zeros."""
    return jax.tree.map(jnp.zeros_like, tree)


def same_shapes(got: PyTree, expected: PyTree) -> bool:
    """Whether two trees have the same structure and, leaf by leaf, the same shapes."""
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (got, expected)]
    return shapes[0] == shapes[1] and jax.tree.structure(got) == jax.tree.structure(expected)


def leaves_like(tree: PyTree, expected: PyTree) -> list[jax.Array] | None:
    """Return the leaves of a tree as arrays, or None if it differs from the expected one.

    They agree if they have the same structure and, leaf by leaf, the same shapes and kinds of
    dtype: floating, integer or boolean. A list or number in place of an array counts as an array.
    """
    try:
        leaves = jax.tree.structure(expected).flatten_up_to(tree)
        leaves = [leaf if hasattr(leaf, "dtype") else _not_none(leaf) for leaf in leaves]
    except (TypeError, ValueError):
        return None
    pairs = zip(leaves, jax.tree.leaves(expected), strict=True)
    same = (a.shape == b.shape and _kind(a.dtype) == _kind(b.dtype) for a, b in pairs)
    return leaves if all(same) else None


def _not_none(leaf: ArrayLike | None) -> jax.Array:
    if leaf is None:
        raise TypeError  # which JAX would convert to NaN
    return jnp.asarray(leaf)


def _kind(dtype: DTypeLike) -> object:
    for kind in (jnp.floating, jnp.integer, jnp.bool_):
        if jnp.issubdtype(dtype, kind):
            return kind
    return dtype


def rewrite(name: str, tree: PyTree, expected: PyTree) -> str:
    """Return code that gives a tree with the right leaves the expected structure, or ""."""
    kind, fields = type(expected).__name__, getattr(expected, "_fields", ())
    if fields and isinstance(tree, dict) and set(tree) == set(fields):
        return f"{kind}(**{name})"
    leaves = [jax.tree.leaves(one) for one in (tree, expected)]
    if same_shapes(tree, expected) or not same_shapes(*leaves):
        return ""
    if fields and isinstance(tree, (tuple, list)):
        return f"{kind}(*{name})"
    return f"jax.tree.unflatten(jax.tree.structure(expected), jax.tree.leaves({name}))"
