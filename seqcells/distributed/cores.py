"""The cores of a CPU as JAX's devices."""

from __future__ import annotations

import contextlib

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from seqcells import _check
from seqcells._shares import AXIS
from seqcells.distributed import _available


def cores(n: int | None = None) -> Mesh:
    """Make each core of this CPU a JAX device; call it before any computation.

    Under the mesh, `unroll` and `trajectory` split the first batch axis over the cores. Each core
    runs the whole loop on its own rows, with a copy of the parameters, and the gradient needs one
    all-reduce after the loop. Results equal those of one device up to rounding.

    Args:
        n: the number of cores. None means those that this process may use: its affinity, and at
            most the quota of its container, rounded down.

    Returns:
        A mesh with one axis, "cores", for `jax.set_mesh`, and for `train.fit(mesh=)`.

    Raises:
        TypeError: n is not an int.
        ValueError: n is below 1.
        RuntimeError: JAX has started already, with another number of CPU devices.

    >>> import jax, seqcells as sc
    >>> mesh = sc.cores()  # doctest: +SKIP
    >>> with jax.set_mesh(mesh):  # doctest: +SKIP
    ...     carry, ys = sc.unroll(cell, params, xs)
    """
    count = _available.count() if n is None else _check.size("n", n, least=1)
    with contextlib.suppress(RuntimeError):  # JAX has started, maybe with the same number
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.local_devices(backend="cpu")
    if len(devices) != count:
        raise RuntimeError(
            f"n: expected JAX to start with {count} CPU devices, got JAX started with "
            f"{len(devices)}; call sc.cores() before any computation and before jax.devices(), or "
            f"write sc.cores({len(devices)})"
        )
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
