"""What is tried: grids and random samples of hyperparameters, and trials with ids that stay."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from seqcells import _check

TAKEN = ("id", "status", "steps", "seconds")  # the table's own columns
DIGITS = 9  # as many as tell every float32 from the next


def linear(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` values from `low` to `high`, evenly apart.

    >>> linear(0.0, 1.0, 3)
    (0.0, 0.5, 1.0)
    """
    return tuple(map(_rounded, _grid(*_range(low, high), count)))


def log(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` values from `low` to `high`, each the same multiple of the one before.

    >>> log(1e-4, 1e-2, 3)
    (0.0001, 0.001, 0.01)
    """
    low, high = _range(low, high, above_zero=True)
    return tuple(_rounded(math.exp(x)) for x in _grid(math.log(low), math.log(high), count))


class Uniform(NamedTuple):
    """Values drawn evenly from [low, high), by `uniform`."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """Return the value at share `u` of the distribution."""
        return _rounded(self.low + (self.high - self.low) * u)


class LogUniform(NamedTuple):
    """Values whose logarithm is drawn evenly from [log low, log high), by `log_uniform`."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """Return the value at share `u` of the distribution."""
        return _rounded(self.low * (self.high / self.low) ** u)


def uniform(low: float, high: float) -> Uniform:
    """Draw evenly from [low, high)."""
    return Uniform(*_range(low, high))


def log_uniform(low: float, high: float) -> LogUniform:
    """Draw so that every factor of ten from `low` to `high` is as likely as the next."""
    return LogUniform(*_range(low, high, above_zero=True))


@dataclasses.dataclass(frozen=True)
class Trial:
    """One configuration.

    Attributes:
        id: 12 hexadecimal digits of a hash of the configuration, whatever the order of its fields
            and wherever in a grid it stands; the same in every process and version.
        static: what changes shapes or the graph, by name; arguments of the sweep's `make`.
        hparams: numbers that are vmapped over, by name.
    """

    id: str
    static: dict[str, Any]
    hparams: dict[str, float]

    @property
    def fields(self) -> dict[str, Any]:
        """The configuration as the table shows it: text for what is no number."""
        return {name: canonical(value) for name, value in self.static.items()} | self.hparams


class Space:
    """The product of all fields: a grid of lists and ranges, times random samples.

    Args:
        samples: how many times the fields that are distributions are drawn, together. Draw i is
            the same whatever the other fields and however many draws there are.
        draw: an int; another one draws other samples.
        static: lists of what changes shapes or the graph, by name; a program is compiled for each
            combination (a bucket).
        **fields: lists, ranges, `log` and `linear` grids of numbers, or `uniform` and
            `log_uniform` distributions, by name. Members of a bucket are vmapped over them.

    Raises:
        TypeError: a field is no list of numbers.
        ValueError: a field is empty or holds one value twice, or has a name of the table's own.

    >>> space = Space(lr=log(1e-3, 1e-1, 3), seed=range(2), static=dict(hidden_size=[8, 16]))
    >>> len(space.trials())
    12
    >>> space.trials()[0]
    Trial(id='cc3c1211062e', static={'hidden_size': 8}, hparams={'lr': 0.001, 'seed': 0})
    """

    def __init__(
        self,
        *,
        samples: int | None = None,
        draw: int = 0,
        static: Mapping[str, Iterable[Any]] | None = None,
        **fields: Iterable[float] | Uniform | LogUniform,
    ):
        if static is not None and not isinstance(static, Mapping):
            came = _check.describe_one(static)
            raise TypeError(f"static: expected a dict of lists by name, got {came}")
        self.static = {name: _values(name, of) for name, of in (static or {}).items()}
        drawn = {n: f for n, f in fields.items() if isinstance(f, (Uniform, LogUniform))}
        self.grid = {n: _numbers(n, f) for n, f in fields.items() if n not in drawn}
        self.draws = _draw(drawn, samples, _check.integer("draw", draw))
        for name in [*self.static, *fields]:
            if name in TAKEN or (name in self.static and name in fields):
                raise ValueError(f"{name}: expected a name of its own, got one that is taken")

    def trials(self) -> tuple[Trial, ...]:
        """Return every trial, those of one bucket together."""
        buckets, points = _product(self.static), _product(self.grid)
        return tuple(
            _trial(static, drawn | point)
            for static, drawn, point in itertools.product(buckets, self.draws, points)
        )


def canonical(value: Any) -> Any:
    """Return what a static value is known by: itself if JSON has it, else its text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(str, map(canonical, value)))})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
        inner = ", ".join(f"{name}={part}" for name, part in parts.items())
        return f"{type(value).__name__}({inner})"
    named = callable(value) and hasattr(value, "__qualname__")
    text = value.__qualname__ if named else repr(value)  # modules move from version to version
    if " at 0x" in text or "<lambda>" in text:
        raise TypeError(
            f"static: expected values that have a name, got {text}, which no other "
            "process knows again; pass a string and look it up in make"
        )
    return text


def digest(configuration: Any) -> str:
    """Return 12 hexadecimal digits that tell one configuration from another."""
    text = json.dumps(configuration, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _trial(static: dict[str, Any], hparams: dict[str, float]) -> Trial:
    known = {name: canonical(value) for name, value in static.items()}
    return Trial(digest({"static": known, "hparams": hparams}), static, hparams)


def _product(fields: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [
        dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values())
    ]


def _draw(fields: dict[str, Any], samples: int | None, draw: int) -> list[dict[str, float]]:
    """Draw by a hash, which unlike a generator is the same for ever."""
    if (samples is None) == bool(fields):
        came = f"distributions {list(fields)}" if fields else "no distribution"
        raise ValueError(
            f"samples: expected a number with distributions only, got {samples}, {came}"
        )

    def share(name: str, i: int) -> float:
        return int(hashlib.sha256(f"{draw}/{name}/{i}".encode()).hexdigest()[:12], 16) / 16**12

    count = 1 if samples is None else _check.size("samples", samples, least=1)
    return [{name: of.at(share(name, i)) for name, of in fields.items()} for i in range(count)]


def _values(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        came = _check.describe_one(values)
        raise TypeError(f"{name}: expected a list of values, got {came}; write {name}=[...]")
    values = tuple(values)
    known = [(type(value), canonical(value)) for value in values]
    if not values or len(set(known)) < len(known):
        came = "none" if not values else f"{len(known) - len(set(known))} twice in {list(values)}"
        raise ValueError(f"{name}: expected one or more different values, got {came}")
    return values


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """Return Python numbers of one kind: bool, int or, where one is, float."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    values = _values(name, values)
    values = tuple(
        v.item() if hasattr(v, "item") and not hasattr(v, "__len__") else v for v in values
    )
    kinds = {type(value) for value in values}
    if kinds not in ({bool}, {int}, {float}, {int, float}):
        raise TypeError(
            f"{name}: expected numbers, got {_check.describe_one(list(values))}; "
            f"what is none goes into static=dict({name}=[...])"
        )
    if float in kinds:
        return tuple(_values(name, [_rounded(float(value)) for value in values]))
    return values


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _grid(low: float, high: float, count: int) -> list[float]:
    count = _check.size("count", count, least=2)
    return [low + (high - low) * i / (count - 1) for i in range(count)]


def _range(low: Any, high: Any, above_zero: bool = False) -> tuple[float, float]:
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name}: expected a number, got {_check.describe_one(value)}")
    least = "0 < low < high" if above_zero else "low < high"
    if not (low < high < math.inf and low > (0 if above_zero else -math.inf)):
        raise ValueError(f"low, high: expected {least}, finite, got {low}, {high}")
    return float(low), float(high)
