"""Gradients that need no backward pass, one rule per file."""

from seqcells.online._rule import Rule as Rule
from seqcells.online._rule import Trace as Trace
from seqcells.online._within import WithinLayers as WithinLayers
from seqcells.online.eprop import EProp as EProp
from seqcells.online.forward_mode import ForwardMode as ForwardMode
from seqcells.online.rflo import RFLO as RFLO
from seqcells.online.rtrl import RTRL as RTRL
from seqcells.online.snap import SnAp as SnAp
from seqcells.online.uoro import UORO as UORO
from seqcells.online.uoro import RankOne as RankOne
