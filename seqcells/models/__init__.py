"""Named stacks of today's papers: each function returns a `Stack`, like one that you write.

`SIZES` has the arguments of every named size, by the name of the function.
"""

from seqcells.models import _hawk, _lru, _mamba, _s5, _xlstm
from seqcells.models._hawk import hawk as hawk
from seqcells.models._lru import lru as lru
from seqcells.models._mamba import mamba as mamba
from seqcells.models._parts import Sizes
from seqcells.models._s5 import s5 as s5
from seqcells.models._xlstm import xlstm as xlstm

SIZES: dict[str, dict[str, Sizes]] = {
    "hawk": _hawk.SIZES,
    "mamba": _mamba.SIZES,
    "xlstm": _xlstm.SIZES,
    "s5": _s5.SIZES,
    "lru": _lru.SIZES,
}
