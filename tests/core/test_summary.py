"""Laws of the summary: its numbers are those of the parameters."""

import re

import jax
import pytest

import seqcells as sc
from tests.support.laws import over_cells

pytestmark = pytest.mark.usefixtures("strict")


def test_the_summary_of_the_guide():
    text = sc.summary(sc.GRU(64), input_size=1)
    rows = [line.split() for line in text.splitlines() if line[0] != "-"]
    assert rows[1] == ["GRU", "(T,", "B,", "64)", "12,864"]
    assert rows[2:6] == [
        ["w_ih", "(1,", "192)", "192"],
        ["w_hh", "(64,", "192)", "12,288"],
        ["b_ih", "(192,)", "192"],
        ["b_hh", "(192,)", "192"],
    ]
    assert text.splitlines()[-1] == "Total parameters: 12,864 (50.2 KiB)"


@over_cells
def test_counts_are_those_of_the_parameters(case):
    params = jax.eval_shape(lambda: case.cell.init(jax.random.key(0), case.features))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sc.param_count(params) == count
    lines = sc.summary(case.cell, case.features).splitlines()
    assert lines[2].split("(")[0].strip() == type(case.cell).__name__
    assert lines[2].split()[-1] == str(count)
    assert f"(T, B, {str(case.y)[1:-1].strip(',')})" in lines[2]
    rows = [line for line in lines if line.startswith("  ")]
    assert sum(int(row.split()[-1]) for row in rows) == count
    assert len(rows) == len(jax.tree.leaves(params))


@pytest.mark.parametrize(("dtype", "kib"), [("float32", "50.2"), ("bfloat16", "25.1")])
def test_bytes_are_those_of_param_dtype(dtype, kib):
    assert f"({kib} KiB)" in sc.summary(sc.GRU(64, param_dtype=dtype), 1)


def test_columns_line_up():
    lines = sc.summary(sc.RNN(1000), 7).splitlines()
    widths = {len(line) for line in lines[:-1]}
    assert len(widths) == 1


def test_nothing_is_allocated_for_a_summary():
    total = 3 * (10**6 * 10**6 + 10**6) + 6 * 10**6  # 12 TB, were it made
    assert f"{total:,}" in sc.summary(sc.GRU(10**6), 1)


def test_a_stack_has_rows_for_each_layer():
    inner = sc.Stack((sc.GRU(3), sc.Dense(2)))
    net = sc.Stack((sc.Embed(9, 4), sc.Bidirectional(sc.LSTM(5)), sc.Residual(inner)))
    with pytest.raises(ValueError, match="as many outputs as inputs"):
        sc.summary(net, input_size=())
    net = sc.Stack((*net.layers[:2], inner))
    text = sc.summary(net, input_size=())
    shown = [line.split("(T, B")[0].strip() for line in text.splitlines() if "(T, B" in line]
    assert shown == ["Stack", "0 Embed", "1 Bidirectional(LSTM)", "2 Stack", "0 GRU", "1 Dense"]
    shapes = re.findall(r"\(T, B, (\d+)\)", text)
    assert shapes == ["2", "4", "10", "2", "3", "2"]
    counts = [
        int(line.split()[-1].replace(",", "")) for line in text.splitlines() if "(T, B" in line
    ]
    assert counts[0] == counts[1] + counts[2] + counts[3]
    assert counts[3] == counts[4] + counts[5]
