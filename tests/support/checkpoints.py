"""What the tests of checkpoints save, and how they look at it."""

import jax
import jax.numpy as jnp
import numpy as np

CONFIG = {"lr": 0.1, "cell": {"name": "GRU", "sizes": (3, 4)}}
TREE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}


def bits(tree):
    """Return types, placement, dtypes and bytes of a tree."""

    def of(leaf):
        committed = getattr(leaf, "committed", None), getattr(leaf, "sharding", None)
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return str(leaf.dtype), committed, np.asarray(jax.random.key_data(leaf)).tobytes()
        dtype = str(getattr(leaf, "dtype", None))
        return type(leaf), dtype, committed, np.shape(leaf), np.asarray(leaf).tobytes()

    return jax.tree.map(of, tree)


def generations(checkpoints):
    return sorted(checkpoints.folder.glob("generation-*"))
