"""Hurt small runs and sweeps, and check that nothing is lost: rows of docs/reliability.md.

    pip install -e ".[exp]"
    python -m scripts.chaos all --quick
    python -m scripts.chaos kill --count 100 --minutes 20

kill (row 1), dead (2), hung (3), signals (4), full (5), flip (6), twice (7), changed (8), diverge
(10) and resume (25) print how many trials were tried and how many passed, and exit with 1 unless
all passed. Every trial is a line of OUT/row-N.jsonl. The same command continues an interrupted row,
and --fresh starts again.
"""

import experiments  # noqa: F401 - it says what is not installed
