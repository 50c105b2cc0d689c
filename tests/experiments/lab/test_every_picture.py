"""Laws of every picture: whatever diverged, its axes are readable, and it says how much did."""

import itertools
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.studies import trainability
from tests.support.pictures import BAD, DRAWN, KINDS, MORE, drawn_texts
from tests.support.studies import ALL

LEAST = 0.9  # inches of a panel: no name takes its place
FAR = 1e9  # no limit of an axis is beyond it: what is drawn is below 1e6, and has not diverged


@pytest.fixture
def figure_of(monkeypatch, tmp_path):
    """Draw a picture; return its figure."""
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
    monkeypatch.setattr(trainability, "_curves", lambda name, values, size: {"a": 9 + values})
    plt.switch_backend("Agg")

    def draw(name, kind):
        DRAWN[name](kind, tmp_path / "a.png")
        return kept.pop()

    yield draw
    plt.close("all")


def overlap(one, other):
    """Whether two texts are drawn over one another; slanted ones beside each other are not."""
    (_, slant, a), (_, other_slant, b) = one, other
    if slant % 90 and slant == other_slant:
        return False
    wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return min(wide, high) > 1.5


def inside(box, page):
    return min(box.x0, box.y0) > -1 and box.x1 < page.x1 + 1 and box.y1 < page.y1 + 1


def unlabelled(figure):
    """Axes without a label of their own, their row's, or the figure's."""
    texts = [one.get_text() for one in figure.texts]
    shared = any("relative to the fastest" in text for text in texts)  # a panel of lines and names
    for axes in figure.axes:
        place = axes.get_subplotspec()
        x = axes.get_xlabel() or (place is None and axes.get_ylabel())  # a bar of colours has one
        y = axes.get_ylabel() or place is None or not place.is_first_col()
        if not ((x and y) or shared):
            yield axes


@pytest.mark.parametrize("kind", [*KINDS, *(pytest.param(k, marks=pytest.mark.slow) for k in MORE)])
@pytest.mark.parametrize("name", DRAWN)
def test_every_picture_can_be_read_whatever_it_is_given(name, kind, figure_of):
    figure = figure_of(name, kind)
    texts = drawn_texts(figure)
    places = [(t.get_text(), t.get_rotation(), t.get_window_extent()) for t in texts]
    assert [text for text, _, box in places if not inside(box, figure.bbox)] == []
    pairs = itertools.combinations(places, 2)
    assert [(a[0], b[0]) for a, b in pairs if overlap(a, b)] == []
    seen = [axes for axes in figure.axes if axes.get_visible() and name != "peers"]  # of low lines
    sizes = [axes.get_window_extent().size / figure.dpi for axes in seen] or [[1, 1]]
    assert np.min([size for size in sizes if min(size) > 0.3]) > LEAST  # a bar of colours is thin
    limits = np.array([[*axes.get_xlim(), *axes.get_ylim()] for axes in figure.axes])
    assert np.isfinite(limits).all()
    assert np.abs(limits).max() < FAR
    assert [axes.get_title(loc="left") for axes in unlabelled(figure)] == []
    if kind in (*BAD, "nothing finite") and name != "trainability":  # white where there is nothing
        said = " ".join(text.get_text() for text in texts).replace("\n", " ")
        assert re.search(r"\d+ (% (not finite|off the axis)|of \d+)", said), said
        assert re.search("not finite|off the axis|diverged", said), said


def test_a_sweep_in_which_one_trial_is_finite_says_that_most_diverged(figure_of):
    figure = figure_of("sweep", "but one")
    texts = [text.get_text() for text in drawn_texts(figure)]
    assert "most seeds diverged" in texts
    assert any("107 of 108 trials" in text for text in texts)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_study_says_what_to_look_at_in_its_picture(name):
    assert len(ALL[name].caption.split()) >= 10
