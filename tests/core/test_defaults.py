"""The defaults on which people rely: each is stated twice, so that none changes by mistake."""

import inspect
import math

import jax.numpy as jnp
import pytest

import seqcells as sc
from seqcells import diagnostics, distributed, initializers, interop, probes, remedies, sweep, train
from seqcells._checkpoint import Checkpoints

ZEROS, ONES = initializers.zeros, initializers.ones
ORTHOGONAL, LECUN = initializers.Orthogonal(1.0), initializers.Lecun(1.0)
CELL = {"w_ih_init": LECUN, "dtype": None, "param_dtype": jnp.float32}
DENSE = CELL | {"w_hh_init": ORTHOGONAL}
GATED = DENSE | {"b_ih_init": ZEROS, "b_hh_init": ZEROS}
MATRIX = CELL | {"heads": 1, "key_size": None}
FLAGS = {"lengths": None, "mask": None, "resets": None, "reverse": False, "time_axis": 0}
DEFAULTS = {
    sc.RNN: DENSE | {"activation": "tanh", "bias": "single", "b_init": ZEROS},
    sc.GRU: GATED | {"reset_after": True, "bias": "double"},
    sc.MGU: GATED | {"reset_after": False, "bias": "single"},
    sc.LSTM: DENSE
    | {"bias": "single", "peepholes": False, "b_init": (ZEROS, ONES, ZEROS, ZEROS)}
    | {"p_init": ZEROS, "proj_size": None, "w_hr_init": LECUN},
    sc.IndRNN: CELL | {"activation": "relu", "w_hh_init": initializers.Uniform(0.0, 1.0)},
    sc.MinGRU: CELL | {"activation": "identity", "bias": "single", "b_init": ZEROS},
    sc.GRUD: DENSE
    | {"activation": "tanh", "gate_activation": "sigmoid", "decayed_mix": True, "bias": "single"}
    | {"b_init": ZEROS, "decay_init": initializers.Uniform(0.0, 0.1), "c_init": ZEROS},
    sc.LEM: DENSE | {"dt": 1.0, "bias": "single", "b_init": ZEROS},
    sc.LRU: CELL
    | {"w_ih_init": initializers.Lecun(0.5), "w_ho_init": LECUN, "output_size": None}
    | {"r_min": 0.0, "r_max": 1.0, "max_phase": 2 * math.pi, "skip": False},
    sc.JANET: DENSE | {"beta": 1.0, "bias": "single", "b_init": (ONES, ZEROS)},
    sc.LiGRU: DENSE | {"activation": "relu", "bias": "single", "b_init": ZEROS},
    sc.CoupledLSTM: DENSE | {"bias": "single", "b_init": (ONES, ZEROS, ZEROS)},
    sc.ConvGRU: GATED
    | {"reset_after": True, "bias": "double", "kernel_size": (3, 3)}
    | {"recurrent_kernel_size": None},
    sc.ConvLSTM: DENSE
    | {"bias": "single", "b_init": (ZEROS, ONES, ZEROS, ZEROS), "kernel_size": (3, 3)}
    | {"recurrent_kernel_size": None},
    sc.SLSTM: DENSE
    | {"heads": 1, "projected": False, "bias": "single", "b_init": (ZEROS, ONES, ZEROS, ZEROS)},
    sc.CTRNN: DENSE
    | {"activation": "tanh", "bias": "single", "b_init": ZEROS, "tau": 100.0, "dt": 20.0}
    | {"noise": 0.0, "form": "rate", "learn_tau": False},
    sc.coRNN: DENSE | {"dt": 0.042, "gamma": 2.7, "epsilon": 4.7, "b_init": ZEROS},
    sc.UnICORNN: CELL
    | {"dt": 0.1, "alpha": 1.0, "w_hh_init": initializers.Uniform(0.0, 1.0), "b_init": ZEROS}
    | {"c_init": initializers.Uniform(-0.1, 0.1)},
    sc.AntisymmetricRNN: CELL
    | {"eps": 0.01, "gamma": 0.01, "gated": False, "w_hh_init": LECUN, "b_init": ZEROS},
    sc.MinLSTM: CELL | {"activation": "identity", "bias": "single", "b_init": ZEROS},
    sc.RGLRU: CELL | {"b_init": ZEROS, "heads": 1, "a_min": 0.9, "a_max": 0.999},
    sc.S5: CELL
    | {"w_ih_init": initializers.Lecun(0.5), "w_ho_init": LECUN, "output_size": None}
    | {"discretisation": "zoh", "skip": True, "step_min": 0.001, "step_max": 0.1},
    sc.Mamba: CELL | {"state_size": 16, "rank": None, "step_min": 0.001, "step_max": 0.1},
    sc.MLSTM: MATRIX
    | {
        "projected": False,
        "eps": 1e-6,
        "b_init": (initializers.Normal(0.1), initializers.Uniform(3.0, 6.0)),
    },
    sc.GatedDeltaNet: MATRIX | {"decay": True, "beta_max": 1.0, "activation": "silu"},
    sc.RetNet: MATRIX,
    sc.FunctionCell: {"init_fn": None, "x_ndim": 1},
    sc.VariationalDropout: {"input_rate": 0.0, "recurrent_rate": 0.0},
    sc.Zoneout: {"rate": 0.1},
    sc.LayerNorm: {"eps": 1e-6},
    sc.Constrained: {"signs": None, "pattern": None, "radius": 1.0},
    sc.Dale: {"share": 0.8},
    sc.SparsePattern: {"seed": 0},
    sc.CausalConv: {"width": 4, "activation": "identity", "bias": "single", "w_init": LECUN},
    sc.MLP: {"activation": "gelu", "size": None, "bias": "single", "w_init": LECUN},
    sc.GLU: {"activation": "sigmoid", "size": None, "bias": "single", "w_init": LECUN},
    sc.Dense: {"activation": "identity", "bias": "single", "heads": 1, "w_init": LECUN},
    sc.Norm: {"eps": 1e-6, "bias": "single", "heads": 1},
    sc.Block: {"norm": "rms", "mlp": None, "gate": None, "bias": "single"},
    sc.Recurrent: {"reverse": False, "learned_carry": False, "engine": None},
    sc.Bidirectional: {"backward": None, "merge": "concat"},
    sc.Residual: {"merge": "sum"},
    sc.Parallel: {"merge": "concat"},
    sc.Stack: {"dropout": 0.0, "skip": False, "tied": False},
    sc.Scan: {"unroll": 1, "checkpoint": None},
    sc.Truncated: {"engine": None},
    sc.Deferred: dict.fromkeys(("chunk", "keep", "project_ahead", "vmap_sequentially", "unroll")),
    sc.unroll: FLAGS | {"carry": None, "reset_carry": None, "engine": None, "key": None},
    sc.trajectory: FLAGS | {"carry": None, "reset_carry": None},
    sc.select_engine: FLAGS | {"engine": None},
    initializers.Orthogonal: {"scale": 1.0},
    initializers.Identity: {"scale": 1.0},
    initializers.Normal: {"std": 0.01},
    initializers.Sparse: {"count": 15, "radius": 0.95},
    initializers.Uniform: {"low": -0.01, "high": 0.01},
    initializers.Lecun: {"scale": 1.0},
    diagnostics.saturation: {"threshold": 0.95, "mask": None},
    diagnostics.lyapunov_exponents: {"k": None, "warmup": 0, "carry": None},
    diagnostics.pascanu_bound: {"lag": 1},
    diagnostics.rate_and_horizon: {"window": None},
    remedies.omega: {"carry": None, "form": "paper"},
    remedies.flossing: {"k": None, "warmup": 0, "carry": None},
    remedies.project_spectral_norm: {"max_norm": 1.0, "where": "w_hh"},
    train.HParams: {"learning_rate": 1e-3, "max_norm": 1.0, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
    | {"weight_decay": 0.0},
    train.init: {"optimizer": train.adamw},
    train.run: {"optimizer": train.adamw},
    train.fit: {"segment": 100, "optimizer": train.adamw, "on_segment": None, "mesh": None},
    sweep.run: {"segment": 100, "metric": "loss", "mode": "min", "out": None, "batch": "auto"}
    | {
        "halving": None,
        "pbt": None,
        "key": None,
        "on_segment": None,
        "config": None,
        "save_seconds": 60.0,
    },
    sweep.Halving: {"keep": 0.5},
    sweep.PBT: {"quantile": 0.2, "perturb": (0.8, 1.25), "resample": 0.0},
    sweep.Space: {"samples": None, "draw": 0, "static": None},
    sweep.Result.ranked: {"over": "seed"},
    Checkpoints: {"keep": 2},
    distributed.initialize: {"heartbeat_seconds": 10, "hang_seconds": 300.0},
    interop.torch.dump: {"like": None},
    probes.AddingURNN: {"length": 100},
    probes.AddingTCN: {"length": 100},
    probes.AddingPascanu: {"length": 100},
    probes.Multiplication: {"length": 100},
    probes.Copy: {"length": 100, "symbols": 8, "count": 10},
    probes.Memorization: {"length": 100, "symbols": 2, "count": 5},
    probes.SelectiveCopy: {"length": 256, "symbols": 16, "count": 16},
    probes.VariableCopy: {"length": 100, "symbols": 8, "count": 10},
    probes.TemporalOrder: {"length": 100, "symbols": 2},
    probes.DelayedRecall: {"length": 100, "cues": 8, "distractors": 8},
    probes.DelayedMatch: {"length": 100, "cues": 8, "distractors": 8},
    probes.DelayedXOR: {"length": 100, "delay": 10},
    probes.RandomPermutation: {"length": 100, "symbols": 100},
    probes.Parity: {"length": 40},
    probes.GroupWords: {"group": "A5", "length": 20, "letters": None},
    probes.MQAR: {"length": 64, "pairs": 4, "vocabulary": 1024, "power": 0.01},
    probes.SequentialMNIST: {"permutation_seed": None},
    probes.SequentialDigits: {"permutation_seed": None},
}


@pytest.mark.parametrize("what", DEFAULTS, ids=lambda what: what.__qualname__)
def test_an_argument_that_is_not_given_is_this(what):
    given = {name: one.default for name, one in inspect.signature(what).parameters.items()}
    assert {name: given[name] for name in DEFAULTS[what]} == DEFAULTS[what]
