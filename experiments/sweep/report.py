"""The report of a sweep, from its folder: ranks, learning curves, slices and a surface."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from experiments import lab
from experiments.sweep import command
from seqcells import _check, sweep

BEST = 5  # configurations of which curves are drawn
SHOWN = 20  # rows of the rank table on the page
SEED = "seed"  # the field whose values are repetitions
Ranked = dict[str, Any]  # a configuration: a line of `sweep.Result.ranked`


def status(out: Path, console: Console) -> None:
    """Print the progress of a sweep, without touching it."""
    _, settings, _ = command.read_sweep(out)
    try:
        _, result, about = command.load(out)
    except command.NotBegun as error:
        lab.say(console, str(error))
        return
    counts = Counter(row["status"] for row in result.rows)
    text = ", ".join(f"{counts[name]} {name}" for name in counts)
    lab.say(console, f"{about['command']}\n{len(result.rows)} trials: {text}.")
    if training := _training(result, settings.steps):
        ago = time.time() - max(file.stat().st_mtime for file in out.rglob("metrics.jsonl"))
        lab.say(console, f"{training}, {max(ago, 0):.0f} s ago.")
    if ranked := result.ranked():
        lab.print_table(console, rank_table(result, ranked[:5]))
    if counts["unfinished"]:
        text = "If no process is at it, continue it with"
        lab.say(console, f"{text}: python -m experiments resume {out}")


def _training(result: sweep.Result, steps: int) -> str:
    """Say how far the trials are that have begun and not ended; nothing if there are none."""
    open_ids = {row["id"] for row in result.rows if row["status"] == "unfinished"}
    last = {line["id"]: line for line in result.history if line["id"] in open_ids}  # in order
    if not last:
        return ""
    at = sorted(line["step"] for line in last.values())
    where = f"{at[0]}" if at[0] == at[-1] else f"{at[0]} to {at[-1]}"
    values = [line["metrics"][result.metric] for line in last.values()]
    values = [value for value in values if math.isfinite(value)] or [math.nan]
    best = (min if result.mode == "min" else max)(values)
    text = f"{len(last)} in training at step {where} of {steps}"
    return f"{text}, best {result.metric} {lab.short(best)}"


def report(out: Path, console: Console) -> None:
    """Draw the picture, write the page and the table; from the files in `out` alone."""
    probe, result, about = command.load(out)
    ranked = result.ranked()
    if not ranked:
        raise lab.BadInput(f"out: expected a sweep with finished trials, got {out} with none")
    table = rank_table(result, ranked[:SHOWN])
    left = sum(row["status"] == "unfinished" for row in result.rows)
    title = f"Sweep of {probe}"
    page = lab.Page(
        title=title,
        lead=f"{len(result.rows)} trials, ranked by their {result.metric} over the last segment.",
        picture=out / "sweep.png",
        headlines=[headline(result, ranked)],
        tables=[table],
        provenance=lab.provenance({**about, "settings": {}}),
        footer="Every number is computed from results.csv and metrics.jsonl, beside this page.",
        terms=TERMS,
        alarm=f"{left} of {len(result.rows)} trials are not finished." if left else "",
        alt=f"{title}: learning curves of the best, and the {result.metric} by each hyperparameter",
    )
    draw(result, ranked, page.picture)
    page.write(out)
    lab.print_table(console, table)
    lab.say(console, f"{headline(result, ranked)}\nReport: {out / lab.REPORT}")


TERMS = {
    "trial": "one training, of one configuration from one seed",
    "mean": "over the seeds whose training stayed finite, with Student's 95 % interval",
    "diverged": "seeds whose loss was no longer finite; a configuration with one ranks last",
    "pruned": "stopped early because others of its batch were better",
    "curves": "the mean over seeds, each a mean over a segment, in a band from the least to the "
    "most; in the legend, the values in the order of the table",
    "slices": "every trial by one hyperparameter, whatever the others were; the line joins the "
    "best of each value",
}


def headline(result: sweep.Result, ranked: Sequence[Ranked]) -> str:
    """Say which configuration is the best, and whether its lead is more than chance."""
    best = ranked[0]
    if math.isnan(best["mean"]):
        return f"No configuration has a finite {result.metric}."
    names = varied(result)
    where = (
        lab.words([f"{name} {_text(best[name])}" for name in names]) if names else "the only one"
    )
    text = f"Best: {where}, with a {result.metric} of {_interval(best)}."
    rivals = [row for row in ranked[1:] if _overlap(best, row)]
    if rivals:
        several = len(rivals) > 1
        text += (
            f" {len(rivals)} other{'s' * several} cannot be distinguished from it: "
            f"{'their' if several else 'its'} intervals overlap."
        )
    return text


def _overlap(one: Ranked, other: Ranked) -> bool:
    """Whether intervals overlap; True where there is only one seed, and so no interval."""
    ends = [one["low"], one["high"], other["low"], other["high"]]
    same = other["diverged"] == 0 and other["steps"] == one["steps"]
    return same and (any(map(math.isnan, ends)) or (ends[0] <= ends[3] and ends[2] <= ends[1]))


def varied(result: sweep.Result) -> list[str]:
    """The fields that have more than one value, but for the seed."""
    return [n for n in result.fields if n != SEED and len({row[n] for row in result.rows}) > 1]


def rank_table(result: sweep.Result, ranked: Sequence[Ranked]) -> lab.Table:
    """The best configurations, and by how much."""
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
    count = len({tuple(row[name] for name in names) for row in result.rows})
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


@lab.styled
def draw(result: sweep.Result, ranked: Sequence[Ranked], path: Path) -> None:
    """Draw curves of the best, a slice for each field and a surface over the two widest."""
    frame: lab.Frame = result.to_pandas()
    names = varied(result)
    frame = frame[frame["status"] != "unfinished"]
    wide = sorted((n for n in names if _numeric(frame[n])), key=lambda n: -frame[n].nunique())
    pair = [n for n in wide if frame[n].nunique() > 2][:2]
    panels = 1 + len(names) + (len(pair) == 2)
    rows, columns = math.ceil(panels / 3), min(panels, 3)
    figure = Figure(figsize=(5 * columns + 0.6, 4.3 * rows), dpi=140, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    _curves(axes[0], result, ranked[:BEST])
    for one, name in zip(axes[1:], names, strict=False):
        _slice(one, frame, name, result)
    if len(pair) == 2:
        _surface(axes[1 + len(names)], frame, pair, result)
    for one in axes[panels:]:
        one.remove()
    lab.save(figure, path)


def _numeric(column: lab.Frame) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def _curves(axes: Axes, result: sweep.Result, ranked: Sequence[Ranked]) -> None:
    """Draw the mean over seeds, and a band from the least to the most."""
    lines: lab.Frame = pd.DataFrame(
        {"id": h["id"], "step": h["step"], "y": h["metrics"][result.metric]} for h in result.history
    )
    lines = lines.merge(result.to_pandas()[["id", *varied(result)]], on="id")
    for row, colour in zip(ranked, lab.COLOURS, strict=False):
        part = lines
        for name in varied(result):
            part = part[part[name] == row[name]]
        over = part.groupby("step")["y"]
        label = ", ".join(_text(row[name]) for name in varied(result)) or "the configuration"
        axes.plot(over.mean(), color=colour, label=label)
        axes.fill_between(over.min().index, over.min(), over.max(), color=colour, alpha=0.15, lw=0)
    _metric_axis(axes, lines["y"], result)
    axes.set(title="The best, over training: mean, least, most", xlabel="step")
    axes.legend(frameon=False, fontsize=10)


def _slice(axes: Axes, frame: lab.Frame, name: str, result: sweep.Result) -> None:
    """Draw every trial by one field, and what is reached at each value at best."""
    known = sorted(set(frame[name]))
    numbers = _numeric(frame[name])
    at = frame[name] if numbers else frame[name].map(known.index)
    finite = frame["status"] != "diverged"
    axes.plot(at[finite], frame[result.metric][finite], "o", color=lab.COLOURS[0], alpha=0.35, ms=5)
    best = frame[finite].groupby(at[finite])[result.metric].agg(result.mode)
    axes.plot(best, color=lab.COLOURS[1], label="the best trial")
    lost = at[~finite]
    if len(lost):
        axes.plot(
            lost,
            np.full(len(lost), 0.98),
            "x",
            transform=axes.get_xaxis_transform(),
            color=lab.COLOURS[5],
            label="diverged",
        )
    if numbers:
        _number_axis(axes.set_xscale, known)
    else:
        axes.set_xticks(range(len(known)), [str(value) for value in known])
        axes.set_xlim(-0.5, len(known) - 0.5)
    _metric_axis(axes, frame[result.metric][finite], result)
    axes.set(title=name.replace("_", " "), xlabel=name.replace("_", " "))
    axes.legend(frameon=False, fontsize=10)


def _surface(axes: Axes, frame: lab.Frame, pair: list[str], result: sweep.Result) -> None:
    """Draw the mean over all other fields, by two."""
    x, y = pair
    finite = frame[frame["status"] != "diverged"]
    table = finite.pivot_table(result.metric, y, x, aggfunc="mean")
    positive = bool((table.stack() > 0).all())
    norm = "log" if positive and table.max().max() > 20 * table.min().min() else None
    image = axes.imshow(
        table, origin="lower", aspect="auto", cmap="cividis", norm=norm, interpolation="none"
    )
    axes.set_xticks(range(len(table.columns)), [*map(lab.short, table.columns)], rotation=45)
    axes.set_yticks(range(len(table.index)), [*map(lab.short, table.index)])
    axes.set(title=f"Mean {result.metric}", xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(image, ax=axes, label=f"mean {result.metric}")


def _metric_axis(axes: Axes, values: lab.Frame, result: sweep.Result) -> None:
    values = values[np.isfinite(values)]
    _number_axis(axes.set_yscale, list(values))
    axes.set_ylabel(result.metric)


def _number_axis(scale: Callable[[str], None], values: Sequence[float]) -> None:
    """Use a logarithmic scale where values are positive and far apart."""
    if values and min(values) > 0 and max(values) > 20 * min(values):
        scale("log")


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
