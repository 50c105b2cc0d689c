"""What is typed to sweep: values, probes and cells."""

import pytest

import seqcells as sc
from experiments.lab import BadInput
from experiments.sweep import settings
from seqcells import probes, sweep
from seqcells.cells._dense import SizedCell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", [0.5]),
        ("1e-3,1e-2", [1e-3, 1e-2]),
        ("log:1e-4:1e-2:3", [1e-4, 1e-3, 1e-2]),
        ("linear:0:1:3", [0.0, 0.5, 1.0]),
        ("uniform:0:2", sweep.uniform(0, 2)),
        ("loguniform:1e-3:1", sweep.log_uniform(1e-3, 1)),
    ],
)
def test_values_are_read_as_they_are_typed(text, expected):
    got = settings.values("sweep.learning_rate", text)
    assert got == (pytest.approx(expected) if isinstance(expected, list) else expected)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "log", "log:1", "log:0:1:3", "log:1:2:1.5:4", "grid:1:2", "1e-3,", "0.1;0.2"),
        *("log:1e-3:1e-1:2.7", "linear:0:1:1e1", "linear:1:0:3", "uniform:0:1:2", "uniform:1:0"),
        *("nan", "-0.1", "0.1,-0.1", "linear:-1:1:3", "uniform:-1:1", "log:1:inf:3"),
    ],
)
def test_what_are_no_values_is_refused_with_the_forms(text):
    with pytest.raises(BadInput, match=r"^sweep.learning_rate: expected 1e-3,1e-2 or log:.*, got"):
        settings.values("sweep.learning_rate", text, least=0.0)


@pytest.mark.parametrize(
    ("field", "text", "good"),
    [
        *(("learning_rate", "-1", False), ("max_norm", "-1", False), ("weight_decay", "-1", False)),
        *(("init_gain", "-1", True), ("max_norm", "inf", True), ("learning_rate", "0", True)),
    ],
)
def test_a_hyperparameter_has_its_range(field, text, good):
    chosen = settings.Settings(sweep=settings.Swept(**{field: text}))
    if good:
        assert len(chosen.space.trials()) > 0
    else:
        with pytest.raises(BadInput, match=f"^sweep.{field}: expected .*at least 0"):
            _ = chosen.space


def test_every_probe_that_is_offered_is_made_of_a_length():
    known = {name: settings.probe(name, 30) for name in settings.PROBES}
    assert len({type(probe) for probe in known.values()}) == len(known)
    assert len(known) > 15
    assert isinstance(known["delayed_recall"], probes.DelayedRecall)


def test_every_cell_of_the_library_is_offered_but_those_over_images():
    cells = {kind for kind in vars(sc).values() if isinstance(kind, type)}
    sized = {kind.__name__.lower() for kind in cells if issubclass(kind, SizedCell)}
    images = {"convgru", "convlstm"}
    assert set(settings.CELLS) == (sized - images) | {"gru-chrono", "tanh", "irnn"}
    assert images < sized
