"""The options of a sweep: probes, cells, and hyperparameters typed as text."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import jax.numpy as jnp
import tyro

import seqcells as sc
from experiments.lab import CHRONO, IRNN, TANH, BadInput, BadValue, CheckedSettings
from seqcells import probes, sweep
from seqcells._static import named


def _made_of(field: str, kinds: dict[str, type]) -> dict[str, type]:
    """Select the dataclasses that need no other argument than this field."""
    return {
        name: kind
        for name, kind in kinds.items()
        if field in kind.__dataclass_fields__
        and all(f.name == field or hasattr(kind, f.name) for f in dataclasses.fields(kind))
    }


_PROBES = [k for k in vars(probes).values() if isinstance(k, type) and dataclasses.is_dataclass(k)]
PROBES: dict[str, Callable[..., probes.Probe]] = _made_of(
    "length", {kind.__module__.rpartition(".")[2]: kind for kind in _PROBES}
)
_CELLS = {n.lower(): kind for n, kind in named().items() if issubclass(kind, sc.Cell)}


def _complete(_: None, x: jax.Array) -> sc.GRUDInputs:
    """Say of the features of a step that all are observed, a unit of time after the step before."""
    return sc.GRUDInputs(x, jnp.ones_like(x, bool), jnp.ones_like(x[..., :1]))


FRONTS: dict[
    type[sc.Cell], Callable[[int], sc.Layer]
] = {  # layers before cells that cannot read a probe
    sc.GRUD: lambda _: sc.Pointwise(None, _complete),
    sc.Mamba: sc.Dense,
    sc.RGLRU: sc.Dense,
}


def _net(kind: type[sc.Cell], size: int) -> sc.Cell | sc.Layer:
    """Make a cell with its defaults, after what it needs to read the features of a probe."""
    cell: sc.Cell = kind(size)
    return sc.Stack((FRONTS[kind](size), cell)) if kind in FRONTS else cell


CELLS: dict[str, Callable[[int, int], sc.Cell | sc.Layer]] = {  # (hidden_size, longest time)
    **{
        name: lambda size, _, kind=kind: _net(kind, size)
        for name, kind in _made_of("hidden_size", _CELLS).items()
        if kind in FRONTS or kind(8).x_ndim == 1  # others read images
    },
    **{"gru-chrono": CHRONO.start, "tanh": TANH.start, "irnn": IRNN.start},
}
OrNone = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Values = Any  # the values of a field of `sweep.Space`: numbers or a distribution
RANGES: dict[str, Callable[..., Values]] = {
    "log": lambda low, high, n: sweep.log(float(low), float(high), int(n)),
    "linear": lambda low, high, n: sweep.linear(float(low), float(high), int(n)),
    "loguniform": lambda low, high: sweep.log_uniform(float(low), float(high)),
    "uniform": lambda low, high: sweep.uniform(float(low), float(high)),
}
DISTRIBUTIONS = type(sweep.uniform(0, 1)), type(sweep.log_uniform(1, 2))
GRID, WIDE = "log:1e-3:1e-2:3", "loguniform:1e-4:1e-1"  # learning rates, unless they are given
SAMPLERS = {  # of Optuna: the class, and a package that it needs
    "tpe": ("TPESampler", "numpy"),
    "gp": ("GPSampler", "torch"),
    "cmaes": ("CmaEsSampler", "cmaes"),
    "qmc": ("QMCSampler", "scipy"),
    "random": ("RandomSampler", "numpy"),
}
if TYPE_CHECKING:
    CellName = SamplerName = str
else:  # the choices of the command line
    CellName, SamplerName = Literal[tuple(CELLS)], Literal[tuple(SAMPLERS)]
LEAST = {"init_gain": -math.inf}  # minima of the fields below; 0 for the others
FORMS = "1e-3,1e-2 or log:1e-4:1e-1:16, linear:0:1:5, loguniform:1e-4:1e-1, uniform:0:1"


@dataclasses.dataclass(frozen=True)
class Swept:
    """Hyperparameters that one program varies over its trials.

    Each is a list (1e-3,1e-2), a grid (log:1e-4:1e-1:16, linear:0:1:5) or a
    distribution (loguniform:1e-4:1e-1, uniform:0:1), which needs --samples.
    """

    learning_rate: Annotated[
        str | None, tyro.conf.arg(aliases=["--sweep.lr"], metavar="STR", help_behavior_hint="")
    ] = None
    """learning rate of AdamW; log:1e-3:1e-2:3, or loguniform:1e-4:1e-1 to search"""
    max_norm: str = "1"
    """global norm to which gradients are clipped"""
    weight_decay: str = "0"
    """weight decay of AdamW"""
    init_gain: str = "1"
    """factor on the initial recurrent weights; 1 for cells without any"""


@dataclasses.dataclass(frozen=True)
class Static:
    """Settings that change the program; one is compiled for each combination."""

    cell: tuple[CellName, ...] = ("gru",)
    """cells to compare; mamba and rglru read a dense layer, grud a series without gaps"""
    hidden_size: tuple[int, ...] = (32,)
    """units of every net"""
    length: tuple[int, ...] = (20,)
    """lengths of the probe: steps, lag or delay, depending on the probe"""
    batch_size: tuple[int, ...] = (32,)
    """sequences per training step"""


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Settings of a sweep."""

    sweep: Swept = Swept()
    static: Static = Static()
    seeds: int = 3
    """trials per configuration, each with its own random seed"""
    samples: OrNone = None
    """draws from distributions; if not given, 128 with --search and 32 with --pbt"""
    steps: int = 500
    """training steps, a multiple of the segment"""
    segment: int = 50
    """training steps between two checks of the metrics"""
    halve_every: OrNone = None
    """prune the worse half every so many steps; never if not given"""
    search: Annotated[SamplerName | None, tyro.conf.arg(help_behavior_hint="")] = None
    """have a sampler of Optuna propose the trials, a batch at a time"""
    pbt: OrNone = None
    """evolve a population: copies of the best replace the worst every so many steps"""
    batch: int | Literal["auto"] = "auto"
    """trials to train together; auto: as many as fit into memory, or 16 with --search"""

    @functools.cached_property
    def space(self) -> sweep.Space:
        """The space of the trials; of a search, that of the proposals, without seeds.

        Raises:
            BadInput: a field is out of range.
        """
        draws = 0 if self.search is self.pbt is None else 32 if self.search is None else 128
        texts = {**vars(self.sweep)}
        if texts["learning_rate"] is None:
            texts["learning_rate"] = WIDE if draws else GRID
        try:
            fields = {n: values(f"sweep.{n}", t, LEAST.get(n, 0.0)) for n, t in texts.items()}
            drawn = any(isinstance(one, DISTRIBUTIONS) for one in fields.values())
            samples = draws if draws and drawn and self.samples is None else self.samples
            if self.search is None:
                fields["seed"] = range(self.seeds)
            static = {n: list(v) for n, v in dataclasses.asdict(self.static).items()}
            return sweep.Space(samples=samples, static=static, **fields)
        except (TypeError, ValueError) as error:
            raise BadInput(str(error)) from None

    @property
    def trials(self) -> int:
        """The number of trials, of all seeds."""
        space = self.space
        return len(space) if self.search is None else len(space.draws) * self.seeds


def values(name: str, text: str, least: float = 0.0) -> Values:
    """Parse values such as 1e-3,1e-2 or log:1e-4:1e-1:16.

    Raises:
        BadValue: the text has none of these forms, or a number is below `least` or NaN.
    """
    kind, *numbers = text.split(":")
    try:
        read = RANGES[kind](*numbers) if numbers else [float(one) for one in text.split(",")]
        if not all(one >= least for one in read):
            raise ValueError(f"expected numbers of at least {least:g}")
        return read
    except (KeyError, TypeError, ValueError) as error:
        why = f" ({error})" if isinstance(error, ValueError) else ""
        raise BadValue(f"{name}: expected {FORMS}, got {text!r}{why}") from None


def probe(name: str, length: int) -> probes.Probe:
    """Make a probe of this length.

    Raises:
        BadInput: the probe does not support it.
    """
    try:
        return PROBES[name](length=length)
    except ValueError as error:
        raise BadInput(f"static.length: {name} does not support {length}: {error}") from None
