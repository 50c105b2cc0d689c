"""seqcells measured beside its peers, and against itself: `python -m benchmarks`."""
