"""What is meant otherwise and passes without a word: ranked(over='sede'), Halving(every > steps), NaN twice in a list, log:1e-3:1e-1:2.7 (makes 2), a negative
learning rate or clipping norm on the command line. Cf. optuna#2021 (duplicates), ray#4620 (columns failing silently)."""
import sys, jax.numpy as jnp
from seqcells import sweep
make = lambda: sweep.Task(lambda h, key: h["lr"], lambda s, h, n: (s, {"loss": jnp.full(n, s)}))
run = lambda **k: sweep.run(make, sweep.Space(lr=[0.1], seed=range(3)), 20, segment=10, **k)
tries = {"ranked(over='sede')": lambda: len(run().ranked(over="sede")), "Halving(1000) of 20 steps": lambda: [r["status"] for r in run(halving=sweep.Halving(1000)).rows],
         "lr=[nan, nan]": lambda: [t.id for t in sweep.Space(lr=[float("nan"), float("nan")]).trials()], "static [8], (8,)": lambda: [t.id for t in sweep.Space(lr=[1.0], static={"sizes": [[8], (8,)]}).trials()]}
from experiments.sweep.settings import values
tries["log:1e-3:1e-1:2.7"] = lambda: values("lr", "log:1e-3:1e-1:2.7"); tries["--sweep.lr -0.1"] = lambda: values("lr", "-0.1")
bad = 0
for name, f in tries.items():
    try: print(name, "->", f()); bad += 1
    except (ValueError, TypeError, KeyError) as error: print(name, "refused:", str(error)[:100])
sys.exit(bool(bad))
