"""Logs of JSON lines with a compacted copy in Parquet, which is read in a fraction of the time.

The log is the truth. The copy says how many bytes of the log it covers, and has one SHA-256 over
these bytes and its own columns. A reader for whom the SHA-256 agrees takes the columns, and parses
only the lines after those bytes. For any other copy (damaged, of a log that was changed since, in
part) it parses the whole log. The copy is written whole or not at all, so a kill loses nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import io
import itertools
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from seqcells.sweep._columns import Lines, Metric, Texts, numbers_of, texts_of
from seqcells.sweep._files import write_whole
from seqcells.sweep._lines import Fields, Row, parse

LEAST = 1 << 16  # bytes of a log below which parsing is as fast as opening a copy
_PARSED = 1 << 15  # bytes that are parsed at once; the garbage collector is slow with more rows
_HASHED = 1 << 20  # bytes that are hashed at once
_COVERS = b"seqcells.log"  # the key of the copy's metadata
_METRIC = "metrics."  # before the names of metrics among the columns


class _Part(NamedTuple):
    """The lines at the beginning of a log."""

    lines: Lines
    bytes: int  # in which they stand


class Log:
    """A log, `NAME.jsonl`, and its copy, `NAME.parquet`.

    Args:
        path: the file of the log; others may append to it and read it at any moment.
        fields: the fields of a line and their types; other fields are ignored.
    """

    def __init__(self, path: Path, fields: Fields) -> None:
        self.path, self.fields = path, fields
        self.copy = path.with_suffix(".parquet")
        self._covered = 0  # bytes of the log that the copy covers, as far as is known

    def read(self, *, truncate: bool = False) -> Lines:
        """Return the complete lines; none if the file does not exist.

        Args:
            truncate: remove an incomplete last line, which a killed process left.

        Raises:
            ValueError: a line is damaged; the file stays as it is.
        """
        if not self.path.exists():
            return Lines.of((), self.fields)
        with self.path.open("rb") as file:
            part, size = self._read(file), file.seek(0, os.SEEK_END)
        if truncate and part.bytes < size:
            os.truncate(self.path, part.bytes)
        return part.lines

    def last(self, name: str, value: int) -> list[Row]:
        """Return the lines with this value of a field that never falls, from the end of the log.

        Raises:
            ValueError: a line is damaged.
        """
        with self.path.open("rb") as file:
            end, size = file.seek(0, os.SEEK_END), _PARSED
            while True:
                start = file.seek(max(0, end - size))
                if start:
                    file.readline()  # a part of it
                lines = [line for line in file.readlines() if line.endswith(b"\n")]
                try:
                    found = parse(lines, self.fields, 1, self.path)
                except ValueError:
                    self.read()  # names the line
                    raise
                if start == 0 or (found and found[0][name] < value):
                    return [line for line in found if line[name] == value]
                size *= 2

    def compact(self, growth: float = 0.0) -> None:
        """Write the copy anew if the log has grown.

        Does nothing for a small log, without pyarrow, or if the disk is full.

        Args:
            growth: by which share of what the copy covers the log must have grown. With 1, all
                calls during a run take time proportional to the length of the log.

        Raises:
            ValueError: a line is damaged.
        """
        size = self.path.stat().st_size if self.path.exists() else 0
        grown = size - (self._covered if self._covered <= size else 0)
        if grown <= max(LEAST, growth * self._covered) or not importlib.util.find_spec("pyarrow"):
            return
        with self.path.open("rb") as file:
            part = self._read(file)
            digest = _digest(file, part)
        with contextlib.suppress(OSError, ValueError):  # a full disk, names that are no UTF-8
            write_whole(self.copy, _to_parquet(part, digest))
            self._covered = part.bytes

    def _read(self, file: BinaryIO) -> _Part:
        """Take what the copy covers, and parse the rest."""
        copied = self._copied(file)
        self._covered = end = copied.bytes if copied else 0
        parts = [copied.lines if copied else Lines.of((), self.fields)]
        file.seek(end)
        number = 1 + len(parts[0])
        for lines in _chunks(file):
            parts.append(Lines.of(parse(lines, self.fields, number, self.path), self.fields))
            number, end = number + len(lines), end + sum(map(len, lines))
        return _Part(Lines.join(parts), end)

    def _copied(self, file: BinaryIO) -> _Part | None:
        """Return what the copy covers, if the log begins with just this."""
        if not self.copy.exists():
            return None
        try:
            part, digest = _from_parquet(self.copy, self.fields)
            return part if _digest(file, part) == digest else None
        except Exception:  # of many kinds: any damage, no pyarrow; the log has all that it had
            return None


def _chunks(file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield the complete lines from here on, many at a time, up to a line that is not complete.

    It stops there, because others may write the rest of this line at any moment.
    """
    complete = True
    while complete and (lines := file.readlines(_PARSED)):
        if not (complete := lines[-1].endswith(b"\n")):
            lines.pop()
        if lines:
            yield lines


def _digest(file: BinaryIO, part: _Part) -> str:
    """Return the SHA-256 of the part of a log, as bytes and as columns."""
    sha, left = hashlib.sha256(), part.bytes
    file.seek(0)
    while left and (data := file.read(min(left, _HASHED))):
        sha.update(data)
        left -= len(data)
    lines = part.lines
    names = [*lines.texts, *lines.numbers, *lines.metrics]
    texts = [text.values for text in lines.texts.values()]
    sha.update(json.dumps([left, part.bytes, names, texts]).encode())
    columns = [text.codes for text in lines.texts.values()] + [*lines.numbers.values()]
    for column in (*columns, *itertools.chain.from_iterable(lines.metrics.values())):
        sha.update(np.ascontiguousarray(column).data)
    return sha.hexdigest()


def _to_parquet(part: _Part, digest: str) -> bytes:
    """Return a Parquet file; a metric that a line lacks is null, and NaN is NaN."""
    arrow: Any = importlib.import_module("pyarrow")
    lines, columns = part.lines, {}
    for name, (codes, values) in lines.texts.items():
        columns[name] = arrow.DictionaryArray.from_arrays(
            codes, arrow.array(values, arrow.string())
        )
    columns |= {name: arrow.array(column) for name, column in lines.numbers.items()}
    for name, (values, present) in lines.metrics.items():
        columns[_METRIC + name] = arrow.array(values, mask=~present, from_pandas=False)
    covers = {_COVERS: json.dumps({"bytes": part.bytes, "sha256": digest})}
    file = io.BytesIO()
    importlib.import_module("pyarrow.parquet").write_table(
        arrow.table(columns).replace_schema_metadata(covers),
        file,
        use_dictionary=list(lines.texts),
        dictionary_pagesize_limit=1 << 30,  # beyond it, strings are written one by one
    )
    return file.getvalue()


def _from_parquet(path: Path, fields: Fields) -> tuple[_Part, str]:
    """Read a copy; return the part of the log that it covers, and its digest."""
    table = importlib.import_module("pyarrow.parquet").ParquetFile(path).read()
    covers = json.loads(table.schema.metadata[_COVERS])
    columns = {name: _whole(table[name]) for name in table.column_names}
    texts = {
        name: Texts(
            _as_numpy(columns[name].indices, np.int32), columns[name].dictionary.to_pylist()
        )
        for name in texts_of(fields)
    }
    numbers = {name: _as_numpy(columns[name], kind) for name, kind in numbers_of(fields).items()}
    metrics = {}
    for name in columns:
        if name.startswith(_METRIC):
            values, present = _as_numpy(columns[name], np.float64), _present(columns[name])
            values = values if present.all() else np.where(present, values, math.nan)
            metrics[name.removeprefix(_METRIC)] = Metric(values, present)
    return _Part(Lines(fields, texts, numbers, metrics), covers["bytes"]), covers["sha256"]


def _whole(column: Any) -> Any:
    """Return a column in one piece; most are."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _as_numpy(array: Any, kind: type) -> np.ndarray:
    """Return the values of an Arrow array; its own method would import pandas."""
    return np.frombuffer(array.buffers()[1], kind)[array.offset :][: len(array)]


def _present(array: Any) -> np.ndarray:
    """Return bool[N]: which values of an Arrow array are not null."""
    bits = array.buffers()[0]
    if bits is None:
        return np.ones(len(array), bool)
    ones = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return ones[array.offset :][: len(array)].astype(bool)
