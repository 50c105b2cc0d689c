"""Cells, one family per file."""

from seqcells.cells.gru import GRU as GRU
from seqcells.cells.gru import GRUParams as GRUParams
from seqcells.cells.indrnn import IndRNN as IndRNN
from seqcells.cells.indrnn import IndRNNParams as IndRNNParams
from seqcells.cells.lru import LRU as LRU
from seqcells.cells.lru import LRUCarry as LRUCarry
from seqcells.cells.lru import LRUParams as LRUParams
from seqcells.cells.lstm import LSTM as LSTM
from seqcells.cells.lstm import LSTMCarry as LSTMCarry
from seqcells.cells.lstm import LSTMParams as LSTMParams
from seqcells.cells.mgu import MGU as MGU
from seqcells.cells.mgu import MGUParams as MGUParams
from seqcells.cells.mingru import MinGRU as MinGRU
from seqcells.cells.mingru import MinGRUParams as MinGRUParams
from seqcells.cells.rnn import RNN as RNN
from seqcells.cells.rnn import RNNParams as RNNParams
