"""Pictures: everything lies within them, marks stand at their numbers, and a style is ours."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.suites import scaling
from experiments.lab import draw_success, pictures, save, styled
from experiments.lab.pictures import draw_grid
from experiments.studies import trainability
from tests.support.studies import raced

NAMES = ("a", "b", "a cell of a long name, rate 0.0003", "another cell, rate 0.01", "e", "f")


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw a picture; return its figure, once all that it shows was found within it."""
    kept = []
    for place in (pictures, scaling.lab):
        monkeypatch.setattr(place, "save", lambda figure, path: kept.append(figure))

    def draw(function, *arguments, **named):
        function(*arguments, path=tmp_path / "a.png", **named)
        figure = kept.pop()
        figure.draw_without_rendering()
        outside = [text for text in texts(figure) if not inside(text, figure)]
        assert outside == []
        return figure

    return draw


def texts(figure):
    found = [*figure.texts, *figure.legends]
    for axes in figure.axes:
        found += [axes.xaxis.label, axes.yaxis.label, *axes.texts, *axes.get_xticklabels()]
        found += [axes.title, axes._left_title, *filter(None, [axes.get_legend()])]
    return [one for one in found if one.get_visible()]


def inside(artist, figure):
    box, page = artist.get_window_extent(), figure.bbox
    empty = box.width == 0 or box.height == 0
    fits = page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1
    return empty or (fits and page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1)


@pytest.mark.parametrize("count", [1, 3])
def test_a_long_legend_fits_and_panels_stand_two_in_a_row(count, drawn):
    figure = drawn(draw_success, raced(NAMES, tasks="xyz"[:count], lengths=(100, 200)))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [*"xyz"[:count]]
    assert figure.get_figwidth() < 8
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(NAMES)


def test_marks_stand_at_their_numbers_a_few_points_apart(drawn):
    (axes,) = drawn(draw_success, raced(NAMES, tasks="x", lengths=(25, 100, 200))).axes
    assert axes.get_xscale() == "log"
    places = []
    for container in axes.containers:
        (line, _, _) = container.lines
        np.testing.assert_array_equal(line.get_xdata(), [25, 100, 200])
        places.append(line.get_transform().transform([(100, 0)])[0][0])
    ticks = axes.transData.transform([(100, 0)])[0][0]
    assert np.abs(np.array(places) - ticks).max() < 20 * axes.figure.dpi / 72
    assert np.diff(places) == pytest.approx(pictures.BESIDE * axes.figure.dpi / 72)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["25", "100", "200"]


def test_a_panel_without_counts_is_empty():
    axes = Figure().subplots()
    pictures.draw_counts(axes, {"a": {}}, ["a"], str)
    assert not axes.containers
    assert len(axes.get_xticks()) == 0


def test_a_panel_of_a_number_is_named(drawn):
    rows = raced("ab", tasks="x", lengths=(32,))
    (axes,) = drawn(draw_success, rows, x="learning_rate", panel="length").axes
    assert axes.get_title(loc="left") == "length 32"


def test_a_grid_holds_its_names(drawn):
    drawn(draw_grid, raced(NAMES, tasks="xy", lengths=(100, 200)))


def test_surfaces_differ_in_their_titles_and_share_a_bar_of_colours(monkeypatch):
    titles = [surface.title for surface in trainability.SURFACES.values()]
    assert len(set(titles)) == len(titles) == 3
    bars, kept = [], []
    monkeypatch.setattr(Figure, "colorbar", lambda *_, ax, **__: bars.append(len(ax)))
    monkeypatch.setattr(trainability.lab, "save", lambda figure, path: kept.append(figure))
    monkeypatch.setattr(trainability, "_curves", lambda name, values, size: {"a": values})
    parts = [
        raced("a", tasks=[name], lengths=(5, 9)).assign(value=value, units=4)
        for name in trainability.SURFACES
        for value in (1.0, 2.0)
    ]
    trainability.draw(pd.concat(parts, ignore_index=True), None)
    assert bars == [3]


def test_every_axis_of_the_cost_has_a_label(drawn):
    rows = [
        {"axis": axis, "value": value, "contestant": "seqcells", "ms": 1.0}
        for axis in scaling.VALUES
        for value in (16, 32)
    ]
    figure = drawn(lambda path: scaling.draw(rows, path))
    assert [axes.get_xlabel() for axes in figure.axes] == list(scaling.NAMES.values())


def test_the_rc_of_a_user_changes_nothing(tmp_path):
    @styled
    def draw(path):
        figure = Figure(figsize=(2, 1))
        figure.subplots().set_title("$x$ y_1 %")
        save(figure, path)

    draw(tmp_path / "a.png")
    theirs = {"text.usetex": True, "font.size": 40, "savefig.dpi": 7, "savefig.bbox": "tight"}
    with mpl.rc_context(theirs):
        draw(tmp_path / "b.png")
        assert mpl.rcParams["font.size"] == 40
    one, other = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "ab")
    np.testing.assert_array_equal(one, other)


def test_a_picture_that_cannot_be_written_names_its_file(tmp_path):
    with pytest.raises(OSError, match=r"nowhere.*\.png"):
        save(Figure(figsize=(1, 1)), tmp_path / "nowhere" / "a.png")
