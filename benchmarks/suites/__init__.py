"""The benchmarks: each file or folder here ends with its `Benchmark`, or with another `Command`."""
