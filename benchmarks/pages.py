"""The Markdown page of each table."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable

from benchmarks.harness import machine
from benchmarks.harness.contestants import OURS, PEERS
from benchmarks.harness.tables import NONE, Row, between, digits, made_with
from benchmarks.harness.timing import slope
from benchmarks.suites.configurations import KEYS as CONFIGURATION_KEYS
from benchmarks.suites.gpu import KEYS as GPU_KEYS
from benchmarks.suites.gpu import RATIOS
from benchmarks.suites.peers import compare
from benchmarks.suites.sweep import KEYS
from experiments.lab import markdown

Group = list[Row]


def peers(rows: list[Row]) -> str:
    """Tell the times of all contestants, memory and compile time."""
    known = [OURS.name, *PEERS, compare.LIMIT]
    names = [name for name in known if any(row["contestant"] == name for row in rows)]
    parts = ["# seqcells beside its peers", PEERS_TEXT, made_with(rows, machine.COLUMNS)]
    versions = dict.fromkeys(row["version"] for row in rows)
    parts.append(f"Versions: {', '.join(versions)}.")
    for what, title in (("forward", "Forward pass"), ("training", "Value and gradient")):
        groups = _groups([row for row in rows if row["what"] == what], compare.KEYS)
        if groups:
            parts += [f"## {title}, ms", _times(groups, names)]
            parts += [f"## {title}, MiB of temporaries", _table(groups, names, _memory)]
            parts += [f"## {title}, compile time over that of naive", _table(groups, names, _made)]
    parts += _told(rows)
    return "\n\n".join(parts) + "\n"


PEERS_TEXT = """\
Medians over interleaved rounds, quartiles in brackets. "Speed over best" is the time of the
fastest peer over that of seqcells, round by round: above 1, seqcells is faster. A peer whose cell
does less work, or whose outputs differ, is never the fastest. The GEMM limit is the same
multiplications as a few large products, three times those of the forward pass for training. Each
framework has its usual layout, weights and inputs in float32. Before they were timed, outputs were
compared with those of seqcells on the same weights."""


def _groups(rows: list[Row], keys: list[str]) -> list[Group]:
    found: dict[tuple, Group] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return list(found.values())


def _times(groups: list[Group], names: list[str]) -> str:
    head = ["cell", "shape", "B,T,I,H", "speed over best", "best", *names]
    lines = []
    for group in groups:
        best = next((row for row in group if row["best"]), None)
        lines.append(
            [
                *_who(group),
                between(best, "ratio") if best else NONE,
                best["contestant"] if best else NONE,
                *(_of(group, name, lambda row: digits(row["ms"])) for name in names),
            ]
        )
    return markdown(head, lines, texts=3)


def _table(groups: list[Group], names: list[str], show: Callable[[Row], str]) -> str:
    """Lay out one number a contestant, without those that have none."""
    lines = {name: [_of(group, name, show) for group in groups] for name in names}
    shown = [name for name in names if any(cell != NONE for cell in lines[name])]
    rows = [[*_who(group), *(lines[name][i] for name in shown)] for i, group in enumerate(groups)]
    return markdown(["cell", "shape", "B,T,I,H", *shown], rows, texts=3)


def _who(group: Group) -> list[str]:
    return [group[0]["cell"], group[0]["shape"], _sizes(group)]


def _sizes(group: Group) -> str:
    return ",".join(str(group[0][name]) for name in "BTIH")


def _of(group: Group, name: str, show: Callable[[Row], str]) -> str:
    """Show one contestant's number, or that there is none."""
    return next((show(row) for row in group if row["contestant"] == name), NONE)


def _memory(row: Row) -> str:
    return digits(row["temp_mib"])


def _made(row: Row) -> str:
    return digits(row["compile_ratio"])


def _told(rows: list[Row]) -> list[str]:
    """Say which contestants compute something else, and which were not timed."""
    others = dict.fromkeys(
        f"- {row['contestant']}, {row['cell']}: {row['computes']}"
        for row in rows
        if row["contestant"] != compare.LIMIT and row["computes"] != f"{row['cell']}(H)"
    )
    wrong = dict.fromkeys(
        f"- {row['contestant']}, {row['cell']} at {row['shape']}, {row['what']}: {row['status']}"
        for row in rows
        if row["status"] != "ok"
    )
    lists = {"Computing another function": others, "Not timed": wrong}
    return [part for title, lines in lists.items() if lines for part in _listed(title, lines)]


def _listed(title: str, lines: Iterable[str]) -> list[str]:
    return [f"## {title}", "\n".join(lines)]


def sweep(rows: list[Row]) -> str:
    """Tell the times of a sweep."""
    title = "# A sweep: the gradients of many members"
    return _ways(rows, [title, SWEEP_TEXT], KEYS, {"One sweep, ms": "ms"})


def configurations(rows: list[Row]) -> str:
    """Tell how many trainings a second there are."""
    parts = ["# Whole trainings, compiling included", CONFIGURATIONS_TEXT]
    return _ways(rows, parts, CONFIGURATION_KEYS, {"Configurations a second": "per_second"})


def _ways(rows: list[Row], parts: list[str], keys: list[str], columns: dict[str, str]) -> str:
    """Tell of each group what every contestant took, and as a ratio to the first."""
    names = list(dict.fromkeys(row["contestant"] for row in rows))
    parts.append(made_with(rows, machine.COLUMNS))
    for title, column in (columns | {f"Time over that of {names[0]}": "ratio"}).items():
        lines = [
            [
                *(str(group[0][key]) for key in keys),
                *(_of(group, name, functools.partial(between, name=column)) for name in names),
            ]
            for group in _groups(rows, keys)
        ]
        parts += [f"## {title}", markdown([*keys, *names], lines, texts=0)]
    return "\n\n".join(parts) + "\n"


CONFIGURATIONS_TEXT = """\
Learning rates are tried, each from the same start: a GRU is trained with AdamW to put out little on
a batch of 32 sequences of 100 steps with 8 features. Every round begins with nothing compiled.
Medians over interleaved rounds, quartiles in brackets; a dash where it was not timed."""


SWEEP_TEXT = """\
One gradient of mean(ys**2) by the parameters of every member, a GRU, all on the same batch of 32
sequences of 100 steps with 8 features. Medians over interleaved rounds, quartiles in brackets."""


def flags(rows: list[Row]) -> str:
    """Tell what flags cost."""
    names = list(dict.fromkeys(row["contestant"] for row in rows))
    parts = ["# What lengths, masks and resets cost", FLAGS_TEXT]
    parts.append(made_with(rows, machine.COLUMNS))
    for what in dict.fromkeys(row["what"] for row in rows):
        groups = _groups([row for row in rows if row["what"] == what], ["cell", "shape"])
        table = _table(groups, names, functools.partial(between, name="ratio"))
        parts += [f"## {what.capitalize()}, time over that without flags", table]
    return "\n\n".join(parts) + "\n"


FLAGS_TEXT = """\
seqcells with lengths from T/2 to T, with the mask that says the same, and with a reset in one of a
hundred steps, beside seqcells without. Medians over interleaved rounds, quartiles in brackets."""


def gpu(rows: list[Row]) -> str:
    """Tell the time of a step, and the ratios to cuDNN, Flax and the products alone."""
    names = list(dict.fromkeys(row["contestant"] for row in rows))
    parts = ["# A GRU on a GPU", GPU_TEXT, made_with(rows, ["device", "driver", *machine.COLUMNS])]
    columns = {"microseconds a step": "us_step"}
    columns |= {f"time over that of {other}": name for name, other in RATIOS.items()}
    for dtype, what in dict.fromkeys((row["dtype"], row["what"]) for row in rows):
        some = [row for row in rows if (row["dtype"], row["what"]) == (dtype, what)]
        groups = sorted(_groups(some, GPU_KEYS), key=lambda g: [g[0][n] for n in "HBT"])
        for title, column in columns.items():
            shown = [name for name in names if RATIOS.get(column) != name]
            lines = [
                [
                    *(str(group[0][n]) for n in "HBT"),
                    *(_of(group, name, functools.partial(between, name=column)) for name in shown),
                ]
                for group in groups
            ]
            if any(cell != NONE for line in lines for cell in line[3:]):
                parts += [
                    f"## {dtype}, {what}: {title}",
                    markdown([*"HBT", *shown], lines, texts=0),
                ]
    wrong = dict.fromkeys(
        f"- {row['contestant']}, {row['dtype']} {row['what']}, B,T,H "
        f"{row['B']},{row['T']},{row['H']}: {row['status']}"
        for row in rows
        if row["status"] != "ok"
    )
    parts += _listed("Not timed", wrong) if wrong else []
    return "\n\n".join(parts) + "\n"


GPU_TEXT = """\
Forward pass, or value of mean(ys**2) and its gradient by weights and inputs; inputs are as wide as
the carry. Medians over interleaved rounds, quartiles in brackets; below 1, a way is faster than
what it is compared with. "Products alone" are the multiplications of the forward pass as two
products, three times that for training. What differed from float64 was not timed."""


def scaling(rows: list[Row]) -> str:
    """Tell how the cost grows with each size."""
    parts = ["# What a training step of a GRU costs", SCALING_TEXT]
    parts.append(made_with(rows, machine.COLUMNS))
    names = list(dict.fromkeys(row["contestant"] for row in rows))
    for axis in dict.fromkeys(row["axis"] for row in rows):
        groups = _groups([row for row in rows if row["axis"] == axis], ["value"])
        lines = [
            [
                _sizes(group),
                *(_of(group, name, lambda row: between(row, "ms")) for name in names),
            ]
            for group in groups
        ]
        parts += [f"## Against {axis}", markdown(["B,T,I,H", *names], lines, texts=1)]
        parts += _slopes(rows, axis, names)
    return "\n\n".join(parts) + "\n"


def _slopes(rows: list[Row], axis: str, names: list[str]) -> list[str]:
    """Say the exponents: over all values, and between the last two; nothing of one value."""
    lines = []
    for name in names:
        curve = sorted(
            (row["value"], row["ms"])
            for row in rows
            if (row["axis"], row["contestant"]) == (axis, name) and math.isfinite(row["ms"])
        )
        if len(curve) > 1:
            whole, end = (slope(*zip(*part, strict=True)) for part in (curve, curve[-2:]))
            lines.append(f"- {name} grows as {axis}^{whole:.2f}, at the end as {axis}^{end:.2f}")
    return ["\n".join(lines)] if lines else []


SCALING_TEXT = """\
Value and gradient of mean(ys**2); one size varies at a time. Medians over interleaved rounds,
quartiles in brackets; exponents are slopes of logarithms."""
