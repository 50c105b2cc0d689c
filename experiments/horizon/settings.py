"""What the study can be told, and the cells that it measures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, get_args

import tyro

import seqcells as sc
from experiments.lab import CHRONO, GRU, IRNN, TANH, BadInput, positive, several, whole

Name = Literal["tanh orthogonal", "IRNN identity", "GRU default", "GRU chrono"]  # of CONTENDERS
_Factors = Annotated[  # or the help would show a third with sixteen digits
    tuple[float, ...], tyro.conf.arg(help_behavior_hint="(default: a third, 3 and 9)")
]


@dataclasses.dataclass(frozen=True)
class Budget:
    """How a cell is trained, with AdamW and gradients clipped to a global norm of 1."""

    recall: float  # learning rate on delayed recall
    adding: float  # learning rate on the adding problem
    steps: int  # at most; a group whose members have all learned stops before


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the study; docs/horizon.md says how the learning rates were found."""

    cells: tuple[Name, ...] = get_args(Name)
    seeds: int = 5  # members for every cell and lag
    lags: tuple[int, ...] = (10, 25, 50, 100)  # steps; the longest is also the length of the tasks
    factors: _Factors = (1 / 3, 3, 9)  # of the learning rate, tried at the longest lag
    factor_seeds: int = 3  # members for each factor
    hidden_size: int = 32  # units
    batch_size: int = 32  # fresh sequences a step
    segment: int = 50  # steps between two looks at the loss
    eval_size: int = 10_000  # samples behind every loss and accuracy
    tanh: Budget = Budget(recall=3e-3, adding=3e-3, steps=1000)
    irnn: Budget = Budget(recall=5e-4, adding=3e-3, steps=1000)
    gru: Budget = Budget(recall=6e-3, adding=6e-3, steps=400)

    def __post_init__(self) -> None:
        for name in ("seeds", "factor_seeds", "hidden_size", "batch_size", "segment", "eval_size"):
            whole(name, getattr(self, name), least=1)
        several("cells", self.cells, '"GRU default"')
        for cell in self.cells:
            if cell not in get_args(Name):
                known = ", ".join(map(repr, get_args(Name)))
                raise BadInput(f"cells: expected some of {known}, got {cell!r}; choose of these")
        several("lags", self.lags, "10 100")
        for lag in self.lags:
            whole("lags", lag, least=2)  # adding has a number to keep in each half
        several("factors", self.factors, "3 9")
        for factor in self.factors:
            positive("factors", factor, example=3)
            if math.isclose(factor, 1):
                raise BadInput(
                    f"factors: expected others than 1, got {factor!r}; leave it out, since the "
                    "learning rate itself is always tried"
                )
        for name in ("tanh", "irnn", "gru"):
            self._check_budget(name, getattr(self, name))

    @staticmethod
    def _check_budget(name: str, budget: Any) -> None:
        if not isinstance(budget, Budget):
            raise BadInput(f"{name}: expected a Budget, got {budget!r}; give Budget(...)")
        whole(f"{name}.steps", budget.steps, least=1)
        positive(f"{name}.recall", budget.recall, example=3e-3)
        positive(f"{name}.adding", budget.adding, example=3e-3)


QUICK = Settings(seeds=2, lags=(10, 50), factors=(3,), factor_seeds=2, hidden_size=16)


class Contender(NamedTuple):
    """A cell to measure."""

    cell: str
    init: str
    budget: str  # field of Settings
    make: Callable[[int, int], sc.RNN | sc.GRU]  # (hidden_size, longest lag) -> how it starts
    plain: Callable[[int], sc.RNN | sc.GRU]  # hidden_size -> how it runs: one program for all inits

    @property
    def name(self) -> str:
        """Cell and initialisation."""
        return f"{self.cell} {self.init}"


CONTENDERS = (
    Contender("tanh", "orthogonal", "tanh", TANH.start, TANH.run),
    Contender("IRNN", "identity", "irnn", IRNN.start, IRNN.run),
    Contender("GRU", "default", "gru", GRU.start, GRU.run),
    Contender("GRU", "chrono", "gru", CHRONO.start, CHRONO.run),
)
