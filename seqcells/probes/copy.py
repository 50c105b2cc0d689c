"""The copying problem, in uRNN's form."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from seqcells.probes._copying import AtEveryStep
from seqcells.probes._probe import Success, attribute


@dataclasses.dataclass(frozen=True)
class Copy(AtEveryStep):
    """Repeat symbols shown T steps ago (Arjovsky, Shah & Bengio 2016, after Hochreiter).

    The input is `count` symbols, T - 1 blanks, a delimiter, `count` blanks: T + 2 count steps, all
    of which are scored. The answer is blank at the first T + count steps, then the symbols in their
    order: the symbol of step t is due at step t + T + count. Answering blank and then guessing
    costs count ln(symbols) / (T + 2 count) nats per step; a cross-entropy below a tenth of that
    solves it.

    The accuracy includes the blanks, so it is near 1 for nets that remember nothing; look at the
    accuracy of the last `count` answers for the share of correct symbols. The copy task of S4
    scores only these, at ln(symbols) per token, and shows the delimiter at all of them; that of TCN
    also shows it there, but scores every step.

    Args:
        length: T, blanks and delimiter together, in steps; at least 1.
        symbols: number of symbols, at least 2.
        count: symbols to copy, at least 1.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (20, 100, 200, 300, 500, 1000)
    SIGN: ClassVar[int] = 1

    length: int = 100
    symbols: int = 8
    count: int = 10

    @attribute
    def success(self) -> Success:
        """A cross-entropy below a tenth of the baseline."""
        return Success("loss", self.baseline / 10)
