"""What an engine is: one way through time, as a static value."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import jax
from jax.core import Tracer

from seqcells._cell import Carry, Cell, Params
from seqcells._flags import Flags
from seqcells._static import Static


class Engine(Static, abc.ABC):
    """One way to run a cell over time.

    Subclasses are frozen dataclasses, and static values to JAX.
    """

    @abc.abstractmethod
    def why_not(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say why this engine cannot run the cell on these inputs, or return None.

        Args:
            cell: the cell.
            xs: the inputs [T, *B, D], or their `jax.ShapeDtypeStruct`.
            flags: lengths, masks, resets and direction.

        Returns:
            The reason as half a sentence, or None where there is no objection.
        """

    def why_slow(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say why another engine is the better choice for what this one can run, or return None.

        An engine that has a reason runs when it is named, and is not selected otherwise.
        """
        return None

    def settled(self, cell: Cell, xs: Any) -> Engine:
        """Return this engine with what it leaves open chosen for a cell and inputs [T, *B, D]."""
        return self

    @abc.abstractmethod
    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, flags: Flags
    ) -> tuple[Carry, Any]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""


def best(engines: Sequence[Engine], cell: Cell, xs: Any, flags: Flags) -> Engine:
    """Return the first engine that has no objection, or the last one that can run this at all."""
    able = [engine for engine in engines if engine.why_not(cell, xs, flags) is None]
    return next((e for e in able if e.why_slow(cell, xs, flags) is None), able[-1])


def platform(xs: Any) -> str:
    """Return where xs is, or what is traced will run: "cpu", "gpu" or "tpu"."""
    if isinstance(xs, jax.Array) and not isinstance(xs, Tracer):
        return next(iter(xs.devices())).platform
    device = getattr(jax.config, "jax_default_device", None)  # a device, a platform's name, or None
    return getattr(device, "platform", device) or jax.default_backend()


def may_be_sharded() -> bool:
    """Say whether JAX itself may have cut arrays over devices, unseen by what is being traced."""
    mesh = jax.sharding.get_abstract_mesh()
    by_hand = not mesh.empty and mesh.are_all_axes_manual  # within a shard_map
    return jax.device_count() > 1 and not by_hand


def varies_over(tree: Any) -> frozenset[str]:
    """Return the axes of a checked shard_map over which some leaf varies; none elsewhere."""

    def of(leaf: Any) -> frozenset[str]:
        return getattr(getattr(jax.typeof(leaf), "manual_axis_type", None), "varying", frozenset())

    return frozenset[str]().union(*map(of, jax.tree.leaves(tree)))


def varying(tree: Any, others: Any) -> Any:
    """Within a checked shard_map: let a tree vary over every axis over which others vary.

    What JAX takes for the same on all devices, as a loop's carry or what a kernel made, does not
    become varying by itself.
    """
    axes = varies_over(others)

    def one(leaf: jax.Array) -> jax.Array:
        missing = tuple(sorted(axes - varies_over(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(one, tree) if axes else tree
