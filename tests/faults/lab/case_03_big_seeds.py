"""Ints that do not fit JAX's int32 wrap silently: seed 2**32 trains as seed 0. Cf. jax#27282, numpy#4676, jax PR#6269 (OverflowError)."""
import sys, jax, jax.numpy as jnp, optax
from seqcells import sweep
make = lambda: sweep.Task(lambda h, key: jnp.float32(h["seed"]), lambda s, h, n: (s, {"loss": jnp.full(n, s)}))
bad = False
for seeds in ([0, 2**32], [2**31 + 5, 1], [20240131235959, 0], [2**70, 0]):
    try:
        rows = sweep.run(make, sweep.Space(seed=seeds), 2, segment=2).rows
        print(seeds, "->", [row["loss"] for row in rows]); bad |= rows[0]["loss"] != seeds[0] and rows[0]["loss"] / seeds[0] < 0.99 if seeds[0] else rows[1]["loss"] == 0
    except Exception as error:
        print(seeds, type(error).__name__, str(error)[:160]); bad |= not isinstance(error, (ValueError, OverflowError))
sys.exit(bool(bad))
