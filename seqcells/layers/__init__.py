"""Layers, which compose cells and other layers, and wrappers, which are cells around a cell."""

from seqcells._layer import Layer as Layer
from seqcells._layer import Start as Start
from seqcells._layer import Time as Time
from seqcells.layers.bidirectional import MERGES as MERGES
from seqcells.layers.bidirectional import Bidirectional as Bidirectional
from seqcells.layers.bidirectional import Both as Both
from seqcells.layers.dense import Dense as Dense
from seqcells.layers.dense import DenseParams as DenseParams
from seqcells.layers.dropout import Dropout as Dropout
from seqcells.layers.embed import Embed as Embed
from seqcells.layers.embed import EmbedParams as EmbedParams
from seqcells.layers.layer_norm import LayerNorm as LayerNorm
from seqcells.layers.layer_norm import LayerNormParams as LayerNormParams
from seqcells.layers.norm import Norm as Norm
from seqcells.layers.norm import NormParams as NormParams
from seqcells.layers.pointwise import Pointwise as Pointwise
from seqcells.layers.recurrent import Recurrent as Recurrent
from seqcells.layers.recurrent import RecurrentParams as RecurrentParams
from seqcells.layers.residual import Residual as Residual
from seqcells.layers.stack import Stack as Stack
from seqcells.layers.wrappers import VariationalDropout as VariationalDropout
from seqcells.layers.wrappers import Zoneout as Zoneout
