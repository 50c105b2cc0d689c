"""Tasks that measure memory, one a file."""

from seqcells.probes._probe import Classes as Classes
from seqcells.probes._probe import Numbers as Numbers
from seqcells.probes._probe import Probe as Probe
from seqcells.probes._probe import Sample as Sample
from seqcells.probes._probe import Score as Score
from seqcells.probes._probe import Success as Success
from seqcells.probes.adding_pascanu import AddingPascanu as AddingPascanu
from seqcells.probes.adding_tcn import AddingTCN as AddingTCN
from seqcells.probes.adding_urnn import AddingURNN as AddingURNN
from seqcells.probes.copy import Copy as Copy
from seqcells.probes.delayed_recall import DelayedRecall as DelayedRecall
from seqcells.probes.memorization import Memorization as Memorization
from seqcells.probes.multiplication import Multiplication as Multiplication
from seqcells.probes.selective_copy import SelectiveCopy as SelectiveCopy
from seqcells.probes.temporal_order import TemporalOrder as TemporalOrder
from seqcells.probes.variable_copy import VariableCopy as VariableCopy
