"""A table of wrong calls: each names the argument, what was expected and what came."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqcells as sc
from seqcells import diagnostics, initializers, probes, remedies, train

T, B, D, H = 5, 2, 3, 4
KEY = jax.random.key(0)
GRU, RNN = sc.GRU(H), sc.RNN(H)
PARAMS = GRU.init(KEY, D)
XS = jnp.ones((T, B, D))
TOTAL = sc.FunctionCell(lambda p, c, x: (c + x, c), jnp.zeros_like)

LM = probes.CharacterLM.of("abab", length=5)


def unroll(xs=XS, carry=None, cell=GRU, params=PARAMS, **flags):
    return sc.unroll(cell, params, xs, carry, **flags)


def square(key, shape, dtype):
    return jnp.zeros((7, 7), dtype)


def loss(params, key, hparams):
    return params, {}


def fit(loss=loss, **options):
    state = train.init(jnp.float32(1), train.HParams(), KEY)
    return train.fit(loss, state, train.HParams(), **options)


def exponents(**options):
    return diagnostics.lyapunov_exponents(RNN, RNN.init(KEY, D), XS, **options)


def project(updates, params, **options):
    return remedies.project_spectral_norm(**options).update(updates, optax.EmptyState(), params)


CALLS = {
    # inputs
    "xs of one axis": (lambda: unroll(XS[0, 0]), ValueError, ["xs", "T, *B, D", "(3,)"]),
    "xs of another size": (
        lambda: unroll(XS[..., :2]),
        ValueError,
        ["params", "2", "[3, 12]"],
    ),
    "integer xs": (lambda: unroll(jnp.ones((T, B, D), int)), TypeError, ["xs", "floating", "int"]),
    "boolean xs": (lambda: unroll(XS > 0), TypeError, ["xs", "floating", "bool"]),
    "complex xs": (lambda: unroll(XS + 1j), TypeError, ["xs", "floating", "complex"]),
    "integer x of a step": (
        lambda: GRU.step(PARAMS, jnp.zeros(H), jnp.ones(D, int)),
        TypeError,
        ["xs", "floating", "int"],
    ),
    "x of a step of another size": (
        lambda: GRU.step(PARAMS, jnp.zeros(H), jnp.ones(2)),
        ValueError,
        ["x", "3", "(2,)"],
    ),
    # lengths
    "negative lengths": (
        lambda: unroll(lengths=np.array([-1, 2])),
        ValueError,
        ["lengths", "0 to T=5", "-1"],
    ),
    "lengths above T": (
        lambda: unroll(lengths=np.array([6, 2])),
        ValueError,
        ["lengths", "0 to T=5", "6"],
    ),
    "float lengths": (
        lambda: unroll(lengths=jnp.ones(B)),
        TypeError,
        ["lengths", "int", "float32"],
    ),
    "boolean lengths": (
        lambda: unroll(lengths=jnp.ones(B, bool)),
        TypeError,
        ["lengths", "int[2]", "bool"],
    ),
    "lengths of another batch": (
        lambda: unroll(lengths=jnp.ones(3, int)),
        ValueError,
        ["lengths", "int[2]", "(3,)"],
    ),
    "one length for all": (lambda: unroll(lengths=3), ValueError, ["lengths", "int[2]", "()"]),
    # masks and resets
    "mask of another shape": (
        lambda: unroll(mask=jnp.ones((B, T), bool)),
        ValueError,
        ["mask", "bool[5, 2]", "(2, 5)"],
    ),
    "mask with features": (
        lambda: unroll(mask=XS > 0),
        ValueError,
        ["mask", "bool[5, 2]", "(5, 2, 3)"],
    ),
    "mask of numbers": (
        lambda: unroll(mask=jnp.ones((T, B))),
        TypeError,
        ["mask", "bool[5, 2]", "float32"],
    ),
    "mask time first where xs is not": (
        lambda: unroll(mask=jnp.ones((B, T), bool), time_axis=1),
        ValueError,
        ["mask", "bool[5, 2]", "(2, 5)"],
    ),
    "resets of another shape": (
        lambda: unroll(resets=jnp.ones(T, bool)),
        ValueError,
        ["resets", "bool[5, 2]", "(5,)"],
    ),
    "resets of numbers": (
        lambda: unroll(resets=jnp.ones((T, B), int)),
        TypeError,
        ["resets", "bool[5, 2]", "int"],
    ),
    # the other arguments of unroll
    "carry of another shape": (
        lambda: unroll(carry=jnp.ones((B, 3))),
        ValueError,
        ["carry", "float32[2, 4]", "float32[2, 3]"],
    ),
    "carry without a batch": (
        lambda: unroll(carry=jnp.ones(H)),
        ValueError,
        ["carry", "float32[2, 4]", "float32[4]"],
    ),
    "carry of another structure": (
        lambda: unroll(carry=(jnp.ones((B, H)),)),
        ValueError,
        ["carry", "float32[2, 4]", "tuple"],
    ),
    "time_axis that xs has not": (lambda: unroll(time_axis=3), ValueError, ["time_axis", "3"]),
    "time_axis too far back": (lambda: unroll(time_axis=-4), ValueError, ["time_axis", "-4"]),
    "time_axis of the features": (
        lambda: unroll(time_axis=-1),
        ValueError,
        ["time_axis", "before the last", "-1"],
    ),
    "time_axis no int": (lambda: unroll(time_axis="T"), TypeError, ["time_axis", "int", "'T'"]),
    "reverse no bool": (lambda: unroll(reverse=1), TypeError, ["reverse", "True or False", "1"]),
    "engine by name": (lambda: unroll(engine="scan"), TypeError, ["engine", "Scan()", "'scan'"]),
    "a class for an engine": (lambda: unroll(engine=sc.Scan), TypeError, ["engine", "Scan()"]),
    "a class for a cell": (lambda: unroll(cell=sc.GRU), TypeError, ["model", "GRU(64)", "GRU"]),
    "params of another cell": (
        lambda: unroll(cell=RNN),
        ValueError,
        ["params", "RNNParams", "GRUParams"],
    ),
    "params of another size": (
        lambda: unroll(params=sc.GRU(3).init(KEY, D)),
        ValueError,
        ["params", "[4, 12]", "[3, 9]"],
    ),
    "params of another bias": (
        lambda: unroll(cell=sc.GRU(H, bias="none")),
        ValueError,
        ["params", "b_ih: None", "float32[12]"],
    ),
    "params of a trajectory": (
        lambda: sc.trajectory(RNN, PARAMS, XS),
        ValueError,
        ["params", "RNNParams", "GRUParams"],
    ),
    "xs of select_engine": (
        lambda: sc.select_engine(GRU, jax.ShapeDtypeStruct((T, B, D), "int32")),
        TypeError,
        ["xs", "floating", "int32"],
    ),
    # cells
    "hidden_size 0": (lambda: sc.GRU(0), ValueError, ["hidden_size", ">= 1", "0"]),
    "hidden_size -1": (lambda: sc.RNN(-1), ValueError, ["hidden_size", ">= 1", "-1"]),
    "hidden_size 1.5": (lambda: sc.GRU(1.5), TypeError, ["hidden_size", "int", "1.5"]),
    "hidden_size True": (lambda: sc.GRU(True), TypeError, ["hidden_size", "int", "True"]),
    "hidden_size a": (lambda: sc.RNN("a"), TypeError, ["hidden_size", "int", "'a'"]),
    "hidden_size None": (lambda: sc.RNN(None), TypeError, ["hidden_size", "int", "None"]),
    "reset_after": (
        lambda: sc.GRU(2, reset_after="within"),
        TypeError,
        ["reset_after", "True or False", "'within'"],
    ),
    "bias of a GRU": (lambda: sc.GRU(2, bias=True), ValueError, ["bias", "'double'", "True"]),
    "bias of an RNN": (
        lambda: sc.RNN(2, bias="double"),
        ValueError,
        ["bias", "'single', 'none'", "'double'"],
    ),
    "activation": (lambda: sc.RNN(2, "gelu"), ValueError, ["activation", "'relu'", "'gelu'"]),
    "activation as a function": (
        lambda: sc.RNN(2, jnp.tanh),
        ValueError,
        ["activation", "'tanh'", "tanh"],
    ),
    "integer param_dtype": (
        lambda: sc.GRU(2, param_dtype=int),
        TypeError,
        ["param_dtype", "floating", "int"],
    ),
    "dtype of nothing": (
        lambda: sc.GRU(2, dtype="float31"),
        TypeError,
        ["dtype", "floating", "float31"],
    ),
    "complex dtype": (lambda: sc.RNN(2, dtype="complex64"), TypeError, ["dtype", "floating", "64"]),
    "key an int": (lambda: GRU.init(0, D), TypeError, ["key", "jax.random.key(0)", "0"]),
    "many keys": (
        lambda: GRU.init(jax.random.split(KEY, 3), D),
        TypeError,
        ["key", "one random key", "[3]"],
    ),
    "input_size negative": (lambda: RNN.init(KEY, -1), ValueError, ["input_size", ">= 0", "-1"]),
    "input_size 2.0": (lambda: GRU.init(KEY, 2.0), TypeError, ["input_size", "int", "2.0"]),
    "initialiser no function": (
        lambda: sc.GRU(2, w_hh_init=0.1),
        TypeError,
        ["w_hh_init", "(key, shape, dtype)", "0.1"],
    ),
    "initialisers of two gates": (
        lambda: sc.GRU(2, b_ih_init=(initializers.zeros, initializers.ones)),
        ValueError,
        ["b_ih_init", "tuple of 3", "2"],
    ),
    "initialiser of another shape": (
        lambda: sc.GRU(2, w_ih_init=square).init(KEY, D),
        ValueError,
        ["w_ih_init", "(3, 2)", "(7, 7)"],
    ),
    "Sparse of another shape": (
        lambda: initializers.Sparse()(KEY, (2, 3), "float32"),
        ValueError,
        ["Sparse", "square", "(2, 3)"],
    ),
    "Chrono(1)": (lambda: initializers.Chrono(1), ValueError, ["t_max", "at least 2", "1"]),
    "Chrono(nan)": (
        lambda: initializers.Chrono(float("nan")),
        ValueError,
        ["t_max", "at least 2", "nan"],
    ),
    "step_fn no function": (
        lambda: sc.FunctionCell(1, jnp.zeros_like),
        TypeError,
        ["step_fn", "function", "1"],
    ),
    "carry_fn missing": (
        lambda: sc.FunctionCell(jnp.add, None),
        TypeError,
        ["carry_fn", "function", "None"],
    ),
    "init without init_fn": (lambda: TOTAL.init(KEY, D), TypeError, ["init_fn", "params", "None"]),
    "read of a FunctionCell": (
        lambda: TOTAL.read(None, jnp.zeros(2), None),
        TypeError,
        ["cell", "FunctionCell", "`read`", "old carry"],
    ),
    # engines
    "Scan(unroll=0)": (lambda: sc.Scan(unroll=0), ValueError, ["unroll", ">= 1", "0"]),
    "Scan(unroll=True)": (lambda: sc.Scan(unroll=True), TypeError, ["unroll", "int", "True"]),
    "Scan(checkpoint='log')": (
        lambda: sc.Scan(checkpoint="log"),
        ValueError,
        ["checkpoint", "'sqrt'", "'log'"],
    ),
    "Scan(checkpoint=0)": (lambda: sc.Scan(checkpoint=0), ValueError, ["checkpoint", ">= 1", "0"]),
    "Scan(checkpoint=2.5)": (
        lambda: sc.Scan(checkpoint=2.5),
        TypeError,
        ["checkpoint", "int", "2.5"],
    ),
    # what a caller would not see for himself
    "an axis that is a bool": (lambda: unroll(time_axis=True), TypeError, ["time_axis", "True"]),
    "xs that is no array": (lambda: unroll([[1.0], [1.0, 2.0]]), TypeError, ["xs", "lengths"]),
    "a complex carry": (
        lambda: unroll(carry=jnp.ones((B, H)) + 1j),
        ValueError,
        ["carry", "float32[2, 4]", "complex64[2, 4]"],
    ),
    "an integer reset_carry": (
        lambda: unroll(reset_carry=jnp.ones((B, H), int)),
        ValueError,
        ["reset_carry", "float32[2, 4]", "int32[2, 4]"],
    ),
    "key of an unroll": (lambda: unroll(key=3), TypeError, ["key", "key(0)", "3"]),
    "params of many cells": (
        lambda: unroll(params=jax.tree.map(lambda a: a[None], PARAMS)),
        ValueError,
        ["params", "jax.vmap(sc.unroll, (None, 0, None))"],
    ),
    "params as a dict": (
        lambda: unroll(params=PARAMS._asdict()),
        ValueError,
        ["params", "GRUParams(**params)"],
    ),
    "params transposed": (
        lambda: unroll(params=jax.tree.map(jnp.transpose, PARAMS)),
        ValueError,
        ["params", "transposed", "[in, out]"],
    ),
    "gate of a cell that cannot be split": (
        lambda: sc.GRU(H, reset_after=False).gate(None, None, None),
        ValueError,
        ["reset_after", "GRU(4, reset_after=False)", "recur"],
    ),
    "gate of peepholes": (
        lambda: sc.LSTM(H, peepholes=True).gate(None, None, None),
        ValueError,
        ["peepholes", "recur"],
    ),
    "param_dtype None": (
        lambda: sc.GRU(H, param_dtype=None),
        TypeError,
        ["param_dtype", "floating", "None"],
    ),
    "float64 that is switched off": (
        lambda: sc.GRU(H, dtype="float64"),
        ValueError,
        ["dtype", "float64", "jax_enable_x64"],
    ),
    "param_count of a cell": (lambda: sc.param_count(GRU), TypeError, ["params", "GRU(4)"]),
    "an int in nnx": (lambda: sc.nnx.RNN(3, 1, rngs=None), TypeError, ["model", "GRU(64)", "3"]),
    "a class in nnx": (
        lambda: sc.nnx.RNN(sc.GRU, 1, rngs=None),
        TypeError,
        ["model", "GRU(64)", "the class GRU"],
    ),
    "an int in linen": (
        lambda: sc.linen.RNN(3).init(KEY, XS),
        TypeError,
        ["model", "GRU(64)", "3"],
    ),
    "a ring that is empty": (
        lambda: sc.LRU(H, r_min=0.9, r_max=0.5),
        ValueError,
        ["r_min, r_max", "0.9", "0.5"],
    ),
    "a phase of nothing": (lambda: sc.LRU(H, max_phase=0), ValueError, ["max_phase", "0"]),
    "output_size=0": (lambda: sc.LRU(H, 0), ValueError, ["output_size", ">= 1", "0"]),
    # diagnostics
    "params of a diagnosis": (
        lambda: diagnostics.gradient_by_lag(RNN, PARAMS, XS, jnp.sum),
        ValueError,
        ["params", "RNNParams", "GRUParams"],
    ),
    "carry of a diagnosis": (
        lambda: diagnostics.gradient_by_lag(GRU, PARAMS, XS, jnp.sum, jnp.ones(H)),
        ValueError,
        ["carry", "float32[2, 4]", "float32[4]"],
    ),
    "gates of a cell without": (
        lambda: diagnostics.gate_values(RNN, RNN.init(KEY, D), XS),
        TypeError,
        ["cell", "GRU(64)", "RNN(4", "`gates`"],
    ),
    "integer gates": (
        lambda: diagnostics.gate_shares(jnp.ones((3, H), int)),
        TypeError,
        ["values", "floating", "int32"],
    ),
    "a mask of numbers for shares": (
        lambda: diagnostics.gate_shares(XS, jnp.ones((T, B))),
        TypeError,
        ["mask", "bool[5, 2]", "float32"],
    ),
    "a mask of features for saturation": (
        lambda: diagnostics.saturation(XS, mask=XS > 0),
        ValueError,
        ["mask", "bool[5, 2]", "(5, 2, 3)"],
    ),
    "a whole number for z": (
        lambda: diagnostics.timescales(1),
        TypeError,
        ["z", "floating", "int32"],
    ),
    "a bound for a GRU": (
        lambda: diagnostics.pascanu_bound(GRU, PARAMS),
        TypeError,
        ["cell", "RNN", "IndRNN", "GRU(4)"],
    ),
    "a bound for other params": (
        lambda: diagnostics.pascanu_bound(RNN, PARAMS),
        TypeError,
        ["params", "RNNParams", "cell.init", "GRUParams"],
    ),
    "one gradient": (
        lambda: diagnostics.gradient_snr({"w": jnp.ones((1, 3))}),
        ValueError,
        ["gradients", "N >= 2", "[1, 3]", "jax.vmap"],
    ),
    "integer gradients": (
        lambda: diagnostics.gradient_snr([jnp.ones(3, int)]),
        TypeError,
        ["gradients", "floating", "int"],
    ),
    "an integer decay": (
        lambda: diagnostics.curse_of_memory(0),
        TypeError,
        ["decay", "floating", "int"],
    ),
    "recurrences of an int": (
        lambda: diagnostics.recurrences(3, PARAMS, XS),
        TypeError,
        ["net", "Layer", "Stack(", "3"],
    ),
    "recurrences of another size": (
        lambda: diagnostics.recurrences(sc.Stack((GRU,)), (PARAMS,), XS[..., :2]),
        ValueError,
        ["params", "[2, 12]", "[3, 12]"],
    ),
    "a number in float64": (
        lambda: diagnostics.in_float64(1.5),
        TypeError,
        ["function", "gradient_by_lag", "1.5"],
    ),
    "no exponents": (lambda: exponents(k=0), ValueError, ["k", "1 to 4", "0"]),
    "more exponents than directions": (lambda: exponents(k=5), ValueError, ["k", "1 to 4", "5"]),
    "half an exponent": (lambda: exponents(k=1.5), TypeError, ["k", "int", "1.5"]),
    "a warm-up without an end": (
        lambda: exponents(warmup=T),
        ValueError,
        ["warmup", "the 5 steps", "5"],
    ),
    "a warm-up before the start": (
        lambda: exponents(warmup=-1),
        ValueError,
        ["warmup", ">= 0", "-1"],
    ),
    "weights of an integer size": (
        lambda: diagnostics.mean_field(1, 0.1),
        TypeError,
        ["weight_std", "floating", "int32", "1.0 for 1"],
    ),
    "weights of a negative size": (
        lambda: diagnostics.mean_field(-1.2, 0.1),
        ValueError,
        ["weight_std", "at least 0", "-1.2"],
    ),
    "an input of negative variance": (
        lambda: diagnostics.critical_weight_std(-0.1),
        ValueError,
        ["input_var", "at least 0", "-0.1"],
    ),
    "an input whose variance is no number": (
        lambda: initializers.Critical(float("nan")),
        ValueError,
        ["input_var", "at least 0", "nan"],
    ),
    # remedies
    "a form of nobody": (
        lambda: remedies.omega(RNN, RNN.init(KEY, D), XS, jnp.sum, form="both"),
        ValueError,
        ["form", "'paper', 'code'", "'both'"],
    ),
    "omega of products in sequence": (
        lambda: remedies.omega(sc.GRU(H, reset_after=False), PARAMS, XS, jnp.sum),
        ValueError,
        ["cell", "GRU(64)", "reset_after=False"],
    ),
    "omega of a function": (
        lambda: remedies.omega(TOTAL, jnp.ones(D), XS, jnp.sum),
        ValueError,
        ["cell", "SplitCell", "FunctionCell"],
    ),
    "omega of an int": (
        lambda: remedies.omega(3, PARAMS, XS, jnp.sum),
        TypeError,
        ["cell", "GRU(64)", "3"],
    ),
    "flossing without a step": (
        lambda: remedies.flossing(GRU, PARAMS, XS, warmup=T),
        ValueError,
        ["warmup", "the 5 steps", "5"],
    ),
    "a spectral norm of 0": (
        lambda: remedies.project_spectral_norm(0),
        ValueError,
        ["max_norm", "above 0", "0"],
    ),
    "a projection that sees no parameters": (
        lambda: project(PARAMS, None),
        ValueError,
        ["params", "None", "update(g, state, params)"],
    ),
    "a projection of what is not there": (
        lambda: project(PARAMS, PARAMS, where="hh"),
        ValueError,
        ["where", "w_ih, w_hh", "'hh'"],
    ),
    "a projection of what is not recurrent": (
        lambda: project(*[sc.GRU(5).init(KEY, 2)] * 2, where="w_ih"),
        ValueError,
        ["where", "[H, G*H]", "w_ih [2, 15]"],
    ),
    "a projection of many nets": (
        lambda: project(*[jax.tree.map(lambda a: jnp.stack([a, a]), PARAMS)] * 2),
        ValueError,
        ["where", "[H, G*H]", "w_hh [2, 4, 12]", "vmap"],
    ),
    # training
    "a metric that is no scalar": (
        lambda: fit(steps=1, loss=lambda p, k, h: (p, {"v": jnp.ones(3)})),
        ValueError,
        ["loss", "v", "float32[3]"],
    ),
    "a metric named loss": (
        lambda: fit(steps=1, loss=lambda p, k, h: (p, {"loss": p})),
        ValueError,
        ["loss", "'loss'"],
    ),
    "a loss alone": (
        lambda: fit(steps=1, loss=lambda p, k, h: p),
        TypeError,
        ["loss", "(scalar, dict"],
    ),
    "an optimiser that is made already": (
        lambda: train.init(jnp.ones(2), train.HParams(), KEY, optax.adam(1e-3)),
        TypeError,
        ["optimizer", "lambda hparams"],
    ),
    # probes
    "answers without an axis": (
        lambda: probes.AddingURNN().score(jnp.ones((1, 4)), jnp.ones((1, 4))),
        ValueError,
        ["answers", "(1, 4, 1)", "(1, 4)"],
    ),
    "targets with one more": (
        lambda: probes.AddingURNN().score(jnp.ones((1, 4, 1)), jnp.ones((1, 4, 1))),
        ValueError,
        ["targets", "(S, N)", "(1, 4, 1)"],
    ),
    "answers without a readout": (
        lambda: probes.DelayedRecall().score(jnp.ones((1, 4, 64)), jnp.ones((1, 4), int)),
        ValueError,
        ["answers", "(1, 4, 8)", "(1, 4, 64)"],
    ),
    "a lag between two steps": (
        lambda: probes.DelayedRecall(9).sample(KEY, 2, 2.5),
        TypeError,
        ["lag", "int", "float"],
    ),
    "many lags": (
        lambda: probes.DelayedRecall(9).sample(KEY, 2, jnp.arange(3)),
        TypeError,
        ["lag", "one int", "int32[3]"],
    ),
    # the rest
    "summary of an int": (lambda: sc.summary(3, 1), TypeError, ["model", "GRU(64)", "3"]),
    "summary of no input": (lambda: sc.summary(GRU, -1), ValueError, ["input_size", ">= 0", "-1"]),
    "norms that are integers": (
        lambda: diagnostics.rate_and_horizon(np.array([1, 2])),
        TypeError,
        ["norms", "floating", "int"],
    ),
    "AddingURNN(length=1)": (lambda: probes.AddingURNN(1), ValueError, ["length", ">= 2", "1"]),
    "AddingTCN(length=1)": (lambda: probes.AddingTCN(1), ValueError, ["length", ">= 2", "1"]),
    "AddingPascanu(length=9)": (
        lambda: probes.AddingPascanu(9),
        ValueError,
        ["length", ">= 10", "9"],
    ),
    "Multiplication(length=9)": (
        lambda: probes.Multiplication(9),
        ValueError,
        ["length", ">= 10", "9"],
    ),
    "a length of 9 where ten are least": (
        lambda: probes.Multiplication(20).sample(KEY, 2, 9),
        ValueError,
        ["length", "10 to 20", "9"],
    ),
    "TemporalOrder(length=9)": (
        lambda: probes.TemporalOrder(9),
        ValueError,
        ["length", ">= 10", "9"],
    ),
    "TemporalOrder(symbols=4)": (
        lambda: probes.TemporalOrder(symbols=4),
        ValueError,
        ["symbols", "2 or 3", "4"],
    ),
    "TemporalOrder(symbols=True)": (
        lambda: probes.TemporalOrder(symbols=True),
        TypeError,
        ["symbols", "int", "True"],
    ),
    "Copy(length=0)": (lambda: probes.Copy(0), ValueError, ["length", ">= 1", "0"]),
    "Copy(symbols=1)": (lambda: probes.Copy(symbols=1), ValueError, ["symbols", ">= 2", "1"]),
    "Memorization(count=0)": (
        lambda: probes.Memorization(count=0),
        ValueError,
        ["count", ">= 1", "0"],
    ),
    "VariableCopy(length=0)": (lambda: probes.VariableCopy(0), ValueError, ["length", ">= 1", "0"]),
    "SelectiveCopy(length=15)": (
        lambda: probes.SelectiveCopy(15),
        ValueError,
        ["length", ">= 16", "15"],
    ),
    "a length below the count": (
        lambda: probes.SelectiveCopy(20).sample(KEY, 2, 15),
        ValueError,
        ["length", "16 to 20", "15"],
    ),
    "DelayedRecall(cues=1)": (
        lambda: probes.DelayedRecall(cues=1),
        ValueError,
        ["cues", ">= 2", "1"],
    ),
    "a text of one character": (
        lambda: probes.CharacterLM.of("aaa"),
        ValueError,
        ["text", "2 different", "'aaa'"],
    ),
    "CharacterLM of characters twice": (
        lambda: probes.CharacterLM("aba", (1, 1, 1), 0.1),
        ValueError,
        ["vocabulary", "sorted", "'aba'"],
    ),
    "CharacterLM of too few counts": (
        lambda: probes.CharacterLM("ab", (1,), 0.1),
        ValueError,
        ["counts", "each character", "(1,)"],
    ),
    "a character that is not in the text": (
        lambda: LM.encode("abbx"),
        ValueError,
        ["text", "vocabulary", "'x' at 3"],
    ),
    "a text too short for a window": (
        lambda: LM.sample(KEY, 2, np.zeros(5, int)),
        ValueError,
        ["tokens", "6 or more", "[5]"],
    ),
    "a text too short for its streams": (
        lambda: LM.streams(np.zeros(10, int), 2),
        ValueError,
        ["tokens", "11 or more", "[10]"],
    ),
    "tokens of another text": (
        lambda: LM.sample(KEY, 2, np.arange(9)),
        ValueError,
        ["tokens", "0 to 1", "0 to 8", "encode"],
    ),
    "a text instead of tokens": (
        lambda: LM.sample(KEY, 2, np.zeros((9, 2))),
        ValueError,
        ["tokens", "integer array", "[9, 2]"],
    ),
    "a split that leaves nothing": (
        lambda: LM.split(np.arange(9), 0.5, 0.5),
        ValueError,
        ["valid", "below 1", "0.5 + 0.5"],
    ),
    "a split of -1": (
        lambda: LM.split(np.arange(9), 0.1, -1),
        ValueError,
        ["test", "0 to below 1", "-1"],
    ),
    "no streams": (
        lambda: LM.streams(np.zeros(99, int), 0),
        ValueError,
        ["batch_size", ">= 1", "0"],
    ),
    "images that are scaled already": (
        lambda: probes.SequentialDigits().sample(KEY, 2, np.ones((3, 8, 8)), np.arange(3)),
        ValueError,
        ["images", "integers [M, 8, 8]", "float"],
    ),
    "images of another size": (
        lambda: probes.SequentialMNIST().whole(np.ones((3, 8, 8), int), np.arange(3)),
        ValueError,
        ["images", "integers [M, 28, 28]", "[3, 8, 8]"],
    ),
    "labels of other images": (
        lambda: probes.SequentialDigits().whole(np.ones((3, 8, 8), int), np.arange(4)),
        ValueError,
        ["labels", "integers [3]", "[4]"],
    ),
    "no images": (
        lambda: probes.SequentialDigits().whole(np.ones((0, 8, 8), int), np.arange(0)),
        ValueError,
        ["labels", "integers [1]", "[0]"],
    ),
    "a label of 10": (
        lambda: probes.SequentialDigits().whole(np.ones((3, 8, 8), int), np.array([0, 9, 10])),
        ValueError,
        ["labels", "0 to 9", "10"],
    ),
    "permutation_seed=-1": (
        lambda: probes.SequentialMNIST(-1),
        ValueError,
        ["permutation_seed", ">= 0", "-1"],
    ),
    "an IDX file that is not there": (
        lambda: probes.load_idx("no/such/file"),
        FileNotFoundError,
        ["path", "no/such/file", "nothing there"],
    ),
    "DelayedMatch(cues=1)": (
        lambda: probes.DelayedMatch(cues=1),
        ValueError,
        ["cues", ">= 2", "1"],
    ),
    "a gap above the length": (
        lambda: probes.DelayedMatch(9).sample(KEY, 2, 10),
        ValueError,
        ["gap", "1 to 9", "10"],
    ),
    "DelayedXOR(20, delay=10)": (
        lambda: probes.DelayedXOR(20, delay=10),
        ValueError,
        ["length", ">= 21", "20"],
    ),
    "GroupWords('S5')": (
        lambda: probes.GroupWords("S5"),
        ValueError,
        ["group", "'Z60', 'A4xZ5', 'A5'", "'S5'"],
    ),
    "MQAR of too many pairs": (
        lambda: probes.MQAR(62, pairs=16),
        ValueError,
        ["length", ">= 64", "62"],
    ),
    "MQAR(65)": (lambda: probes.MQAR(65), ValueError, ["length", "even", "65"]),
    "MQAR(power=0)": (lambda: probes.MQAR(power=0), ValueError, ["power", "above 0", "0"]),
    "MQAR of few tokens": (
        lambda: probes.MQAR(vocabulary=8),
        ValueError,
        ["vocabulary", ">= 10", "8"],
    ),
    "Parity(0)": (lambda: probes.Parity(0), ValueError, ["length", ">= 1", "0"]),
    "RandomPermutation(symbols=2)": (
        lambda: probes.RandomPermutation(symbols=2),
        ValueError,
        ["symbols", ">= 3", "2"],
    ),
    "lag 0": (
        lambda: probes.DelayedRecall(9).sample(KEY, 2, 0),
        ValueError,
        ["lag", "1 to 9", "0"],
    ),
    "lag above the length": (
        lambda: probes.DelayedRecall(9).sample(KEY, 2, 10),
        ValueError,
        ["lag", "1 to 9", "10"],
    ),
    "key of a probe": (lambda: probes.AddingURNN().sample(1, 2), TypeError, ["key", "key(0)", "1"]),
    "key of a training": (
        lambda: train.init(jnp.ones(2), train.HParams(), 7),
        TypeError,
        ["key", "key(0)", "7"],
    ),
    "negative steps": (lambda: fit(steps=-1), ValueError, ["steps", ">= 0", "-1"]),
    "segments of no steps": (lambda: fit(steps=2, segment=0), ValueError, ["segment", ">= 1", "0"]),
    "steps 1e3": (lambda: fit(steps=1e3), TypeError, ["steps", "int", "1000.0"]),
}


@pytest.mark.parametrize(("call", "error", "words"), CALLS.values(), ids=CALLS)
def test_a_wrong_call_says_what_was_expected_and_what_came(call, error, words):
    with pytest.raises(error) as raised:
        call()
    message = str(raised.value)
    assert message.startswith(f"{words[0]}: ")  # the argument's name
    assert [word for word in words if word not in message] == []
    assert "\n" not in message  # a sentence, not a traceback in a string


@pytest.mark.parametrize("flag", ["lengths", "mask", "resets", "carry", "params"])
def test_what_is_wrong_is_refused_under_jit_too(flag):
    wrong = {"lengths": jnp.ones(3, int), "carry": jnp.ones((B, 3)), "params": RNN.init(KEY, D)}
    value = wrong.get(flag, jnp.ones((B, T), bool))
    with pytest.raises(ValueError, match=f"^{flag}: "):
        jax.jit(lambda value: unroll(**{flag: value}))(value)


def test_keys_of_the_old_kind_are_keys():
    old = jax.random.PRNGKey(0)
    np.testing.assert_array_equal(GRU.init(old, D).w_ih, GRU.init(KEY, D).w_ih)
