"""Whole programs of users, each in one file: `python -m examples.NAME`."""
