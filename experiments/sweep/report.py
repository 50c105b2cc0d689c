"""The report of a sweep, from its folder: ranks, learning curves, slices and a surface."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments import lab
from experiments.sweep import command, picture, population, search_picture, searches
from experiments.sweep.ranking import Ranked, rank, ranks, rivals, varied
from experiments.sweep.settings import Settings
from seqcells import _check, sweep

SILENT = 15  # seconds without a sign of life of a worker that are worth a word
SHOWN = 20  # rows of the rank table on the page


def status(out: Path, console: Console) -> None:
    """Print the progress of a sweep, without changing it."""
    try:
        settings, result, about = command.load(out, history="unfinished")
    except command.NotBegun as error:
        lab.say(console, str(error))
        return
    counts = Counter(result.column("status"))
    text = ", ".join(f"{counts[name]} {name}" for name in counts)
    lab.say(console, f"{about['command']}\n{len(result.rows)} trials: {text}.")
    if training := _training(result, settings.steps):
        ago = time.time() - max(file.stat().st_mtime for file in out.rglob("metrics.jsonl"))
        lab.say(console, f"{training}, {max(ago, 0):.0f} s ago.")
    for one in sweep.workers(out):
        lab.say(console, _worker(one, result.metric))
    if ranked := ranks(result):
        lab.print_table(console, rank_table(result, ranked[:5]))
    if counts["unfinished"]:
        text = "If no process is running it, continue it with"
        lab.say(console, f"{text}: python -m experiments resume {out}")


def _training(result: sweep.Result, steps: int) -> str:
    """Return the progress of the trials in training, in words; "" if there are none."""
    last = result.training()
    if not last:
        return ""
    at = sorted(line["step"] for line in last)
    where = f"{at[0]}" if at[0] == at[-1] else f"{at[0]} to {at[-1]}"
    values = [line["metrics"][result.metric] for line in last]
    values = [value for value in values if math.isfinite(value)] or [math.nan]
    best = (min if result.mode == "min" else max)(values)
    text = f"{len(last)} in training at step {where} of {steps}"
    return f"{text}, best {result.metric} {lab.short(best)}"


def _worker(one: sweep.Worker, metric: str) -> str:
    """Return what a worker does, in words."""
    best = f", best {metric} {lab.short(one.best)}" if one.step else ""
    silent = f", silent for {one.silent:.0f} s" if one.silent > SILENT else ""
    return f"Process {one.pid} on {one.host}: {one.alive} trials at step {one.step}{best}{silent}."


def report_finished(result: sweep.Result, out: Path, console: Console) -> None:
    """Report what is finished, if anything is."""
    if set(result.column("status")) != {"unfinished"}:
        report(out, console)


def report(out: Path, console: Console) -> None:
    """Draw the picture and write the page and the table, using only the files in `out`."""
    settings, result, about = command.load(out)
    parts = _parts(settings, result, out)
    left = settings.trials - sum(status != "unfinished" for status in result.column("status"))
    title = f"Sweep of {about['probe']}"
    page = lab.Page(
        title=title,
        lead=f"{settings.trials} trials, ranked by their {result.metric} over the last segment.",
        picture=out / "sweep.png",
        headlines=[parts.headline],
        tables=[parts.table],
        provenance=lab.provenance({**about, "settings": {}}),
        footer="Every number is computed from the files next to this page.",
        terms=parts.terms,
        alarm=f"{left} of {settings.trials} trials are not finished." if left else "",
        caption=parts.caption,
        alt=f"{title}: {parts.alt}",
    )
    picture.draw(parts.panels, result, page.picture)
    page.write(out)
    lab.print_table(console, parts.table)
    lab.say(console, f"{parts.headline}\nReport: {out / lab.REPORT}")


class Parts(NamedTuple):
    """What differs between the reports of a sweep, a search and a population."""

    headline: str
    table: lab.Table
    panels: list[picture.Panel]
    terms: dict[str, str]
    caption: str
    alt: str


def _parts(settings: Settings, result: sweep.Result, out: Path) -> Parts:
    ranked = rank(result)
    if not ranked:
        raise lab.BadInput(f"out: expected a sweep with finished trials, got {out} with none")
    if pbt := command.population(settings):
        moved = [str(name) for name in pbt.perturb]
        return Parts(
            headline=population.headline(result, moved),
            table=population.table(result, moved),
            panels=population.panels(result, moved),
            terms=population.TERMS,
            caption="Look first at the black lines: the schedule that led to the best trial.",
            alt=f"{result.metric} and hyperparameters of all trials by step, and the best lineage",
        )
    of_sweep = Parts(
        headline=headline(result, ranked),
        table=rank_table(result, ranked[:SHOWN]),
        panels=picture.panels(result, ranked, settings.space.distributions),
        terms=TERMS,
        caption="In the slices, look first at the value where the black line is best, then whether "
        "the dots beside it, which are other trials, are as good.",
        alt=f"learning curves of the best, and the {result.metric} by each hyperparameter",
    )
    if settings.search is None:
        return of_sweep
    first, *others = of_sweep.panels
    return of_sweep._replace(
        panels=[first, *search_picture.panels(searches.kept(out), result), *others],
        terms=TERMS | search_picture.TERMS,
        caption="Look first whether the best so far still improves, then at the hyperparameters "
        "that are important: whether the best proposals lie at an end of their range.",
        alt=f"{of_sweep.alt}, the best so far, importances and all proposals",
    )


TERMS = {
    "trial": "one training, of one configuration from one seed",
    "mean": "the mean over the seeds that stayed finite, with Student's 95 % interval; if all "
    "values are positive, the geometric mean, with the interval of the logarithms",
    "diverged": "seeds whose loss was no longer finite; a configuration with one ranks last",
    "pruned": "stopped early because others of its batch were better",
    "curves": "the median over seeds of means over a segment, in a band from minimum to maximum; a "
    "diverged seed counts as the worst; the legend lists values in the order of the table",
    "slices": "every trial by one hyperparameter, for all values of the others; the line joins the "
    "best trial of each value, unless values were drawn; crosses at the edge have diverged, or lie "
    "beyond a million",
    "surface": "the median over seeds by two hyperparameters, with the others as in the best "
    "configuration, which the title names; empty where it diverged",
}


def headline(result: sweep.Result, ranked: Sequence[Ranked]) -> str:
    """Return which configuration is the best, and whether its lead is more than chance."""
    best = ranked[0]
    if math.isnan(best["mean"]):
        return f"No configuration has a finite {result.metric}."
    names = varied(result)
    where = (
        lab.words([f"{name} {_text(best[name])}" for name in names]) if names else "the only one"
    )
    text = f"Best: {where}, with a {result.metric} of {_interval(best)}."
    if best["diverged"]:
        text += f" {best['diverged']} of its seeds diverged; all others have diverged seeds too."
    if len(ranked) > 1 and best["n"] < 2:
        return f"{text} With one seed, the lead may be chance."
    if found := rivals(result, ranked):
        text += (
            f" {len(found)} other{'s' * (len(found) > 1)} cannot be distinguished from it: the "
            "95 % interval of the difference contains 0."
        )
    return text


def rank_table(result: sweep.Result, ranked: Sequence[Ranked]) -> lab.Table:
    """Return the table of the best configurations, with intervals."""
    names = varied(result)
    rows = [
        [
            *(_text(row[name]) for name in names),
            lab.short(row["mean"]),
            _ends(row),
            str(row["n"]),
            str(row["diverged"]),
            f"{row['steps']:.0f}",
        ]
        for row in ranked
    ]
    count = len(set(zip(*map(result.column, names), strict=True))) if names else 1
    return lab.Table(
        title="The best configurations" if len(ranked) < count else "All configurations",
        caption=f"{len(ranked)} of {count}, the best first: mean {result.metric} over the seeds "
        "and its 95 % interval, seeds that stayed finite and those that diverged, and steps.",
        head=[*names, result.metric, "interval", "seeds", "diverged", "steps"],
        rows=rows,
        texts=sum(isinstance(result.rows[0][name], str) for name in names),  # static: they lead
    )


def _text(value: object) -> str:
    return lab.decimal(value) if isinstance(value, float) else str(value)


def _ends(row: Ranked) -> str:
    return "one seed" if row["n"] < 2 else f"{lab.short(row['low'])} to {lab.short(row['high'])}"


def _interval(row: Ranked) -> str:
    ends = _ends(row) if row["n"] < 2 else f"95 % interval {_ends(row)}"
    return f"{lab.short(row['mean'])} ({ends})"


def to_tensorboard(out: Path) -> int:
    """Write the history for TensorBoard, one run per trial; return the number of runs."""
    _, result, _ = command.load(out)
    writer_of = _check.extra("tensorboardX", "seqcells[tensorboard]").SummaryWriter
    lines = sorted(result.history, key=lambda line: line["id"])
    rows = {row["id"]: row for row in result.rows}
    for name, part in itertools.groupby(lines, key=lambda line: line["id"]):
        with writer_of(str(out / "tensorboard" / name)) as writer:
            fields = {n: rows[name][n] for n in result.fields}
            writer.add_hparams(fields, {f"final/{result.metric}": rows[name][result.metric]})
            for line in part:
                for metric, value in line["metrics"].items():
                    writer.add_scalar(metric, value, line["step"])
    return len({line["id"] for line in lines})
