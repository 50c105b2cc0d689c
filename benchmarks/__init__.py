"""Benchmarks of seqcells against its peers and against itself: `python -m benchmarks`."""

import experiments  # noqa: F401 - its import reports missing packages
