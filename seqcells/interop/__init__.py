"""Weights to and from other frameworks, one framework a file, none of which is imported.

Each file has `load(arrays, cell_or_layer) -> params` and `dump(cell_or_layer, params) -> arrays`,
where `arrays` is a plain dict of NumPy arrays in that framework's own names and layouts. Nothing is
computed but signs, transposition, order and the sum of two biases. What cannot be exact raises a
ValueError with the reason. `save` and `load` keep a cell or layer with its parameters in a file.
"""

from seqcells.interop import equinox as equinox
from seqcells.interop import haiku as haiku
from seqcells.interop import keras as keras
from seqcells.interop import linen as linen
from seqcells.interop import nnx as nnx
from seqcells.interop import onnx as onnx
from seqcells.interop import torch as torch
from seqcells.interop.file import load as load
from seqcells.interop.file import save as save
