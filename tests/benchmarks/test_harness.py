"""The harness: statistics, rounds, tables, numbers, the limit."""

from typing import get_args

import jax
import numpy as np
import pytest

from benchmarks.harness import contestants, pages, problem, programs, tables, timing
from benchmarks.harness.problem import CELLS, SHAPES, Shape, parse_shape
from experiments.lab import BadInput, markdown
from tests.benchmarks.test_peers import TINY


def test_a_spread_is_the_median_and_the_quartiles():
    assert timing.spread([5, 1, 4, 2, 30]) == (4, 2, 5)


def test_a_ratio_is_taken_round_by_round():
    times = {"ours": [1, 10, 1], "theirs": [2, 30, 4]}  # of medians it would be 4
    assert timing.ratio(times, "theirs", "ours") == (3, 2.5, 3.5)


def test_the_fastest_has_the_least_median_not_the_luckiest_round():
    times = {"steady": [3, 3, 3], "lucky": [1, 4, 4], "ours": [2, 2, 2]}
    assert timing.fastest(times, ["lucky", "steady", "untimed"]) == "steady"
    assert timing.fastest(times, ["untimed"]) is None


def test_a_slope_is_the_exponent():
    assert timing.slope([1, 2, 8], [3, 12, 192]) == pytest.approx(2)


class Clock:
    """A clock that calls advance."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def call(self, name, cost):
        def run():
            self.now += cost
            self.order += [name] * (self.order[-1:] != [name])

        return run


def test_rounds_rotate_the_order_and_last_as_long_as_given():
    clock = Clock()
    calls = {name: clock.call(name, cost) for name, cost in (("a", 0.5), ("b", 1.0), ("c", 0.001))}
    times = timing.interleave(calls, 0.1, clock=clock)
    assert {len(rounds) for rounds in times.values()} == {timing.ROUNDS}
    assert {k: timing.spread(v).median for k, v in times.items()} == pytest.approx(
        {"a": 0.5, "b": 1.0, "c": 0.001}
    )
    assert "".join(clock.order) == "abc" + "abc" + "bca" + "cab" + "abc" + "bca"
    clock = Clock()
    times = timing.interleave({"c": clock.call("c", 0.001)}, 1.0, clock=clock)
    assert len(times["c"]) == pytest.approx(1.0 / timing.FLOOR, abs=1)  # 20 calls a round


def test_a_table_is_replaced_group_by_group(tmp_path):
    def rows(shape, ms, names="ab"):
        return [
            {"cell": "GRU", "shape": shape, "who": n, "ms": ms, "commit": "12e456"} for n in names
        ]

    path, columns = tmp_path / "t.csv", ["cell", "shape", "who", "ms", "commit"]
    tables.write(path, [*rows("S1", 1.0), *rows("S2", 2.0), *rows("S3", 3.0)], columns)
    new = [*rows("S2", 5.0, "a"), *rows("S4", 4.0)]
    merged = tables.replace_groups(tables.read(path, columns), new, ["cell", "shape"])
    tables.write(path, merged, columns)
    back = tables.read(path, columns)
    assert back == [*rows("S1", 1.0), *rows("S2", 5.0, "a"), *rows("S3", 3.0), *rows("S4", 4.0)]


def test_a_file_that_is_no_such_table_is_named_in_the_error(tmp_path):
    assert tables.read(tmp_path / "none.csv", ["ms"]) == []
    for name, text in (("empty.csv", ""), ("other.csv", "cell\nGRU\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match=rf"{name}: expected .*; move it away"):
            tables.read(tmp_path / name, ["cell", "ms"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.0, "1.00"), (1234.5, "1234"), (float("nan"), "-"), (0, "0")],
)
def test_numbers_are_written_with_significant_digits(value, text):
    assert pages.digits(value) == text


def test_a_markdown_table_is_aligned():
    lines = markdown(["who", "ms"], [["naive", "1.5"], ["b", "-"]], texts=1).splitlines()
    assert lines == ["| who   |  ms |", "| ----- | --: |", "| naive | 1.5 |", "| b     |   - |"]


def test_the_limit_has_the_multiplications_of_the_shape():
    for shape in (TINY, SHAPES["S4"]):
        rows, width = shape.T * shape.B, 3 * shape.H
        left, right = jax.eval_shape(lambda s=shape, r=rows, w=width: programs._factors(r, s.D, w))
        blocks, height, size = left.shape
        assert rows <= blocks * height < rows + blocks
        assert (size, *right.shape) == (shape.D, shape.D, width)
        assert height * width <= programs.BLOCK


def test_the_limit_multiplies():
    left, right = programs._factors(6, 3, programs.BLOCK // 2)
    assert left.shape[0] == 3
    np.testing.assert_allclose(
        programs._product(left, right[:, :4]), np.asarray(left)[-1] @ right[:, :4], rtol=1e-5
    )


def test_the_command_line_knows_every_shape_cell_and_peer():
    assert get_args(problem.ShapeName) == tuple(SHAPES)
    assert get_args(problem.CellName) == tuple(CELLS) == tuple(programs.GATES)
    assert get_args(contestants.PeerName) == tuple(contestants.PEERS)


def test_a_shape_is_named_by_its_sizes():
    assert parse_shape(" 2, 5,3,4") == Shape("2x5x3x4", 2, 5, 3, 4)
