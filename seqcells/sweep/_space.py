"""The space of a sweep: grids and random samples of hyperparameters, and trials with stable ids."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

from seqcells import _check
from seqcells.sweep._identity import (
    UnknownContentError,
    canonical,
    digest,
    digest_of,
    marked,
    plain,
)

Static = dict[str, Any]  # values by name, which change shapes or the graph

RANKS = ("rank", "mean", "low", "high", "n", "diverged")  # columns of the table of ranks
RESERVED = ("id", "status", "step", "steps", "metrics", "seconds", *RANKS)  # all added columns
DIGITS = 9  # significant digits, enough to distinguish any two float32


def linear(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return `count` evenly spaced values from `low` to `high`.

    >>> linear(0.0, 1.0, 3)
    (0.0, 0.5, 1.0)
    """
    return tuple(map(_rounded, _grid(*_range(low, high), count)))


def log(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return `count` values from `low` to `high`, evenly spaced on a log scale.

    >>> log(1e-4, 1e-2, 3)
    (0.0001, 0.001, 0.01)
    """
    low, high = _range(low, high, above_zero=True)
    return tuple(_rounded(math.exp(x)) for x in _grid(math.log(low), math.log(high), count))


class Uniform(NamedTuple):
    """The uniform distribution on [low, high); made by `uniform`."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """Return the quantile of `u`, from 0 to below 1."""
        return _rounded(self.low + (self.high - self.low) * u)


class LogUniform(NamedTuple):
    """The distribution on [low, high) whose logarithm is uniform; made by `log_uniform`."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """Return the quantile of `u`, from 0 to below 1."""
        return _rounded(self.low * (self.high / self.low) ** u)


def uniform(low: float, high: float) -> Uniform:
    """Sample uniformly from [low, high)."""
    return Uniform(*_range(low, high))


def log_uniform(low: float, high: float) -> LogUniform:
    """Sample so that the logarithm is uniform: all factors of ten are equally likely."""
    return LogUniform(*_range(low, high, above_zero=True))


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """One configuration of a space.

    Attributes:
        id: 12 hexadecimal digits of a hash of the configuration. It does not depend on the order
            of fields or the rest of the grid, and is the same in every process and version.
        static: the static fields by name, the arguments of the sweep's `make`.
        hparams: the numbers that are vmapped over, by name.
        shown: the static fields as the table shows them: values that JSON cannot hold are text.
        bucket: a hash of the static fields.
    """

    id: str
    static: Static
    hparams: dict[str, float]
    shown: Static = dataclasses.field(repr=False)
    bucket: str = dataclasses.field(repr=False)

    @property
    def fields(self) -> Static:
        """The configuration as the table shows it."""
        return self.shown | self.hparams


class Space:
    """The product of all fields: a grid of lists and ranges, times random samples.

    Args:
        samples: the number of joint draws from the distributions among the fields. Draw i does not
            depend on the other fields or on the number of draws.
        draw: an int, the seed of the samples.
        points: a list of given points instead of samples: dicts of numbers, all with the same
            names.
        static: lists of values that change shapes or the graph, by name. The trials of each
            combination form a bucket, with its own program.
        **fields: lists, ranges, `log` and `linear` grids of numbers, or `uniform` and
            `log_uniform` distributions, by name. Trials of a bucket are vmapped over them. Floats
            are rounded to 9 significant digits.

    Static values are compared by content, which must be the same in every process. They may be
    numbers, strings, dataclasses, containers, arrays, and module-level functions and classes.
    Closures, lambdas, objects without fields, and therefore Optax optimisers, are rejected: pass a
    string instead, and look it up in `make`.

    Raises:
        TypeError: a field is not a list of numbers, or the content of a static value is unknown.
        ValueError: a field is empty, repeats a value, or has a name reserved for the table.

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
        points: Iterable[Mapping[str, float]] | None = None,
        static: Mapping[str, Iterable[object]] | None = None,
        **fields: Iterable[float] | Uniform | LogUniform,
    ):
        if static is not None and not isinstance(static, Mapping):
            got = _check.describe_one(static)
            raise TypeError(f"static: expected a dict of lists by name, got {got}")
        self.static = {name: _values(name, values) for name, values in (static or {}).items()}
        drawn = {n: f for n, f in fields.items() if isinstance(f, (Uniform, LogUniform))}
        self.grid = {n: _numbers(n, f) for n, f in fields.items() if n not in drawn}
        self.distributions = drawn
        self.draws = _draw(drawn, samples, _check.integer("draw", draw))
        if points is not None:
            self.draws = _given(points, drawn)
        fields = {**fields, **{name: () for name in self.draws[0] if name not in drawn}}
        for name in [*self.static, *fields]:
            if not isinstance(name, str):
                raise TypeError(f"static: expected names that are strings, got {name!r}")
            twice = sum(name in some for some in (self.static, self.grid, self.draws[0])) > 1
            if name in RESERVED or twice:
                got = "that of a column" if name in RESERVED else "one that is used twice"
                raise ValueError(
                    f"{name}: expected a unique name, got {got}; names reserved for the table: "
                    f"{', '.join(RESERVED)}"
                )

    def __len__(self) -> int:
        """Return the number of trials."""
        grids = (*self.static.values(), *self.grid.values())
        return len(self.draws) * math.prod(map(len, grids))

    def trials(self) -> tuple[Trial, ...]:
        """Return every trial, ordered by bucket; trials of several buckets share `hparams`."""
        points = _product(self.grid)
        hparams = [drawn | point for drawn in self.draws for point in points]
        return tuple(
            Trial(id, static, point, shown, bucket)
            for static, shown, bucket, ids in self._buckets()
            for id, point in zip(ids, hparams, strict=True)
        )

    def columns(self) -> dict[str, list[Any]]:
        """Return `id` and `fields` of all trials as columns, in their order, in half the time."""
        grid = [*itertools.product(*self.grid.values())]
        points = [(*drawn.values(), *point) for drawn in self.draws for point in grid]
        columns: dict[str, list[Any]] = {name: [] for name in ("id", *self.static)}
        for _, shown, _, ids in self._buckets():
            columns["id"] += ids
            for name, value in shown.items():
                columns[name] += [value] * len(points)
        buckets = len(columns["id"]) // len(points)
        for i, name in enumerate([*self.draws[0], *self.grid]):
            columns[name] = [point[i] for point in points] * buckets
        return columns

    def _buckets(self) -> Iterator[tuple[Static, Static, str, Iterator[str]]]:
        """Yield static values, as they are and as shown, the bucket, and the ids of its trials."""
        for static in _product(self.static):
            known = {name: marked(value) for name, value in static.items()}
            shown = {name: canonical(value) for name, value in static.items()}
            yield static, shown, digest(known), self._ids(known)

    def _ids(self, static: Mapping[str, object]) -> Iterator[str]:
        rest = json.dumps({"static": static}, sort_keys=True)[1:]
        for text in _texts(self.draws, self.grid):
            yield digest_of(f'{{"hparams": {text}, {rest}')


def _texts(
    draws: Iterable[dict[str, float]], grid: Mapping[str, tuple[float, ...]]
) -> Iterator[str]:
    """Yield the hyperparameters of every trial as JSON with sorted names, for its digest."""
    grids = [[_pair(name, value) for value in values] for name, values in grid.items()]
    for drawn in draws:
        names = [*drawn, *grid]
        order = sorted(range(len(names)), key=names.__getitem__)
        for pairs in itertools.product(*([_pair(*item)] for item in drawn.items()), *grids):
            yield f"{{{', '.join([pairs[i] for i in order])}}}"


def _pair(name: str, value: float) -> str:
    return json.dumps({name: value})[1:-1]


def _product(fields: Mapping[str, tuple[object, ...]]) -> list[Static]:
    return [
        dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values())
    ]


def _draw(
    fields: dict[str, Uniform | LogUniform], samples: int | None, draw: int
) -> list[dict[str, float]]:
    """Draw with a hash, which, unlike a random generator, never changes between versions."""
    if (samples is None) == bool(fields):
        got = f"distributions {list(fields)}" if fields else "no distribution"
        raise ValueError(
            f"samples: expected a number with distributions only, got {samples}, {got}"
        )

    def quantile(name: str, i: int) -> float:
        return int(hashlib.sha256(f"{draw}/{name}/{i}".encode()).hexdigest()[:12], 16) / 16**12

    count = 1 if samples is None else _check.size("samples", samples, least=1)
    return [
        {name: field.at(quantile(name, i)) for name, field in fields.items()} for i in range(count)
    ]


def _given(
    points: Iterable[Mapping[str, float]], drawn: Mapping[str, object]
) -> list[dict[str, float]]:
    """Return given points as numbers of one type for each name."""
    if drawn:
        raise ValueError(
            f"points: expected no distributions beside given points, got {', '.join(drawn)}; give "
            "points for these names, too"
        )
    given = list(points)
    if not given or not all(isinstance(p, Mapping) and p.keys() == given[0].keys() for p in given):
        got = _check.describe_one(given)
        raise TypeError(f"points: expected dicts with the same names, one or more, got {got}")
    columns = {name: _column(name, [point[name] for point in given]) for name in given[0]}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if len({json.dumps(row) for row in rows}) < len(rows):
        raise ValueError(f"points: expected different points, got one twice in {len(rows)}")
    return rows


def _column(name: str, values: Sequence[float]) -> list[float]:
    """Return numbers of one type, of which some may be equal."""
    distinct = dict(zip(known := list(dict.fromkeys(values)), _numbers(name, known), strict=True))
    return [distinct[value] for value in values]


def _values(name: str, values: object) -> tuple[Any, ...]:
    if isinstance(values, (str, bytes, Set, Mapping)) or not isinstance(values, Iterable):
        got = _check.describe_one(values)
        raise TypeError(f"{name}: expected a list of values, got {got}; write {name}=[...]")
    values = tuple(map(plain, values))
    known = [_known(name, value) for value in values]
    if not values or len(set(known)) < len(known):
        got = "none" if not values else f"{len(known) - len(set(known))} twice in {list(values)}"
        raise ValueError(f"{name}: expected one or more different values, got {got}")
    return values


def _known(name: str, value: object) -> str:
    """Return the text by which values of one field are distinguished."""
    try:
        return json.dumps(canonical(value))
    except UnknownContentError as error:
        raise TypeError(
            f"static: expected values with a name or a readable content, got {name}=[{error}], "
            "which another process cannot recognise; pass a string and look it up in make"
        ) from None


def _numbers(name: str, values: object) -> tuple[float, ...]:
    """Return Python numbers of one type: bool, int, or float if any is a float."""
    if callable(to_list := getattr(values, "tolist", None)):
        values = to_list()
    values = tuple(_number(v) for v in _values(name, values))
    kinds = {type(value) for value in values}
    if kinds not in ({bool}, {int}, {float}, {int, float}) or any(v != v for v in values):
        raise TypeError(
            f"{name}: expected numbers, got {_check.describe_one(list(values))}; "
            f"pass other values as static=dict({name}=[...])"
        )
    if float not in kinds:
        return values
    changed = [v for v in values if abs(v) < 2**53 and v == int(v) != _rounded(float(v))]
    if changed:
        raise ValueError(
            f"{name}: expected floats of at most {DIGITS} significant digits, got {changed[0]}; "
            "for whole numbers, put no floats in the list"
        )
    return _values(name, [_rounded(float(v)) for v in values])


def _number(value: Any) -> Any:
    """Return the Python number of an array without axes."""
    return value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") + 0.0  # -0.0 is 0.0


def _grid(low: float, high: float, count: int) -> list[float]:
    count = _check.size("count", count, least=2)
    return [low + (high - low) * i / (count - 1) for i in range(count)]


def _range(low: float, high: float, *, above_zero: bool = False) -> tuple[float, float]:
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name}: expected a number, got {_check.describe_one(value)}")
    least = "0 < low < high" if above_zero else "low < high"
    if not (low < high < math.inf and low > (0 if above_zero else -math.inf)):
        raise ValueError(f"low, high: expected {least}, finite, got {low}, {high}")
    return float(low), float(high)
