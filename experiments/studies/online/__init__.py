"""Online: gradients forward in time, how far they point along the true one, and what they learn.

The rules of `sc.online` keep a trace instead of the past. Some leave out what passes from unit to
unit, or what passes through the recurrent weights; one is exact on average, and noisy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import seqcells as sc
from experiments import lab
from experiments.studies.online import periodic, verdicts
from experiments.studies.online.cosines import EARLY, WHEN, Cosines
from experiments.studies.online.learning import BACKWARD, WINDOW, Costs, task
from experiments.studies.online.picture import draw
from experiments.studies.online.verdicts import PERIODIC, Found
from seqcells import initializers, probes

ARMS = {  # the rules that train each cell
    "GRU": (BACKWARD, WINDOW, "SnAp-1", "e-prop", "UORO"),
    "CTRNN": (BACKWARD, "e-prop", "RFLO"),
    "MinGRU": ("RTRL",),
}
PARTS = ("1/4", "1/2", "all")  # of the longest lag
MURRAY = "Murray 2019, fig. 2"


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 5  # trainings of every cell by every rule, each from its own random start
    length: int = 12  # steps over which a task asks to remember
    hidden_size: int = 16  # units of every net
    learning_rate: float = 1e-2  # of all rules, at first; it falls to 0 as half a cosine
    steps: int = 1000
    """updates at most, each after a whole batch of sequences; fewer where all runs have learned"""
    batch_size: int = 16  # fresh sequences for an update
    trials: int = 4000
    """updates by gradient descent of the task with a published figure, periodic output"""


PROBES: dict[str, Callable[[int], probes.Probe]] = {  # of the steps to remember
    "copy": lambda length: probes.Copy(length, symbols=2, count=3),
    "delayed recall": lambda length: probes.DelayedRecall(length, cues=4, distractors=4),
    "cues": lambda length: probes.CueAccumulation(5, spacing=2, delay=length, distractors=2),
}


def _cell(name: str, s: Settings) -> sc.Cell:
    """Return a cell whose memory is as slow as the tasks ask for."""
    slow = initializers.Chrono(s.length)
    none = initializers.zeros
    return {
        "GRU": sc.GRU(s.hidden_size, b_ih_init=(none, slow, none)),
        "CTRNN": sc.CTRNN(s.hidden_size, tau=float(s.length), dt=1.0),
        "MinGRU": sc.MinGRU(s.hidden_size),
    }[name]


def _group(s: Settings, name: str, arm: str, rule: str) -> lab.RunGroup:
    model = task(_cell(arm, s), PROBES[name](s.length), s.batch_size, rule)
    labels = {"task": name, "arm": f"{arm}, {rule}", "length": s.length}
    runs = lab.list_runs(labels, model.net, (s.learning_rate,), s.seeds)
    measures = (Costs(), Cosines(tuple(PROBES)))
    name = f"{name} {arm} {rule}"
    return lab.RunGroup(name, model, runs, s.steps, lab.Cosine(s.steps), measures=measures)


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups."""
    arms = [(arm, rule) for arm, rules in ARMS.items() for rule in rules]
    own = [_group(s, name, arm, rule) for name in PROBES for arm, rule in arms]
    return [*own, *(periodic.group(s.seeds, s.trials, rule) for rule in (BACKWARD, "RFLO"))]


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    menick, start, end = "Menick et al. 2021", {"when": lab.AT_START}, {"when": lab.AT_END}
    snap, eprop, uoro = ({"cell": "GRU", "rule": rule} for rule in ("SnAp-1", "e-prop", "UORO"))
    found = []
    for name in PROBES:
        title = _sentence(name)
        found += [
            lab.Claim(
                f"{title}, GRU: at equal memory, more seeds solve it by SnAp-1 than by backprop "
                "through the window that fits",
                menick,
                verdicts.of_results(lab.ahead("GRU, SnAp-1", f"GRU, {WINDOW}", task=name)),
            ),
            lab.Claim(
                f"{title}, GRU: more seeds solve it by SnAp-1 than by UORO",
                menick,
                verdicts.of_results(lab.ahead("GRU, SnAp-1", "GRU, UORO", task=name)),
            ),
            *(
                lab.Claim(
                    f"{title}, GRU: with the operations that backprop takes, at most half of the "
                    f"seeds solve it by {rule}",
                    "ours",
                    verdicts.at_equal_operations(name, rule),
                )
                for rule in ("RTRL", "SnAp-1")
            ),
            lab.Claim(
                f"{title}, GRU: SnAp-1 points less along the true gradient after training",
                "ours",
                verdicts.less(name, snap | end, snap | start, verdicts.whole),
            ),
            lab.Claim(
                f"{title}, GRU, after training: over the longer half of the lags, e-prop points "
                "less along the true gradient than SnAp-1",
                "ours: it leaves out more",
                verdicts.less(name, eprop | end, snap | end, verdicts.long),
            ),
            lab.Claim(
                f"{title}, GRU, at initialisation: UORO points less along the true gradient than "
                "SnAp-1",
                menick,
                verdicts.less(name, uoro | start, snap | start, verdicts.whole),
            ),
        ]
    return [
        *found,
        lab.Claim(
            "Cues, GRU: most seeds solve it by e-prop",
            "cf. Bellec et al. 2020, fig. 3, for spiking units",
            verdicts.of_results(lab.share_at_least(0.5, task="cues", arm="GRU, e-prop")),
        ),
        lab.Claim(
            "Periodic output: most seeds solve it by RFLO",
            MURRAY,
            verdicts.of_results(lab.share_at_least(0.5, task=PERIODIC, arm="CTRNN, RFLO")),
        ),
        lab.Claim("Periodic output: RFLO ends with a higher loss", MURRAY, verdicts.higher_loss),
    ]


def answers(found: Found) -> list[str]:
    """Say which rules solve which task."""
    parts = []
    for name, rows in found.results.groupby("task", sort=False):
        counts = {arm: lab.count(some) for arm, some in rows.groupby("arm", sort=False)}
        texts = [f"{arm} {one.k} of {one.n}" for arm, one in counts.items()]
        parts.append(f"{_sentence(name)}, seeds that solve it: {'; '.join(texts)}.")
    return parts


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def table(found: Found) -> lab.Table:
    """Return a table with a row for every task and arm."""
    costs = found.costs.set_index(["task", "arm"])
    lines = []
    for (name, arm), (operations, numbers) in costs.iterrows():
        rows = lab.pick(found.results, task=name, arm=arm)
        cells = ["-"] * 4
        if len(rows):
            one, loss = lab.count(rows), lab.short(lab.of_losses(rows["loss"]).mid)
            cells = [f"{one.k} of {one.n}", one.when, f"{rows['accuracy'].mean():.3f}", loss]
        lines.append([name, arm, *cells, f"{operations:.0f}", f"{numbers:.0f}"])
    return lab.Table(
        title="What each rule learns, and what it costs",
        caption="Solved: seeds, at the end. Updates: by which half had solved it. Accuracy and "
        "loss: mean and geometric mean over the seeds, on fresh sequences. Operations: of a step "
        "of one sequence with its gradient, as XLA counts them. Numbers kept: of one sequence, "
        "by backprop for all its steps or for those of the window, by the rules at any time. RTRL "
        "of the GRU has the gradient of backprop, and is not trained again.",
        head=[
            *("task", "cell and rule", "solved", "updates", "accuracy", "loss"),
            *("operations", "numbers kept"),
        ],
        rows=lines,
        texts=2,
    )


def cosine_table(found: Found) -> lab.Table:
    """Return a table of cosines, with a row for every task, cell and rule."""
    lines = []
    rows = found.cosines
    for names, some in rows.groupby(["task", "cell", "rule"], sort=False):
        cells = []
        for when in WHEN:
            here = lab.pick(some, when=when)
            cells.append(f"{verdicts.whole(here).mean():.2f}")
            longest = here["lag"].max()
            for lag in (longest // 4, longest // 2, longest):
                at = lab.pick(here, lag=lag)["cosine"]
                cells.append(f"{at.mean():.2f}" if len(at) else "-")
        lines.append([*names, *cells])
    return lab.Table(
        title="Cosine to the true gradient",
        caption="Mean over the seeds, of nets that backprop trained: at the start, after "
        f"{EARLY} updates, and at the end; of the whole gradient, and of its parts from a quarter, "
        "a half and all of the longest lag before the last answer. UORO's is not a sum of such "
        "parts.",
        head=[
            *("task", "cell", "rule", "start: whole", *PARTS),
            *("early: whole", *PARTS, "end: whole", *PARTS),
        ],
        rows=lines,
        texts=3,
    )


STUDY = lab.Study(
    name="online",
    title="Gradients without a backward pass: how they point, and what they learn",
    lead="The rules of sc.online keep a trace of constant size instead of the past. RTRL is exact; "
    "SnAp-1 leaves out what passes from unit to unit; e-prop and RFLO leave out what passes "
    "through the recurrent weights, and RFLO has random feedback; UORO is exact on average, and "
    "noisy. Nets learn to copy three symbols, to recall one, and to say on which side most of "
    "five cues were, after a delay. Each update follows a whole batch of sequences, so rules "
    "differ in their gradient alone. At equal memory: backprop through as many steps as fit into "
    "the memory of SnAp-1. At equal cost: operations are counted, because this machine was busy "
    "with other work. Periodic output is the task of Murray (2019), figure 2: 30 leaky units "
    "without input, a period of 20 time constants, gradient descent. The paper prints curves, so "
    "their order is compared. Settings are those of a public port of the author's code (rflo- "
    "matlab), but a pulse starts the net instead of a carry of 0.1, the readout starts larger, "
    "and there are fewer trials; the net counts as solved with a tenth of the loss of doing "
    "nothing.",
    settings=Settings(),
    quick=Settings(seeds=4, length=6, hidden_size=8, steps=400, trials=400),
    groups=groups,
    claims=claims,
    draw=draw,
    answers=answers,
    tables=lambda found: [table(found), cosine_table(found)],
    read=verdicts.read,
    terms={
        "cosine": "1 if the rule's gradient has the direction of the true one, 0 at a right angle "
        "to it, below 0 if it points to the other side",
        "lag": "steps from the use of the parameters to the answer; the gradient is a sum over "
        "lags",
        "backprop, window": "through the last steps alone, as many as fit into SnAp-1's memory",
    },
    about={"optimiser": "Adam, gradients clipped to a global norm of 1; periodic output: descent"},
    caption="Where a line is near 1, the rule sends the gradient of so long ago in the right "
    "direction. Below: what nets learn by it.",
    files=("results", "costs", "cosines"),
)
