"""The order of layers in a dict, if their names do not determine it.

A framework that names layers by kind, or as the user chooses, lists them in the order in which they
run. If the dict was later sorted by name (by an .h5 file, safetensors or `jax.tree.map`), that
order is lost. This can be detected within a layer, because no framework lists a layer's arrays
alphabetically.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from seqcells.interop._arrays import Arrays

Groups = dict[str, list[str]]  # {common start of the names of a cell's arrays: their ends}


def is_own(arrays: Arrays, groups: Groups, ends: Sequence[str]) -> bool:
    """Return whether a dict is in the framework's own order: `ends`, one layer after the other.

    Layers without biases may be in that order and sorted by name at once. The order of layers that
    could be swapped is then known only if Keras numbered them.
    """
    names = list(arrays)
    own = [_join(start, end) for start, got in groups.items() for end in ends if end in got]
    numbered = all(map(are_numbered, alike(arrays, groups)))
    return names == own and (names != sorted(names) or numbered)


def alike(arrays: Arrays, groups: Groups) -> list[list[str]]:
    """Group the cells that could be swapped because their arrays have the same shapes."""
    classes: dict[object, list[str]] = {}
    for start, got in groups.items():
        shapes = frozenset((end, arrays[_join(start, end)].shape) for end in got)
        classes.setdefault(shapes, []).append(start)
    return [starts for starts in classes.values() if len(starts) > 1]


def _join(start: str, end: str) -> str:
    return f"{start}/{end}" if start else end


def are_numbered(starts: Sequence[str]) -> bool:
    """Return whether names differ only in their last number, and are ordered by it."""
    bases, numbers = zip(*map(number, starts), strict=True)
    return len(set(bases)) == 1 and list(numbers) == sorted(set(numbers))


def number(start: str) -> tuple[str, int]:
    """Cut the last number off a path: "gru_10/gru_cell" is ("gru_/gru_cell", 10)."""
    numbers = re.findall(r"_(\d+)(?=/|$)", start)
    base = re.sub(r"_\d+(?=/|$)", "", start)
    return base, int(numbers[-1]) if numbers else 0


def ranks(starts: Iterable[str], layers: Sequence[str]) -> dict[str, int]:
    """Return, for each path, the position in `layers` of the one name that is part of it.

    Raises:
        ValueError: if there is none, or more than one.
    """
    result = {}
    for start in starts:
        found = [i for i, layer in enumerate(layers) if f"/{layer}/" in f"/{start}/"]
        if len(found) != 1:
            raise ValueError(
                f"layers: expected one name that is a part of {start}, got {list(layers)}"
            )
        result[start] = found[0]
    return result
