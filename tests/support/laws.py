"""The tables of cells, engines and layers that every law reads, and how a law is checked."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _pytest.mark import ParameterSet
from jax.typing import DTypeLike

import seqcells as sc
from seqcells._flags import Flags
from seqcells._model import one_input
from seqcells._types import Carry, Params, PyTree
from tests.support import reference

T, B, D, H = 7, 3, 2, 3
LABELS = {"single": "bias", "none": "nobias"}  # in the names of cases


class Case(NamedTuple):
    """A cell and what it must equal."""

    cell: sc.Cell
    step: reference.Step  # the same cell for one sequence, in NumPy
    fresh: Carry  # the carry with which one sequence starts
    first: reference.Step | None = None  # its step after a reset, where it is another one
    features: int | tuple[int, ...] = D  # of the inputs; the size of images

    @property
    def x(self) -> tuple[int, ...]:
        """The axes of the input of one step of one sequence."""
        return self.features if isinstance(self.features, tuple) else (self.features,)

    @property
    def y(self) -> tuple[int, ...]:
        """The axes of its output."""
        return (*self.x[:-1], H)


def pair_step(params, carry, x):
    h, n = carry
    params = jax.tree.map(lambda a: a.astype(h.dtype), params)  # as strict promotion asks for
    h = params["a"] * jnp.tanh(h) + jnp.einsum("...d,dh->...h", x, params["w"])
    n = n + jnp.sum(h * h, axis=-1)
    return (h, n), h * x[..., :1] + 0.1 * n[..., None]


def pair_carry(x):
    zero = jnp.zeros_like(x[..., 0])  # not a carry of zeros: a fresh one must be asked for
    return jnp.stack([zero + 0.5] * H, axis=-1), zero + 1


def pair_init(key, input_size):
    return {"w": jax.random.normal(key, (input_size, H), "float32"), "a": jnp.float32(0.5)}


def tripled(params, x):
    return 3 * x + 1


def inputs_of(x):
    """Make the inputs of a GRU-D of one array [..., D]; NaN is observed, and 0 is not."""
    return sc.GRUDInputs(x, ~(x.real < -0.3) & (x != 0), x[..., :1] ** 2 + 0.1)


@dataclasses.dataclass(frozen=True, repr=False)
class ArrayGRUD(sc.GRUD):
    """A GRU-D whose inputs are made of one array, as the laws draw it."""

    x_dtypes = (jnp.floating,)

    def _inputs(self, x):
        return super()._inputs(x if isinstance(x, sc.GRUDInputs) else inputs_of(x))

    def zero_input(self, input_size):
        return super().zero_input(input_size).values

    def init_carry(self, x, params=None):
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return sc.GRUD(**own).init_carry(inputs_of(one_input(self, x)), params)

    def project(self, params, x):
        return super().project(params, inputs_of(x))


def grud_step(params, carry, x, **options):
    """The step of `ArrayGRUD`."""
    return reference.grud_step(params, carry, inputs_of(x), **options)


def kind(cell: sc.Cell) -> type[sc.Cell]:
    """The public class of a cell of the table."""
    return sc.GRUD if isinstance(cell, ArrayGRUD) else type(cell)


def _gated_cases() -> dict[str, Case]:
    """The rows of the gated cells with one bias."""
    cases = {}
    for bias in ("single", "none"):
        label = LABELS[bias]
        cases[f"janet-{label}"] = Case(sc.JANET(H, bias=bias), reference.janet_step, np.zeros(H))
        cases[f"ligru-{label}"] = Case(sc.LiGRU(H, bias=bias), reference.ligru_step, np.zeros(H))
        fresh = sc.LSTMCarry(np.zeros(H), np.zeros(H))
        cell = sc.CoupledLSTM(H, bias=bias)
        cases[f"coupled-{label}"] = Case(cell, reference.coupled_step, fresh)
        fresh = sc.GRUDCarry(np.zeros(H), np.zeros(D), np.zeros(D), np.zeros(1))
        paper = bias == "single"
        cell = ArrayGRUD(H, bias=bias, decayed_mix=paper)
        step = functools.partial(grud_step, decayed=paper)
        cases[f"grud-{label}"] = Case(cell, step, fresh)
        fresh = sc.SLSTMCarry(*(np.zeros(H) for _ in range(4)))
        cell = sc.SLSTM(H, heads=1 if bias == "single" else H, bias=bias)
        step = functools.partial(reference.slstm_step, heads=cell.heads)
        cases[f"slstm-{label}"] = Case(cell, step, fresh)
        if bias == "single":
            cell = sc.SLSTM(H, projected=True)
            cases["slstm-projected"] = Case(cell, step, fresh, features=4 * H)
    return cases


def _differential_cases() -> dict[str, Case]:
    """The rows of the cells that are steps of a differential equation."""
    cases = {}
    settings = {"eps": 0.3, "gamma": 0.1}
    step = functools.partial(reference.antisymmetric_step, **settings)
    for name, gated in (("plain", False), ("gated", True)):
        cell = sc.AntisymmetricRNN(H, gated=gated, **settings)
        cases[f"antisymmetric-{name}"] = Case(cell, step, np.zeros(H))
    settings = {"dt": 0.3, "gamma": 1.2, "epsilon": 0.8}
    step = functools.partial(reference.cornn_step, **settings)
    fresh = sc.CoRNNCarry(np.zeros(H), np.zeros(H))
    cases["cornn"] = Case(sc.coRNN(H, **settings), step, fresh)
    settings = {"dt": 0.5, "alpha": 0.9}
    step = functools.partial(reference.unicornn_step, **settings)
    cases["unicornn"] = Case(sc.UnICORNN(H, **settings), step, fresh)
    fresh = sc.LEMCarry(np.zeros(H), np.zeros(H))
    cases["lem-bias"] = Case(sc.LEM(H), reference.lem_step, fresh)
    step = functools.partial(reference.lem_step, dt=0.6)
    cases["lem-nobias"] = Case(sc.LEM(H, dt=0.6, bias="none"), step, fresh)
    step = functools.partial(reference.ctrnn_step, share=0.2)
    cases["ctrnn-rate-bias"] = Case(sc.CTRNN(H), step, np.zeros(H))
    taus = (1.0, 2.0, 4.0)
    step = functools.partial(reference.ctrnn_step, share=1 / np.array(taus), form="current")
    cell = sc.CTRNN(H, tau=taus, dt=1.0, form="current", bias="none")
    cases["ctrnn-current-nobias"] = Case(cell, step, np.zeros(H))
    step = functools.partial(reference.ctrnn_step, share=1.0)
    cell = sc.CTRNN(H, tau=1.0, dt=1.0, learn_tau=True)
    cases["ctrnn-learned-bias"] = Case(cell, step, np.zeros(H))
    return cases


def _constrained_cases() -> dict[str, Case]:
    """The rows of cells with signs and a pattern: of 3 units, 2 are excitatory."""
    signs, pattern = sc.Dale(0.7), sc.SparsePattern(0.6, seed=1)
    options = {"signs": (1, 1, -1), "mask": pattern.mask(H)}
    fresh = sc.LSTMCarry(np.zeros(H), np.zeros(H))
    rate = functools.partial(reference.ctrnn_step, share=0.2)
    cells = {
        "dale-rnn": (sc.RNN(H), reference.rnn_step, np.zeros(H), {"signs"}),
        "dale-sparse-gru": (sc.GRU(H), reference.gru_step, np.zeros(H), {"signs", "mask"}),
        "sparse-lstm": (sc.LSTM(H), reference.lstm_step, fresh, {"mask"}),
        "dale-ctrnn": (sc.CTRNN(H), rate, np.zeros(H), {"signs"}),
    }
    cases = {}
    for name, (cell, step, start, kept) in cells.items():
        own = {option: options[option] for option in kept}
        wrapped = sc.Constrained(
            cell, signs if "signs" in kept else None, pattern if "mask" in kept else None
        )
        step = functools.partial(reference.constrained_step, step=step, **own)
        cases[name] = Case(wrapped, step, start)
    return cases


def _linear_cases() -> dict[str, Case]:
    """The rows of the cells that are linear in their carry."""
    cases = {}
    for activation, bias in (("identity", "single"), ("positive", "none")):
        step = functools.partial(reference.minlstm_step, activation=activation)
        cell = sc.MinLSTM(H, activation, bias=bias)
        cases[f"minlstm-{activation}-{LABELS[bias]}"] = Case(cell, step, np.zeros(H))
    step = functools.partial(reference.mingru_step, activation="positive")
    cases["mingru-positive-bias"] = Case(sc.MinGRU(H, "positive"), step, np.zeros(H))
    for heads in (1, H):
        step = functools.partial(reference.rglru_step, heads=heads)
        first = functools.partial(step, fresh=True)
        name = f"rglru-{'whole' if heads == 1 else 'heads'}"
        cases[name] = Case(sc.RGLRU(H, heads=heads), step, np.zeros(H), first, H)
    fresh = sc.LRUCarry(np.zeros(4), np.zeros(4))
    cases["lru-skip"] = Case(sc.LRU(4, skip=True), reference.lru_step, fresh, features=H)
    cases["s5-zoh"] = Case(sc.S5(4), reference.s5_step, fresh, features=H)
    step = functools.partial(reference.s5_step, discretisation="bilinear")
    cell = sc.S5(4, output_size=H, discretisation="bilinear", skip=False)
    cases["s5-bilinear"] = Case(cell, step, fresh)
    cell, fresh = sc.Mamba(H, state_size=2, rank=2), np.zeros((H, 2))
    cases["mamba"] = Case(cell, reference.mamba_step, fresh, features=H)
    return cases


def _image_cases() -> dict[str, Case]:
    """The rows of the cells of images, which are of 2 x 3 pixels here."""
    cases, size, memory = {}, (2, 3, D), (2, 3, H)
    kernels = {"kernel_size": (1, 3), "recurrent_kernel_size": (3, 1)}
    for reset_after, bias in ((True, "double"), (True, "candidate"), (False, "double")):
        step = functools.partial(reference.convgru_step, reset_after=reset_after)
        cell = sc.ConvGRU(H, reset_after=reset_after, bias=bias, **kernels)
        name = f"convgru-{'after' if reset_after else 'before'}-{bias}"
        cases[name] = Case(cell, step, np.zeros(memory), features=size)
    step = functools.partial(reference.convgru_step, reset_after=False)
    cell = sc.ConvGRU(H, reset_after=False, bias="single", kernel_size=3)
    cases["convgru-before-single"] = Case(cell, step, np.zeros(memory), features=size)
    cell = sc.ConvGRU(H, bias="none", kernel_size=(2, 1))
    cases["convgru-after-none"] = Case(
        cell, reference.convgru_step, np.zeros(memory), features=size
    )
    fresh = sc.LSTMCarry(np.zeros(memory), np.zeros(memory))
    cell = sc.ConvLSTM(H, **kernels)
    cases["convlstm-bias"] = Case(cell, reference.convlstm_step, fresh, features=size)
    cell = sc.ConvLSTM(H, bias="none", recurrent_kernel_size=(2, 4))
    cases["convlstm-nobias"] = Case(cell, reference.convlstm_step, fresh, features=size)
    return cases


def _matrix_cases() -> dict[str, Case]:
    """The rows of the cells whose memory is a matrix for each head."""
    cases = {}
    for name, heads, key in (("whole", 1, 2), ("heads", H, 4)):
        size = {"heads": heads, "key_size": key}
        matrix = np.zeros((heads, key, H // heads))
        fresh = sc.MLSTMCarry(matrix, matrix[..., 0], matrix[:, 0, 0])
        eps = 1e-6 if heads == 1 else 0.1
        step = functools.partial(reference.mlstm_step, eps=eps)
        cases[f"mlstm-{name}"] = Case(sc.MLSTM(H, **size, eps=eps), step, fresh)
        if heads == 1:
            cell = sc.MLSTM(H, **size, projected=True)
            step = functools.partial(step, projected=True)
            cases["mlstm-projected"] = Case(cell, step, fresh, features=2 * key + H)
        cases[f"retnet-{name}"] = Case(sc.RetNet(H, **size), reference.retnet_step, matrix)
        cell = sc.GatedDeltaNet(H, **size)
        cases[f"gdn-{name}"] = Case(cell, reference.delta_step, matrix)
    options = {"beta_max": 2.0, "activation": "identity"}
    step = functools.partial(reference.delta_step, **options)
    cell = sc.GatedDeltaNet(H, decay=False, **options)
    cases["deltanet"] = Case(cell, step, np.zeros((1, H, H)))
    return cases


def _cases() -> dict[str, Case]:
    cases = {}
    for activation in ("tanh", "relu", "sigmoid", "identity"):
        for bias in ("single", "none"):
            step = functools.partial(reference.rnn_step, activation=activation)
            name = f"rnn-{activation}-{LABELS[bias]}"
            cases[name] = Case(sc.RNN(H, activation, bias=bias), step, np.zeros(H))
    for reset_after, reset in ((True, "after"), (False, "before")):
        for bias in ("double", "single", "none"):
            step = functools.partial(reference.gru_step, reset_after=reset_after)
            cases[f"gru-{reset}-{bias}"] = Case(
                sc.GRU(H, reset_after=reset_after, bias=bias), step, np.zeros(H)
            )
            step = functools.partial(reference.mgu_step, reset_after=reset_after)
            cases[f"mgu-{reset}-{bias}"] = Case(
                sc.MGU(H, reset_after=reset_after, bias=bias), step, np.zeros(H)
            )
        step = functools.partial(reference.gru_step, reset_after=reset_after)
        cell = sc.GRU(H, reset_after=reset_after, bias="candidate")
        cases[f"gru-{reset}-candidate"] = Case(cell, step, np.zeros(H))
    step = functools.partial(reference.mgu_step, reset_after=True)
    cell = sc.MGU(H, reset_after=True, bias="candidate")
    cases["mgu-after-candidate"] = Case(cell, step, np.zeros(H))
    fresh = sc.LSTMCarry(np.zeros(H), np.zeros(H))
    lstms = {
        "bias": sc.LSTM(H),
        "nobias": sc.LSTM(H, bias="none"),
        "peep": sc.LSTM(H, peepholes=True),
    }
    for name, cell in lstms.items():
        cases[f"lstm-{name}"] = Case(cell, reference.lstm_step, fresh)
    fresh = sc.LSTMCarry(np.zeros(H), np.zeros(H + 1))  # so that the output has H features
    for name, peepholes in (("proj", False), ("projpeep", True)):
        cell = sc.LSTM(H + 1, proj_size=H, peepholes=peepholes)
        cases[f"lstm-{name}"] = Case(cell, reference.lstm_step, fresh)
    for activation, bias in (("relu", "single"), ("tanh", "none"), ("identity", "single")):
        name = f"{activation}-{LABELS[bias]}"
        step = functools.partial(reference.indrnn_step, activation=activation)
        cases[f"indrnn-{name}"] = Case(sc.IndRNN(H, activation, bias=bias), step, np.zeros(H))
        step = functools.partial(reference.mingru_step, activation=activation)
        cases[f"mingru-{name}"] = Case(sc.MinGRU(H, activation, bias=bias), step, np.zeros(H))
    normal = sc.LayerNorm(sc.GRU(H, bias="none"))
    cases["layernorm-gru"] = Case(normal, reference.layernorm_gru_step, np.zeros(H))
    rates = (0.1, 0.3)
    step = functools.partial(reference.zoneout_lstm_step, rates=rates)
    fresh = sc.LSTMCarry(np.zeros(H), np.zeros(H))
    cases["zoneout-lstm"] = Case(sc.Zoneout(sc.LSTM(H), rates), step, fresh)
    dropout = sc.VariationalDropout(sc.GRU(H), 0.2, 0.3)  # without a key: evaluation
    cases["dropout-gru"] = Case(dropout, reference.gru_step, np.zeros(H))
    fresh = sc.LRUCarry(np.zeros(H), np.zeros(H))
    cases["lru"] = Case(sc.LRU(H), reference.lru_step, fresh)
    cases |= _gated_cases() | _differential_cases() | _constrained_cases() | _linear_cases()
    cases |= _image_cases()
    cases |= _matrix_cases()
    pair = sc.FunctionCell(pair_step, pair_carry, pair_init)
    cases["function"] = Case(pair, reference.pair_step, (np.full(H, 0.5), np.ones(())))
    return cases


CASES = _cases()
FAMILIES = (  # one of each way to be a cell; `pytest --laws` takes every cell for each law
    "rnn-tanh-bias",
    "gru-after-double",
    "lstm-bias",
    "mingru-identity-bias",
    "function",
)
FORMS = (  # one of each class and form of recurrence, for what costs little
    *("rnn-tanh-bias", "gru-after-double", "gru-before-double", "mgu-after-double"),
    *("mgu-before-double", "lstm-bias", "lstm-peep", "indrnn-tanh-nobias", "mingru-identity-bias"),
    *("lstm-proj", "layernorm-gru", "zoneout-lstm", "dropout-gru", "lru", "lru-skip"),
    *("janet-bias", "ligru-bias", "coupled-bias", "slstm-bias", "slstm-nobias", "cornn"),
    *("antisymmetric-plain", "antisymmetric-gated", "unicornn", "ctrnn-rate-bias"),
    *("ctrnn-current-nobias", "ctrnn-learned-bias", "lem-bias", "grud-bias"),
    *("dale-rnn", "dale-sparse-gru", "sparse-lstm"),
    *("mingru-positive-bias", "minlstm-identity-bias", "minlstm-positive-nobias", "rglru-whole"),
    *("rglru-heads", "s5-zoh", "s5-bilinear", "mamba"),
    *("convgru-before-double", "convlstm-bias"),
    *("mlstm-heads", "retnet-heads", "gdn-heads", "deltanet"),
)
ENGINES = {
    "scan": sc.Scan(),
    "unroll3": sc.Scan(unroll=3),
    "sqrt": sc.Scan(checkpoint="sqrt"),
    "chunk3": sc.Scan(checkpoint=3),
    "associative": sc.AssociativeScan(),
    "chunkwise": sc.Chunkwise(3),
    "deferred": sc.Deferred(chunk=3, keep=(), project_ahead=True),  # T = 7: windows overlap
    "keeping": sc.Deferred(T, ("drive", "mixed"), project_ahead=False, vmap_sequentially=False),
    "slopes": sc.Deferred(chunk=3, keep=("slopes",), project_ahead=False),
    "joined": sc.Deferred(chunk=3, keep=("slopes",), product="joined"),
    "columns": sc.Deferred(T, ("drive", "mixed"), vmap_sequentially=False, product="columns"),
    "triton": sc.PallasTriton(chunk=3, interpret=True),
    "tpu": sc.PallasTPU("float32", interpret=True),
    "newton": sc.Newton(scan="associative"),
    "newton3": sc.Newton(chunk=3, scan="blocked"),
    "newton-diagonal": sc.Newton("diagonal"),
}
NOT_ENGINES = {  # public, but not in the table of engines, and why
    sc.Truncated: "it gives another gradient: tests/engines/test_engines.py",
    sc.ForwardMode: "it has no gradient by xs: tests/online/test_forward_mode.py",
    sc.CUDACluster: "it needs an H200 or its emulator: tests/engines/test_cluster.py",
}
FORWARD = {  # layers that can step, for inputs of D features
    "recurrent": sc.Recurrent(sc.GRU(H)),
    "learned": sc.Recurrent(sc.LSTM(H), learned_carry=True),
    "residual": sc.Residual(sc.GRU(D)),
    "deep": sc.Stack((sc.GRU(H), sc.LSTM(H), sc.MinGRU(H))),
    "skip": sc.Stack((sc.GRU(H), sc.MinGRU(2)), skip=True),
    "dropout": sc.Stack((sc.Zoneout(sc.GRU(H)), sc.GRU(H)), dropout=0.5),
    "whole": sc.Stack(
        (
            *(sc.Dense(4, "tanh"), sc.Norm("rms"), sc.Dropout(0.2), sc.GRU(H)),
            *(sc.Pointwise(None, tripled), sc.Norm("layer", 0.1), sc.Dense(2)),
        )
    ),
    "nested": sc.Stack(
        (sc.Residual(sc.Stack((sc.Zoneout(sc.GRU(H)), sc.Recurrent(sc.RNN(D))))), sc.LRU(H))
    ),
    "conv": sc.CausalConv(4, "silu"),
    "perceptrons": sc.Stack((sc.MLP(5, size=H), sc.Activation("silu"), sc.GLU(4, bias="none"))),
    "parallel": sc.Stack((sc.Parallel((sc.GRU(H), sc.CausalConv(2)), "concat"), sc.Take(1, 4))),
    "hawk": sc.models.hawk(layers=1, width=3, rnn_width=4, heads=2),
    "mamba": sc.models.mamba(layers=1, width=3, state_size=2),
    "xlstm": sc.models.xlstm(layers=2, width=2, heads=2, slstm_at=(0,)),
    "s5": sc.models.s5(layers=1, width=3, state_size=2, outputs=2),
    "lru": sc.models.lru(layers=1, width=3, state_size=2),
    "block": sc.Block(sc.LSTM(H), mlp=sc.GLU(4, "gelu")),
    "gated block": sc.Block(
        sc.Stack((sc.Dense(4), sc.CausalConv(3), sc.MinGRU(H))), "layer", gate="silu", bias="none"
    ),
}
BACKWARD = {  # layers of which a part reads from the end
    "reverse": sc.Recurrent(sc.GRU(H), reverse=True),
    "bidirectional": sc.Bidirectional(sc.LSTM(2), sc.GRU(H)),
    "stack": sc.Stack((sc.GRU(H), sc.Bidirectional(sc.GRU(H)), sc.Residual(sc.RNN(2 * H)))),
    "blocks": sc.Block(sc.Bidirectional(sc.GRU(H)), mlp=sc.Stack((sc.CausalConv(2), sc.MLP(3)))),
    "within": sc.Stack((sc.GRU(H), sc.Residual(sc.Recurrent(sc.GRU(H), reverse=True)))),
}
NETS = FORWARD | BACKWARD
MODELS = ("hawk", "mamba", "xlstm", "s5", "lru")  # of the parts that other rows have
SIMILAR = (*MODELS, "recurrent", "residual", "deep", "skip", "reverse", "stack", "within")


def public(base: type) -> set[type]:
    """The public classes of the library that derive from `base` and have no abstract method."""
    kinds = {value for value in vars(sc).values() if isinstance(value, type)}
    return {kind for kind in kinds if issubclass(kind, base) and not inspect.isabstract(kind)}


def ways(name: str) -> list[str]:
    """The engines that run a cell, the plain scan first."""
    cell = CASES[name].cell.settled
    xs = jax.ShapeDtypeStruct((T, B, *CASES[name].x), "float32")
    return [way for way in ENGINES if ENGINES[way].why_not(cell, xs, Flags()) is None]


def _row(name: str, way: str | None = None) -> ParameterSet:
    """One row of a table."""
    values = (CASES[name],) if way is None else (CASES[name], ENGINES[way])
    label = name if way is None else f"{name}-{way}"
    return pytest.param(*values, id=label)


@functools.cache
def tables(every: bool) -> dict[str, list[ParameterSet]]:
    """Return the rows of each table by its name; `every` puts every cell into every table."""
    families = tuple(CASES) if every else FAMILIES
    forms = tuple(CASES) if every else FORMS
    built_in = [name for name in families if name != "function"]
    able = [(name, way) for name in families for way in ways(name)]
    if not every:  # it compiles long; tests/engines/test_newton.py has what is its own
        able = [
            row for row in able if "newton" not in row[1] or row == ("gru-after-double", "newton")
        ]
    once = [way for name, way in able if name == "gru-after-double" and way != "sqrt"]  # chunk3
    pairs = [("gru-after-double", way) for way in once]
    pairs += [("lstm-bias", "scan"), ("function", "scan"), ("mingru-identity-bias", "associative")]
    pairs += [("mlstm-heads", "chunkwise")]
    others = {kind(CASES[name].cell): name for name in (*reversed(forms), "lstm-proj")}.values()
    others = set(others) - set(families)
    # Every family with its own engines, and one with all: the scans do not look into a cell.
    own = [row for row in able if row[1] in OWN or row in pairs] + MORE
    own = able if every else own
    names: dict[str, list[tuple[str, ...]]] = {
        "cells": [(name,) for name in CASES],
        "families": [(name,) for name in families],
        "built_in": [(name,) for name in built_in],
        "forms": [(name,) for name in forms if name != "function"],
        "rest": [(name,) for name in CASES if name not in forms],  # options of those
        "built_in_able": [row for row in own if row[0] != "function"],
        "able": own,
        # The other classes with the plain scan: the law of one step covers all forms' gradients.
        "others": [(name, "scan") for name in forms if every or name in others],
        # One of each form of influence, and a function.
        "online": [(name,) for name in (CASES if every else ONLINE)],
        # Every kind of carry and every engine once: for laws that other tables check in full.
        "pairs": able if every else pairs,
        # The same without options: where they are on, flags and resets go through the same code.
        "plain_pairs": able if every else [row for row in pairs if row[1] not in OPTIONS],
    }
    return {table: [_row(*row) for row in rows] for table, rows in names.items()}


ONLINE = ("gru-after-double", "lru-skip", "function")
OWN = ("scan", "associative", "deferred")
OPTIONS = ("unroll3", "keeping", "slopes", "columns")
MORE = [
    *(("lstm-bias", way) for way in ("joined", "columns", "triton")),  # two leaves
    ("function", "chunk3"),
    *((name, "chunkwise") for name in ("mlstm-heads", "retnet-heads", "gdn-heads", "deltanet")),
]

# Marks a test of `case`, or of `case` and `engine`, with the table that conftest.py reads.
over_cells = pytest.mark.over("cells")
over_families = pytest.mark.over("families")
over_built_in = pytest.mark.over("built_in")
over_forms = pytest.mark.over("forms")
over_rest = pytest.mark.over("rest")
over_built_in_able = pytest.mark.over("built_in_able")
over_others = pytest.mark.over("others")
over_able = pytest.mark.over("able")
over_online = pytest.mark.over("online")
over_pairs = pytest.mark.over("pairs")
over_plain_pairs = pytest.mark.over("plain_pairs")
over_nets = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SIMILAR)) for name in NETS]
)
over_directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


class Problem(NamedTuple):
    """What an unroll is given, in float64, and the weights of the loss taken of what comes out."""

    params: Params
    xs: np.ndarray  # [T, *B, D], or images
    carry: Carry  # [*B, ...]
    weigh_carry: Carry  # as carry
    weigh_ys: np.ndarray  # [T, *B, H], or images


def draw(case: Case, batch: tuple[int, ...] = (B,), seed: int = 0, steps: int = T) -> Problem:
    """Draw a problem with weights that are small enough for no gate to saturate."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: case.cell.init(jax.random.key(0), case.features))
    params = jax.tree.map(lambda a: 0.6 * rng.normal(size=a.shape), shapes)
    xs = rng.normal(size=(steps, *batch, *case.x))
    carry, weigh_carry = (
        jax.tree.map(lambda a: rng.normal(size=(*batch, *np.shape(a))), case.fresh)
        for _ in range(2)
    )
    return Problem(params, xs, carry, weigh_carry, rng.normal(size=(steps, *batch, *case.y)))


def draw_many(case: Case, count: int = 3) -> tuple[list[Problem], Params]:
    """Draw problems, and stack their parameters."""
    problems = [draw(case, seed=seed) for seed in range(count)]
    return problems, jax.tree.map(lambda *a: jnp.stack(a), *(one.params for one in problems))


def orthogonal(g: float) -> tuple[sc.RNN, sc.RNNParams]:
    """A linear RNN whose recurrent matrix is a rotation times `g`."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(H, H)))[0]
    return sc.RNN(H, "identity", bias="none"), sc.RNNParams(np.ones((D, H)), g * rotation, None)


def last_sum(ys: jax.Array) -> jax.Array:
    """A loss of the last outputs of all sequences."""
    return jnp.sum(ys[-1])


def one_number(ys: jax.Array) -> jax.Array:
    """A loss of one number, of the second sequence."""
    return ys[-1, 1, 0]


def by_path(params: Params) -> dict[str, jax.Array]:
    """Name the leaves of parameters by their paths, as linen holds them."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def fresh_rows(case: Case, batch: int = B) -> Carry:
    """The table's fresh carry for a batch."""
    return jax.tree.map(lambda a: np.broadcast_to(a, (batch, *a.shape)), case.fresh)


def draw_flags(seed: int = 0, batch: int = B) -> dict[str, np.ndarray]:
    """Draw lengths (0 and T among them), a mask and resets, some of which stand on padding."""
    rng = np.random.default_rng(seed)
    lengths = np.array([T, 5, 0, *rng.integers(0, T + 1, batch)])[:batch]
    return {
        "lengths": lengths,
        "mask": rng.random((T, batch)) < 0.7,
        "resets": rng.random((T, batch)) < 0.4,
    }


def all_flags(steps: int = T, batch: int = B, **given: np.ndarray) -> dict[str, np.ndarray]:
    """Say with all three flags what some say: one compilation then serves many laws."""
    blank = {
        "lengths": np.full(batch, steps),
        "mask": np.ones((steps, batch), bool),
        "resets": np.zeros((steps, batch), bool),
    }
    return blank | given


def valid_steps(flags: dict[str, np.ndarray]) -> np.ndarray:
    """Where no padding is: bool[T, B]."""
    return flags["mask"] & (np.arange(T)[:, None] < flags["lengths"])


def whole(steps: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """Give flags [T, B] as many axes as inputs [T, B, ...] have."""
    return steps.reshape(steps.shape + (1,) * (xs.ndim - steps.ndim))


def spoiled(problem: Problem, flags: dict) -> tuple[Problem, dict]:
    """Put NaN into the input at padding, and a reset flag too: neither may be read."""
    valid = valid_steps(flags)
    xs = np.where(whole(valid, problem.xs), problem.xs, np.nan)
    return problem._replace(xs=xs), flags | {"resets": flags["resets"] | ~valid}


def expect(
    case: Case, problem: Problem, flags: dict, reverse: bool = False, fresh: Carry = None
) -> PyTree:
    """Return the reference's carry and ys [T, B, H], zero at padding; `fresh` is for resets."""
    runs = _reference_runs(case, problem, flags, reverse, fresh)
    ys = [[np.zeros(case.y) if y is None else y for y in ys] for _, ys, _ in runs]
    return _stack([carry for carry, _, _ in runs]), np.stack(ys, axis=1)


def expect_trajectory(case: Case, problem: Problem, flags: dict, reverse: bool) -> PyTree:
    """Return the reference's carry after every step, time first."""
    runs = _reference_runs(case, problem, flags, reverse)
    return _stack([_stack(carries) for _, _, carries in runs], axis=1)


def _reference_runs(
    case: Case, problem: Problem, flags: dict, reverse: bool, fresh: Carry = None
) -> list[PyTree]:
    runs = []
    rows = fresh_rows(case, problem.xs.shape[1]) if fresh is None else fresh
    for b in range(problem.xs.shape[1]):
        mine = {name: flags[name][:, b] for name in ("mask", "resets") if name in flags}
        length = flags["lengths"][b] if "lengths" in flags else None
        carry, own = (jax.tree.map(lambda a, b=b: a[b], tree) for tree in (problem.carry, rows))
        args = (case.step, problem.params, problem.xs[:, b], carry, own)
        mine |= {"length": length, "reverse": reverse, "first": case.first}
        runs.append(reference.unroll(*args, **mine))
    return runs


def _stack(trees: list[PyTree], axis: int = 0) -> PyTree:
    return jax.tree.map(lambda *a: np.stack(a, axis), *trees)


def expect_gradient(case: Case, problem: Problem, flags: dict, reverse: bool = False) -> PyTree:
    """Differentiate the reference's loss by (params, xs, carry), a complex step a coordinate."""
    inputs = (problem.params, problem.xs, problem.carry)
    flat, back = ravel(inputs)
    gradient = np.zeros_like(flat)
    for i in range(flat.size):
        nudged = flat.astype(complex)
        nudged[i] += 1e-30j
        params, xs, carry = back(nudged)
        moved = problem._replace(params=params, xs=xs, carry=carry)
        carry, ys = expect(case, moved, flags, reverse)
        pairs = zip(jax.tree.leaves(carry), jax.tree.leaves(problem.weigh_carry), strict=True)
        loss = np.sum(ys * problem.weigh_ys) + sum(np.sum(a * b) for a, b in pairs)
        gradient[i] = loss.imag / 1e-30
    return back(gradient)


def ravel(tree: PyTree) -> tuple[np.ndarray, Callable[[np.ndarray], PyTree]]:
    """Flatten a tree of NumPy arrays; also the way back, which keeps complex numbers."""
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def back(flat: np.ndarray) -> PyTree:
        parts = np.split(flat, ends)
        shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(structure, shaped)

    return np.concatenate([leaf.ravel() for leaf in leaves]), back


@functools.partial(jax.jit, static_argnames=("reverse", "time_axis"))
def run(
    cell,
    params,
    xs,
    carry=None,
    flags=None,
    reverse=False,
    engine=sc.Scan(),
    time_axis=0,
    fresh=None,
):
    """Unroll under jit; the flags are arrays, so one compilation serves all of their values."""
    options = {"reverse": reverse, "engine": engine, "time_axis": time_axis, "reset_carry": fresh}
    return sc.unroll(cell, params, xs, carry, **(flags or {}), **options)


@functools.partial(jax.jit, static_argnames=("reverse", "time_axis"))
def run_trajectory(cell, params, xs, carry, flags, reverse=False, time_axis=0, fresh=None):
    """Compute the trajectory under jit."""
    options = {"reverse": reverse, "time_axis": time_axis, "reset_carry": fresh}
    return sc.trajectory(cell, params, xs, carry, **flags, **options)


@functools.partial(jax.jit, static_argnames="reverse")
def run_gradient(cell, problem, flags, reverse=False, engine=sc.Scan()):
    """Unroll; return (carry, ys) and the gradient of the loss by (params, xs, carry)."""

    def loss(params, xs, carry):
        out = sc.unroll(cell, params, xs, carry, **flags, reverse=reverse, engine=engine)
        return weigh(problem, *out), out

    inputs = (problem.params, problem.xs, problem.carry)
    gradient, out = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(*inputs)
    return out, gradient


def weigh(problem: Problem, carry: Carry, ys: jax.Array) -> jax.Array:
    """The loss that `expect_gradient` differentiates."""
    pairs = zip(jax.tree.leaves(carry), jax.tree.leaves(problem.weigh_carry), strict=True)
    return sum(jnp.vdot(a, b) for a, b in pairs) + jnp.vdot(ys, problem.weigh_ys)


def loss(
    cell: sc.Cell, engine: sc.Engine, **flags: Any
) -> Callable[[Params, jax.Array], jax.Array]:
    """A function of (params, xs) of all that `unroll` returns."""

    def of(params, xs):
        carry, ys = sc.unroll(cell, params, xs, engine=engine, **flags)
        some = sum(jnp.sum(jnp.cos(a)) for a in jax.tree.leaves(carry))
        return jnp.sum(jnp.sin(ys.astype(jnp.float32))) + some

    return of


def with_dtypes(cell: sc.Cell, **dtypes: DTypeLike) -> sc.Cell:
    """Set `dtype` and `param_dtype` of a cell, or of the one within a wrapper."""
    if hasattr(cell, "cell"):
        return dataclasses.replace(cell, cell=with_dtypes(cell.cell, **dtypes))
    return dataclasses.replace(cell, **dtypes)


def dtypes(tree: PyTree) -> set[jnp.dtype]:
    """The dtypes of a tree's leaves."""
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def assert_close(got: PyTree, expected: PyTree, tol: float = 1e-12) -> None:
    """Compare two trees, leaf by leaf."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True
    ):
        where = jax.tree_util.keystr(path)
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), tol, tol, err_msg=where)


def assert_same_bits(got: PyTree, expected: PyTree) -> None:
    """Compare two trees bit by bit; NaN equals NaN."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
