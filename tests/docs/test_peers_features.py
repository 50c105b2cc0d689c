"""The table of features in docs/peers.md: what it names is there, and what it denies is not."""

import importlib
import inspect
import operator
import pkgutil
import re
import types

import pytest

import seqcells as sc
from tests.support.peers import Table, installed

TABLES = (
    Table("What each offers"),
    Table("Libraries of particular cells"),
    Table("Gradients forward in time"),
)
COLUMNS = [(table, i) for table in TABLES for i in range(1, len(table.header))]

# A name or an argument that would make "no" or "by hand" wrong, for each row that has one of them.
DENIED = {
    "RNN": r"rnn(?!_subset)",
    "GRU, reset after": r"reset_after",
    "GRU, reset before": r"reset_(after|before)",
    "LSTM peepholes": r"peep",
    "LSTM projection": r"proj",
    "convolutional LSTM": r"conv\w*(lstm|rnn)",
    "MGU": r"mgu",
    "IndRNN, minGRU, LRU": r"indrnn|min_?gru|^lru",
    "sLSTM, RG-LRU, Mamba (S6)": r"slstm|rg_?lru|mamba|^s6$",
    "matrix memory: mLSTM, gated DeltaNet, RetNet": r"mlstm|delta_?net|^gdn|ret_?net|retention",
    "whole models, with the sizes of their papers": r"hawk|mamba|xlstm|^s5$",
    "signs and sparsity that hold in training": r"dale|sparsity|constrained",
    "sLSTM": r"slstm",
    "mLSTM": r"^mlstm",
    "RG-LRU": r"rg_?lru",
    "the selective model of Mamba": r"mamba",
    "delta rules, retention": r"delta_?(net|rule)|retention|retnet",
    "a linear recurrence gated by the input alone": r"min_?(gru|lstm)|hgrn",
    "a cell of your own": r"^cell$",
    "padding": r"^lengths$|^mask$|attention_mask",
    "packed sequences": r"^resets?$|segment_(pos|ids)|cu_seqlens",
    "reading from the end": r"revers",
    "forward-mode derivative of the cell": r"jvp|forward_mode",
    "vmap over weights of the cell": r"vmap",
    "your own cell": r"^cell$|(?<!s)core",
    "unroll over time": r"rnn$|unroll",
    "the carry after every step": r"all_(states|carries)|trajectory",
    "time axis": r"time_(major|axis)|batch_first",
    "lengths": r"length",
    "mask with holes": r"^mask$|masking",
    "resets within a sequence": r"^resets?$|reset_?core|should_reset",
    "reverse from the last step of each row": r"length|^mask$",
    "bidirectional": r"bidir",
    "stack": r"stack|deep|layers$",
    "dropout between layers": r"dropout",
    "embedding, norm and readout in the same step": r"pointwise_?layer|stepwise",
    "skip connections": r"skip|residual_(?!cell|memory)|^residual(?!Model)\w",
    "learned initial carry": r"learn|trainable",
    "one dropout mask per sequence": r"variational|recurrent_dropout",
    "zoneout": r"zoneout",
    "layer norm inside gates": r"norm\w*(rnn|gru|lstm)|(rnn|gru|lstm)\w*norm",
    "checkpointed BPTT": r"^checkpoint_?(every|size)|sqrt",
    "truncated BPTT": r"trunc(?!atednormal)|window",
    "gradients forward in time ([braintrace has them](#gradients-forward-in-time))": (
        r"rtrl|uoro|e_?prop|eligib|forward_?mode"
    ),
    "a low-pass filter of eligibilities": r"kappa|low_?pass",
    "traces of the size of inputs and units": r"pp_?prop|es_d_rtrl",
    "reward-modulated rules, synthetic gradients": r"three_?factor|synthetic|^dni$",
    "resets of single rows": r"^resets?$",
    "inside `jax.grad` of a whole sequence": r"custom_vjp|forward_?mode",
    "a loop with an optimiser": r"^stream$|optimi[sz]er",
    "all steps of a linear cell in parallel": r"assoc|parallel_(scan|rnn)",
    "chunks of steps by matrix products": r"chunk_?wise|chunk_?size",
    "all steps of a nonlinear cell in parallel": r"newton|^deer",
    "one GPU kernel for all steps": r"pallas|triton|fused_(rnn|gru|lstm)",
    "cuDNN": r"cudnn",
    "weights of other frameworks": r"interop|(from|load)_(torch|keras|flax|haiku|equinox|onnx)",
    "gradient by lag": r"by_lag|diagnos",
    "singular values by lag, Lyapunov exponents": r"jacobian|singular|lyapunov",
    "gates, timescales, saturation": r"timescale|^saturation|gate_values",
    "fixed points and their linearizations": r"fixed_?point",
    "Omega, flossing, spectral-norm projection": r"^omega|floss|project_spectral",
    "tasks that measure memory": r"^probes?$|^adding|_tasks?$",
    "stored rollouts: chunks with burn-in, replay check": r"burn_?in|replay|^chunks$",
    "a model that reads its own outputs, with teacher forcing": r"closed_?loop|teacher",
    "check of your own cell": r"check_(cell|rnn)|^laws$",
    "table of parameters": r"summary|tabulate",
}


def module_of(header):
    name = re.match(r"`([\w.]+)`", header)[1]
    installed(name.split(".")[0])
    module = importlib.import_module(name)
    names = [name for name in dir(module) if name[0] != "_"]
    exports = [name for name in names if not inspect.ismodule(getattr(module, name))]
    return module if exports else contents(module)


def contents(package):
    """The classes and functions in the modules of a package that exports none itself."""
    found = types.SimpleNamespace()
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for name, value in vars(installed(info.name)).items():
            if str(getattr(value, "__module__", None)).startswith(package.__name__):
                setattr(found, name, value)
    return found


def resolved(module, path):
    """Find `Name.of.it` in a module, or from the root where it is a full path."""
    if hasattr(module, path.split(".")[0]):
        return operator.attrgetter(path)(module)
    return pkgutil.resolve_name(path)


def arguments(value):
    """The names of all arguments of a function, or of a class and a call of its instances."""
    names = set()
    methods = ("__init__", "__call__", "call", "forward")
    for part in (value, *(getattr(value, name, None) for name in methods)):
        try:
            names |= set(inspect.signature(part).parameters)
        except (TypeError, ValueError):  # no function, or one written in C
            continue
    return names


def is_there(module, name):
    path, argument = re.fullmatch(r"([\w.]+)(?:\((\w+)=\))?", name).groups()
    try:
        value = resolved(module, path)
    except (AttributeError, ImportError):
        return False
    return argument is None or argument in arguments(value)


def names_of(module):
    """Public names of a module, and arguments of what is recurrent in it."""
    names = {name for name in dir(module) if name[0] != "_"}
    recurrent = [
        name for name in names if re.search("rnn|gru|lstm|lru|mamba|cell|unroll|bidir", name, re.I)
    ]
    return names.union(*(arguments(getattr(module, name)) for name in recurrent))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[t.header[i] for t, i in COLUMNS])
def test_what_a_cell_names_is_there_and_what_it_denies_is_not(table, column):
    module = module_of(table.header[column])
    cells = {row[0]: row[column] for row in table.rows}
    named = [(row, name) for row, cell in cells.items() for name in re.findall("`(.*?)`", cell)]
    denied = [row for row, cell in cells.items() if cell in ("no", "by hand")]
    missing = [(row, name) for row, name in named if not is_there(module, name)]
    found = [
        (row, name)
        for row in denied
        for name in names_of(module)
        if re.search(DENIED[row], name, re.I)
    ]
    assert (missing, found) == ([], [])


def test_the_tables_are_of_this_version_and_whole():
    for table in TABLES:
        assert table.header[1] == f"`seqcells` {sc.__version__}"
        assert {len(row) for row in table.rows} == {len(table.header)}
    rows = [row for table in TABLES for row in table.rows]
    assert {row[0] for row in rows if {"no", "by hand"} & set(row)} == set(DENIED)
