"""Weights to and from other frameworks, one framework a file, none of which is imported.

Each file has `load(arrays, cell_or_layer) -> params` and `dump(cell_or_layer, params) -> arrays`,
where `arrays` is a plain dict of NumPy arrays in that framework's own names and layouts. Nothing is
computed but signs, transposition, order and the sum of two biases. What cannot be exact raises a
ValueError with the reason. `save` and `load` keep a cell or layer with its parameters in a file.
"""

from seqcells.interop import torch as torch
