"""Make small mistakes in the library on purpose, and count those that the tests detect.

    python -m scripts.mutants                 # all mutants
    python -m scripts.mutants engines lstm-bias-on-i
    python -m scripts.mutants --all-tests     # the whole default suite for those that survive

A mutant is one change of one file, such as a maintainer might make by mistake: tables/AREA.toml has
its old and new text, and the tests that should detect it. Each is tried in a copy of the tree, so
your files do not change. It is killed if one of its tests fails. Results are stored in
build/mutants.json; mutants with a result for the same code and tests are not tried again. The exit
code is 0 if at least 95 % of the mutants are killed.
"""
