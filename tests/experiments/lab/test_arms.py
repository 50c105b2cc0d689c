"""The arms that studies compare."""

import pytest

import seqcells as sc
from experiments.lab import as_large, parameters
from experiments.studies import selective_copy


@pytest.mark.parametrize("make", [sc.RNN, sc.MinGRU, selective_copy.ARMS["minGRU, 3 layers"]])
def test_a_net_as_large_as_a_gru_has_as_many_parameters(make):
    for size in (8, 64):
        wanted = parameters(sc.GRU(size), 17)
        assert wanted == 3 * (size * size + 17 * size + 2 * size)
        units = as_large(make, 17, wanted)
        off = [abs(parameters(make(n), 17) - wanted) for n in (units - 1, units, units + 1)]
        assert off[1] == min(off)
