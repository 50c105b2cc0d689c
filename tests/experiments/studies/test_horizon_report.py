"""The report of the horizon: its picture, tables and sentences agree with the rows of a run."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments.lab import AT_END, AT_START, BadInput, GradientByLag, wilson
from experiments.studies.horizon import STUDY, every_setting, gradients, picture, reach
from experiments.studies.horizon.numbers import RESULTS, Numbers, findings, headlines, read

LAGS, RATE, LOW, HIGH = (2, 4), 0.02, 0.02 / 3, 0.06


def result(arm, task, lag, seed, solved, rate):
    labels = {"task": task, "arm": arm, "lag": lag, "learning_rate": rate, "seed": seed}
    score = {"solved": solved, "loss": 0.01 * (seed + 1), "accuracy": 0.5, "exact": 0.5}
    return {**labels, "steps": 10, "solved_at": math.nan, "seconds_per_step": 0.001, **score}


def rows_of(arm, recall, low=0, high=0, adding=0):
    """How many of 5 seeds recall at each lag and add; of 3, recall at other rates."""
    for lag, k in zip(LAGS, recall, strict=True):
        yield from (result(arm, "recall", lag, i, i < k, RATE) for i in range(5))
    for rate, k in ((LOW, low), (HIGH, high)):
        yield from (result(arm, "rates", LAGS[-1], i, i < k, rate) for i in range(3))
    yield from (result(arm, "adding", LAGS[-1], i, i < adding, 0.005) for i in range(5))


def norms_of(arm, *decays):
    """Norms that fall by a factor a step, the first being 3, or the norms themselves."""
    for when, decay in zip((AT_START, AT_END), decays, strict=True):
        norms = [3 * decay**lag for lag in range(5)] if np.isscalar(decay) else decay
        for lag, norm in enumerate(norms):
            yield {"arm": arm, "when": when, "lag": lag, "norm": norm}


def numbers(successes, decay):
    results = [row for arm, counts in successes.items() for row in rows_of(arm, *counts)]
    norms = [row for arm, by_time in decay.items() for row in norms_of(arm, *by_time)]
    return Numbers(
        pd.DataFrame(results, columns=RESULTS), pd.DataFrame(norms, columns=GradientByLag.columns)
    )


A, B, C = "A one", "B two", "C three"
TWO = numbers(
    {A: ((5, 5), 3, 1, 5), B: ((3, 1), 0, 2, 4)},
    {A: (0.9, 1.2), B: (0.5, 0.25)},
)


def test_the_headlines_are_computed_from_the_numbers():
    assert headlines(TWO) == [
        "Seeds that recall a symbol seen 4 steps before: A one 5 of 5 and B two 1 of 5.",
        "At another learning rate most seeds recall it too: B two at 0.06, 3 times its own, with "
        "2 of 3 seeds (95 % Wilson interval 0.21 to 0.94); so few seeds are a hint, not a proof, "
        "that the learning rate was the obstacle, not the cell.",
        "At initialisation, the gradient 4 steps back, relative to that at the last step, is "
        "0.66 for A one and 0.062 for B two.",
    ]
    lost = headlines(numbers({A: ((5, 2), 1, 0), B: ((0, 5),)}, {B: (1.0, 1.0)}))
    assert lost[0].endswith("before: B two 5 of 5 and A one 2 of 5.")
    assert lost[1] == "No learning rate that was tried lets most seeds of A one do so."
    assert len(headlines(numbers({A: ((5, 3),)}, {A: (1.0, 1.0)}))) == 2  # nobody to help


def test_the_findings_are_computed_from_the_numbers():
    assert findings(TWO) == [
        "Lags that most seeds recall: A one 2 and 4; B two 2.",
        "Learning rates at which most seeds recall a lag of 4: A one at 0.00667 and 0.02 of "
        "0.00667, 0.02 and 0.06; B two at 0.06 of 0.00667, 0.02 and 0.06.",
        "At initialisation, the gradient 4 steps back: 0.66 for A one (a factor e every 9.5 steps) "
        "and 0.062 for B two (a factor e every 1.4 steps).",
        "After training, the gradient 4 steps back: 2.1 for A one (grows) and 0.0039 for B two (a "
        "factor e every 0.72 steps).",
        "Seeds that solve adding over 4 steps: A one 5 of 5 (0.57 to 1.00) and B two 4 of 5 (0.38 "
        "to 0.96).",
        "Over the same 4 steps, adding flatters B two, of whose seeds most add, but 1 of 5 recall.",
    ]
    other = findings(numbers({A: ((0, 3), 0, 0, 1), B: ((2, 0), 0, 0, 3)}, {}))
    assert other[0] == (
        "Lags that most seeds recall: A one 4 (a longer one, but not a shorter one); B two none."
    )
    assert "B two at none of" in other[1]
    assert other[-1].endswith("flatters B two, of whose seeds most add, but none of 5 recall.")
    nobody = numbers({A: ((5, 5), 0, 0, 5), B: ((5, 0), 0, 0, 2)}, {})  # B adds as seldom
    assert not any("flatters" in text for text in findings(nobody))


@pytest.mark.parametrize(
    ("norms", "expected"),
    [
        (0.5, "1.4"),
        (1.0, "no decay"),
        (math.exp(-1 / 390), "390"),  # of 100 times the longest lag, 400
        (math.exp(-1 / 410), "no decay"),
        (math.exp(1 / 410), "no decay"),
        (math.exp(1 / 390), "grows"),
        (2.0, "grows"),
        ([math.nan] * 5, "not a number"),
        ([1.0, 0, 0, 0, 0], "not a number"),  # all underflown but one
        ([0.0] * 5, "not a number"),
    ],
)
def test_a_horizon_is_steps_or_says_why_not(norms, expected):
    one = numbers({A: ((0, 0),)}, {A: (norms, 1.0)})
    assert one.horizon(A, AT_START) == expected
    assert one.horizon(A, AT_END) == "no decay"


def test_the_table_counts_and_shows_the_gradient_at_initialisation():
    table = reach(TWO)
    assert table.head == ["cell", "lag 2", "4", "adding", "gradient", "horizon"]
    assert table.rows == [
        [A, "5/5", "5/5", "5/5", "0.66", "9.5"],
        [B, "3/5", "1/5", "4/5", "0.062", "1.4"],
    ]
    assert gradients(TWO).rows == [
        [A, "0.66", "9.5", "2.1", "grows"],
        [B, "0.062", "1.4", "0.0039", "0.72"],
    ]
    places = every_setting(TWO)
    assert places.head[:6] == ["task", "cell", "lag", "rate", "solved", "interval"]
    assert [row[:6] for row in places.rows if row[1] == B] == [
        ["recall", B, "2", "0.02", "3 of 5", "0.23 to 0.88"],
        ["recall", B, "4", "0.00667", "0 of 3", "0.00 to 0.56"],
        ["recall", B, "4", "0.02", "1 of 5", "0.04 to 0.62"],
        ["recall", B, "4", "0.06", "2 of 3", "0.21 to 0.94"],
        ["adding", B, "4", "0.005", "4 of 5", "0.38 to 0.96"],
    ]
    assert [row[1] for row in places.rows] == [A] * 4 + [B] * 4 + [A, B]
    losses = [row[places.head.index("loss")] for row in places.rows]
    assert set(losses) == {"0.026", "0.018"}  # geometric means over 5 and over 3 seeds


def drawn(counts, containers, places):
    """Check points with their bars against counts (k, n), an arm each, at their places."""
    for container, pairs in zip(containers, counts, strict=True):
        points, _, (bars,) = container.lines
        np.testing.assert_allclose(points.get_ydata(), [k / n for k, n in pairs])
        np.testing.assert_allclose(np.asarray(points.get_xdata(), float), places, 1e-5)
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, [wilson(k, n) for k, n in pairs], atol=1e-9)


def test_the_panels_draw_the_numbers():
    by_lag, by_rate, adding, before, after = picture.figure(TWO).axes
    drawn([[(5, 5), (5, 5)], [(3, 5), (1, 5)]], by_lag.containers, LAGS)
    drawn([[(3, 3), (5, 5), (1, 3)], [(0, 3), (1, 5), (2, 3)]], by_rate.containers, (1 / 3, 1, 3))
    assert [tick.get_text() for tick in by_lag.get_xticklabels()] == ["2", "4"]
    ticks = [tick.get_text() for tick in by_rate.get_xticklabels()]
    assert ticks == ["×1/3\n3 seeds", "×1\n5 seeds", "×3\n3 seeds"]  # noqa: RUF001
    for i, marks in enumerate(adding.collections):
        np.testing.assert_allclose(marks.get_offsets()[:, 1], [0.01, 0.02, 0.03, 0.04, 0.05])
        np.testing.assert_allclose(np.mean(marks.get_offsets()[:, 0]), i, atol=1e-9)
    decays = {before: (0.9, 0.5), after: (1.2, 0.25)}
    for axes, rates in decays.items():
        lines = [line for line in axes.lines if line.get_label() in (A, B)]
        for line, rate in zip(lines, rates, strict=True):
            np.testing.assert_allclose(line.get_xdata(), range(5))
            np.testing.assert_allclose(line.get_ydata(), rate ** np.arange(5.0))
        assert [text.get_text() for text in axes.texts][-2:] == [B, A]  # from the lowest end
        assert 1.0 in axes.get_yticks()
        dashed = ["-", "--" if axes is after else "-"]  # B did not learn the longest lag
        assert [line.get_linestyle() for line in lines] == dashed
    assert before.get_title(loc="left") == "Gradient by lag, at initialisation"
    assert any("dashed: most seeds did not" in text.get_text() for text in after.texts)
    assert not any("dashed" in text.get_text() for text in before.texts)


def test_seeds_that_diverged_are_shown_and_do_not_ruin_the_axis():
    results = TWO.results.copy()
    some = (results["task"] == "adding") & (results["arm"] == B)
    results.loc[some, "loss"] = [math.nan, 1e32, math.inf, 0.1, 0.01]
    adding = picture.figure(Numbers(results, TWO.gradients)).axes[2]
    assert "3 of 5\ndiverged" in [text.get_text() for text in adding.texts]
    assert [len(marks.get_offsets()) for marks in adding.collections] == [5, 2]
    assert [len(line.get_xdata()) for line in adding.lines if line.get_marker() == "x"] == [3]
    assert adding.get_ylim()[1] < 10


def test_the_legend_names_the_rates_and_the_factors_are_read_as_people_write_them():
    panels = picture.figure(TWO).subfigs[0]
    names = [text.get_text() for text in panels.legends[0].get_texts()]
    assert names == [f"{arm}\nrate 0.02, adding 0.005" for arm in (A, B)]
    assert [picture._times(x) for x in (1 / 3, 1, 9, 0.7)] == ["×1/3", "×1", "×9", "×0.7"]  # noqa: RUF001


def write(out, numbers, **about):
    numbers.results.to_csv(out / "results.csv", index=False)
    numbers.gradients.to_csv(out / "gradients.csv", index=False)
    if about:
        (out / "run.json").write_text(json.dumps(about), encoding="utf-8")


def some(keep):
    """The results of TWO that are kept."""
    return TWO.results[keep(TWO.results)]


PARTIAL = {
    "one cell": numbers({A: ((5, 0), 3, 1, 5)}, {A: (0.9, 1.2)}),
    "no adding": Numbers(some(lambda rows: rows["task"] != "adding"), TWO.gradients),
    "no adding of B": Numbers(
        some(lambda rows: (rows["arm"] != B) | (rows["task"] != "adding")), TWO.gradients
    ),
    "adding alone": Numbers(some(lambda rows: rows["task"] == "adding"), TWO.gradients[:0]),
    "no gradients": Numbers(TWO.results, TWO.gradients[:0]),
    "gradients of NaN": numbers(
        {A: ((5, 0),), B: ((0, 5),)}, {A: ([math.nan] * 5,) * 2, B: (1, 2)}
    ),
    "all gradients of NaN": numbers({A: ((5, 0),)}, {A: ([math.nan] * 5,) * 2}),
    "gradients of zero": numbers({A: ((5, 0),)}, {A: ([0.0] * 5,) * 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTIAL)
def test_what_is_there_is_reported_and_what_is_not_finished_named(name, tmp_path, capsys):
    write(tmp_path, PARTIAL[name], unfinished=["recall C three", "adding B two"])
    STUDY.report(tmp_path, Console())
    printed, page = capsys.readouterr().out, (tmp_path / "report.html").read_text("utf-8")
    assert "Not finished: recall C three, adding B two." in printed
    assert "Not finished: recall C three, adding B two." in page
    assert all(arm in page for arm in PARTIAL[name].arms)
    assert "C three" not in [row[0] for row in reach(read(tmp_path, "horizon")).rows]
    assert ("not a number" in page) == (
        name in ("all gradients of NaN", "gradients of NaN", "gradients of zero")
    )


def test_the_page_tells_how_the_run_was_made(tmp_path):
    budget = {"recall": 1e-4, "adding": 0.5, "steps": 1234}
    about = {
        **{"command": "python -m experiments run <x>", "optimiser": "AdamW, b1 0.9"},
        "settings": {"hidden_size": 7, "factors": [0.5], "gru": budget},
        "made_with": [{"jax": "1.2.3", "device": "2 x cpu"}],
        "unfinished": [],
    }
    write(tmp_path, TWO, **about)
    STUDY.report(tmp_path, Console(quiet=True))
    page = (tmp_path / "report.html").read_text("utf-8")
    expected = ("run &lt;x&gt;", "AdamW, b1 0.9", "hidden size", "jax 1.2.3, device 2 x cpu")
    for text in (*expected, "0.0001", "1234"):
        assert text in page
    assert "Not finished" not in page


def test_tables_that_cannot_be_read_are_named(tmp_path):
    def complaint():
        with pytest.raises(BadInput) as error:
            read(tmp_path, "horizon")
        return str(error.value)

    assert "expected results.csv with rows" in complaint()
    write(tmp_path, TWO)
    assert len(read(tmp_path, "horizon").results) == len(TWO.results)
    TWO.results.drop(columns=["solved", "lag"]).to_csv(tmp_path / "results.csv", index=False)
    assert "got none named lag, solved; make it again" in complaint()
    (tmp_path / "results.csv").write_text("", encoding="utf-8")
    assert "results.csv: expected a CSV table" in complaint()
