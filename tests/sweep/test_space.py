"""Laws of spaces: the trials do not depend on how the space is written."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import seqcells as sc
from seqcells import sweep
from seqcells.sweep import Space

ANY: Any = sweep  # to call it with wrong types


def ids(space):
    return [trial.id for trial in space.trials()]


def test_a_space_is_the_product_of_its_fields_with_buckets_together():
    space = Space(lr=[0.1, 0.2], seed=range(3), static={"size": [8, 16], "kind": ["a"]})
    trials = space.trials()
    assert len(trials) == len(set(ids(space))) == 12
    assert [t.static["size"] for t in trials] == [8] * 6 + [16] * 6
    assert trials[4].hparams == {"lr": 0.2, "seed": 1}
    assert trials[0].fields == {"size": 8, "kind": "a", "lr": 0.1, "seed": 0}


def test_an_id_depends_on_the_configuration_alone():
    one = Space(lr=[0.1, 0.3], seed=range(2), static={"size": [8, 16]})
    other = Space(static={"size": (16, 8)}, seed=np.arange(2), lr=np.asarray([0.3, 0.1, 0.2]))
    assert set(ids(one)) < set(ids(other))
    changed = [Space(lr=[0.1], seed=[1]), Space(lr=[1], seed=[0.1]), Space(lr=[0.1], seed=[1.0])]
    changed += [Space(lr=[0.1], static={"seed": [1]}), Space(lr=[0.1], seed=[True])]
    assert len({ids(space)[0] for space in changed}) == 5


def test_an_id_is_the_same_in_every_process_and_version():
    code = """from seqcells import sweep, GRU; import json
print(json.dumps([t.id for t in sweep.Space(lr=sweep.log(1e-4, 1e-1, 3), gain=sweep.uniform(0, 1),
    samples=1, static={"cell": [GRU(8)]}).trials()]))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["3d1c8bc89687", "4ad08ca2ae0c", "40b6dbfac85a"]


def test_grids_are_even_and_reach_both_ends():
    np.testing.assert_allclose(sweep.log(1e-4, 1e-1, 16), np.geomspace(1e-4, 1e-1, 16), 1e-8)
    np.testing.assert_allclose(sweep.linear(-1, 2, 7), np.linspace(-1, 2, 7), atol=1e-8)


def test_samples_follow_their_distribution_and_stay_as_the_space_grows():
    low = Space(a=sweep.uniform(2, 4), b=sweep.log_uniform(1e-4, 1), samples=400)
    a, b = ([t.hparams[name] for t in low.trials()] for name in "ab")
    assert 2 <= min(a) < 2.05 < 3.95 < max(a) < 4
    np.testing.assert_allclose(np.quantile(a, [0.25, 0.5, 0.75]), [2.5, 3, 3.5], atol=0.2)
    np.testing.assert_allclose(np.quantile(np.log10(b), [0.25, 0.5, 0.75]), [-3, -2, -1], atol=0.4)
    assert abs(np.corrcoef(a, np.log(b))[0, 1]) < 0.15
    fewer = Space(c=[1], a=sweep.uniform(2, 4), samples=3, seed=range(2)).trials()
    assert [t.hparams["a"] for t in fewer] == [value for value in a[:3] for _ in range(2)]
    other = Space(a=sweep.uniform(2, 4), samples=3, draw=1).trials()
    assert not {t.hparams["a"] for t in other} & set(a)


def test_cells_and_functions_are_identified_by_name_and_fields():
    space = Space(static={"cell": [sc.GRU(8), sc.RNN(8)], "f": [np.tanh, json.dumps]})
    assert space.trials()[1].fields["f"] == "dumps"
    assert "hidden_size=8" in space.trials()[0].fields["cell"]
    assert len(set(ids(space))) == 4


VALUES = [
    (lambda: ANY.Space(lr=[]), "lr: expected one or more different values, got none"),
    (lambda: ANY.Space(lr=[0.1, 0.1]), "lr: .* got 1 twice"),
    (lambda: ANY.Space(lr=[1, 1.0]), "lr: .* got 1 twice"),
    (lambda: ANY.Space(static={"n": [1, 1]}), "n: .* got 1 twice"),
    (lambda: ANY.Space(n=[1], static={"n": [1]}), "n: expected a name of its own"),
    (lambda: ANY.Space(status=[1]), "status: expected a name of its own"),
    (lambda: ANY.Space(a=sweep.uniform(0, 1)), r"samples: .* got None, .*\['a'\]"),
    (lambda: ANY.Space(a=[1], samples=3), "samples: .* got 3, no distribution"),
    (lambda: ANY.log(0, 1, 3), "expected 0 < low < high, finite, got 0, 1"),
    (lambda: ANY.linear(1, 1, 3), "expected low < high, finite, got 1, 1"),
    (lambda: ANY.log(1, 2, 1), "count: expected an int >= 2, got 1"),
]
TYPES = [
    (lambda: ANY.Space(lr=0.1), r"lr: expected a list .* got 0.1; write lr=\[...\]"),
    (lambda: ANY.Space(lr=["a"]), r"lr: expected numbers, .*static=dict\(lr="),
    (lambda: ANY.Space(lr="ab"), "lr: expected a list"),
    (lambda: ANY.Space(static=[1]), "static: expected a dict"),
    (lambda: ANY.Space(static={"f": [object()]}), "static: expected values that have"),
    (lambda: ANY.Space(static={"f": [lambda x: x]}), "static: .* in make"),
    (lambda: ANY.linear("a", 1, 3), "low: expected a number, got 'a'"),
]
REFUSED = [(ValueError, *row) for row in VALUES] + [(TypeError, *row) for row in TYPES]


@pytest.mark.parametrize(("error", "make", "message"), REFUSED)
def test_wrong_spaces_are_refused(error, make, message):
    with pytest.raises(error, match=message):
        make()
