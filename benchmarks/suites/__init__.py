"""The benchmarks: each file or folder here defines one `Benchmark` or another `Command`."""
