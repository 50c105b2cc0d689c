"""to_parquet where a static field has values of several types (16, 'auto'; False, 0.5): ArrowInvalid / ArrowTypeError. to_csv works. pandas#21228, arrow#3479."""
import sys, tempfile, jax.numpy as jnp
from seqcells import sweep
bad = 0
for values in ([16, "auto"], [False, 0.5], [None, "layer"], [None, 0.1], [(8, 8), 16]):
    make = lambda **static: sweep.Task(lambda h, key: h["lr"], lambda s, h, n: (s, {"loss": jnp.full(n, s)}))
    try:
        sweep.run(make, sweep.Space(lr=[0.1], static={"norm": values}), 2, segment=2).to_parquet(tempfile.mkdtemp() + "/x.parquet"); print(values, "ok")
    except Exception as error:
        bad += 1; print(values, type(error).__name__, str(error).split("\n")[0][:120])
sys.exit(bool(bad))
