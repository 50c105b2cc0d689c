"""Cells, one family a file."""

from seqcells.cells.gru import GRU as GRU
from seqcells.cells.gru import GRUParams as GRUParams
from seqcells.cells.rnn import RNN as RNN
from seqcells.cells.rnn import RNNParams as RNNParams
