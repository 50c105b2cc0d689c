"""keras-team/keras#8134, tensorflow/tfjs-converter#178 (the order of weights), keras#8860 (files of old).

1. model.weights of a model whose layers were made in another order than they are used: refused, though it IS Keras's order.
2. Keras 2 names end in ":0": refused, with names that the user never gave.
3. layers of one's own naming read from a legacy .h5, alphabetically: swapped in silence (the file's attribute layer_names knows).
"""
import os
os.environ["KERAS_BACKEND"] = "jax"
import tempfile, pathlib
import numpy as np, jax, keras, h5py, seqcells as sc
from _case import check, close, done

x = np.random.default_rng(0).normal(size=(3, 7, 4)).astype("float32")
net = sc.Stack((sc.GRU(4), sc.GRU(4)))
weights = lambda model: {w.path: w.numpy() for w in model.weights}
_, one, two = (keras.layers.GRU(4, return_sequences=True) for _ in range(3))  # gru, gru_1, gru_2
i = keras.Input((7, 4))
model = keras.Model(i, one(two(i)))  # gru_2, then gru_1
check("layers used in another order than made", lambda: close(sc.unroll(net, sc.interop.keras.load(weights(model), net), x, time_axis=1)[1], model(x)))
named = keras.Sequential([keras.Input((7, 4)), keras.layers.GRU(4, return_sequences=True, name="gru"), keras.layers.GRU(4, return_sequences=True, name="gru_1")])
check("Keras 2's :0", lambda: close(sc.unroll(net, sc.interop.keras.load({k + ":0": v for k, v in weights(named).items()}, net), x, time_axis=1)[1], named(x)))
seq = keras.Sequential([keras.Input((7, 4)), keras.layers.GRU(4, return_sequences=True, name="encoder"), keras.layers.GRU(4, return_sequences=True, name="decoder")])
path = pathlib.Path(tempfile.mkdtemp()) / "m.h5"
seq.save(path)
def from_h5():
    found = {}
    h5py.File(path)["model_weights"].visititems(lambda name, o: found.__setitem__(name, o[()]) if isinstance(o, h5py.Dataset) else None)
    try: params = sc.interop.keras.load(found, net)
    except ValueError as error: return f"refused: {error}"[:100]
    close(sc.unroll(net, params, x, time_axis=1)[1], seq(x))
check("a dict in alphabetical order: refused or right", from_h5)
done()
