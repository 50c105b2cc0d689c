"""The gates of one cell, from a framework's layout to ours and back: what every format shares.

Nothing is computed here but signs, transposition, order, and the sum of two biases (or of a bias
and a constant) where one side has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
Blocks = dict[tuple[str, str], np.ndarray]  # by our field and gate: [D, H], [H, H] or [H]


class Slot(NamedTuple):
    """One of a framework's arrays, or a part of one that is joined."""

    name: str  # its name there
    field: str  # where it goes: w_ih, w_hh, b, b_ih, b_hh or p
    gates: str  # our letters in that framework's order


class Join(NamedTuple):
    """An array that a framework makes of several slots."""

    name: str
    parts: tuple[str, ...]  # names of slots
    axis: int  # along which they are joined
    new: bool = False  # whether that axis is a new one


class Table(NamedTuple):
    """How a framework lays out one kind of cell."""

    where: str  # what it is called, as "torch.nn.GRU"
    slots: tuple[Slot, ...]
    joins: tuple[Join, ...] = ()
    negated: str = ""  # gates that keep the old value there and write the new one here
    transposed: bool = False  # whether its matrices stand as [out, in]
    bias_free: bool = False  # whether it can do without biases
    shifted: str = ""  # gates to whose bias the framework adds 1


def slots(weights: dict[str, str], biases: dict[str, str], order: str) -> Any:
    """Make slots of fused arrays, {name: field}, all in one order of gates."""
    return tuple(Slot(name, field, order) for name, field in (weights | biases).items())


def order(cell: Any, field: str) -> tuple[str, ...]:
    """Return the gates in a field of the cell's parameters, in their order."""
    return cell.PEEPHOLES if field == "p" else cell.GATES


def read(table: Table, cell: Any, arrays: Arrays, like: Any) -> Any:
    """Make our parameters of a framework's arrays, whose names and shapes are checked already.

    Args:
        table: the layout.
        cell: the cell.
        arrays: by name.
        like: our parameters as zeros, of the same shapes.

    Returns:
        The parameters, NumPy arrays in the dtype of `arrays`.
    """
    blocks = _blocks(table, _apart(table, arrays, write(table._replace(joins=()), cell, like)))
    dtype = next(iter(arrays.values())).dtype
    fields = {}
    for field, zeros in like._asdict().items():
        mine = {gate: blocks.pop((field, gate), None) for gate in order(cell, field)}
        if zeros is None:
            _expect_zero(f"{cell} has no {field}", table, field, mine)
            fields[field] = None
            continue
        blank = np.split(zeros.astype(dtype), len(mine), axis=-1)[0]
        found = [blank if block is None else block for block in mine.values()]
        fields[field] = np.concatenate(found, axis=-1)
    return type(like)(**fields)


def write(table: Table, cell: Any, params: Any) -> Arrays:
    """Make a framework's arrays of our parameters, NumPy arrays.

    Raises:
        ValueError: where the framework has no place for a number that is not zero.
    """
    fields = params._asdict()
    blocks = {
        (field, gate): block
        for field, array in fields.items()
        if array is not None
        for gate, block in zip(order(cell, field), _cut(array, order(cell, field)), strict=True)
    }
    out: Arrays = {}
    done: set[tuple[str, str]] = set()
    for slot in _present(table, fields):
        wide = [_outward(table, slot.field, g, blocks, done, params.w_ih) for g in slot.gates]
        array = np.concatenate(wide, axis=-1)
        array = array.T if table.transposed else array
        if slot.name in out and not np.array_equal(out[slot.name], array):
            raise ValueError(f"params: {table.where} has one {slot.name} where {cell} has two")
        out[slot.name] = array
        done |= {(slot.field, gate) for gate in slot.gates}
    for field in fields:
        left = {g: blocks[field, g] for f, g in blocks if f == field and (f, g) not in done}
        _expect_zero(f"{table.where} has no {field}", table, field, left)
    return _together(table, out)


def _present(table: Table, fields: dict[str, Any]) -> list[Slot]:
    """The slots that are there: no biases where we have none and the framework can do without."""
    biased = any(fields[field] is not None for field in fields if field[0] == "b")
    if biased or not table.bias_free:
        return list(table.slots)
    return [slot for slot in table.slots if slot.field[0] != "b"]


def _blocks(table: Table, arrays: Arrays) -> Blocks:
    """Cut arrays into gates, with our signs; two biases of one gate are added."""
    blocks: Blocks = {}
    for slot in table.slots:
        if slot.name not in arrays:
            continue
        array = arrays[slot.name].T if table.transposed else arrays[slot.name]
        for gate, block in zip(slot.gates, _cut(array, slot.gates), strict=True):
            if slot.field[0] == "b" and gate in table.shifted:
                block = block + block.dtype.type(1)
            block = -block if gate in table.negated else block
            old = blocks.get((slot.field, gate))
            blocks[slot.field, gate] = block if old is None else _sum(old, block)
    return blocks


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Add; what is all zeros leaves the other as it is, to the sign of a zero."""
    if not b.any():
        return a
    return a + b if a.any() else b


def _outward(
    table: Table, field: str, gate: str, blocks: Blocks, done: set[Any], w_ih: np.ndarray
) -> np.ndarray:
    """One gate with the framework's sign; zeros where we have none, or it is written already."""
    block = None if (field, gate) in done else blocks.get((field, gate))
    if block is None:
        block = np.zeros(blocks["w_hh", gate].shape[-1], w_ih.dtype)
    elif gate in table.negated:
        block = -block
    if field[0] == "b" and gate in table.shifted:
        block = block - block.dtype.type(1)
    return block


def _together(table: Table, parts: Arrays) -> Arrays:
    """Join what the framework has joined."""
    out = dict(parts)
    for join in table.joins:
        found = [out.pop(part) for part in join.parts if part in out]
        if found:
            put = np.stack if join.new else np.concatenate
            out[join.name] = put(found, axis=join.axis)
    return out


def _apart(table: Table, arrays: Arrays, like: Arrays) -> Arrays:
    """Undo `_together`; `like` holds parts of the shapes to come."""
    out = dict(arrays)
    for join in table.joins:
        if join.name not in arrays:
            continue
        whole = out.pop(join.name)
        if join.new:
            parts = list(np.moveaxis(whole, join.axis, 0))
        else:
            ends = np.cumsum([like[part].shape[join.axis] for part in join.parts])
            parts = np.split(whole, ends[:-1], axis=join.axis)
        out |= dict(zip(join.parts, parts, strict=True))
    return out


def _cut(array: np.ndarray, gates: Sequence[str]) -> list[np.ndarray]:
    return np.split(array, len(gates), axis=-1)


def _expect_zero(lack: str, table: Table, field: str, blocks: dict[str, Any]) -> None:
    """Raise unless what has no place on the other side is zero."""
    full = [gate for gate, block in blocks.items() if block is not None and block.any()]
    if full:
        raise ValueError(
            f"{field}: {lack} for the gates {', '.join(full)} ({table.where}), so zeros were "
            f"expected there, got others: no weights make the two equal to the bit"
        )
