"""Studies that measure what is claimed of recurrent nets: `python -m experiments`."""
