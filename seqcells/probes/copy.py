"""The copying problem, in uRNN's form."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from seqcells.probes._copying import AtEveryStep
from seqcells.probes._probe import Success, attribute


@dataclasses.dataclass(frozen=True)
class Copy(AtEveryStep):
    """Repeat symbols shown T steps ago (Arjovsky, Shah & Bengio 2016, after Hochreiter).

    The input is `count` symbols, T - 1 blanks, a delimiter, `count` blanks: T + 2 count steps, of
    which every one is scored. The answer is blank at the first T + count steps, then the symbols in
    their order; what was shown at step t is asked for at step t + T + count. Answering blank and
    then guessing costs count ln(symbols) / (T + 2 count) nats a step; a cross-entropy below a tenth
    of that solves it.

    The accuracy counts the blanks too, so it is near 1 for nets that remember nothing; what share
    of the symbols is right is the accuracy of the last `count` answers. S4's copy scores these
    alone, at ln(symbols) a token, and shows the delimiter at all of them; TCN's shows it there too,
    but scores every step.

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
