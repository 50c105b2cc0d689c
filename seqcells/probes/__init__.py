"""Tasks that measure memory, one a file."""

from seqcells.probes._probe import Probe as Probe
from seqcells.probes._probe import Score as Score
from seqcells.probes.adding import Adding as Adding
from seqcells.probes.delayed_recall import DelayedRecall as DelayedRecall
