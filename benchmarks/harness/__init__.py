"""Shared parts of the benchmarks: problems, programs, contestants, timing, tables and pages."""
