"""The guide's own cell, as a user types it, in every dtype; `debug.check` does not say ok to a cell that crashes in one."""
import dataclasses, jax, jax.numpy as jnp, seqcells as sc
@dataclasses.dataclass(frozen=True)
class Gated(sc.SplitCell):
    size: int
    def init(self, key, input_size): return jax.random.normal(key, (input_size, self.size)), jnp.eye(self.size)
    def init_carry(self, x, params=None): return jnp.zeros_like(x, shape=(*x.shape[:-1], self.size), dtype=jnp.float32)
    def project(self, params, x): return x @ params[0]
    def mix(self, params, carry): return carry @ params[1]
    def gate(self, carry, drive, mixed): return carry + jnp.tanh(drive + mixed) / 2
    def output(self, params, carry): return carry            # before the house
    def read(self, params, carry, drive): return carry       # after it
cell, xs = Gated(4), jnp.ones((20, 2, 3)); params = cell.init(jax.random.key(0), 3)
fails, D = [], sc.diagnostics
def attempt(name, f):
    try: f()
    except Exception as e:
        text = str(e).replace("\n", " ")
        if "init_carry" not in text: fails.append(f"{name}: {type(e).__name__} {text[:90]}")  # an error that names the method to mend will do
for name in ("gradient_by_lag", "step_jacobians", "lyapunov_exponents", "jacobian_by_lag"):
    a = (cell, params, xs) + ((lambda ys: ys[-1].sum(),) if name == "gradient_by_lag" else ())
    attempt(name, lambda: D.in_float64(getattr(D, name))(*a))
attempt("bf16", lambda: sc.unroll(cell, params, xs.astype(jnp.bfloat16)))
with jax.enable_x64(True):
    attempt("x64", lambda: sc.unroll(cell, jax.tree.map(lambda v: v.astype(jnp.float64), params), xs.astype(jnp.float64)))
if sc.debug.check(cell).ok and fails: raise SystemExit("debug.check says ok; " + "; ".join(fails))
