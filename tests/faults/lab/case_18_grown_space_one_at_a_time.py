"""A bucket keeps for ever the width that it was first run with: try one seed, then ask for 32 in the same folder, and they are trained one after another
(on this machine's devices: one chunk a device count), where a fresh folder trains all at once. No word about it. Cf. ray#42221 (grow a finished experiment)."""
import sys, tempfile, jax, jax.numpy as jnp
from seqcells import sweep
make = lambda: sweep.Task(lambda h, key: jax.random.normal(key), lambda s, h, n: (s, {"loss": jnp.full(n, s**2)}))
def chunks(out):
    seen = []; sweep.run(make, sweep.Space(seed=range(32)), 10, segment=10, out=out, on_segment=lambda p: seen.append(p.alive)); return seen
out = tempfile.mkdtemp(); sweep.run(make, sweep.Space(seed=[0]), 10, segment=10, out=out)
grown, fresh = chunks(out), chunks(tempfile.mkdtemp())
print(f"grown from 1 seed to 32: {len(grown)} chunks {grown[:4]}...; fresh: {len(fresh)} chunk(s) {fresh}")
sys.exit(len(grown) > 4 * len(fresh))
