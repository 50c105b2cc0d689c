"""jax-ml/jax#20134, PR #24342, google-deepmind/penzai#123: NamedTuples must be registered or jax.export cannot serialise.

Parameters as an argument, or an LSTM's carry as a result, are what one exports. Flax's variables are dicts, and export.
"""
import jax, jax.numpy as jnp, seqcells as sc
from jax import export
from _case import check, close, done

xs = jnp.ones((7, 3, 4))
for cell in (sc.GRU(5), sc.LSTM(5), sc.LRU(5), sc.MGU(5), sc.LayerNorm(sc.GRU(5)), sc.RNN(5), sc.IndRNN(5), sc.MinGRU(5)):
    params = cell.init(jax.random.key(0), 4)
    run = jax.jit(lambda params, xs: sc.unroll(cell, params, xs))
    def trip():
        data = export.export(run)(params, xs).serialize()
        close(export.deserialize(data).call(params, xs), run(params, xs))
    check(f"{cell}: parameters in, carry out", trip)
net = sc.Stack((sc.Bidirectional(sc.GRU(3)), sc.Recurrent(sc.GRU(4), learned_carry=True)))
weights = net.init(jax.random.key(0), 4)
apply = jax.jit(lambda weights, xs: sc.unroll(net, weights, xs)[1])
check("a Stack with Both and RecurrentParams", lambda: export.deserialize(export.export(apply)(weights, xs).serialize()).call(weights, xs).shape)
done()
