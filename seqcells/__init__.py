"""Recurrent sequence models in JAX, and a laboratory for their gradients.

`import seqcells` imports only jax. The Flax wrappers are `seqcells.nnx` and `seqcells.linen`;
`seqcells.train`, `seqcells.remedies` and `seqcells.sweep` are for training. These submodules are
imported on first use.
"""

import importlib
from typing import TYPE_CHECKING

from seqcells import debug as debug
from seqcells import diagnostics as diagnostics
from seqcells import initializers as initializers
from seqcells._cell import Cell, ChunkCell, FunctionCell, LinearCell, SplitCell
from seqcells._rollouts import Chunks, chunks
from seqcells._summary import param_count, summary
from seqcells._unroll import select_engine, trajectory, unroll
from seqcells.cells import (
    CTRNN,
    GRU,
    GRUD,
    JANET,
    LEM,
    LRU,
    LSTM,
    MGU,
    MLSTM,
    RGLRU,
    RNN,
    S5,
    SLSTM,
    AntisymmetricRNN,
    AntisymmetricRNNParams,
    CoRNNCarry,
    CoRNNParams,
    CoupledLSTM,
    CoupledLSTMParams,
    CTRNNParams,
    GatedDeltaNet,
    GatedDeltaNetParams,
    GRUDCarry,
    GRUDInputs,
    GRUDParams,
    GRUParams,
    IndRNN,
    IndRNNParams,
    JANETParams,
    LEMCarry,
    LEMParams,
    LiGRU,
    LiGRUParams,
    LRUCarry,
    LRUParams,
    LSTMCarry,
    LSTMParams,
    Mamba,
    MambaParams,
    MGUParams,
    MinGRU,
    MinGRUParams,
    MinLSTM,
    MinLSTMParams,
    MLSTMCarry,
    MLSTMParams,
    RetNet,
    RetNetParams,
    RGLRUParams,
    RNNParams,
    S5Params,
    SLSTMCarry,
    SLSTMParams,
    UnICORNN,
    UnICORNNParams,
    coRNN,
)
from seqcells.engines import (
    AssociativeScan,
    Chunkwise,
    CUDACluster,
    Deferred,
    Engine,
    PallasTPU,
    PallasTriton,
    Scan,
    Truncated,
    gpu_compiler_options,
)
from seqcells.layers import (
    GLU,
    MLP,
    Bidirectional,
    Block,
    BlockCarry,
    BlockParams,
    Both,
    CausalConv,
    CausalConvParams,
    Constrained,
    Dale,
    Dense,
    DenseParams,
    Dropout,
    Embed,
    EmbedParams,
    GLUParams,
    Layer,
    LayerNorm,
    LayerNormParams,
    MLPParams,
    Norm,
    NormParams,
    Pointwise,
    Recurrent,
    RecurrentParams,
    Residual,
    SparsePattern,
    Stack,
    VariationalDropout,
    Zoneout,
)

if TYPE_CHECKING:
    from seqcells import distributed as distributed
    from seqcells import interop as interop
    from seqcells import linen as linen
    from seqcells import nnx as nnx
    from seqcells import probes as probes
    from seqcells import remedies as remedies
    from seqcells import sweep as sweep
    from seqcells import train as train
    from seqcells.distributed.cores import cores as cores

__version__ = "0.1.0"

_LAZY = ("distributed", "interop", "linen", "nnx", "probes", "remedies", "sweep", "train")

__all__ = [
    "CTRNN",
    "GLU",
    "GRU",
    "GRUD",
    "JANET",
    "LEM",
    "LRU",
    "LSTM",
    "MGU",
    "MLP",
    "MLSTM",
    "RGLRU",
    "RNN",
    "S5",
    "SLSTM",
    "AntisymmetricRNN",
    "AntisymmetricRNNParams",
    "AssociativeScan",
    "Bidirectional",
    "Block",
    "BlockCarry",
    "BlockParams",
    "Both",
    "CTRNNParams",
    "CUDACluster",
    "CausalConv",
    "CausalConvParams",
    "Cell",
    "ChunkCell",
    "Chunks",
    "Chunkwise",
    "CoRNNCarry",
    "CoRNNParams",
    "Constrained",
    "CoupledLSTM",
    "CoupledLSTMParams",
    "Dale",
    "Deferred",
    "Dense",
    "DenseParams",
    "Dropout",
    "Embed",
    "EmbedParams",
    "Engine",
    "FunctionCell",
    "GLUParams",
    "GRUDCarry",
    "GRUDInputs",
    "GRUDParams",
    "GRUParams",
    "GatedDeltaNet",
    "GatedDeltaNetParams",
    "IndRNN",
    "IndRNNParams",
    "JANETParams",
    "LEMCarry",
    "LEMParams",
    "LRUCarry",
    "LRUParams",
    "LSTMCarry",
    "LSTMParams",
    "Layer",
    "LayerNorm",
    "LayerNormParams",
    "LiGRU",
    "LiGRUParams",
    "LinearCell",
    "MGUParams",
    "MLPParams",
    "MLSTMCarry",
    "MLSTMParams",
    "Mamba",
    "MambaParams",
    "MinGRU",
    "MinGRUParams",
    "MinLSTM",
    "MinLSTMParams",
    "Norm",
    "NormParams",
    "PallasTPU",
    "PallasTriton",
    "Pointwise",
    "RGLRUParams",
    "RNNParams",
    "Recurrent",
    "RecurrentParams",
    "Residual",
    "RetNet",
    "RetNetParams",
    "S5Params",
    "SLSTMCarry",
    "SLSTMParams",
    "Scan",
    "SparsePattern",
    "SplitCell",
    "Stack",
    "Truncated",
    "UnICORNN",
    "UnICORNNParams",
    "VariationalDropout",
    "Zoneout",
    "chunks",
    "coRNN",
    "cores",
    "debug",
    "diagnostics",
    "distributed",
    "gpu_compiler_options",
    "initializers",
    "interop",
    "linen",
    "nnx",
    "param_count",
    "probes",
    "remedies",
    "select_engine",
    "summary",
    "sweep",
    "train",
    "trajectory",
    "unroll",
]


def __getattr__(name: str) -> object:
    """Import a submodule on first use, so that importing seqcells imports only jax."""
    if name == "cores":
        return importlib.import_module("seqcells.distributed.cores").cores
    if name in _LAZY:
        return importlib.import_module(f"seqcells.{name}")
    raise AttributeError(f"module 'seqcells' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
