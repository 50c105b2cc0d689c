"""Gradients that need no backward pass, one rule per file."""

from seqcells.online._rule import Rule as Rule
from seqcells.online._rule import Trace as Trace
from seqcells.online.rtrl import RTRL as RTRL
