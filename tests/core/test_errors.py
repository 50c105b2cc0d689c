"""Wrong calls: the error names the argument, what is expected and what it got."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.numpy import ones

import seqcells as sc
from seqcells import diagnostics, initializers, probes, remedies, train
from seqcells.diagnostics import gradient_by_lag as by_lag
from seqcells.diagnostics import gradient_snr, recurrences
from tests.support.interop import drawn

T, B, D, H = 5, 2, 3, 4
KEY = jax.random.key(0)
GRU, RNN = sc.GRU(H), sc.RNN(H)
PARAMS, RNN_PARAMS = drawn(GRU, input_size=D), drawn(RNN, input_size=D)
XS = ones((T, B, D))
BATCH_FIRST = ones((B, T, D))
NET = sc.Stack((sc.GRU(H), sc.LSTM(2)))
NET_PARAMS = drawn(NET, input_size=D)
TOTAL = sc.FunctionCell(lambda p, c, x: (c + x, c), jnp.zeros_like)

ADDING, RECALL, DIGITS = probes.AddingURNN(), probes.DelayedRecall(9), probes.SequentialDigits()
LM = probes.CharacterLM.of("abab", length=5)
IMAGES = np.ones((3, 8, 8), int)


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
    return diagnostics.lyapunov_exponents(RNN, RNN_PARAMS, XS, **options)


def omega(cell, params, **options):
    return remedies.omega(cell, params, XS, jnp.sum, **options)


def project(updates, params, **options):
    return remedies.project_spectral_norm(**options).update(updates, optax.EmptyState(), params)


# Each row: a call, and what the message holds: the argument, what is expected, what it got.
VALUES = [
    # inputs
    (lambda: unroll(XS[0, 0]), "xs | T, *B, D | float32[3]"),
    (lambda: unroll(XS[..., :2]), "params | 2 | [3, 12]"),
    (lambda: GRU.step(PARAMS, jnp.zeros(H), ones(2)), "params | 2 | [3, 12]"),
    # lengths
    (lambda: unroll(lengths=np.array([-1, 2])), "lengths | 0 to T=5 | -1"),
    (lambda: unroll(lengths=np.array([6, 2])), "lengths | 0 to T=5 | 6"),
    (lambda: unroll(lengths=ones(3, int)), "lengths | int[2] | (3,)"),
    (lambda: unroll(lengths=3), "lengths | int[2] | ()"),
    # masks and resets
    (lambda: unroll(mask=ones((B, T), bool)), "mask | bool[5, 2] | (2, 5)"),
    (lambda: unroll(mask=XS > 0), "mask | bool[5, 2] | (5, 2, 3)"),
    (lambda: unroll(mask=ones((B, T), bool), time_axis=1), "mask | bool[5, 2] | (2, 5)"),
    (lambda: unroll(resets=ones(T, bool)), "resets | bool[5, 2] | (5,)"),
    # the other arguments of unroll
    (lambda: unroll(carry=ones((B, 3))), "carry | float32[2, 4] | float32[2, 3]"),
    (lambda: unroll(carry=ones(H)), "carry | float32[2, 4] | float32[4]"),
    (lambda: unroll(carry=(ones((B, H)),)), "carry | float32[2, 4] | tuple"),
    (lambda: unroll(time_axis=3), "time_axis | 3"),
    (lambda: unroll(time_axis=-4), "time_axis | -4"),
    (lambda: unroll(time_axis=-1), "time_axis | before the last | -1"),
    (lambda: unroll(xs=ones((B, 7)), time_axis=1), "time_axis | got 1; one number | xs[..., None]"),
    (lambda: unroll(cell=RNN), "params | RNNParams | GRUParams"),
    (lambda: unroll(params=sc.GRU(3).init(KEY, D)), "params | [4, 12] | [3, 9]"),
    (lambda: unroll(cell=sc.GRU(H, bias="none")), "params | b_ih: None | float32[12]"),
    (lambda: sc.trajectory(RNN, PARAMS, XS), "params | RNNParams | GRUParams"),
    # cells
    (lambda: sc.GRU(0), "hidden_size | >= 1 | 0"),
    (lambda: sc.RNN(-1), "hidden_size | >= 1 | -1"),
    (lambda: sc.GRU(2, bias=True), "bias | 'double' | True"),
    (lambda: sc.RNN(2, bias="double"), "bias | 'single', 'none' | 'double'"),
    (lambda: sc.RNN(2, "gelu"), "activation | 'relu' | 'gelu'"),
    (lambda: sc.RNN(2, jnp.tanh), "activation | 'tanh' | tanh"),
    (lambda: RNN.init(KEY, -1), "input_size | >= 0 | -1"),
    (
        lambda: sc.GRU(2, b_ih_init=(initializers.zeros, initializers.ones)),
        "b_ih_init | tuple of 3 | 2",
    ),
    (lambda: sc.GRU(2, w_ih_init=square).init(KEY, D), "w_ih_init | (3, 2) | (7, 7)"),
    (lambda: initializers.Sparse()(KEY, (2, 3), "float32"), "Sparse | square | (2, 3)"),
    (lambda: initializers.Chrono(1), "t_max | at least 2 | 1"),
    (lambda: initializers.Chrono(float("nan")), "t_max | at least 2 | nan"),
    # engines
    (lambda: sc.Scan(unroll=0), "unroll | >= 1 | 0"),
    (lambda: sc.Scan(checkpoint="log"), "checkpoint | 'sqrt' | 'log'"),
    (lambda: sc.Scan(checkpoint=0), "checkpoint | >= 1 | 0"),
    # batch and time exchanged, or no time
    (lambda: unroll(BATCH_FIRST, lengths=ones(B, int)), "lengths | int[5] | (2,) | time_axis=1"),
    (
        lambda: unroll(XS, lengths=ones(B, int), time_axis=1),
        "lengths | int[5] | (2,) | time-first: leave out time_axis",
    ),
    (
        lambda: unroll(BATCH_FIRST, mask=ones((T, B), bool)),
        "mask | bool[2, 5] | looks batch-first | time_axis=1",
    ),
    (lambda: unroll(BATCH_FIRST, ones((B, H))), "carry | float32[5, 4] | see time_axis"),
    (lambda: unroll(XS[0], ones((B, H))), "carry | float32[4] | float32[2, 4] | call step"),
    (lambda: unroll(XS[0], lengths=ones(B, int)), "lengths | int[] | (2,) | call step | xs[None]"),
    # what a caller would not see for himself
    (lambda: unroll(carry=ones((B, H)) + 1j), "carry | float32[2, 4] | complex64[2, 4]"),
    (lambda: unroll(reset_carry=ones((B, H), int)), "reset_carry | float32[2, 4] | int32[2, 4]"),
    (
        lambda: unroll(params=jax.tree.map(lambda a: a[None], PARAMS)),
        "params | jax.vmap(sc.unroll, (None, 0, None))",
    ),
    (lambda: unroll(params=PARAMS._asdict()), "params | GRUParams(**params)"),
    (lambda: unroll(params=tuple(PARAMS)), "params | tuple | GRUParams(*params)"),
    (
        lambda: sc.unroll(sc.LSTM(H), sc.LSTM(H).init(KEY, D), XS, (ones((B, H)),) * 2),
        "carry | LSTMCarry(h: | tuple | LSTMCarry(*carry)",
    ),
    (lambda: sc.unroll(NET, NET_PARAMS[::-1], XS), "params | GRU(4) | GRUParams | LSTMParams"),
    (lambda: NET.step(NET_PARAMS[::-1], None, XS[0]), "params | GRU(4) | GRUParams | LSTMParams"),
    (
        lambda: NET.step(NET_PARAMS, NET.init_carry(XS[0])[::-1], XS[0]),
        "carry | 1.h: float32[2, 2] | 0.h: float32",
    ),
    (lambda: unroll(params=jax.tree.map(jnp.transpose, PARAMS)), "params | transposed | [in, out]"),
    (
        lambda: sc.GRU(H, reset_after=False).gate(None, None, None),
        "reset_after | GRU(4, reset_after=False) | recur",
    ),
    (lambda: sc.LSTM(H, peepholes=True).gate(None, None, None), "peepholes | recur"),
    (lambda: sc.LSTM(H, proj_size=2).gate(None, None, None), "proj_size | projects the new h"),
    (lambda: sc.LSTM(H, proj_size=H), "proj_size | below hidden_size = 4 | got 4"),
    (lambda: sc.LEM(H, dt=0), "dt | above 0"),
    (lambda: sc.GRUD(H, gate_activation="relu"), "gate_activation | 'hard_sigmoid' | 'relu'"),
    (lambda: sc.GRU(H, dtype="float64"), "dtype | float64 | jax_enable_x64"),
    (lambda: sc.LRU(H, r_min=0.9, r_max=0.5), "r_min, r_max | 0.9 | 0.5"),
    (lambda: sc.LRU(H, max_phase=0), "max_phase | 0"),
    (lambda: sc.LRU(H, output_size=0), "output_size | >= 1 | 0"),
    (lambda: sc.MinLSTM(H, "softplus"), "activation | 'positive' | 'softplus'"),
    (lambda: sc.RNN(H, "positive"), "activation | 'identity' | 'positive'"),
    (lambda: sc.RGLRU(H, heads=3), "heads | hidden_size = 4 | 3"),
    (lambda: sc.RGLRU(H, a_min=0.0), "a_min | between 0 and 1 | 0.0"),
    (lambda: sc.RGLRU(H, a_max=0.5), "a_max | a_min = 0.9 | 0.5"),
    (lambda: sc.RGLRU(H).init(KEY, D), "input_size | hidden_size = 4 | 3 | Dense(4) before it"),
    (lambda: sc.Mamba(H).init(KEY, D), "input_size | hidden_size = 4 | 3 | Dense(4) before it"),
    (lambda: sc.Mamba(H, state_size=0), "state_size | >= 1 | 0"),
    (lambda: sc.Mamba(H, rank=0), "rank | >= 1 | 0"),
    (lambda: sc.Mamba(H, step_min=0), "step_min | above 0 | 0"),
    (lambda: sc.MLSTM(H, heads=3), "heads | hidden_size = 4 | 3"),
    (lambda: sc.MLSTM(H, eps=-1), "eps | at least 0 | -1"),
    (lambda: sc.MLSTM(H, projected=True).init(KEY, 5), "input_size | q|k|v | 5"),
    (lambda: sc.SLSTM(H, projected=True).init(KEY, 5), "input_size | i|f|z|o | 5"),
    (lambda: sc.LRU(H, output_size=2, skip=True).init(KEY, 3), "output_size | input_size = 3 | 2"),
    (lambda: sc.RetNet(H, key_size=0), "key_size | >= 1 | 0"),
    (lambda: sc.RetNet(H, w_ih_init=(ones, ones)), "w_ih_init | tuple of 1 | 2"),
    (lambda: sc.GatedDeltaNet(H, beta_max=3), "beta_max | at most 2 | 3"),
    (lambda: sc.GatedDeltaNet(H, activation="tanh"), "activation | 'silu', 'identity' | 'tanh'"),
    (lambda: sc.S5(H, step_max=1e-4), "step_max | step_min = 0.001 | 0.0001"),
    (lambda: sc.S5(H, discretisation="euler"), "discretisation | 'zoh', 'bilinear' | 'euler'"),
    (lambda: sc.S5(H, output_size=0), "output_size | >= 1 | 0"),
    (lambda: sc.S5(H, output_size=2).init(KEY, D), "output_size | input_size = 3 | 2 | skip=False"),
    # diagnostics
    (lambda: by_lag(RNN, PARAMS, XS, jnp.sum), "params | RNNParams | GRUParams"),
    (lambda: by_lag(GRU, PARAMS, XS, jnp.sum, ones(H)), "carry | float32[2, 4] | float32[4]"),
    (lambda: diagnostics.saturation(XS, mask=XS > 0), "mask | bool[5, 2] | (5, 2, 3)"),
    (lambda: gradient_snr({"w": ones((1, 3))}), "gradients | N >= 2 | [1, 3] | jax.vmap"),
    (lambda: recurrences(sc.Stack((GRU,)), (PARAMS,), XS[..., :2]), "params | [2, 12] | [3, 12]"),
    (lambda: exponents(k=0), "k | 1 to 4 | 0"),
    (lambda: exponents(k=5), "k | 1 to 4 | 5"),
    (lambda: exponents(warmup=T), "warmup | the 5 steps | 5"),
    (lambda: exponents(warmup=-1), "warmup | >= 0 | -1"),
    (lambda: diagnostics.mean_field(-1.2, 0.1), "weight_std | at least 0 | -1.2"),
    (lambda: diagnostics.critical_weight_std(-0.1), "input_var | at least 0 | -0.1"),
    (lambda: initializers.Critical(float("nan")), "input_var | at least 0 | nan"),
    # remedies
    (lambda: omega(RNN, RNN_PARAMS, form="both"), "form | 'paper', 'code' | 'both'"),
    (lambda: omega(sc.GRU(H, reset_after=False), PARAMS), "cell | GRU(64) | reset_after=False"),
    (lambda: omega(TOTAL, ones(D)), "cell | SplitCell | FunctionCell"),
    (lambda: remedies.flossing(GRU, PARAMS, XS, warmup=T), "warmup | the 5 steps | 5"),
    (lambda: remedies.project_spectral_norm(0), "max_norm | above 0 | 0"),
    (lambda: project(PARAMS, None), "params | None | update(g, state, params)"),
    (lambda: project(PARAMS, PARAMS, where="hh"), "where | w_ih, w_hh | 'hh'"),
    (
        lambda: project(*[sc.GRU(5).init(KEY, 2)] * 2, where="w_ih"),
        "where | [H, G*H] | w_ih [2, 15]",
    ),
    (
        lambda: project(*[jax.tree.map(lambda a: jnp.stack([a, a]), PARAMS)] * 2),
        "where | [H, G*H] | w_hh [2, 4, 12] | vmap",
    ),
    # training
    (lambda: fit(steps=1, loss=lambda p, k, h: (p, {"v": ones(3)})), "loss | v | float32[3]"),
    (lambda: fit(steps=1, loss=lambda p, k, h: (p, {"loss": p})), "loss | 'loss'"),
    # probes
    (
        lambda: RECALL.sample(KEY, 2).pick(ones((3, 2, 1))),
        "ys | float[10, 2, H] | [3, 2, 1]",
    ),
    (lambda: RECALL.sample(KEY, 2).pick(ones((10, 1, 1))), "ys | float[10, 2, H] | [10, 1, 1]"),
    (lambda: ADDING.score(ones((1, 4)), ones((1, 4))), "answers | (1, 4, 1) | (1, 4)"),
    (lambda: ADDING.score(ones((1, 4, 1)), ones((1, 4, 1))), "targets | (S, N) | (1, 4, 1)"),
    (
        lambda: probes.DelayedRecall().score(ones((1, 4, 64)), ones((1, 4), int)),
        "answers | (1, 4, 8) | (1, 4, 64)",
    ),
    # the rest
    (lambda: sc.summary(GRU, -1), "input_size | >= 0 | -1"),
    (lambda: probes.AddingURNN(1), "length | >= 2 | 1"),
    (lambda: probes.AddingTCN(1), "length | >= 2 | 1"),
    (lambda: probes.AddingPascanu(9), "length | >= 10 | 9"),
    (lambda: probes.Multiplication(9), "length | >= 10 | 9"),
    (lambda: probes.Multiplication(20).sample(KEY, 2, 9), "length | 10 to 20 | 9"),
    (lambda: probes.TemporalOrder(9), "length | >= 10 | 9"),
    (lambda: probes.TemporalOrder(symbols=4), "symbols | 2 or 3 | 4"),
    (lambda: probes.Copy(0), "length | >= 1 | 0"),
    (lambda: probes.Copy(symbols=1), "symbols | >= 2 | 1"),
    (lambda: probes.Memorization(count=0), "count | >= 1 | 0"),
    (lambda: probes.VariableCopy(0), "length | >= 1 | 0"),
    (lambda: probes.SelectiveCopy(15), "length | >= 16 | 15"),
    (lambda: probes.SelectiveCopy(20).sample(KEY, 2, 15), "length | 16 to 20 | 15"),
    (lambda: probes.DelayedRecall(cues=1), "cues | >= 2 | 1"),
    (lambda: probes.CharacterLM.of("aaa"), "text | 2 different | 'aaa'"),
    (lambda: probes.CharacterLM("aba", (1, 1, 1), 0.1), "vocabulary | sorted | 'aba'"),
    (lambda: probes.CharacterLM("ab", (1,), 0.1), "counts | each character | (1,)"),
    (lambda: LM.encode("abbx"), "text | vocabulary | 'x' at 3"),
    (lambda: LM.sample(KEY, 2, np.zeros(5, int)), "tokens | 6 or more | [5]"),
    (lambda: LM.streams(np.zeros(10, int), 2), "tokens | 11 or more | [10]"),
    (lambda: LM.sample(KEY, 2, np.arange(9)), "tokens | 0 to 1 | 0 to 8 | encode"),
    (lambda: LM.sample(KEY, 2, np.zeros((9, 2))), "tokens | integer array | [9, 2]"),
    (lambda: LM.split(np.arange(9), 0.5, 0.5), "valid | below 1 | 0.5 + 0.5"),
    (lambda: LM.split(np.arange(9), 0.1, -1), "test | 0 to below 1 | -1"),
    (lambda: LM.streams(np.zeros(99, int), 0), "batch_size | >= 1 | 0"),
    (
        lambda: DIGITS.sample(KEY, 2, np.ones((3, 8, 8)), np.arange(3)),
        "images | integers [M, 8, 8] | float",
    ),
    (
        lambda: probes.SequentialMNIST().whole(IMAGES, np.arange(3)),
        "images | integers [M, 28, 28] | [3, 8, 8]",
    ),
    (lambda: DIGITS.whole(IMAGES, np.arange(4)), "labels | integers [3] | [4]"),
    (lambda: DIGITS.whole(np.ones((0, 8, 8), int), np.arange(0)), "labels | integers [1] | [0]"),
    (lambda: DIGITS.whole(IMAGES, np.array([0, 9, 10])), "labels | 0 to 9 | 10"),
    (lambda: probes.SequentialMNIST(-1), "permutation_seed | >= 0 | -1"),
    (lambda: sc.debug.check(sc.GRU(2), seed=2**32), "seed | from 0 to 4294967295 | 4294967296"),
    (lambda: probes.DelayedMatch(cues=1), "cues | >= 2 | 1"),
    (lambda: probes.DelayedMatch(9).sample(KEY, 2, 10), "gap | 1 to 9 | 10"),
    (lambda: probes.DelayedXOR(20, delay=10), "length | >= 21 | 20"),
    (lambda: probes.GroupWords("S5"), "group | 'Z60', 'A4xZ5', 'A5' | 'S5'"),
    (lambda: probes.GroupWords("Z60", 6, (1, 60)), "letters | 0 to 59 | (1, 60)"),
    (lambda: probes.GroupWords("Z60", 6, (1, 1)), "letters | different | (1, 1)"),
    (lambda: probes.MQAR(62, pairs=16), "length | >= 64 | 62"),
    (lambda: probes.MQAR(65), "length | even | 65"),
    (lambda: probes.MQAR(power=0), "power | above 0 | 0"),
    (lambda: probes.MQAR(vocabulary=8), "vocabulary | >= 10 | 8"),
    (lambda: probes.Parity(0), "length | >= 1 | 0"),
    (lambda: probes.RandomPermutation(symbols=2), "symbols | >= 3 | 2"),
    (lambda: RECALL.sample(KEY, 2, 0), "lag | 1 to 9 | 0"),
    (lambda: RECALL.sample(KEY, 2, 10), "lag | 1 to 9 | 10"),
    (lambda: fit(steps=-1), "steps | >= 0 | -1"),
    (lambda: fit(steps=2, segment=0), "segment | >= 1 | 0"),
]
TYPES = [
    (lambda: sc.GatedDeltaNet(H, decay=1), "decay | True or False | 1"),
    # inputs
    (lambda: unroll(ones((T, B, D), int)), "xs | floating | int"),
    (lambda: unroll(XS > 0), "xs | floating | bool"),
    (lambda: unroll(XS + 1j), "xs | floating | complex"),
    (lambda: GRU.step(PARAMS, jnp.zeros(H), ones(D, int)), "x | floating | int"),
    # lengths
    (lambda: unroll(lengths=ones(B)), "lengths | int | float32"),
    (lambda: unroll(lengths=ones(B, bool)), "lengths | int[2] | bool"),
    # masks and resets
    (lambda: unroll(mask=ones((T, B))), "mask | bool[5, 2] | float32"),
    (lambda: unroll(resets=ones((T, B), int)), "resets | bool[5, 2] | int"),
    # the other arguments of unroll
    (lambda: unroll(time_axis="T"), "time_axis | int | 'T'"),
    (lambda: unroll(reverse=1), "reverse | True or False | 1"),
    (lambda: unroll(engine="scan"), "engine | Scan() | 'scan'"),
    (lambda: unroll(engine=sc.Scan), "engine | Scan()"),
    (lambda: unroll(cell=sc.GRU), "model | GRU(64) | GRU"),
    (
        lambda: sc.select_engine(GRU, jax.ShapeDtypeStruct((T, B, D), "int32")),
        "xs | floating | int32",
    ),
    # the names of other libraries
    (lambda: unroll(batch_first=True), "batch_first | unroll | time_axis=1"),
    (lambda: unroll(time_major=True), "time_major | unroll | time_axis=1"),
    (lambda: unroll(seq_lengths=3), "seq_lengths | unroll | lengths="),
    (lambda: unroll(initial_carry=3), "initial_carry | unroll | carry="),
    (lambda: unroll(return_carry=True), "return_carry | unroll | the carry and the outputs"),
    (lambda: unroll(lenghts=3), "lenghts | unroll | lengths="),
    (lambda: sc.trajectory(GRU, PARAMS, XS, h0=3), "h0 | trajectory | carry="),
    (lambda: sc.unroll(NET), "params, xs | unroll(model, params, xs) | nothing | model.init"),
    (lambda: sc.GRU(units=3), "units | GRU | hidden_size="),
    (lambda: sc.GRU(3, num_layers=2), "num_layers | GRU | Stack((GRU(64), GRU(64)))"),
    (lambda: sc.GRU(3, H), "GRU | hidden_size | 2 arguments | model.init(key, input_size)"),
    (lambda: sc.LRU(3, H), "LRU | hidden_size | 2 arguments | model.init(key, input_size)"),
    (lambda: sc.Scan(remat=True), "remat | Scan (unroll, checkpoint) | leave it out"),
    (lambda: GRU(XS), "GRU | call | seqcells.unroll(model, params, xs) | model.step"),
    (lambda: NET.init_carry(B), "x | float[*B, D] | 2 | init_carry(xs[0])"),
    (lambda: GRU.init_carry(KEY), "x | floating | key<fry>"),
    (lambda: NET.init(KEY, XS), "input_size | int | float32[5, 2, 3]"),
    (lambda: sc.unroll(PARAMS, GRU, XS), "model | GRU(64) | GRUParams(w_ih: float32[3, 12]"),
    (lambda: sc.nnx.RNN(GRU, D, rngs=KEY), "rngs | nnx.Rngs | key<fry>[] | nnx.Rngs(key)"),
    (lambda: sc.nnx.RNN(GRU, D), "rngs | RNN(model, input_size, rngs) | nothing"),
    (lambda: sc.nnx.RNN(GRU, D, rngs=3), "rngs | nnx.Rngs | 3 | nnx.Rngs(0)"),
    (lambda: train.fit(loss, PARAMS, train.HParams(), 3), "state | train.init | GRUParams"),
    (lambda: train.fit(loss, PARAMS), "hparams, steps | fit(loss, state, hparams, steps)"),
    # cells
    (lambda: sc.GRU(1.5), "hidden_size | int | 1.5"),
    (lambda: sc.GRU(True), "hidden_size | int | True"),
    (lambda: sc.RNN("a"), "hidden_size | int | 'a'"),
    (lambda: sc.RNN(None), "hidden_size | int | None"),
    (lambda: sc.GRU(2, reset_after="within"), "reset_after | True or False | 'within'"),
    (lambda: sc.GRU(2, param_dtype=int), "param_dtype | floating | int"),
    (lambda: sc.GRU(2, dtype="float31"), "dtype | floating | float31"),
    (lambda: sc.RNN(2, dtype="complex64"), "dtype | floating | 64"),
    (lambda: GRU.init(0, D), "key | jax.random.key(0) | 0"),
    (lambda: GRU.init(jax.random.split(KEY, 3), D), "key | one random key | [3]"),
    (lambda: GRU.init(KEY, 2.0), "input_size | int | 2.0"),
    (lambda: sc.GRU(2, w_hh_init=0.1), "w_hh_init | (key, shape, dtype) | 0.1"),
    (lambda: sc.FunctionCell(1, jnp.zeros_like), "step_fn | function | 1"),
    (lambda: sc.FunctionCell(GRU, jnp.zeros_like), "step_fn | function | GRU(4)"),
    (lambda: sc.GRU(2, w_hh_init=GRU), "w_hh_init | (key, shape, dtype) | GRU(4)"),
    (lambda: sc.FunctionCell(jnp.add, None), "carry_fn | function | None"),
    (lambda: TOTAL.init(KEY, D), "init_fn | params | None"),
    (lambda: TOTAL.read(None, jnp.zeros(2), None), "cell | FunctionCell | `read` | old carry"),
    # engines
    (lambda: sc.Scan(unroll=True), "unroll | int | True"),
    (lambda: sc.Scan(checkpoint=2.5), "checkpoint | int | 2.5"),
    # what a caller would not see for himself
    (lambda: unroll(time_axis=True), "time_axis | True"),
    (lambda: unroll([[1.0], [1.0, 2.0]]), "xs | lengths"),
    (lambda: unroll(key=3), "key | key(0) | 3"),
    (lambda: sc.GRU(H, param_dtype=None), "param_dtype | floating | None"),
    (lambda: sc.param_count(GRU), "params | GRU(4)"),
    (lambda: sc.nnx.RNN(3, 1, rngs=None), "model | GRU(64) | 3"),
    (lambda: sc.nnx.RNN(sc.GRU, 1, rngs=None), "model | GRU(64) | the class GRU"),
    (lambda: sc.linen.RNN(3).init(KEY, XS), "model | GRU(64) | 3"),
    # diagnostics
    (lambda: diagnostics.gate_values(RNN, RNN_PARAMS, XS), "cell | GRU(64) | RNN(4 | `gates`"),
    (lambda: diagnostics.gate_shares(ones((3, H), int)), "values | floating | int32"),
    (lambda: diagnostics.gate_shares(XS, ones((T, B))), "mask | bool[5, 2] | float32"),
    (lambda: diagnostics.timescales(1), "z | floating | int32"),
    (lambda: diagnostics.pascanu_bound(GRU, PARAMS), "cell | RNN | IndRNN | GRU(4)"),
    (lambda: diagnostics.pascanu_bound(RNN, PARAMS), "params | RNNParams | cell.init | GRUParams"),
    (lambda: gradient_snr([ones(3, int)]), "gradients | floating | int"),
    (lambda: diagnostics.curse_of_memory(0), "decay | floating | int"),
    (lambda: recurrences(3, PARAMS, XS), "net | Layer | Stack( | 3"),
    (lambda: diagnostics.in_float64(1.5), "function | gradient_by_lag | 1.5"),
    (lambda: exponents(k=1.5), "k | int | 1.5"),
    (lambda: diagnostics.mean_field(1, 0.1), "weight_std | floating | int32 | 1.0 for 1"),
    # remedies
    (lambda: omega(3, PARAMS), "cell | GRU(64) | 3"),
    # training
    (lambda: fit(steps=1, loss=lambda p, k, h: p), "loss | (scalar, dict"),
    (
        lambda: train.init(ones(2), train.HParams(), KEY, optax.adam(1e-3)),
        "optimizer | lambda hparams",
    ),
    # probes
    (lambda: RECALL.sample(KEY, 2, 2.5), "lag | int | float"),
    (lambda: RECALL.sample(KEY, 2, jnp.arange(3)), "lag | one int | int32[3]"),
    (lambda: sc.GRUD(H, decayed_mix="no"), "decayed_mix | True or False"),
    (lambda: sc.unroll(sc.GRUD(H), PARAMS, XS), "xs | GRUDInputs(values, observed, elapsed)"),
    # the rest
    (lambda: sc.summary(3, 1), "model | GRU(64) | 3"),
    (lambda: diagnostics.rate_and_horizon(np.array([1, 2])), "norms | floating | int"),
    (lambda: probes.TemporalOrder(symbols=True), "symbols | int | True"),
    (lambda: probes.AddingURNN().sample(1, 2), "key | key(0) | 1"),
    (lambda: train.init(ones(2), train.HParams(), 7), "key | key(0) | 7"),
    (lambda: fit(steps=1e3), "steps | int | 1000.0"),
]
FILES = [(lambda: probes.load_idx("no/such/file"), "path | no/such/file | nothing there")]
ERRORS = ((ValueError, VALUES), (TypeError, TYPES), (FileNotFoundError, FILES))
CALLS = [(call, error, words) for error, rows in ERRORS for call, words in rows]


@pytest.mark.parametrize(("call", "error", "words"), CALLS, ids=[words for *_, words in CALLS])
def test_a_wrong_call_says_what_was_expected_and_what_came(call, error, words):
    with pytest.raises(error) as raised:
        call()
    message, words = str(raised.value), words.split(" | ")
    assert message.startswith(f"{words[0]}: ")  # the argument's name
    assert [word for word in words if word not in message] == []
    assert "\n" not in message  # a sentence, not a traceback in a string


@pytest.mark.parametrize("flag", ["lengths", "mask", "resets", "carry", "params"])
def test_what_is_wrong_is_refused_under_jit_too(flag):
    wrong = {"lengths": ones(3, int), "carry": ones((B, 3)), "params": RNN_PARAMS}
    value = wrong.get(flag, ones((B, T), bool))
    with pytest.raises(ValueError, match=f"^{flag}: "):
        jax.jit(lambda value: unroll(**{flag: value}))(value)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("apply", "; carry, ys = seqcells.unroll(model, params, xs)"),
        ("forward", "; carry, ys = seqcells.unroll(model, params, xs)"),
        ("initialize_carry", "; carry = model.init_carry(x)"),
        ("parameters", "; params = model.init(key, input_size)"),
        ("hidden", "object has no attribute 'hidden'"),
    ],
)
def test_an_attribute_of_other_libraries_names_the_way(name, way):
    assert not hasattr(GRU, name)
    with pytest.raises(AttributeError) as raised:
        getattr(GRU, name)
    assert way in str(raised.value)


def test_a_model_that_cannot_be_hashed_is_refused_with_the_way():
    @dataclasses.dataclass
    class Thawed(sc.Layer):
        def init(self, key, input_size):
            return ()

        init_carry = run = init

    for call in (
        lambda net: sc.unroll(net, (), XS),
        lambda net: net.step((), (), XS[0]),
        lambda net: sc.Stack((net, GRU)),
    ):
        with pytest.raises(
            TypeError, match=r"^(model|layers): expected a frozen .*\(frozen=True\)"
        ):
            call(Thawed())


def test_keys_of_the_old_kind_are_keys():
    old = jax.random.PRNGKey(0)
    np.testing.assert_array_equal(GRU.init(old, D).w_ih, GRU.init(KEY, D).w_ih)
