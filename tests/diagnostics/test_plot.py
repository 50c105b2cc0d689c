"""What the pictures show: the data they were given, on labelled axes."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from seqcells.diagnostics import FixedPoints, plot

RNG = np.random.default_rng(0)
GATES = {"r": RNG.uniform(size=(20, 3, 5)), "z": np.full((20, 3, 5), 0.1)}
SURFACE = (np.arange(4.0), np.arange(3.0), RNG.uniform(size=(3, 4)), ("gain", "length T (steps)"))
DRAWN = {  # what is drawn of what, and what its axes say
    "gradient_by_lag": (
        {"a": np.ones((9, 2)), "b": np.ones(9)},
        ("lag k (steps)", r"$\|\partial L/\partial h_{T-1-k}\|_2$"),
    ),
    "singular_values_by_lag": (
        np.zeros((9, 2, 4)),
        ("lag k (steps)", r"$\log_{10}\,\sigma\,(\partial h_T/\partial h_{T-k})$"),
    ),
    "gates": (GATES, ("gate value", "share of steps and units")),
    "gate_means": (GATES, ("unit, by its mean", "gate value: mean, 1st to 9th decile")),
    "timescales": ({"a": np.ones((9, 2)), "b": [2.0]}, ("timescale (steps)", "share at or below")),
    "lyapunov_spectrum": (
        {"a": np.ones(3), "b": np.zeros(2)},
        ("index i", r"Lyapunov exponent $\lambda_i$ (nats a step)"),
    ),
}


@pytest.fixture(autouse=True)
def _no_window():
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def data(line):
    return np.asarray(line.get_ydata(), float)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("name", DRAWN)
def test_axes_are_labelled_and_a_users_own_are_drawn_on(name):
    given, labels = DRAWN[name]
    ours = getattr(plot, name)(given)
    assert (ours.get_xlabel(), ours.get_ylabel()) == labels
    _, theirs = plt.subplots()
    assert getattr(plot, name)(given, ax=theirs) is theirs
    assert (theirs.get_xlabel(), theirs.get_ylabel()) == labels
    assert theirs.figure is not ours.figure
    ours.figure.canvas.draw()  # every label is one that can be set
    if isinstance(given, dict):
        assert legend(ours) == list(given)
        alone = getattr(plot, name)(next(iter(given.values())))
        assert alone.get_legend() is None


def test_gradients_are_drawn_by_lag_with_the_range_of_a_batch():
    norms = np.stack([0.5 ** np.arange(9.0), 2 * 0.5 ** np.arange(9.0)], axis=1)
    ax = plot.gradient_by_lag({"both": norms, "one": norms[:, 0]})
    assert ax.get_yscale() == "log"
    np.testing.assert_allclose(data(ax.lines[0]), np.sqrt(2) * 0.5 ** np.arange(9.0))
    np.testing.assert_allclose(data(ax.lines[1]), norms[:, 0])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(9))
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose((heights.min(), heights.max()), (0.5**8, 2))


def test_what_has_underflowed_is_left_out_without_a_warning():
    norms = np.array([[1.0, 1.0], [0.1, 0.0], [0.0, 0.0]])
    ax = plot.gradient_by_lag(norms)
    np.testing.assert_allclose(data(ax.lines[0]), [1, 0.1, np.nan])
    assert ax.get_legend() is None


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_what_is_not_finite_is_a_gap_that_is_named(lost):
    norms = np.array([[1.0, 1.0], [0.1, lost], [lost, lost]])
    ax = plot.gradient_by_lag({"a": norms})
    np.testing.assert_allclose(data(ax.lines[0]), [1, np.nan, np.nan])
    assert legend(ax) == ["a (50 % not finite)"]
    logs = np.zeros((3, 4))
    logs[1, 0], logs[2, 0] = -np.inf, lost  # a singular value of 0 is no fault
    ax = plot.singular_values_by_lag(logs)
    np.testing.assert_allclose(data(ax.lines[0]), [0, 0, np.nan])
    assert legend(ax)[2] == "median (8 % not finite)"


@pytest.mark.parametrize("name", ["gates", "gate_means", "timescales", "lyapunov_spectrum"])
def test_values_that_cannot_be_drawn_are_counted(name):
    values = np.full((4, 250), 0.5)
    values[0, 0] = np.nan
    ax = getattr(plot, name)({"a": values, "b": values[1:]})
    assert legend(ax) == ["a (1 % not finite)", "b"]
    ax.figure.canvas.draw()
    assert legend(getattr(plot, name)(values)) == ["(1 % not finite)"]


def test_shares_and_ranks_are_those_of_all_values():
    values = np.array([np.nan, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(data(plot.timescales(values).lines[0])[:3], [0.25, 0.5, 0.75])
    shares = plot.gates({"z": values / 4}).patches[-1].get_data().values
    assert shares.sum() == 0.75
    curve = plot.lyapunov_spectrum(values).lines[1]
    np.testing.assert_allclose(data(curve), [3, 2, 1, np.nan])


@pytest.mark.parametrize("name", [*DRAWN, "trainability"])
def test_a_matplotlibrc_that_asks_for_latex_where_there_is_none(name, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with plt.rc_context({"text.usetex": True, "text.parse_math": False}):
        ax = plot.trainability(*SURFACE) if name == "trainability" else drawn(name)
        ax.figure.canvas.draw()
    shown = (text for text in ax.figure.findobj(Text) if text.get_visible() and text.get_text())
    assert not any(text.get_usetex() for text in shown)


def drawn(name):
    return getattr(plot, name)(DRAWN[name][0])


def test_a_notebook_goes_on_showing_figures(monkeypatch):
    """The first figure of a notebook turns interactive mode on; it must stay on."""
    make = plt.subplots

    def subplots(*args, **options):
        plt.ion()
        return make(*args, **options)

    monkeypatch.setattr(plt, "subplots", subplots)
    with plt.rc_context():
        plot.gradient_by_lag(np.ones((4, 2)))
        assert plt.isinteractive()


def test_the_legend_of_many_curves_hides_none_and_no_two_look_alike():
    ax = plot.gradient_by_lag({f"cell {i}": np.ones(9) for i in range(10)})
    ax.figure.canvas.draw()
    below = ax.get_legend().get_window_extent().y0
    assert below >= ax.get_window_extent().y1 - 1
    assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 10


def test_gates_of_one_unit_stand_side_by_side():
    values = np.full((3, 2), 0.5)
    ax = plot.gate_means({"r": values, "z": values})
    places = [line.get_xdata() for line in ax.lines]
    np.testing.assert_allclose(places[0] + 0.3, places[1])


def test_singular_values_are_drawn_in_powers_of_ten_beneath_their_bound():
    logs = np.log(10) * np.stack([np.arange(4.0) - k for k in range(5)], axis=1)
    logs[3] = -np.inf
    ax = plot.singular_values_by_lag(logs, bound=10.0 ** np.arange(4))
    np.testing.assert_allclose(data(ax.lines[0]), [-2, -1, 0, np.nan])
    np.testing.assert_allclose(data(ax.lines[1]), np.arange(4), atol=1e-12)
    assert legend(ax) == ["all", "middle half", "median", "Pascanu's bound"]
    for band, (low, high) in zip(ax.collections, [(-4, 2), (-3, 1)], strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        np.testing.assert_allclose((heights.min(), heights.max()), (low, high))
    with pytest.raises(ValueError, match=r"^bound: expected float\[4\], got \[3\]"):
        plot.singular_values_by_lag(logs, np.ones(3))


def test_gates_are_shares_of_equal_bins():
    ax = plot.gates({"z": np.array([0.01, 0.99, 0.98, 1.0])})
    shares = ax.patches[-1].get_data().values
    assert (shares[0], shares[-1], shares.sum()) == (0.25, 0.75, 1)
    assert ax.get_xlim() == (0, 1)


def test_gate_means_are_sorted():
    values = np.array([[[0.9, 0.1, 0.5]], [[0.7, 0.3, 0.5]]])
    ax = plot.gate_means(values)
    np.testing.assert_allclose(data(ax.lines[0]), [0.2, 0.5, 0.8])
    ends = [segment[:, 1] for segment in ax.collections[0].get_segments()]
    np.testing.assert_allclose(ends[0], [0.12, 0.28])


def test_timescales_are_a_cumulative_share():
    ax = plot.timescales(np.array([[3.0, 1.0], [10.0, 2.0]]))
    assert ax.get_xscale() == "log"
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [1, 2, 3, 10])
    np.testing.assert_allclose(data(ax.lines[0]), [0.25, 0.5, 0.75, 1])


def test_exponents_fall_and_zero_is_marked():
    ax = plot.lyapunov_spectrum(np.array([-1.0, 0.5, -0.2]))
    zero, curve = ax.lines
    np.testing.assert_allclose(data(zero), [0, 0])
    np.testing.assert_allclose(data(curve), [0.5, -0.2, -1])
    np.testing.assert_allclose(curve.get_xdata(), [1, 2, 3])


def test_a_surface_has_its_shares_where_x_and_y_say():
    x, y, share, labels = SURFACE
    ax = plot.trainability(*SURFACE, theory=100 * x)
    assert (ax.get_xlabel(), ax.get_ylabel()) == labels
    np.testing.assert_allclose(ax.collections[0].get_array(), share)
    assert ax.collections[0].get_clim() == (0, 1)
    corners = ax.collections[0].get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], [-0.5, 0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(data(ax.lines[0]), 100 * x)
    assert ax.get_ylim() == (-0.5, 2.5)  # a curve beyond the surface does not stretch it
    assert legend(ax) == ["theory"]
    assert ax.figure.axes[1].get_ylabel() == "share of runs that succeeded"
    assert plot.trainability(*SURFACE).get_legend() is None
    with pytest.raises(ValueError, match=r"^share: expected float\[Y, X\], \[3, 4\].*\[4, 3\]"):
        plot.trainability(x, y, share.T, labels)


def test_more_curves_than_colours_are_all_drawn_in_colours_of_okabe_and_ito():
    ax = plot.gradient_by_lag({str(i): np.ones(3) for i in range(10)})
    assert len(ax.lines) == 10
    assert [to_hex(line.get_color()).upper() for line in ax.lines[:8]] == list(plot.OKABE_ITO)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match=r"^norms: expected float\[T, \.\.\.\] by lag, got \[0\]"):
        plot.gradient_by_lag([])


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'^matplotlib.*: .*pip install "seqcells\[plot\]"$'):
        plot.gates(GATES)


def points_of(kinds):
    """Points with these numbers of unstable directions of two, at (i, 0, 0)."""
    values = np.array([[1.5] * k + [0.5] * (2 - k) for k in kinds], complex)
    places = np.stack([np.arange(len(kinds))] + [np.zeros(len(kinds))] * 2, axis=-1)
    speeds, starts = np.zeros(len(kinds)), np.ones(len(kinds), int)
    slopes = np.zeros((len(kinds), 2, 2))
    return FixedPoints(places, speeds, slopes, values, np.arange(len(kinds)) < 3, starts, 0, 0)


@pytest.mark.parametrize("components", [2, 3])
def test_fixed_points_are_drawn_by_kind_in_principal_components(components):
    t = np.linspace(0, 1, 20)[:, None, None]
    carries = np.concatenate([9 * t - 4, 0.1 * np.sin(9 * t), 0.01 * np.cos(31 * t)], axis=-1)
    readout = np.eye(3)[:, :1]
    kinds = [0, 1, 2, 1]  # the last is slow
    ax = plot.fixed_points(points_of(kinds), carries, readout, components=components)
    names = ["stable (1)", "saddle, 1 unstable direction (1)"]
    names += ["slow, saddle, 1 unstable direction (1)", "unstable (1)", "readout"]
    assert legend(ax) == names
    assert ax.get_xlabel().startswith("component 1 (100 %)")
    assert (ax.name == "3d") == (components == 3)
    ax.figure.canvas.draw()
    if components == 2:
        first = np.abs(
            ax.collections[0].get_offsets()[0, 0] - ax.collections[1].get_offsets()[0, 0]
        )
        assert first == pytest.approx(1, rel=1e-3)  # along the first component
    with pytest.raises(ValueError, match="readout: expected float"):
        plot.fixed_points(points_of(kinds), carries, readout[:2])
    with pytest.raises(ValueError, match="components: expected 2 or 3"):
        plot.fixed_points(points_of(kinds), carries, components=4)
    with pytest.raises(ValueError, match="carries: expected leaves"):
        plot.fixed_points(points_of(kinds), carries[0, 0])


def test_eigenvalues_are_drawn_with_the_unit_circle():
    ax = plot.eigenvalues(points_of([0, 1]))
    circle, stable, saddle = ax.lines
    np.testing.assert_allclose(np.hypot(circle.get_xdata(), data(circle)), 1)
    np.testing.assert_allclose(sorted(stable.get_xdata()), [0.5, 0.5])
    np.testing.assert_allclose(sorted(saddle.get_xdata()), [0.5, 1.5])
    assert ax.get_aspect() == 1
