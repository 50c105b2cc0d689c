"""Rows as columns, which take the memory of their numbers; a dict is made when it is looked at."""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import numpy as np

from seqcells.sweep._lines import Fields, Row

Column = Sequence[Any] | np.ndarray  # a value for each row
_BLOCK = 4096  # rows that are made at once


class Rows(Sequence[Row]):
    """A sequence of rows that are made as dicts when they are looked at.

    It equals every sequence of equal rows, such as a tuple of dicts. NaN is always `math.nan`, so
    rows with NaN are equal, as those with the same object are.
    """

    @abc.abstractmethod
    def _made(self, start: int, stop: int) -> list[Row]:
        """Make the rows from `start` to `stop`."""

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Row, ...]: ...

    def __getitem__(self, at: int | slice) -> Row | tuple[Row, ...]:
        if isinstance(at, slice):
            return tuple(self[i] for i in range(*at.indices(len(self))))
        i = range(len(self))[at]  # raises IndexError
        return self._made(i, i + 1)[0]

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _BLOCK):
            yield from self._made(start, min(start + _BLOCK, len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(lambda a, b: a == b, self, other))

    __hash__ = None  # pyright: ignore[reportAssignmentType] - as of a tuple of dicts

    def __repr__(self) -> str:
        return repr(tuple(self))


class Table(Rows):
    """Rows from columns.

    Args:
        columns: a value per row, by name; all of one length.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self.columns = dict(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def _made(self, start: int, stop: int) -> list[Row]:
        parts = [as_list(column[start:stop]) for column in self.columns.values()]
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*parts, strict=True)]


class Texts(NamedTuple):
    """A column of strings of which many are equal."""

    codes: np.ndarray  # int32[N], indices into `values`
    values: list[str]  # different ones

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """Encode strings."""
        index = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        return cls(np.fromiter(map(index.__getitem__, texts), np.int32, len(texts)), list(index))

    @classmethod
    def join(cls, parts: Sequence[Texts]) -> Texts:
        """Concatenate columns."""
        index: dict[str, int] = {}
        codes = [
            np.asarray([index.setdefault(v, len(index)) for v in part.values], np.int32)[part.codes]
            for part in parts
        ]
        return cls(np.concatenate(codes), list(index))

    def decode(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the strings from `start` to `stop`."""
        return [self.values[code] for code in self.codes[start:stop].tolist()]


class Metric(NamedTuple):
    """A column of one metric."""

    values: np.ndarray  # float64[N], NaN where it is absent
    present: np.ndarray  # bool[N]

    @classmethod
    def join(cls, parts: Sequence[Metric]) -> Metric:
        """Concatenate columns."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


class Lines(Rows):
    """The lines of a log as columns.

    Attributes:
        fields: the fields of a line, in their order; `metrics` is one of them.
        texts: columns of strings, by field.
        numbers: columns of numbers, int64[N] or float64[N], by field.
        metrics: columns of metrics, by the name of the metric.
    """

    def __init__(
        self,
        fields: Fields,
        texts: Mapping[str, Texts],
        numbers: Mapping[str, np.ndarray],
        metrics: Mapping[str, Metric],
    ) -> None:
        self.fields = fields
        self.texts, self.numbers, self.metrics = dict(texts), dict(numbers), dict(metrics)

    @classmethod
    def of(cls, rows: Sequence[Row], fields: Fields) -> Lines:
        """Return rows as columns; they have these fields, and metrics without null."""
        columns = {name: [row[name] for row in rows] for name in fields}
        return cls(
            fields,
            {name: Texts.of(columns[name]) for name in texts_of(fields)},
            {name: np.asarray(columns[name], kind) for name, kind in numbers_of(fields).items()},
            {
                name: Metric(
                    np.asarray([m.get(name, math.nan) for m in columns["metrics"]], float),
                    np.asarray([name in m for m in columns["metrics"]], bool),
                )
                for name in dict.fromkeys(itertools.chain.from_iterable(columns["metrics"]))
            },
        )

    @classmethod
    def join(cls, parts: Sequence[Lines]) -> Lines:
        """Concatenate lines with the same fields."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        return cls(
            first.fields,
            {name: Texts.join([part.texts[name] for part in parts]) for name in first.texts},
            {n: np.concatenate([part.numbers[n] for part in parts]) for n in first.numbers},
            {
                name: Metric.join([part._metric(name) for part in parts])
                for name in dict.fromkeys(itertools.chain.from_iterable(p.metrics for p in parts))
            },
        )

    def _metric(self, name: str) -> Metric:
        absent = Metric(np.full(len(self), math.nan), np.zeros(len(self), bool))
        return self.metrics.get(name, absent)

    def __len__(self) -> int:
        return len(self.texts["id"].codes)

    def take(self, index: np.ndarray) -> Lines:
        """Return the lines at these indices, or those for which a mask is True."""
        return Lines(
            self.fields,
            {n: Texts(codes[index], values) for n, (codes, values) in self.texts.items()},
            {name: column[index] for name, column in self.numbers.items()},
            {
                n: Metric(*(column[index] for column in metric))
                for n, metric in self.metrics.items()
            },
        )

    def where_id(self, known: Sequence[bool]) -> Lines:
        """Return the lines whose id is known; `known` has an entry per value of the ids."""
        return self if all(known) else self.take(np.asarray(known, bool)[self.texts["id"].codes])

    def first(self, *names: str) -> Lines:
        """Return the first line of those that are equal in these fields."""
        key = np.zeros(len(self), np.int64)
        for name in names:
            column = self.texts[name].codes if name in self.texts else self.numbers[name]
            values = np.unique(column)
            key = key * len(values) + np.searchsorted(values, column)
        ordered = np.sort(key)
        if (ordered[1:] != ordered[:-1]).all():
            return self
        return self.take(np.sort(np.unique(key, return_index=True)[1]))

    def last(self) -> Lines:
        """Return the last line of each id."""
        codes, values = self.texts["id"]
        index = np.full(len(values), -1)
        index[codes] = np.arange(len(self))
        return self.take(np.sort(index[index >= 0]))

    def _made(self, start: int, stop: int) -> list[Row]:
        metrics: list[Row] = [{} for _ in range(start, stop)]
        for name, (values, present) in self.metrics.items():
            part = zip(metrics, as_list(values[start:stop]), present[start:stop], strict=True)
            for row, value, there in part:
                if there:
                    row[name] = value
        texts = {name: t.decode(start, stop) for name, t in self.texts.items()}
        numbers = {name: as_list(column[start:stop]) for name, column in self.numbers.items()}
        columns = texts | numbers | {"metrics": metrics}
        parts = [columns[name] for name in self.fields]
        return [dict(zip(self.fields, row, strict=True)) for row in zip(*parts, strict=True)]


def texts_of(fields: Fields) -> list[str]:
    """Return the names of the fields that hold strings."""
    return [name for name, kind in fields.items() if kind is str]


def numbers_of(fields: Fields) -> dict[str, type]:
    """Return the fields that hold numbers, with int64 or float64."""
    kinds = {name: kind for name, kind in fields.items() if kind not in (str, dict)}
    return {name: np.int64 if kind is int else np.float64 for name, kind in kinds.items()}


def as_list(column: Column) -> list[Any]:
    """Return Python values; NaN is `math.nan`, so that equal rows are equal."""
    if not isinstance(column, np.ndarray):
        return list(column)
    values = column.tolist()
    if column.dtype.kind == "f" and np.isnan(column).any():
        return [value if value == value else math.nan for value in values]
    return values
