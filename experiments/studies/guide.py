"""A beginner's guide to RNN and GRU, tested claim by claim.

The guide's table calls the memory of an RNN weak and that of a GRU strong, and an RNN slower,
simpler and poor on long sequences. Each claim is tested at equal width and at equal parameters;
the report names the lengths at which a verdict changes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path

from scipy import stats

import seqcells as sc
from experiments import lab
from seqcells import probes

SOURCE = "the guide's table"
RNN_WIDE = "tanh as large"  # same number of parameters as the GRU
RNN_NAMES = {"at equal width": lab.TANH.name, "at equal parameters": RNN_WIDE}
RECALL, ADDING = "recall", "adding"
NONE = "none of these"


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 5  # runs per setting, each with its own random seed
    lags: tuple[int, ...] = (5, 10, 20, 40, 80)  # lags of delayed recall, steps
    lengths: tuple[int, ...] = (25, 50, 100, 200)  # lengths of adding, steps
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)  # learning rates; each cell is judged at its best
    steps: int = 1000
    """maximal training steps; a group stops early once all its runs have learned"""
    hidden_size: int = 64  # units of every net, except that "tanh as large" has more
    batch_size: int = 32  # sequences per training step


def _group(
    s: Settings, arm: lab.Arm, probe: probes.Probe, lengths: dict[int, dict[str, int]]
) -> lab.RunGroup:
    task = RECALL if isinstance(probe, probes.DelayedRecall) else ADDING
    width = s.hidden_size
    if arm.name == RNN_WIDE:
        wanted = lab.parameters(sc.GRU(width), probe.input_size)
        width = lab.as_large(sc.RNN, probe.input_size, wanted)
    cell, longest = arm.run(width), max(lengths)
    sizes = {"width": width, "parameters": lab.parameters(cell, probe.input_size)}
    model, runs = lab.Task(cell, probe, s.batch_size), []
    for length, knobs in lengths.items():
        labels = {"task": task, "arm": arm.name, "length": length, **sizes}
        runs += lab.list_runs(labels, arm.start(width, longest), s.rates, s.seeds, knobs)
    return lab.RunGroup(f"{task} {arm.name} {longest}", model, tuple(runs), s.steps)


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups: all lags of recall share a group; each length of adding has its own."""
    arms = (lab.TANH, lab.TANH._replace(name=RNN_WIDE), lab.GRU, lab.CHRONO)
    lags = {lag: {"lag": lag} for lag in s.lags}
    recall = probes.DelayedRecall(max(s.lags))
    return [
        *(_group(s, arm, recall, lags) for arm in arms),
        *(
            _group(s, arm, probes.AddingURNN(length), {length: {}})
            for length in s.lengths
            for arm in arms
        ),
    ]


def counts(rows: lab.Frame, task: str, arm: str) -> dict[int, lab.Count]:
    """Count the runs that solved a task, by length, each at its best learning rate."""
    part = lab.pick(rows, task=task, arm=arm)
    return {
        int(n): lab.count(lab.best(lab.pick(part, length=n))) for n in sorted(set(part["length"]))
    }


def reach(rows: lab.Frame, task: str, arm: str) -> int:
    """Return the largest length up to which most seeds solve a task at every length; or 0."""
    good = 0
    for length, one in counts(rows, task, arm).items():
        if not one.most:
            break
        good = length
    return good


def seconds(rows: lab.Frame, task: str, arm: str, length: int) -> float:
    """Return the training seconds until half solve a task: inf if never, NaN if not run."""
    part = lab.pick(rows, task=task, arm=arm, length=length)
    if part.empty:
        return math.nan
    part = lab.best(part)
    return lab.count(part).median * float(part["seconds_per_step"].median())


Judge = Callable[[lab.Frame, str], lab.Verdict]  # (rows, RNN to compare) -> verdict


def _reaches_further(rows: lab.Frame, rnn: str, task: str) -> lab.Verdict:
    """Whether the GRU solves a task more often at some length, and at none less often."""
    far = {arm: reach(rows, task, arm) for arm in (rnn, lab.GRU.name, lab.CHRONO.name)}
    compared = lab.ahead(lab.GRU.name, rnn, task=task)(rows)
    at = max(set(counts(rows, task, rnn)) & set(counts(rows, task, lab.GRU.name)))
    texts = [f"{arm} {counts(rows, task, arm)[at].text}" for arm in (rnn, lab.GRU.name)]
    reached = {arm: _up_to(steps) for arm, steps in far.items()}
    return lab.Verdict(
        compared.holds,
        f"most seeds solve {task} {reached[rnn]} with {rnn}, {reached[lab.GRU.name]} with the "
        f"default GRU and {reached[lab.CHRONO.name]} with one that starts slow; over {at} steps "
        f"{lab.words(texts)}",
    )


def _up_to(steps: int) -> str:
    return f"up to {steps} steps" if steps else "at no length"


def _steps_faster(rows: lab.Frame, rnn: str) -> lab.Verdict:
    """Whether a training step of the GRU takes less time."""
    ratios = {}
    for length in sorted(set(lab.pick(rows, task=ADDING)["length"])):
        part = lab.pick(rows, task=ADDING, length=length)
        one, other = (
            float(lab.pick(part, arm=arm)["seconds_per_step"].median())
            for arm in (lab.GRU.name, rnn)
        )
        if not math.isnan(one / other):
            ratios[length] = one / other
    text = lab.words([f"{ratio:.2f} times over {n} steps" for n, ratio in ratios.items()])
    holds = lab.Interval(min(ratios.values()), math.nan, max(ratios.values())).within(0, 1)
    return lab.Verdict(holds, f"a training step of the GRU takes {text} that of {rnn}")


def _learns_faster(rows: lab.Frame, rnn: str) -> lab.Verdict:
    """Whether the GRU solves tasks in less training time, and where not."""
    faster, slower, alike = [], [], []
    for task in (RECALL, ADDING):
        for length in sorted(set(lab.pick(rows, task=task)["length"])):
            gru, other = (seconds(rows, task, arm, length) for arm in (lab.GRU.name, rnn))
            if math.isnan(gru + other) or gru == other == math.inf:
                continue
            name = f"{task} over {length} ({_time(gru)} against {_time(other)})"
            found = {True: faster, False: slower, None: alike}
            found[_sooner(rows, (lab.GRU.name, rnn), task, length)].append(name)
    kinds = {"sooner on": faster, "later on": slower, "with no clear difference on": alike}
    texts = [f"{kind} {lab.words(names)}" for kind, names in kinds.items() if names]
    text = f"with the GRU half of the seeds are done {'; '.join(texts)}" if texts else "neither is"
    return lab.Verdict(False if slower else bool(faster) or None, text)


def _sooner(rows: lab.Frame, arms: tuple[str, str], task: str, length: int) -> bool | None:
    """Whether one arm solves a task in less time than another, by a rank test at 5 %."""
    some = []
    for arm in arms:
        part = lab.best(lab.pick(rows, task=task, arm=arm, length=length))
        at = part["solved_at"].where(part["solved"], math.nan) * part["seconds_per_step"].median()
        some.append(at.fillna(math.inf))
    test = stats.mannwhitneyu(*some) if len(set().union(*some)) > 1 else None
    if test is None or not test.pvalue < 0.05:
        return None
    return bool(test.statistic < len(some[0]) * len(some[1]) / 2)


def _time(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "never" if math.isinf(value) else f"{lab.short(value)} s"


def _done(value: float) -> str:
    return "never" if math.isinf(value) else f"after {_time(value)} of training"


def _is_larger(rows: lab.Frame, rnn: str) -> lab.Verdict:
    """Whether the GRU has more parameters."""
    part = lab.pick(rows, task=RECALL)
    one, other = (int(lab.pick(part, arm=arm)["parameters"].iloc[0]) for arm in (lab.GRU.name, rnn))
    return lab.Verdict(
        one > 1.1 * other,
        f"the GRU has {one} parameters, {rnn} {other}, so {one / other:.2f} times as many",
    )


def _rnn_does_for_short(rows: lab.Frame, rnn: str) -> lab.Verdict:
    """Whether most seeds of the RNN solve both tasks at the shortest length, sooner than a GRU."""
    holds, texts = [], []
    for task in (RECALL, ADDING):
        length, alike = next(iter(counts(rows, task, rnn).items()))
        times = [seconds(rows, task, arm, length) for arm in (rnn, lab.GRU.name)]
        sooner = _sooner(rows, (rnn, lab.GRU.name), task, length)
        holds.append(lab.all_hold([alike.within(0.5, 1), sooner]))
        texts.append(
            f"{task} over {length} steps {alike.text}, half {_done(times[0])}, "
            f"with the GRU {_done(times[1])}"
        )
    return lab.Verdict(lab.all_hold(holds), "; ".join(texts))


CLAIMS: tuple[tuple[str, Judge], ...] = (
    ("Memory: a GRU's is strong, an RNN's weak", functools.partial(_reaches_further, task=RECALL)),
    (
        "Long sequences: a GRU is good on them, an RNN poor",
        functools.partial(_reaches_further, task=ADDING),
    ),
    ("Speed: a training step of a GRU is faster", _steps_faster),
    ("Faster training: a GRU solves tasks in less time", _learns_faster),
    ("Complexity: an RNN is simple, a GRU moderate", _is_larger),
    ("Use an RNN for short sequences and low resources", _rnn_does_for_short),
)


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims, each at equal width and at equal parameters."""

    def judge(rows: lab.Frame, one: Judge, rnn: str) -> lab.Verdict:
        there = {(task, arm) for task, arm in zip(rows["task"], rows["arm"], strict=True)}
        needed = {
            (task, arm) for task in (RECALL, ADDING) for arm in (rnn, lab.GRU.name, lab.CHRONO.name)
        }
        return one(rows, rnn) if needed <= there else lab.NOT_RUN

    return [
        lab.Claim(f"{text}, {how}", SOURCE, functools.partial(judge, one=one, rnn=rnn))
        for text, one in CLAIMS
        for how, rnn in RNN_NAMES.items()
    ]


def choice(rows: lab.Frame) -> lab.Table:
    """Return the table of cells to use, by task and length: the fastest and the smallest."""
    arms, lines = list(dict.fromkeys(rows["arm"])), []
    sizes = {arm: int(lab.pick(rows, arm=arm)["parameters"].iloc[0]) for arm in arms}
    for task in dict.fromkeys(rows["task"]):
        for length in sorted(set(lab.pick(rows, task=task)["length"])):
            times = {arm: seconds(rows, task, arm, length) for arm in arms}
            solved = [arm for arm in arms if math.isfinite(times[arm])]
            first = min(solved, key=lambda arm: times[arm], default=NONE)
            small = min(solved, key=lambda arm: (sizes[arm], times[arm]), default=NONE)
            lines.append([task, first, small, str(length), *(_time(times[arm]) for arm in arms)])
    return lab.Table(
        title="What to use",
        caption="Seconds of training by which half of the seeds solve a task, each cell at the "
        "best of the learning rates tried. Soonest: choose it if time is short. Smallest: the net "
        "with the fewest parameters that solves the task; choose it if memory is short. A budget "
        "below the time of a cell rules it out. Times are of the machine that is named below and "
        "differ on other hardware; the step counts in the next table do not.",
        head=["task", "soonest", "smallest", "steps", *arms],
        rows=lines,
        texts=3,
    )


def answers(rows: lab.Frame) -> list[str]:
    """Return the cell that solves each task soonest, by length, in words."""
    by_task: dict[str, dict[str, list[str]]] = {}
    for task, first, _, length, *_ in choice(rows).rows:
        by_task.setdefault(task, {}).setdefault(first, []).append(length)
    return [
        f"Soonest to solve {task}: "
        + "; ".join(f"{arm} over {lab.words(lengths)} steps" for arm, lengths in by_arm.items())
        + "."
        for task, by_arm in by_task.items()
    ]


def reaches(rows: lab.Frame) -> lab.Table:
    """Return the table of seeds that solved each task, at the best learning rate."""
    lines = []
    for task in dict.fromkeys(rows["task"]):
        for arm in dict.fromkeys(rows["arm"]):
            for length, c in counts(rows, task, arm).items():
                part = lab.best(lab.pick(rows, task=task, arm=arm, length=length))
                step = lab.short(1e3 * float(part["seconds_per_step"].median()))
                size = f"{part['width'].iloc[0]}", f"{part['parameters'].iloc[0]}"
                rate = f"{part['learning_rate'].iloc[0]:g}"
                solved = f"{c.k} of {c.n}", lab.interval(c.k, c.n), c.when
                lines.append([task, arm, str(length), *solved, step, rate, *size])
    return lab.Table(
        title="Seeds that solve each task",
        caption="At the best of the learning rates that were tried. Steps: between symbol and "
        "report, or of the sequence. Solved: by how many seeds, and the 95 % Wilson interval of "
        "the share. Median steps: of training, by which half of the seeds had solved it. Time: ms "
        "of a training step of one run, among others. Rate: the learning rate.",
        head=[
            *("task", "cell", "steps", "solved", "interval", "median steps"),
            *("ms", "rate", "units", "parameters"),
        ],
        rows=lines,
        texts=2,
    )


def draw(rows: lab.Frame, path: Path) -> None:
    """Draw the share of seeds that solve each task, each cell at its best learning rate."""
    lab.draw_success(lab.at_best(rows), path, label="steps to remember, or to add over")


STUDY = lab.Study(
    name="guide",
    title="GRU or RNN? The guide, measured",
    lead="Two tasks. Recall: a symbol is shown once and must be named some steps later, so the "
    "net must remember it for that many steps. Adding: the sum of two marked numbers "
    "of a sequence. Every cell is trained at several learning rates, and the best one counts.",
    terms={
        lab.TANH.name: "the plain RNN, as wide as the GRU; its recurrent weights start orthogonal",
        RNN_WIDE: "the plain RNN, with as many parameters as the GRU",
        lab.GRU.name: "the GRU as libraries make it",
        lab.CHRONO.name: "the GRU whose update gate starts biased to remember over the whole task",
    },
    settings=Settings(),
    quick=Settings(seeds=4, lags=(5, 20), lengths=(20, 40), rates=(3e-3, 1e-2), hidden_size=32),
    groups=groups,
    claims=claims,
    draw=draw,
    caption=lab.BY_LENGTH,
    answers=answers,
    tables=lambda rows: [choice(rows), reaches(rows)],
)
