"""Sweeps of hyperparameters from the command line: `python -m experiments sweep`."""
