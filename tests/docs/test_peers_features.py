"""The table of features in docs/peers.md: what it names is there, and what it denies is not."""

import importlib
import inspect
import pkgutil
import re
import types

import pytest

import seqcells as sc
from tests.support.peers import Table, installed

FEATURES = Table("What each offers")
COLUMNS = dict(enumerate(FEATURES.header[1:], start=1))

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
    "signs and sparsity that hold in training": r"dale|sparsity|constrained",
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
    "all steps of a linear cell in parallel": r"assoc|parallel_(scan|rnn)",
    "chunks of steps by matrix products": r"chunk_?wise|chunk_?size",
    "one GPU kernel for all steps": r"pallas|triton|fused_(rnn|gru|lstm)",
    "cuDNN": r"cudnn",
    "weights of other frameworks": r"interop|(from|load)_(torch|keras|flax|haiku|equinox|onnx)",
    "gradient by lag": r"by_lag|diagnos",
    "singular values by lag, Lyapunov exponents": r"jacobian|singular|lyapunov",
    "gates, timescales, saturation": r"timescale|^saturation|gate_values",
    "Omega, flossing, spectral-norm projection": r"^omega|floss|project_spectral",
    "tasks that measure memory": r"^probes?$|^adding|_tasks?$",
    "stored rollouts: chunks with burn-in, replay check": r"burn_?in|replay|^chunks$",
    "check of your own cell": r"check_(cell|rnn)|^laws$",
    "table of parameters": r"summary|tabulate",
}


def module_of(column):
    name = re.match(r"`([\w.]+)`", COLUMNS[column])[1]
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
    first, *rest = path.split(".")
    value = getattr(module, first) if hasattr(module, first) else importlib.import_module(first)
    for name in rest:
        value = getattr(value, name)
    return value


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
    recurrent = [name for name in names if re.search("rnn|gru|lstm|cell|unroll|bidir", name, re.I)]
    return names.union(*(arguments(getattr(module, name)) for name in recurrent))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("column", COLUMNS, ids=COLUMNS.get)
def test_what_a_cell_names_is_there_and_what_it_denies_is_not(column):
    module = module_of(column)
    cells = {row[0]: row[column] for row in FEATURES.rows}
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


def test_the_table_is_of_this_version_and_whole():
    assert COLUMNS[1] == f"`seqcells` {sc.__version__}"
    assert {len(row) for row in FEATURES.rows} == {len(FEATURES.header)}
    denying = {row[0] for row in FEATURES.rows if {"no", "by hand"} & set(row)}
    assert denying == set(DENIED)
