"""Make small mistakes in the library on purpose, and count those that the tests see.

    python -m scripts.mutants                 # all mutants
    python -m scripts.mutants engines lstm-bias-on-i
    python -m scripts.mutants --all-tests     # the whole default suite for those that survive

A mutant is one change of one file, as a maintainer might make it by mistake: tables/AREA.toml says
which text becomes which, and which tests should see it. Each is tried in a copy of the tree, so
nothing here is touched. It is killed if one of its tests fails. Results are kept in
build/mutants.json, and what has been tried on the same code with the same tests is not tried again.
The exit code is 0 if at least 95 % of the mutants are killed.
"""
