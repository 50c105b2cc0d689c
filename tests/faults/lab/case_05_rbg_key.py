"""With an rbg key a trial's bits depend on the other trials (run says: not on the other trials). Cf. jax#19085, #21663, #34497."""
import sys, jax, jax.numpy as jnp
from seqcells import sweep
make = lambda: sweep.Task(lambda h, key: key, lambda key, h, n: (key, {"loss": jnp.full(n, jax.random.normal(key))}))
bad = False
for impl in ("threefry2x32", "rbg", "unsafe_rbg"):
    key = jax.random.key(0, impl=impl)
    try:
        whole = {r["id"]: r["loss"] for r in sweep.run(make, sweep.Space(seed=range(4)), 2, segment=2, key=key).rows}
        part = sweep.run(make, sweep.Space(seed=[3, 2, 1, 0]), 2, segment=2, key=key).rows
    except ValueError as error:
        print(impl, "refused", error); continue
    same = all(whole[r["id"]] == r["loss"] for r in part)
    print(impl, "same bits in another order:", same); bad |= not same
sys.exit(bad)
