"""Inject faults into small runs and sweeps, and check that nothing is lost: docs/reliability.md.

    pip install -e ".[exp]"
    python -m scripts.chaos all --quick
    python -m scripts.chaos kill --count 100 --minutes 20

The names are rows of the table in docs/reliability.md: kill (row 1), dead (2), hung (3), signals
(4), full (5), flip (6), twice (7), changed (8), diverge (10), resume (25), workers (26) and search
(27). Each prints how many trials were tried and how many passed, and exits with 1 unless all
passed. Every trial is a line of OUT/row-N.jsonl. The same command continues an interrupted row, and
--fresh starts again.
"""

import experiments  # noqa: F401 - its import reports missing packages
