"""Many members as one program: vmapped, and spread over the devices there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec


def over_members(f: Callable[..., Any]) -> Callable[..., Any]:
    """Map `f` over the first axis of all its arguments, a share of it on each device.

    Members never meet. Keep it so on the host: bring a result over with `np.asarray` before you
    take some of its rows, since slicing it in place makes the devices wait for one another, which
    two CPU devices on two threads may do for ever.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("members",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("members")
    return jax.shard_map(jax.vmap(f), mesh=mesh, in_specs=rows, out_specs=rows)


def pad(tree: Any) -> Any:
    """Repeat the last member until the members share out evenly among the devices."""

    def leaf(a: jax.Array) -> jax.Array:
        missing = -len(a) % jax.device_count()
        return jnp.concatenate([a, jnp.repeat(a[-1:], missing, axis=0)])

    return jax.tree.map(leaf, tree)
