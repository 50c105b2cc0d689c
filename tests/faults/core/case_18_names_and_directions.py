"""ONNX directions with activations of their own (onnx RNN spec), Haiku modules with names of their own (every hk.Module).

`activations=["Relu", "Tanh"]` of a bidirectional RNN is one legal node; seqcells has the layer, and refuses to convert it.
Haiku's parameters of a net are {"net/~/gru": ...}; only "gru", "gru_1", ... are read, where Keras's paths may start with anything.
"""
import jax, jax.numpy as jnp, numpy as np, haiku as hk, seqcells as sc
from _case import check, close, done

net = sc.Bidirectional(sc.RNN(3, "relu"), sc.RNN(3, "tanh"))
check("onnx: relu forward, tanh backward", lambda: sc.interop.onnx.dump(net, net.init(jax.random.key(0), 4)) and None)
class Net(hk.Module):
    def __call__(self, x):
        core = hk.GRU(5)
        return hk.dynamic_unroll(core, x, core.initial_state(3))[0]
run = hk.without_apply_rng(hk.transform(lambda x: Net()(x)))
x = jnp.ones((7, 3, 4))
variables = run.init(jax.random.key(0), x)
cell = sc.GRU(5, reset_after=False, bias="single")
check(f"haiku: {list(variables)}", lambda: close(sc.unroll(cell, sc.interop.haiku.load(variables, cell), x)[1], run.apply(variables, x)))
done()
