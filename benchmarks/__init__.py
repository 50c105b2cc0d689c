"""seqcells measured beside its peers, and against itself: `python -m benchmarks`."""

import experiments  # noqa: F401 - it says what is not installed
