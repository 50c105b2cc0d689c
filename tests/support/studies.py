"""Invented rows of runs, and the studies that judge such rows."""

import dataclasses
import functools
import math

import numpy as np
import pandas as pd

from experiments import studies
from experiments.lab import Study, discover, load
from experiments.studies import (
    chaos,
    flipflop,
    guide,
    mean_field,
    newton,
    online,
    search,
    state_tracking,
    trainability,
)
from experiments.studies.online.cosines import COMPARED, WHEN

ALL = {name: load(name, studies, Study)[1] for name in discover(studies)}
JUDGED = {name: one for name, one in ALL.items() if one.claims(one.quick)}
# The rows of these are not runs of training.
MEASURED = (chaos.STUDY, mean_field.STUDY, newton.STUDY, search.STUDY)
TRAINED = {name: one for name, one in JUDGED.items() if one not in MEASURED}


@functools.cache
def run_rows(study, settings):
    """A row for every run, with what is known before it is trained."""
    return pd.DataFrame(
        {
            **labels,
            "learning_rate": run.hparams["learning_rate"],
            "seed": run.seed,
            "steps": group.steps,
            "loss": group.task.probe.baseline,
        }
        for group in study.groups(settings)
        for run in group.runs
        for labels in group.labels(run)
    )


def trial_rows(study, settings, good=lambda labels: True):
    """The rows of a run in which all seeds did the same: well, and in no time, or not at all."""
    rows = run_rows(study, settings)
    solved = np.array([bool(good(labels)) for labels in rows.to_dict("records")])
    return rows.assign(
        solved_at=np.where(solved, 50.0, math.nan),
        solved=solved,
        loss=np.where(solved, 0.0, rows["loss"]),
        accuracy=1.0 * solved,
        exact=1.0 * solved,
        seconds_per_step=np.where(solved, 0.001, 0.1),
    )


def field_rows(off):
    """The rows of nets that are so far from the theory."""
    row = {"weight_std": 1.2, "input_variance": 0.1, "width": 512, "nets": 8}
    for name, value in (("q", 0.5), ("chi", 0.9)):
        row |= {name: value * off, f"{name}_error": 1e-3, f"{name}_theory": value}
    return pd.DataFrame([row, {**row, "weight_std": 1.5}])


def cubes(settings, keeps):
    """The flip-flop's tables: all points of a cube, or half of its corners and edges."""
    results = trial_rows(flipflop.STUDY, settings)
    kinds = [(0, 8), (1, 12), (2, 6), (3, 1)]
    points = pd.DataFrame(
        {
            **{"arm": row["arm"], "seed": row["seed"], "unstable": unstable, "memory": i % 8},
            **{"speed": 0.0, "slowest": 2.0, "starts": 9, "failed": 0, "far": 0},
            **dict.fromkeys(flipflop.PLACES, 0.1 * i + unstable),
        }
        for row in results.to_dict("records")
        for unstable, count in kinds
        for i in range(count if keeps else count // 2)
    )
    paths = pd.DataFrame(
        {"arm": arm, "path": 0, **dict.fromkeys(flipflop.PLACES, 0.1 * t)}
        for arm in dict.fromkeys(results["arm"])
        for t in range(4)
    )
    return flipflop.Found(results, points, paths)


def attractors(settings, best):
    """The tables of chaos: the divergence is least at one share, where the exponent is right."""
    rows = [
        {
            **{"arm": arm, "alpha": alpha, "seed": seed, "loss": 0.1},
            **{"divergence": 1.0 + abs(alpha - best) + 1e-3 * seed, "spectrum": 0.1},
            "exponent_1": 0.9 if best == 0.15 else -0.5,
            **{"exponent_2": 0.0, "exponent_3": -9.0, "dimension": 2.0},
        }
        for arm in settings.cells
        for alpha in (math.nan, 0.0, *settings.alphas, 1.0)
        for seed in range(1 if math.isnan(alpha) else settings.seeds)
    ]
    rows = pd.DataFrame(rows).fillna({"divergence": 0.2})
    orbits = [
        {"arm": arm, "alpha": alpha, "x": 0.1 * t, "z": 0.2 * t}
        for arm in settings.cells
        for alpha in (math.nan, 0.0, *settings.alphas, 1.0)
        for t in range(3)
    ]
    return chaos.Found(rows, pd.DataFrame(orbits))


def solved(settings, well):
    """The tables of Newton's method: few iterations that say how nets behave, or many."""

    def iterations(exponent):
        few = 4 + int(40 * max(0, exponent + 0.05))
        return few if well else 200 - few

    nets = [
        {
            **{"arm": arm, "gain": gain, "length": length, "seed": seed},
            **{"exponent": exponent, "iterations": iterations(exponent)},
            **{"diagonal": 30, "converged": (exponent < 0) == well},
            **{"error": 1e-7 if well else 1e-5, "scan_error": 1e-7},
            **{"first_order": 1e-12, "bound": 1e-11 if well else 1e-13, "estimate": 1e-12},
        }
        for arm in settings.cells
        for gain in settings.gains
        for exponent in (0.1 * (gain - 1.4),)
        for length in settings.lengths
        for seed in range(settings.seeds)
    ]
    training = [
        {
            **{"arm": arm, "seed": seed, "update": update, "loss": 0.5, "exponent": -0.1},
            **{"cold": 8 * (1 + update) ** (0.2 if well else -0.2) + 1e-3 * seed, "diagonal": 50},
            **{"warm": 2 if well else 20, "fresh": 30 if well else 1, "converged": 1.0},
        }
        for arm in settings.cells
        for update in (0, *settings.updates)
        for seed in range(settings.seeds)
    ]
    times = [
        {"arm": arm, "gain": gain, "length": length, **dict.fromkeys(newton.WAYS, 1.0 + gain)}
        for arm in settings.cells
        for gain in settings.gains
        for length in settings.lengths
    ]
    first = pd.DataFrame(nets)
    if not well:
        first["first_order"] *= 3
    return newton.Found(first, pd.DataFrame(training), pd.DataFrame(times))


def rules(settings, good, factor, cosine):
    """The tables of online: the costs of rules in those of backprop, and a cosine that falls."""
    results = trial_rows(online.STUDY, settings, good)
    arms = [*zip(results["task"], results["arm"], strict=True)]
    arms += [(task, "GRU, RTRL") for task in dict.fromkeys(results["task"])]
    costs = [
        {"task": task, "arm": arm, "kept": 9, "operations": 1 if "backprop" in arm else factor}
        for task, arm in dict.fromkeys(arms)
    ]
    order = {"SnAp-1": 0, "e-prop": 1, "RFLO": 2, "UORO": 3}
    cosines = [
        {
            **{"task": task, "cell": cell, "rule": rule, "when": when, "seed": seed, "lag": lag},
            "cosine": cosine
            - (2 * cosine - 1) * (order[rule] + 4 * (when != "initialisation")) / 8,
        }
        for task in dict.fromkeys(results["task"])
        for cell, compared in COMPARED.items()
        for rule in compared
        for when in WHEN
        for seed in range(settings.seeds)
        for lag in ((math.nan,) if rule == "UORO" else (math.nan, 0, 1))
    ]
    return online.Found(results, pd.DataFrame(costs), pd.DataFrame(cosines))


def by_samplers(settings, tpe, alone, lower):
    """The tables of searches that reach random's best, 1, at these trials, or never."""
    ends = {"random": (9, 1.0), "TPE": (tpe, lower), "Optuna alone": (alone, lower)}
    searches = [
        ({"problem": group.problem, "arm": arm, "seed": seed}, *ends[arm])
        for group in search.STUDY.groups(settings)
        for seed in group.seeds
        for arm in group.arms
    ]
    results = [
        {
            **{**labels, "trials": settings.samples, "best": best, "median": 9.0},
            **{"solved": 0.1, "diverged": 0, "optuna": "5.0.0"},
        }
        for labels, _, best in searches
    ]
    curves = [
        {**labels, "trial": trial, "best": value}
        for labels, reached, best in searches
        for trial, value in ((1, 8.0), (reached, best))
        if reached is not None
    ]
    return search.Found(pd.DataFrame(results), pd.DataFrame(curves))


def tables(rows):
    """The tables of a run, by the names of their files."""
    if isinstance(rows, pd.DataFrame):
        return {"results": rows}
    return {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}


def emptied(rows):
    """The same tables without a row."""
    none = {name: table.iloc[:0] for name, table in tables(rows).items()}
    return none["results"] if isinstance(rows, pd.DataFrame) else type(rows)(**none)


def rule_worlds(settings):
    """Worlds of online: one rule alone learns, at a high cost; and all learn, at none."""
    rules_of_gru = ("SnAp-1", "UORO", "e-prop", "backprop, window", "backprop")
    names = [*(f"GRU, {rule}" for rule in rules_of_gru), "CTRNN, backprop", "CTRNN, RFLO"]
    goods = [lambda labels, name=name: labels["arm"] == name for name in names]
    falls = [rules(settings, good, 1000, 0.9) for good in goods]
    return [*falls, rules(settings, lambda _: True, 1, 0.1)]


OWN_WORLDS = {
    "mean_field": lambda _: [field_rows(1.02), field_rows(0.96)],
    "flipflop": lambda s: [cubes(s, keeps=True), cubes(s, keeps=False)],
    "chaos": lambda s: [attractors(s, best) for best in (0.15, 0.0, 1.0)],
    "newton": lambda s: [solved(s, well) for well in (True, False)],
    "online": rule_worlds,
    "search": lambda s: [
        by_samplers(s, tpe, alone, lower)
        for tpe, alone, lower in ((20, 20, 0.5), (None, 20, 2.0), (10, 100, 0.5))
    ],
}


def worlds(study, settings):
    """Rows of runs with contrary results."""
    if study.name in OWN_WORLDS:
        return OWN_WORLDS[study.name](settings)
    names = sorted(set(run_rows(study, settings)["arm"]))
    alone = [lambda labels, name=name: labels["arm"] == name for name in names]
    kinds = [lambda labels, kind=kind: labels["arm"].startswith(kind) for kind in ("GRU", "tanh")]
    goods = [lambda _: True, lambda _: False, *kinds, *alone]
    if study is state_tracking.STUDY:  # and one where matrix memories alone do it
        goods.append(lambda labels: labels["arm"] in state_tracking.MATRIX)
    if study is trainability.STUDY:
        goods += [
            lambda labels: 0.9 < labels["value"] < 1.5,
            lambda labels: labels["value"] < 0.7,
            lambda labels: labels["length"] <= labels["value"],
            lambda labels: labels["length"] > labels["value"],
        ]
    frames = [trial_rows(study, settings, good) for good in goods]
    if study is guide.STUDY:  # and one where a GRU is small, and one where it is large
        for sizes in ((5, 50), (50, 5)):
            size = frames[0]["arm"].map(lambda arm, sizes=sizes: sizes["GRU" not in arm])
            frames.append(frames[0].assign(parameters=size))
    return frames


def some(solved_at, steps=100, **labels):
    return pd.DataFrame(
        {
            **{name: [value] * len(solved_at) for name, value in labels.items()},
            **{"learning_rate": 0.1, "seed": range(len(solved_at)), "steps": steps},
            "solved_at": solved_at,
            "solved": [not math.isnan(at) for at in solved_at],
            **{"loss": 0.5, "accuracy": 0.5, "exact": 0.5, "seconds_per_step": 0.002},
        }
    )


def recalled(solved_at):
    """Rows of recall, {(arm, length): steps by which each seed had solved it}."""
    rows = [
        some(at, task="recall", arm=arm, length=length, width=4, parameters=9)
        for (arm, length), at in solved_at.items()
    ]
    return pd.concat(rows, ignore_index=True)


def raced(arms, tasks, lengths, seeds=3):
    """Rows of some seeds of every arm, task and length, of which half solved it."""
    parts = [
        some([10.0, math.nan, 20.0][:seeds], task=task, arm=arm, length=length)
        for arm in arms
        for task in tasks
        for length in lengths
    ]
    return pd.concat(parts, ignore_index=True)
