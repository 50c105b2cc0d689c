"""Layers whose weights are converted, and what the real frameworks computed."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import seqcells as sc

D, H = 3, 4
GOLDENS = Path(__file__).parents[1] / "goldens"


def deep(cell, layers=2):
    return sc.Stack((sc.Bidirectional(cell),) * layers)


def _torch():
    cells = {
        "gru": (sc.GRU(H), sc.GRU(H, bias="none")),
        "lstm": (sc.LSTM(H), sc.LSTM(H, bias="none")),
        "rnn": (sc.RNN(H), sc.RNN(H, bias="none")),
    }
    cases = {"rnn-relu": sc.RNN(H, "relu")}
    projected = sc.LSTM(H, proj_size=2)
    cases |= {"lstm-proj": projected, "lstm-proj-nobias": sc.LSTM(H, proj_size=2, bias="none")}
    cases |= {"lstm-proj-deep": deep(projected)}
    cases |= {"lstm-proj-deep-lengths": sc.Stack((projected,) * 3)}
    for name, (cell, bare) in cells.items():
        cases |= {name: cell, f"{name}-nobias": bare, f"{name}-cell": cell}
        cases |= {f"{name}-deep": deep(cell), f"{name}-deep-nobias": deep(bare)}
        cases |= {f"{name}-deep-lengths": deep(cell)}
    return cases


GRU, LSTM, RNN, RELU = sc.GRU(H), sc.LSTM(H), sc.RNN(H), sc.RNN(H, "relu")
BEFORE = sc.GRU(H, reset_after=False, bias="single")
SLSTM, LIGRU = sc.SLSTM(H, heads=2), sc.LiGRU(H)
LAYERS = {
    "torch": _torch(),
    "keras": {
        "gru": GRU,
        "gru-before": BEFORE,
        "gru-nobias": sc.GRU(H, bias="none"),
        "gru-before-nobias": sc.GRU(H, reset_after=False, bias="none"),
        "gru-cell": GRU,
        "gru-lengths": sc.Recurrent(GRU),
        "gru-both-lengths": sc.Bidirectional(GRU),
        "gru-before-both-sum": sc.Bidirectional(BEFORE, merge="sum"),
        "lstm": sc.Recurrent(LSTM),
        "lstm-nobias": sc.LSTM(H, bias="none"),
        "lstm-both-ave": sc.Bidirectional(LSTM, merge="mean"),
        "rnn": RNN,
        "rnn-relu-nobias": sc.RNN(H, "relu", bias="none"),
        "rnn-both-mul": sc.Bidirectional(RNN, merge="mul"),
        "deep": sc.Stack((GRU, sc.Bidirectional(GRU), sc.Recurrent(LSTM))),
    },
    "linen": {
        "gru": GRU,
        "gru-cell": GRU,
        "gru-lengths": sc.Recurrent(GRU),
        "gru-reverse": sc.Recurrent(GRU, reverse=True),
        "gru-both-lengths": sc.Bidirectional(GRU),
        "mgu": GRU,
        "lstm": LSTM,
        "lstm-optimized": sc.Recurrent(LSTM),
        "rnn": RNN,
        "rnn-relu": RELU,
        "deep": sc.Stack((LSTM, sc.Bidirectional(GRU))),
    },
    "nnx": {
        "gru": sc.GRU(H, bias="single"),
        "gru-lengths": sc.Recurrent(GRU),
        "gru-both": sc.Bidirectional(GRU),
        "lstm": LSTM,
        "lstm-optimized": sc.Recurrent(LSTM),
        "rnn": RNN,
        "rnn-relu": RELU,
        "deep": sc.Stack((LSTM, sc.Bidirectional(GRU))),
    },
    "haiku": {
        "gru": BEFORE,
        "gru-reverse": sc.Recurrent(BEFORE, reverse=True),
        "lstm": LSTM,
        "rnn": RELU,
        "rnn-one-bias": RELU,
        "deep": sc.Stack((LSTM, BEFORE, LSTM)),
    },
    "equinox": {
        "gru": GRU,
        "gru-nobias": sc.GRU(H, bias="none"),
        "lstm": LSTM,
        "lstm-nobias": sc.LSTM(H, bias="none"),
        "deep": sc.Stack((GRU, LSTM, sc.Recurrent(GRU))),
    },
    "onnx": {
        "gru-after": GRU,
        "gru-before": sc.GRU(H, reset_after=False),
        "gru-after-exact": GRU,
        "gru-before-exact": sc.GRU(H, reset_after=False),
        "gru-before-nobias": sc.GRU(H, reset_after=False, bias="none"),
        "gru-after-both-lengths": sc.Bidirectional(GRU),
        "gru-reverse": sc.Recurrent(sc.GRU(H, reset_after=False), reverse=True),
        "lstm": LSTM,
        "lstm-exact": LSTM,
        "lstm-peepholes": sc.LSTM(H, peepholes=True),
        "lstm-peepholes-exact": sc.LSTM(H, peepholes=True),
        "lstm-peepholes-both": sc.Bidirectional(sc.LSTM(H, peepholes=True)),
        "lstm-nobias": sc.LSTM(H, bias="none"),
        "rnn": sc.Recurrent(RNN),
        "rnn-exact": RNN,
        "rnn-relu-both": sc.Bidirectional(RELU),
    },
    "flashrnn": {"slstm": SLSTM},
    "speechbrain": {
        "ligru": LIGRU,
        "ligru-layer-tanh": sc.LiGRU(H, activation="tanh"),
        "ligru-deep": deep(LIGRU),
    },
}
SINGLE_BIAS = sc.GRU(H, bias="single")


@functools.cache
def goldens(name):
    with np.load(GOLDENS / f"{name}.npz") as file:
        return dict(file)


def parts(name, case, what):
    start = f"{case}|{what}|"
    return {k[len(start) :]: a for k, a in goldens(name).items() if k.startswith(start)}


def arrays_of(name, case):
    return parts(name, case, "w")


def flat(tree, prefix=""):
    out = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        out |= flat(value, f"{name}/") if isinstance(value, dict) else {name: value}
    return out


def drawn(layer, dtype=jnp.float32, seed=0, input_size=D):
    """Draw parameters without zeros, so that a missed place for one shows."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), input_size))
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), dtype), shapes)
