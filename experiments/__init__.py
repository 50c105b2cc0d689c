"""Experiments that test common claims about recurrent networks: `python -m experiments`."""
