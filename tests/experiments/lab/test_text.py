"""Numbers, shares and lists as text, and tables in a terminal."""

import pytest
from rich.console import Console
from scipy import stats

from experiments.lab import Table, decimal, print_table, short, wilson, words

NAN = float("nan")


def test_the_interval_of_a_share_is_the_one_of_scipy():
    for n in range(1, 30):
        for k in range(n + 1):
            expected = stats.binomtest(k, n).proportion_ci(method="wilson")
            assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-14)


def test_wilson_and_words_and_numbers():
    bounds = [round(bound, 2) for k, n in ((5, 5), (20, 20)) for bound in wilson(k, n)]
    assert bounds == [0.57, 1.0, 0.84, 1.0]
    assert words(["a"]) == "a"
    assert words(["a", "b", "c"]) == "a, b and c"
    numbers = {0: "0", 0.0123: "0.012", 386.2: "390", 3e-14: "3e-14", 1.74e-4: "1.7e-4"}
    assert {x: short(x) for x in numbers} == numbers
    assert (short(9.99e-4), short(99_600), short(NAN)) == ("0.001", "1e5", "not a number")
    assert [decimal(x) for x in (0.0005, 1 / 6000, 3.0, 0.0125)] == [
        *("0.0005", "0.000167"),
        *("3", "0.0125"),
    ]


def test_a_table_loses_columns_and_no_letters_where_the_console_is_narrow(capsys):
    table = Table("A title", "", ["cell", "first", "second"], [["a long name [/x]", "1", "2"]])
    print_table(Console(width=60), table)
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("a long name [/x]", "second"))
    print_table(Console(width=27), table)
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("a long name [/x]", "first"))
    assert "2" not in shown
    assert "Columns hidden (terminal too narrow): second" in shown
