"""The switches of JAX that users turn, under each of which every law must hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

SWITCHES: dict[str, dict[str, object]] = {
    "x64": {"jax_enable_x64": True},
    "strict": {"jax_numpy_dtype_promotion": "strict"},
    "rank": {"jax_numpy_rank_promotion": "raise"},
    "remat3": {"jax_remat3": True},
    "nans": {"jax_debug_nans": True},
    "leaks": {"jax_check_tracer_leaks": True},
    "eager": {"jax_disable_jit": True},
    "keys": {"jax_debug_key_reuse": True},
    "automatic": {},  # a mesh in the context, of two devices
    "explicit": {},
}
REFUSED = {  # by a switch, an engine: what JAX refuses
    "explicit": {
        "unroll3": "jax 0.10: the gradient by arrays outside of the mesh, of a scan with `unroll`"
    },
}
MESHES = {"automatic": jax.sharding.AxisType.Auto, "explicit": jax.sharding.AxisType.Explicit}


@contextlib.contextmanager
def switched(name: str) -> Iterator[None]:
    """Turn a switch for a while; of those that this JAX does not have, do nothing."""
    options = {k: v for k, v in SWITCHES[name].items() if hasattr(jax.config, k)}
    before = {option: getattr(jax.config, option) for option in options}
    for option, value in options.items():
        jax.config.update(option, value)
    try:
        with mesh(name):
            yield
    finally:
        for option, value in before.items():
            jax.config.update(option, value)


def mesh(name: str) -> contextlib.AbstractContextManager[object]:
    """The mesh of a switch that is one, set; else nothing."""
    if name not in MESHES:
        return contextlib.nullcontext()
    return jax.set_mesh(jax.make_mesh((jax.device_count(),), ("batch",), (MESHES[name],)))
