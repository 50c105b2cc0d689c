"""Tasks that measure memory, one a file."""

from seqcells.probes._idx import load_idx as load_idx
from seqcells.probes._probe import Classes as Classes
from seqcells.probes._probe import Numbers as Numbers
from seqcells.probes._probe import Probe as Probe
from seqcells.probes._probe import Sample as Sample
from seqcells.probes._probe import Score as Score
from seqcells.probes._probe import Success as Success
from seqcells.probes.adding_urnn import AddingURNN as AddingURNN
from seqcells.probes.character_lm import CharacterLM as CharacterLM
from seqcells.probes.character_lm import Streams as Streams
from seqcells.probes.delayed_match import DelayedMatch as DelayedMatch
from seqcells.probes.delayed_recall import DelayedRecall as DelayedRecall
from seqcells.probes.delayed_xor import DelayedXOR as DelayedXOR
from seqcells.probes.group_words import GroupWords as GroupWords
from seqcells.probes.mqar import MQAR as MQAR
from seqcells.probes.parity import Parity as Parity
from seqcells.probes.random_permutation import RandomPermutation as RandomPermutation
from seqcells.probes.sequential_digits import SequentialDigits as SequentialDigits
from seqcells.probes.sequential_mnist import SequentialMNIST as SequentialMNIST
