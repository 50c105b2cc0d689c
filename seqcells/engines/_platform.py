"""The platform that a program runs on, and the meshes over which its arrays may be sharded."""

from __future__ import annotations

from typing import TypeVar

import jax
from jax.core import ShapedArray, Tracer

from seqcells._types import PyTree

Tree = TypeVar("Tree")


def platform(xs: PyTree) -> str:
    """Return the platform of `xs`, or the one that traced code will run on.

    Args:
        xs: a pytree of arrays, tracers or shapes.

    Returns:
        "cpu", "gpu" or "tpu".
    """
    leaf = jax.tree.leaves(xs)[0]
    if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer):
        return next(iter(leaf.devices())).platform
    device = getattr(jax.config, "jax_default_device", None)  # a device, a platform's name, or None
    return getattr(device, "platform", device) or jax.default_backend()


def may_be_sharded() -> bool:
    """Return whether JAX may shard arrays over devices in a way that kernels cannot see.

    This is so with several devices, and under explicit mesh axes, which JAX's interpreter of
    kernels does not support. It is not so if every mesh axis is manual, as inside a `shard_map`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.are_all_axes_manual:
        return False
    return max(jax.device_count(), mesh.size) > 1 or bool(mesh.explicit_axes)


def varies_over(tree: PyTree) -> frozenset[str]:
    """Return the axes of a checked `shard_map` over which a leaf varies; empty outside of one.

    Leaves are arrays, or their types as `jax.make_jaxpr` gives them.
    """

    def of(leaf: jax.Array | ShapedArray) -> frozenset[str]:
        kind = leaf if isinstance(leaf, ShapedArray) else jax.typeof(leaf)
        return getattr(getattr(kind, "manual_axis_type", None), "varying", frozenset())

    return frozenset[str]().union(*map(of, jax.tree.leaves(tree)))


def varying(tree: Tree, others: PyTree) -> Tree:
    """Inside a checked `shard_map`, mark a tree as varying over the axes that others vary over.

    JAX assumes that the initial carry of a loop and the output of a kernel are the same on all
    devices, so they must be marked if they vary.

    Args:
        tree: the arrays to mark.
        others: arrays that vary over the axes in question.

    Returns:
        The same values; outside of a checked `shard_map`, the same arrays.
    """
    axes = varies_over(others)

    def one(leaf: jax.Array) -> jax.Array:
        missing = tuple(sorted(axes - varies_over(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(one, tree) if axes else tree
