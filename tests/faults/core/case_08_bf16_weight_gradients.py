"""jax-ml/jax#40128, mlnomadpy/flaxchat#6, linkedin/Liger-Kernel PR #830: a long sum of gradients rounded to bfloat16 at every term.

With bfloat16 parameters, whatever runs by Scan adds to a weight's gradient in bfloat16, step by step, so the sum stops growing:
256 ones of 2000. On a CPU that is the default for GRU(reset="before"), MGU, LSTM(peepholes=True), MinGRU, LRU, Zoneout and
recurrent VariationalDropout in training. Right is the float32 gradient of the same numbers, rounded once. Deferred does (nearly).

On random inputs (B=8, D=16, H=32, a mean square as loss), relative error of the gradient's norm at T=100 / T=1000: GRU(before) w_hh 1 % / 13 %,
b 1 % / 43 %; MGU the same; MinGRU w_ih 1 % / 9 %, b 1 % / 42 %; the default GRU (Deferred) 0.2 % / 0.3 %. flax.nnx.GRUCell with bfloat16
parameters has the same fault (64 for 324 here); float32 parameters with dtype=bfloat16 are right.
"""
import jax, jax.numpy as jnp, numpy as np, seqcells as sc
from _case import check, done

T = 2000
one = jnp.ones((T, 1, 1), "bfloat16")
def gradient(cell, params, xs, **kw):
    grads = jax.grad(lambda p: sc.unroll(cell, p, xs, **kw)[1].astype("float32").sum())(params)
    return np.concatenate([np.ravel(np.asarray(a, "float32")) for a in jax.tree.leaves(grads)])
key = jax.random.key(1)
cells = {"GRU(before)": (sc.GRU, dict(reset_after=False), {}), "MGU": (sc.MGU, {}, {}), "LSTM(peepholes)": (sc.LSTM, dict(peepholes=True), {}), "MinGRU": (sc.MinGRU, {}, {}),
         "GRU": (sc.GRU, {}, {}), "GRU by Scan": (sc.GRU, {}, dict(engine=sc.Scan())), "GRU by Truncated(50, Scan())": (sc.GRU, {}, dict(engine=sc.Truncated(50, sc.Scan())))}
for name, (kind, kw, run) in cells.items():
    narrow, wide = kind(1, param_dtype="bfloat16", **kw), kind(1, **kw)
    params = narrow.init(jax.random.key(0), 1)
    def near():
        got = gradient(narrow, params, one, **run)
        # the same operands, but parameters (and so their gradients) held in float32
        right = gradient(kind(1, dtype="bfloat16", **kw), jax.tree.map(lambda a: a.astype("float32"), params), one, **run)
        worst = np.abs(got / right - 1).max()
        assert worst < 0.05, f"got {np.round(got, 2).tolist()}, in float32 {np.round(right, 2).tolist()}"
        return f"within {worst:.1%}"
    check(name, near)
done()
