"""The tests: laws over the tables of `helpers`, against the loops of `reference`."""
