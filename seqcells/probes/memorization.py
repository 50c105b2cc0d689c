"""Noiseless memorization: a pattern to keep."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from seqcells.probes._copying import AtEveryStep
from seqcells.probes._probe import Success


@dataclasses.dataclass(frozen=True)
class Memorization(AtEveryStep):
    """Repeat a pattern after a trigger (Martens & Sutskever 2011, after Hochreiter; Jaeger 2012).

    The input is a pattern of `count` symbols, T blanks, a trigger, count - 1 blanks: T + 2 count
    steps, all of which are scored. The answer is blank at the first T + count steps, then the
    pattern; its first symbol is due with the trigger (in `Copy`, one step after the delimiter). The
    encoding follows the code of Pascanu, Mikolov & Bengio 2013. Answering blank and then guessing
    costs count ln(symbols) / (T + 2 count) nats per step.

    `Memorization()` is the "5-bit" problem, of 2^5 patterns. `Memorization(symbols=5, count=10)` is
    the "20-bit" one: it has 5^10 patterns, which are 23 bits. A sequence is correct if every answer
    is, including blanks; less than 1 % errors in 10,000 sequences solves it, which requires all of
    the 2^5 patterns.

    Args:
        length: T, steps between the pattern and the trigger; at least 1.
        symbols: number of symbols, at least 2.
        count: symbols per pattern, at least 1.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (50, 100, 150, 200)
    SIGN: ClassVar[int] = 0

    length: int = 100
    symbols: int = 2
    count: int = 5

    success = Success("exact", 0.99)
