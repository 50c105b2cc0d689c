"""Search: does TPE, asked for batches of 16, find good hyperparameters sooner than chance?

Random search and TPE, both by `seqcells.sweep.search`, on quadratics and on nets.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments import lab
from experiments.studies.search.picture import draw
from experiments.studies.search.problems import (
    QUADRATICS,
    RANDOM,
    SEGMENT,
    TABLES,
    TPE,
    Searches,
    Settings,
)
from experiments.studies.search.verdicts import Found, claims, count_text, read, trials_text


def groups(s: Settings) -> list[Searches]:
    """List the groups: one for each quadratic, and one for each task with each seed."""
    found = []
    for name in s.problems:
        if name in QUADRATICS:
            found.append(Searches(name, tuple(range(s.quadratic_seeds)), s))
        else:
            found += [Searches(name, (seed,), s) for seed in range(s.seeds)]
    return found


def answers(found: Found) -> list[str]:
    """Say how many trials TPE needs on each problem."""
    rows = lab.pick(found.searches, arm=TPE)
    return [
        f"{name}: TPE reaches random search's best of {some['trials'].max()} in "
        f"{trials_text(some['needed'], some['trials'].max())}."
        for name, some in rows.groupby("problem", sort=False)
    ]


def table(found: Found) -> lab.Table:
    """Return a table with a row for every problem and way to search."""
    lines = []
    for (name, arm), rows in found.searches.groupby(["problem", "arm"], sort=False):
        samples = rows["trials"].max()
        within = int((rows["needed"] <= samples // 2).sum())
        least, most = (count_text(end, samples) for end in rows["needed"].agg(["min", "max"]))
        needed = [count_text(rows["needed"].median(), samples), f"{least} to {most}"]
        counts = ["-"] * 3 if arm == RANDOM else [f"{within} of {len(rows)}", *needed]
        solved = "-" if name in QUADRATICS else f"{100 * rows['solved'].mean():.0f} %"
        losses = [lab.short(rows[column].median()) for column in ("best", "median")]
        lines.append([name, arm, *counts, *losses, solved, str(rows["diverged"].sum())])
    versions = lab.words(sorted(set(found.results["optuna"])))
    return lab.Table(
        title="All searches",
        caption="Best and typical: the least loss of a search, and the median over its trials; "
        "medians over the seeds. Solved: the share of all trials that solve the task. Diverged: "
        "trials of all seeds. Within half: seeds that reach the best of the random search, which "
        "has the same weights and data, within half as many trials; needed: the trials until "
        f"then, the median and the range. Optuna {versions}.",
        head=[
            *("problem", "sampler", "within half", "needed", "range"),
            *("best", "typical", "solved", "diverged"),
        ],
        rows=lines,
        texts=2,
    )


def _cost(groups: Sequence[Searches]) -> str:
    samples = groups[0].settings.samples
    return f"{sum(group.steps for group in groups) // samples} searches of {samples} trials"


STUDY = lab.Study(
    name="search",
    title="Does TPE, asked for a batch at a time, search better than chance?",
    lead="Optuna's TPE proposes hyperparameters by the trials that have been trained. In a batch "
    "it proposes several at once, without knowing how the others of the batch turn out; those of "
    "the first batch are random. Here it has its default settings. Random search trains as many "
    "trials of the same problem, and the trials are counted until TPE has found a loss as low as "
    "the best of them. The loss of a quadratic is the squared distance from a random point in a "
    "box of 2 or 4 dimensions. The tasks are learned by a GRU: delayed recall over 40 steps, with "
    "the learning rate and a factor of the recurrent weights (0.5 to 2) to be found; and copying "
    "over 30 steps, with the learning rate and the longest timescale of chrono initialisation (3 "
    "to 300 steps). Rates lie between 0.0001 and 0.1. The loss of a net is its mean over the last "
    f"{SEGMENT} steps of training, on fresh data.",
    settings=Settings(),
    quick=Settings(problems=("quadratic-2", "recall"), seeds=4, quadratic_seeds=10, samples=96),
    groups=groups,
    claims=claims,
    draw=draw,
    answers=answers,
    tables=lambda found: [table(found)],
    read=read,
    cost=_cost,
    terms={
        "seed": "the random optimum of a quadratic; the first weights and the data of nets. They "
        "are the same in all trials, so that no trial is the best by its luck alone",
        "chance": "a second random search would reach the best of the first within half as many "
        "trials one time in three, and within as many one time in two, since all trials are "
        "equally likely to be the best",
    },
    about={"optimiser": "AdamW without decay, gradients clipped to a global norm of 1"},
    alt="Best loss so far by trials, of TPE and of random search, on four problems",
    caption="Where the line of TPE crosses the dashed one, it is as good as the whole random "
    "search. A second random search would not reach it at all, in half of the cases.",
    files=tuple(TABLES),
)
