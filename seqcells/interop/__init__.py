"""Weights to and from other frameworks, one framework per file. None of them is imported.

Each file has `load(arrays, model) -> params` and `dump(model, params) -> arrays`,
where `arrays` is a plain dict of NumPy arrays in the framework's own names and layouts. A
conversion only changes signs, transposes, reorders, and adds two biases. If it cannot be exact, it
raises a ValueError with the reason. `speechbrain` alone folds in a batch norm, and has no `dump`.
`save` and `load` keep a cell or layer and its parameters in a file. `fold_biases` converts a
trained GRU to the form of Flax, Haiku and Equinox.
"""

from seqcells.interop import equinox as equinox
from seqcells.interop import flashrnn as flashrnn
from seqcells.interop import haiku as haiku
from seqcells.interop import keras as keras
from seqcells.interop import linen as linen
from seqcells.interop import mamba as mamba
from seqcells.interop import nnx as nnx
from seqcells.interop import onnx as onnx
from seqcells.interop import recurrentgemma as recurrentgemma
from seqcells.interop import speechbrain as speechbrain
from seqcells.interop import torch as torch
from seqcells.interop._fold import fold_biases as fold_biases
from seqcells.interop.file import load as load
from seqcells.interop.file import save as save
