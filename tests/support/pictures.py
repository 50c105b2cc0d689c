"""Every function that draws, each with what may go wrong in what it is given."""

import dataclasses
import datetime
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from benchmarks.suites import scaling
from benchmarks.suites.peers import picture as peers
from experiments import lab
from experiments.studies import mean_field, trainability
from experiments.studies.horizon import picture as horizon
from experiments.studies.horizon.numbers import Numbers
from experiments.sweep import picture, population, ranking, search_picture
from seqcells import sweep
from seqcells.diagnostics import plot
from tests.support.studies import raced

BAD = {"nan": math.nan, "inf": math.inf, "huge": 1e32}  # what one seed of some has become
KINDS = ("huge", "one point", "long names")
MORE = ("nothing finite", "many", "nan", "inf", "plain", "one seed")  # in the slow tests
LONG = "a cell with a name of forty letters"
NAMES = {
    "long names": [f"{LONG} {i}" for i in range(4)],
    "many": [f"one of very many cells, {i}" for i in range(9)],
}
USUAL = ["tanh orthogonal", "IRNN identity", "GRU default", "GRU chrono"]
RNG = np.random.default_rng(0)


def names(kind):
    return NAMES.get(kind, USUAL)[: 1 if kind == "one point" else None]


def spoiled(values, kind):
    """Values of some seeds, of which the first has become bad, or all have."""
    values = np.array(values, float)
    values[: len(values) if kind == "nothing finite" else 1] = BAD.get(kind, values[0])
    return np.full_like(values, math.nan) if kind == "nothing finite" else values


def series(kind, base):
    """[T, B] by name, the last step of one seed of the first being bad."""
    found = {}
    for i, name in enumerate(names(kind)):
        values = np.array(base(i), float)
        values[-1, 0] = BAD.get(kind, values[-1, 0]) if i == 0 else values[-1, 0]
        if kind == "nothing finite":
            values[:] = math.nan
        steps = 1 if kind == "one point" else None
        found[name] = values[:steps, : 1 if kind in ("one seed", "one point") else None]
    return found


def decays(i):
    return (0.7 + 0.1 * i) ** np.arange(30.0)[:, None] * RNG.uniform(0.5, 2, size=(30, 5))


def gates(i):
    return RNG.beta(1 + i, 1, size=(30, 5))


DIAGNOSTICS = {
    "gradient_by_lag": decays,
    "gates": gates,
    "gate_means": gates,
    "timescales": lambda i: np.exp(RNG.normal(i, 1, size=(30, 5))),
    "lyapunov_spectrum": lambda i: -RNG.gamma(1, 1 + i, size=(30, 5)),
}


def diagnostic(name):
    def draw(kind, path):
        getattr(plot, name)(series(kind, DIAGNOSTICS[name])).figure.savefig(path)

    return draw


def singular_values(kind, path):
    (logs, *_) = series(kind, lambda i: np.log(decays(i))).values()
    plot.singular_values_by_lag(logs, np.full(len(logs), 1.5)).figure.savefig(path)


def surface(kind, path):
    share = spoiled(np.full((3, 4), 0.5), kind)
    x, y = np.arange(4.0), np.arange(3.0) * 10
    if kind == "one point":
        x, y, share = x[:1], y[:1], share[:1, :1]
    labels = (LONG * 2, LONG * 2) if kind == "long names" else ("gain", "lag (steps)")
    plot.trainability(x, y, share, labels, theory=spoiled(10 + x, kind)).figure.savefig(path)


def runs(kind):
    """Rows of runs, of which one seed is bad."""
    long = [f"a task with {LONG}", f"adding by {LONG}"]
    tasks = long if kind == "long names" else ["recall", "adding"]
    point = kind == "one point"
    seeds = 1 if point or kind == "one seed" else 3
    frame = raced(names(kind), tasks[: 1 if point else None], (25, 100)[: 1 if point else None])
    frame = frame[frame["seed"] < seeds].reset_index(drop=True)
    ill = frame["seed"] == 0 if kind in BAD else frame["seed"] < 3 * (kind == "nothing finite")
    frame.loc[ill, "loss"] = BAD.get(kind, math.nan)
    frame.loc[ill, "solved"] = False
    return frame


def accuracies(kind, path):
    frame = runs(kind).assign(guess=0.25)
    frame["accuracy"] = frame["accuracy"].where(np.isfinite(frame["loss"]))
    lab.draw_accuracy(frame, path)


def theory(kind, path):
    variances = np.linspace(0.1, 1, len(names(kind)))
    rows = [
        {"weight_std": std, "input_variance": v, "q": 0.3, "chi": 0.9, "q_error": 0.01}
        for v in variances
        for std in (0.6, 1.2, 1.8)
    ]
    frame = pd.DataFrame(rows).assign(chi_error=0.01)
    columns = ["q", "chi", "q_error", "chi_error"]
    frame[columns] = spoiled(frame[columns], kind)
    if kind == "one seed":
        frame[["q_error", "chi_error"]] = math.nan
    mean_field.draw(frame[: 1 if kind == "one point" else None], path)


def surfaces(kind, path):
    parts = [
        runs(kind).assign(task=name, value=value, units=4)
        for name in trainability.SURFACES
        for value in ((1.0,) if kind == "one point" else (1.0, 2.0))
    ]
    trainability.draw(pd.concat(parts, ignore_index=True), path)


def memory(kind, path):
    frame = runs(kind).rename(columns={"length": "lag"})
    first = frame["task"].iloc[0]
    frame["task"] = np.where(frame["task"] == first, "recall", "adding")
    places = itertools.product(names(kind), (lab.AT_START, lab.AT_END), range(101))
    norms = [
        {"arm": a, "when": when, "lag": lag, "norm": 0.9**lag * (1 + len(a) / 9) ** -lag}
        for a, when, lag in places
    ]
    gradients = pd.DataFrame(norms)
    ill = (gradients["arm"] == names(kind)[0]) & (gradients["lag"] > 50)
    gradients.loc[ill, "norm"] *= BAD.get(kind, 1)
    if kind == "huge":
        gradients.loc[ill, "norm"] = 1e32
    if kind == "nothing finite":
        gradients["norm"] = math.nan
    lab.save(horizon.figure(Numbers(frame, gradients)), path)


def swept(kind):
    """A sweep; its fields are two numbers, a cell and a seed."""
    long, point = kind == "long names", kind == "one point"
    lr, gain = (LONG.replace(" ", "_"), f"gain_of_{LONG}") if long else ("lr", "gain")
    grid = itertools.product((1e-4, 1e-3, 1e-2), (0.5, 1.0, 2.0), names(kind), range(3))
    rows, history = [], []
    for i, (rate, size, cell, seed) in enumerate(grid):
        value = 0.1 * size + abs(math.log10(rate / 1e-3)) * (1 + i / 100)
        value = BAD.get(kind, value) if i == 3 else value
        value = math.nan if kind == "nothing finite" or (kind == "but one" and i) else value
        row = {"id": str(i), lr: rate, gain: size, "cell": cell, "seed": seed, "steps": 20}
        status = "done" if math.isfinite(value) else "diverged"
        rows.append(row | {"status": status, "loss": value, "seconds": 1.0})
        history += [{"id": str(i), "step": at, "metrics": {"loss": value}} for at in (10, 20)]
    rows = [row for row in rows if kind != "one seed" or row["seed"] == 0][: 1 if point else None]
    ids = {row["id"] for row in rows}
    lines = tuple(line for line in history if line["id"] in ids)
    return sweep.Result(tuple(rows), lines, (lr, gain, "cell", "seed"), "loss", "min")


def sweeps(kind, path):
    result = swept(kind)
    picture.draw(picture.panels(result, ranking.rank(result)), result, path)


def searches(kind, path):
    """Each trial of a sweep as a proposal."""
    optuna = pytest.importorskip("optuna")
    result = swept(kind)
    lr, gain, _, _ = result.fields
    kinds = optuna.distributions
    ranges = {
        lr: kinds.FloatDistribution(1e-4, 1e-2, log=True),
        gain: kinds.FloatDistribution(0.5, 2.0),
        "cell": kinds.CategoricalDistribution(names(kind)),
    }
    study = optuna.create_study()
    for row in result.rows:
        params = {name: row[name] for name in ranges}
        bad = not math.isfinite(row["loss"])
        how = {"state": optuna.trial.TrialState.PRUNED} if bad else {"value": row["loss"]}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, **how))
    for i, trial in enumerate(study.get_trials(deepcopy=False)):
        trial.datetime_complete = trial.datetime_start + datetime.timedelta(seconds=i + 1)
    first, *others = picture.panels(result, ranking.rank(result), [lr, gain])
    panels = [first, *search_picture.panels(study, result), *others]
    picture.draw(panels, result, path)


def populations(kind, path):
    """A sweep whose second number falls; the first trial becomes a copy of the last."""
    result = swept(kind)
    _, gain, _, _ = result.fields
    first = {row["id"]: row[gain] for row in result.rows}
    ids = [f"{int(id):012x}" for id in first]
    rows = [{**row, "id": id} for row, id in zip(result.rows, ids, strict=True)]
    lines = [
        {
            "id": f"{int(line['id']):012x}",
            "step": line["step"],
            "metrics": line["metrics"] | {gain: first[line["id"]] * 10 / line["step"]},
        }
        for line in result.history
    ]
    lines[0]["metrics"]["parent"] = float(int(ids[-1], 16))
    told = dataclasses.replace(result, rows=tuple(rows), history=tuple(lines))
    picture.draw(population.panels(told, [gain]), told, path)


def timed(kind, path, draw):
    long = kind == "long names"
    machine = {"machine": LONG * 3 if long else "a machine", "cores": 1, "best": False}
    rows, ratios = [], spoiled([1.0, 2.0, 0.5], kind)
    places = itertools.product(("GRU", "LSTM"), ("forward", "training"), ("S1", "S2"))
    for cell, what, shape in [*places][: 1 if kind == "one point" else None]:
        row = {"cell": cell, "what": what, "shape": shape, "B": 8, "T": 100, "I": 16, "H": 32}
        for who, ratio in zip(("seqcells", "naive", "torch"), ratios, strict=True):
            both = {"ratio": ratio, "ratio_low": 0.9 * ratio, "ratio_high": 1.1 * ratio}
            rows.append(machine | row | both | {"contestant": who, "best": who == "seqcells"})
    draw(rows, path)


def scaled(kind, path):
    at = {"one point": (64,)}.get(kind, (64, 128, 256))
    rows = [
        {"axis": axis, "value": value, "contestant": who, "ms": ms}
        for axis in scaling.VALUES
        for who in ("seqcells", "naive")
        for value, ms in zip(at, spoiled([1.0, 2.0, 4.0], kind), strict=False)
    ]
    scaling.draw(rows, path)


DRAWN = {
    **{name: diagnostic(name) for name in DIAGNOSTICS},
    "singular_values_by_lag": singular_values,
    "trainability": surface,
    "draw_success": lambda kind, path: lab.draw_success(runs(kind), path),
    "draw_grid": lambda kind, path: lab.draw_grid(runs(kind), path),
    "draw_accuracy": accuracies,
    "mean_field": theory,
    "trainability of the study": surfaces,
    "horizon": memory,
    "sweep": sweeps,
    "search": searches,
    "population": populations,
    "peers": lambda kind, path: timed(kind, path, peers.draw),
    "scaling": scaled,
}


def drawn_texts(figure):
    """The texts that a figure shows, once each."""
    seen, draw = [], Text.draw

    def keep(text, *args, **named):
        if text.get_visible() and text.get_text().strip():
            seen.append(text)
        return draw(text, *args, **named)

    Text.draw = keep
    try:
        figure.draw_without_rendering()
    finally:
        Text.draw = draw
    return list(dict.fromkeys(seen))
