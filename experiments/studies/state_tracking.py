"""State tracking and recall: which cells learn it with as many weights, and keep it beyond.

Parity, counts modulo 5 and words of the group A5 need a state that every input changes; associative
recall and selective copying need a memory of many things. Nets are trained at one length, and
scored there and at longer ones.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax

import seqcells as sc
from experiments import lab
from seqcells import probes

Cell = Literal[
    "RNN",
    "GRU",
    "LSTM",
    "SLSTM",
    "MinGRU",
    "MinLSTM",
    "RGLRU",
    "Mamba",
    "LRU",
    "S5",
    "MLSTM",
    "RetNet",
    "GatedDeltaNet",
    "GatedDeltaNet (beta to 2)",
]


def _matrix(make: Callable[..., sc.Cell], units: int, **options: float) -> sc.Layer:
    """Return a cell whose four matrices together have 8 numbers for each of its units."""
    cell = make(4 * -(-units // 4), heads=4, key_size=8, **options)
    return sc.Recurrent(cell, engine=sc.Chunkwise(16))


CELLS: dict[str, lab.Make] = {
    "RNN": sc.RNN,
    "GRU": sc.GRU,
    "LSTM": sc.LSTM,
    "SLSTM": sc.SLSTM,
    "MinGRU": sc.MinGRU,
    "MinLSTM": sc.MinLSTM,
    "RGLRU": sc.RGLRU,
    "Mamba": functools.partial(sc.Mamba, state_size=8),
    "LRU": sc.LRU,
    "S5": sc.S5,
    "MLSTM": functools.partial(_matrix, sc.MLSTM),
    "RetNet": functools.partial(_matrix, sc.RetNet),
    "GatedDeltaNet": functools.partial(_matrix, sc.GatedDeltaNet),
    "GatedDeltaNet (beta to 2)": functools.partial(_matrix, sc.GatedDeltaNet, beta_max=2.0),
}
NONLINEAR = ("RNN", "GRU", "LSTM", "SLSTM")
POSITIVE = ("MinGRU", "MinLSTM", "RGLRU", "Mamba")  # diagonal and linear, eigenvalues from 0 to 1
COMPLEX = ("LRU", "S5")  # diagonal and linear, eigenvalues that inputs do not change
MATRIX = ("MLSTM", "RetNet", "GatedDeltaNet")
REFLECTING = ("GatedDeltaNet (beta to 2)",)  # eigenvalues from -1 to 1
VECTOR = (*NONLINEAR, "MinGRU", "MinLSTM", "RGLRU", *COMPLEX)  # a number or two for each unit

Task = Literal["parity", "count modulo 5", "A5 words", "recall", "selective copy"]
PROBES: dict[Task, Callable[[int], probes.Classes]] = {  # of a length
    "parity": probes.Parity,
    "count modulo 5": lambda length: probes.GroupWords("Z60", length, letters=(0, 12)),
    "A5 words": lambda length: probes.GroupWords("A5", length, letters=(16, 24)),
    "recall": lambda length: probes.MQAR(length, pairs=4, vocabulary=64),
    "selective copy": lambda length: probes.SelectiveCopy(length, symbols=4, count=4),
}
LENGTHS: dict[Task, int] = {  # of training, steps
    **dict.fromkeys(("parity", "count modulo 5"), 24),
    **{"A5 words": 20, "recall": 32, "selective copy": 16},
}
WHOLE = {"recall": "associative recall (MQAR)"}


Share = Callable[..., Callable[[lab.Frame], lab.Verdict]]


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    cells: tuple[Cell, ...] = get_args(Cell)  # cells to train
    tasks: tuple[Task, ...] = get_args(Task)  # tasks to train them on
    seeds: int = 6  # trainings of every cell on every task, each from its own random start
    times: tuple[int, ...] = dataclasses.field(default=(2, 4), metadata={"least": 2})
    """times the length of training at which nets are scored too"""
    parameters: int = 10_000  # weights of a net, about
    learning_rate: float = 1e-2  # of all nets, at first; it falls to 0 as half a cosine
    steps: int = 1500
    """steps of training at most; fewer where all runs of a group have learned"""
    batch_size: int = 32  # fresh sequences in a step of training
    eval_size: int = 1000  # fresh sequences per accuracy

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("cells", CELLS), ("tasks", PROBES)):
            for one in getattr(self, name):
                if one not in known:
                    raise lab.BadInput(
                        f"{name}: expected some of {', '.join(map(repr, known))}, got {one!r}; "
                        "choose from these"
                    )


def _net(cell: str, units: int) -> sc.Layer:
    """Return a map to so many features and one block, whose cell has as many units."""
    inner = sc.Stack((sc.CausalConv(4), CELLS[cell](units)))
    return sc.Stack((sc.Dense(units), sc.Block(inner, mlp=sc.MLP(units))))


@functools.lru_cache(maxsize=512)
def _units(cell: str, task: Task, parameters: int) -> int:
    """Return the units that give the net, with its readout, about so many weights."""
    probe = PROBES[task](LENGTHS[task])

    def make(units: int) -> lab.Reader:
        return lab.Reader(_net(cell, units), probe.output_size)

    return lab.as_large(make, probe.input_size, parameters)


@functools.lru_cache(maxsize=len(PROBES))
def _guess(task: Task) -> float:
    """Return the share of right answers of the best guess without memory."""
    probe = PROBES[task](LENGTHS[task])
    sample = probe.sample(jax.random.key(0), 1000)
    return round(float(probe.score(probe.guess(sample), sample.targets).accuracy), 2)


def _group(s: Settings, task: Task, cell: Cell) -> lab.RunGroup:
    length, units = LENGTHS[task], _units(cell, task, s.parameters)
    probe = PROBES[task](length)
    model = lab.Task(_net(cell, units), probe, s.batch_size)
    labels = {
        "task": task,
        "arm": cell,
        "length": length,
        "units": units,
        "parameters": lab.parameters(model.reader, probe.input_size),
        "guess": _guess(task),
    }
    return lab.RunGroup(
        f"{task} {cell}",
        model,
        lab.list_runs(labels, model.net, (s.learning_rate,), s.seeds),
        s.steps,
        lab.Cosine(s.steps),
        eval_size=s.eval_size,
        lengths=tuple(times * length for times in s.times),
        strictness=50,
    )


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups."""
    return [_group(s, task, cell) for task in PROBES if task in s.tasks for cell in s.cells]


def _claim(
    s: Settings, task: Task, times: int, cells: Sequence[str], share: Share, text: str, source: str
) -> list[lab.Claim]:
    """Return the claim that each of these cells has such a share, if some of them are trained.

    Args:
        s: the settings.
        task: the task.
        times: the length at which they are scored, in lengths of training.
        cells: the cells.
        share: `lab.share_at_least` or `lab.share_at_most`; half of the seeds.
        text: what the claim says of the cells, which follow it.
        source: where it comes from.
    """
    length, cells = times * LENGTHS[task], [cell for cell in cells if cell in s.cells]
    if task not in s.tasks or not cells:
        return []
    judges = {cell: share(0.5, task=task, arm=cell, length=length) for cell in cells}

    def judge(rows: lab.Frame) -> lab.Verdict:
        found = {cell: one(rows) for cell, one in judges.items()}
        if not any(verdict.measured for verdict in found.values()):
            return lab.NOT_RUN
        holds = lab.all_hold(verdict.holds for verdict in found.values())
        return lab.Verdict(holds, "; ".join(f"{cell} {v.result}" for cell, v in found.items()))

    beyond = f" ({times} times the length of training)" if times > 1 else ""
    name = _sentence(f"{WHOLE.get(task, task)} over {length} steps{beyond}")
    return [lab.Claim(f"{name}, {', '.join(cells)}: {text}", source, judge)]


def _recalls_more(s: Settings, task: Task, cells: Sequence[str]) -> list[lab.Claim]:
    """Return the claim that each of these cells answers more than every cell of small vectors."""
    cells, others = ([cell for cell in some if cell in s.cells] for some in (cells, VECTOR))
    if task not in s.tasks or not cells or not others:
        return []

    def judge(rows: lab.Frame) -> lab.Verdict:
        rows = lab.pick(rows, task=task, length=LENGTHS[task])
        found = {
            str(arm): lab.of_losses(part["accuracy"])
            for arm, part in rows.groupby("arm", sort=False)
        }
        rest = [found[arm] for arm in others if arm in found]
        ours = {arm: found[arm] for arm in cells if arm in found}
        if not rest or not ours:
            return lab.NOT_RUN
        low, high = max(one.low for one in rest), max(one.high for one in rest)
        parts = [
            True if one.low > high else False if one.high < low else None for one in ours.values()
        ]
        texts = [f"{arm} {one.mid:.2f}" for arm, one in ours.items()]
        most = max(one.mid for one in rest)
        return lab.Verdict(
            lab.all_hold(parts), f"{'; '.join(texts)}; the others at most {most:.2f}"
        )

    name = _sentence(f"{WHOLE.get(task, task)} over {LENGTHS[task]} steps")
    text = "the accuracy of each (geometric mean) is above that of every cell with a number or two "
    text += "a unit"
    return [lab.Claim(f"{name}, {', '.join(cells)}: {text}", "Arora et al. 2023", judge)]


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims: state at the longest length, recall and copying at that of training."""
    most, few = lab.share_at_least, lab.share_at_most
    can, cannot = "most seeds of each solve it", "at most half of the seeds of each solve it"
    last = max(s.times)
    merrill, grazzi = "Merrill, Petty & Sabharwal 2024", "Grazzi et al. 2025"
    listed: tuple[tuple[Task, int, Sequence[str], Share, str, str], ...] = (
        ("parity", last, NONLINEAR, most, can, "Delétang et al. 2023"),
        ("parity", last, POSITIVE, few, cannot, "Sarrof et al. 2024"),
        ("parity", last, MATRIX, few, cannot, f"{grazzi}, theorem 1"),
        ("parity", last, REFLECTING, most, can, grazzi),
        ("parity", last, COMPLEX, most, can, "often read into the two papers above"),
        ("count modulo 5", last, NONLINEAR, most, can, "Delétang et al. 2023"),
        ("count modulo 5", last, REFLECTING, few, cannot, f"{grazzi}, theorem 2, for one layer"),
        ("A5 words", last, ("RNN", "GRU", "SLSTM"), most, can, merrill),
        ("A5 words", last, (*POSITIVE, *COMPLEX), few, cannot, merrill),
        ("recall", 1, MATRIX, most, can, "Arora et al. 2023"),
        ("recall", 1, VECTOR, few, cannot, "Arora et al. 2023"),
        ("selective copy", 1, ("Mamba",), most, can, "Gu & Dao 2023"),
        ("selective copy", 1, COMPLEX, few, cannot, "Gu & Dao 2023"),
    )
    found = [
        claim
        for task, times, cells, share, text, source in listed
        for claim in _claim(s, task, times, cells, share, text, source)
    ]
    return [*found, *_recalls_more(s, "recall", MATRIX)]


def _lengths(rows: lab.Frame) -> list[int]:
    """Return the lengths of a task, that of training first."""
    return sorted(set(rows["length"]))


def _solvers(rows: lab.Frame) -> list[str]:
    """Return the cells of which most seeds solve it."""
    return [arm for arm, some in rows.groupby("arm", sort=False) if lab.count(some).most]


def answers(rows: lab.Frame) -> list[str]:
    """Say of each task which cells solve it, and which do so beyond the length of training."""
    found = []
    for task, some in rows.groupby("task", sort=False):
        first, *_, last = (lengths := _lengths(some)) + lengths[:1] * (len(lengths) == 1)
        near, far = (_solvers(lab.pick(some, length=length)) for length in (first, last))
        near = [arm for arm in near if arm not in far]
        text = f"{WHOLE.get(task, task)}, over {last} steps: most seeds of {_named(far)} solve it"
        also = f"; over the {first} steps of training alone: {lab.words(near)}" if near else ""
        found.append(f"{_sentence(text)}{also}.")
    return found


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _named(cells: Sequence[str]) -> str:
    return lab.words(cells) if cells else "no cell"


def accuracies(rows: lab.Frame) -> list[lab.Table]:
    """Return a table with a row for each task and cell."""
    lines = []
    for (task, arm), some in rows.groupby(["task", "arm"], sort=False):
        parts = [lab.pick(some, length=length) for length in _lengths(some)]
        texts = [
            f"{len(part) and part['accuracy'].mean():.3f} ({lab.count(part).k} of {len(part)})"
            for part in parts
        ]
        first = parts[0].iloc[0]
        sizes = [str(first["units"]), str(first["parameters"]), str(first["steps"])]
        time = lab.short(1e3 * float(parts[0]["seconds_per_step"].median()))
        lines.append([task, arm, *texts, *sizes, time])
    times = sorted({n // min(_lengths(t)) for _, t in rows.groupby("task") for n in _lengths(t)})
    names = ["length of training" if n == 1 else f"{n} times" for n in times]
    table = lab.Table(
        title="Accuracy",
        caption="Share of right answers, mean over the seeds, and how many seeds solve the task, "
        "at the length of training and at so many times that length. Steps: of training. Time: ms "
        "per step of one run, trained together with its group.",
        head=["task", "cell", *names, "units", "parameters", "steps", "ms per step"],
        rows=lines,
        texts=2,
    )
    return [table]


STUDY = lab.Study(
    name="state_tracking",
    title="State tracking and recall, by cells with as many weights",
    lead="Every net is a map of the input, one block (norm, causal convolution over 4 steps, the "
    "cell, a map back, then norm and perceptron, each half added to its input) and a readout; its "
    "width is chosen so that all of these together have about as many weights. Parity, and count "
    "modulo 5: of the ones so far. A5 words: the product so far of two permutations that generate "
    "the group A5. Recall: four keys with their values, then each key asks for its value, after "
    "gaps (MQAR). Selective copy: four symbols at random steps among noise, to be repeated at the "
    "end. Parity, count and A5 words are solved with an accuracy above 0.9, recall above 0.99, and "
    "selective copying when all symbols are right in 99 % of the sequences. All nets have the same "
    "learning rate, which falls to 0.",
    settings=Settings(),
    quick=Settings(
        cells=("GRU", "MinGRU", "LRU", "MLSTM", "GatedDeltaNet", "GatedDeltaNet (beta to 2)"),
        tasks=("parity", "recall"),
        seeds=4,
        times=(4,),
        parameters=4000,
        steps=500,
    ),
    groups=groups,
    claims=claims,
    draw=lab.draw_accuracy,
    answers=answers,
    tables=accuracies,
    terms={
        "guess": "the share of right answers of a guess, where the colours of the picture start",
        "GatedDeltaNet (beta to 2)": "a step may turn the sign of what a key held; otherwise beta "
        "is at most 1",
    },
    about={"optimiser": "Adam, gradients clipped to a global norm of 1"},
    caption="A row that stays bright from the left column of a task, the length of training, to "
    "the right one is a cell that has learned the rule. One that darkens has learned sequences of "
    "that length alone, and a dark row nothing.",
)
