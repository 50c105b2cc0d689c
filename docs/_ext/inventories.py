"""Links to the docs of other libraries, without a network: the few names that our pages use."""

import tempfile
import zlib
from pathlib import Path

LIBRARIES = {
    "jax": (
        "https://docs.jax.dev/en/latest/",
        {
            "jax.Array": "class _autosummary/jax.Array.html#jax.Array",
            "jax.sharding.Mesh": "class jax.sharding.html#jax.sharding.Mesh",
            "jax.typing.ArrayLike": "data jax.typing.html#jax.typing.ArrayLike",
            "jax.jit": "function _autosummary/jax.jit.html#jax.jit",
            "jax.vmap": "function _autosummary/jax.vmap.html#jax.vmap",
            "jax.grad": "function _autosummary/jax.grad.html#jax.grad",
            "jax.shard_map": "function _autosummary/jax.shard_map.html#jax.shard_map",
            "jax.lax.scan": "function _autosummary/jax.lax.scan.html#jax.lax.scan",
        },
    ),
    "flax": (
        "https://flax.readthedocs.io/en/latest/",
        {
            "flax.nnx.Module": "class api_reference/flax.nnx/module.html#flax.nnx.Module",
            "flax.nnx.Rngs": "class api_reference/flax.nnx/rnglib.html#flax.nnx.Rngs",
            "flax.linen.Module": "class api_reference/flax.linen/module.html#flax.linen.Module",
        },
    ),
    "optax": (
        "https://optax.readthedocs.io/en/latest/",
        {
            "optax.GradientTransformation": "class api/transformations.html"
            "#optax.GradientTransformation",
            "optax.adam": "function api/optimizers.html#optax.adam",
        },
    ),
}


def inventory(name, objects):
    """Return the bytes of an inventory, as Sphinx writes `objects.inv`."""
    head = f"# Sphinx inventory version 2\n# Project: {name}\n# Version: \n"
    head += "# The remainder of this file is compressed using zlib.\n"
    rows = (f"{key} py:{kind} 1 {place} -\n" for key, (kind, place) in objects)
    return head.encode() + zlib.compress("".join(rows).encode())


def setup(app):
    folder = Path(tempfile.mkdtemp(prefix="inventories-"))
    for name, (address, places) in LIBRARIES.items():
        file = folder / f"{name}.inv"
        file.write_bytes(inventory(name, [(key, at.split()) for key, at in places.items()]))
        app.config.intersphinx_mapping[name] = (address, str(file))
    return {"parallel_read_safe": True}
