"""Small doors: values that other parts of the scientific stack hand over.

np.float32 rates (a config, a sweep), np.bool_ for reverse, object arrays of lengths (pandas, datasets), lengths=[] for B=0,
plain tuples for NamedTuples (every checkpointer makes them: google/flax#1429, jax-ml/jax#3759), a Cell that is not frozen.
"""
import dataclasses
import jax, jax.numpy as jnp, numpy as np, seqcells as sc
from _case import check, done

cell, xs = sc.GRU(5), jnp.ones((7, 3, 4))
params = cell.init(jax.random.key(0), 4)
check("Zoneout(rate=np.float32(0.1))", lambda: sc.Zoneout(cell, np.float32(0.1)) and None)
check("Stack(dropout=np.float32(0.1))", lambda: sc.Stack((cell,), dropout=np.float32(0.1)) and None)
check("reverse=np.bool_(True)", lambda: sc.unroll(cell, params, xs, reverse=np.bool_(True)) and None)
def says(function, word):
    try: function()
    except (TypeError, ValueError) as error: assert word in str(error), f"does not say {word!r}: {type(error).__name__}: {error}"
check("lengths of objects: taken, or refused by name", lambda: says(lambda: sc.unroll(cell, params, xs, lengths=np.array([7, 3, 0], object)), "lengths"))
check("lengths=[] for B=0", lambda: sc.unroll(cell, params, xs[:, :0], lengths=[]) and None)
check("params as a plain tuple: the remedy is named", lambda: says(lambda: sc.unroll(cell, tuple(params), xs), "GRUParams(*"))
lstm = sc.LSTM(5)
check("step with a plain tuple as LSTM carry", lambda: says(lambda: lstm.step(lstm.init(jax.random.key(0), 4), (jnp.zeros((3, 5)),) * 2, xs[0]), "carry"))
@dataclasses.dataclass
class Loose(sc.Cell):
    size: int = 4
    def init(self, key, d): return jnp.ones((d, self.size))
    def init_carry(self, x, params=None): return jnp.zeros((*x.shape[:-1], self.size))
    def project(self, p, x): return x @ p
    def recur(self, p, c, d): return c + d
    def read(self, p, c, d): return c
check("a cell that is not frozen: said so", lambda: says(lambda: sc.unroll(Loose(), jnp.ones((4, 4)), xs), "frozen"))
done()
