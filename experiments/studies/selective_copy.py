"""Selective copying: GRU against minGRU and LRU, with equal numbers of parameters.

Symbols at random steps in noise must be repeated in order. A net must select what it stores, so its
gate must depend on the input; the gate of a minGRU depends only on the input.
"""

from __future__ import annotations

import dataclasses
import functools

import seqcells as sc
from experiments import lab
from seqcells import probes


def _stack(make: lab.Make, layers: int, units: int) -> sc.Stack:
    return sc.Stack((make(units),) * layers)


ARMS: dict[str, lab.Make] = {
    "GRU": sc.GRU,
    "tanh": sc.RNN,
    "minGRU, 1 layer": sc.MinGRU,
    "minGRU, 2 layers": functools.partial(_stack, sc.MinGRU, 2),
    "minGRU, 3 layers": functools.partial(_stack, sc.MinGRU, 3),
    "LRU, 2 layers": functools.partial(_stack, sc.LRU, 2),
}


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study."""

    seeds: int = 10  # runs per setting, each with its own random seed
    lengths: tuple[int, ...] = (32,)  # lengths of noise and symbols, steps
    symbols: int = 4  # number of different symbols, without the noise
    count: int = 4  # symbols to repeat per sequence
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)  # learning rates; each net is judged at its best
    steps: int = 3000
    """maximal training steps; a group stops early once all its runs have learned"""
    hidden_size: int = 64  # units of the GRU; the other nets get about as many parameters
    batch_size: int = 32  # sequences per training step


def _group(s: Settings, arm: str, length: int) -> lab.RunGroup:
    probe = probes.SelectiveCopy(length, symbols=s.symbols, count=s.count)
    wanted = lab.parameters(sc.GRU(s.hidden_size), probe.input_size)
    units = lab.as_large(ARMS[arm], probe.input_size, wanted)
    net = ARMS[arm](units)
    sizes = {"units": units, "parameters": lab.parameters(net, probe.input_size)}
    labels = {"task": "selective copy", "arm": arm, "length": length, **sizes}
    runs = lab.list_runs(labels, net, s.rates, s.seeds)
    return lab.RunGroup(f"{arm} {length}", lab.Task(net, probe, s.batch_size), runs, s.steps)


def groups(s: Settings) -> list[lab.RunGroup]:
    """List the groups."""
    return [_group(s, arm, length) for length in s.lengths for arm in ARMS]


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    return [
        lab.Claim(
            f"Over {length} steps, with equal numbers of parameters, more seeds of a GRU solve it "
            f"than of {arm}",
            "our own comparison",
            lab.ahead("GRU", arm, length=length),
        )
        for length in s.lengths
        for arm in ARMS
        if arm != "GRU"
    ]


STUDY = lab.Study(
    name="selective_copy",
    title="Selective copying: GRU, minGRU and LRU with as many parameters",
    lead="Symbols stand at random steps among noise, and must be repeated in order at the end; "
    "solved when all of them are right in 99 % of the sequences. The width of each network is "
    "chosen to match the GRU's number of parameters; the best of three learning rates counts.",
    settings=Settings(),
    quick=Settings(seeds=4, lengths=(16,), count=2, rates=(3e-3,), steps=600),
    groups=groups,
    claims=claims,
    draw=functools.partial(
        lab.draw_success, x="learning_rate", panel="length", label="learning rate"
    ),
    caption="A line that comes near 1 at any learning rate is a net that can learn the task; the "
    f"more rates, the easier. {lab.OVERLAP}",
)
