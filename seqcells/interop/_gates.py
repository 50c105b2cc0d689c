"""The gates of one cell, converted between a framework's layout and ours.

Every framework shares this code. It only changes signs, transposes, reorders, and adds two biases
(or a bias and a constant) where one side has a single bias.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from seqcells._cell import Cell
from seqcells._types import Params
from seqcells.interop._arrays import Arrays

Blocks = dict[tuple[str, str], np.ndarray]  # {(our field, gate): array [D, H], [H, H] or [H]}


class Slot(NamedTuple):
    """One array of a framework, or one part of an array that joins several."""

    name: str  # in the framework
    field: str  # our parameter: w_ih, w_hh, w_hr, b, b_ih, b_hh or p
    gates: str  # our letters of the gates, in the framework's order


class Join(NamedTuple):
    """An array in which a framework joins several slots."""

    name: str
    parts: tuple[str, ...]  # names of slots
    axis: int  # the axis along which they are joined
    new: bool = False  # whether that axis is new: stacked instead of concatenated


class Need(NamedTuple):
    """A setting that a cell must have so that the framework computes the same."""

    field: str  # field of the cell
    values: tuple[object, ...]
    has: str  # what the framework does, for the error message


class Table(NamedTuple):
    """The layout of one kind of cell in a framework."""

    where: str  # its name there, such as "torch.nn.GRU"
    slots: tuple[Slot, ...]
    joins: tuple[Join, ...] = ()
    needs: tuple[Need, ...] = ()
    negated: str = ""  # gates whose value is the share kept there and the share written here
    transposed: bool = False  # whether matrices are [out, in] there
    bias_free: bool = False  # whether the framework can leave biases out
    shifted: str = ""  # gates to whose bias the framework adds 1


RESET_AFTER = Need("reset_after", (True,), "resets after the product")
RESET_BEFORE = Need("reset_after", (False,), "resets before the product")
ONE_KERNEL = Need("recurrent_kernel_size", (None,), "has one size for both kernels")
NO_PROJECTION = Need("proj_size", (None,), "has no projection")
TANH_OR_RELU = Need("activation", ("tanh", "relu"), "has tanh and relu")


def slots(weights: dict[str, str], biases: dict[str, str], order: str) -> tuple[Slot, ...]:
    """Make the slots of fused arrays, {name: field}, with the same order of gates."""
    return tuple(Slot(name, field, order) for name, field in (weights | biases).items())


def order(cell: Cell, field: str) -> Sequence[str]:
    """Return the gates in a field of the cell's parameters, in our order; p for a projection."""
    if field == "w_hr":
        return ("p",)
    gates = getattr(cell, "PEEPHOLES" if field == "p" else "GATES")
    return gates[-1:] if field == "b_hh" and getattr(cell, "bias", "") == "candidate" else gates


def read(table: Table, cell: Cell, arrays: Arrays, zeros: Params) -> Params:
    """Convert a framework's arrays to our parameters.

    Args:
        table: the layout.
        cell: the cell.
        arrays: arrays by the framework's names, with names and shapes checked before.
        zeros: parameters of the cell, all zero.

    Returns:
        The parameters, NumPy arrays in the dtype of `arrays`.
    """
    parts = _split(table, arrays, write(table._replace(joins=()), cell, zeros))
    blocks = _blocks(table, parts)
    dtype = next(iter(arrays.values())).dtype
    fields = {}
    for field, like in zeros._asdict().items():
        own = () if like is None else order(cell, field)
        gates = {gate: blocks.pop((field, gate), None) for gate in own}
        rest = {gate: block for (name, gate), block in blocks.items() if name == field}
        _expect_zero(f"{cell} has no {field}", table, field, rest)
        if like is None:
            fields[field] = None
            continue
        blank = np.split(like.astype(dtype), len(gates), axis=-1)[0]
        filled = [blank if block is None else block for block in gates.values()]
        concatenate = jnp.concatenate if any(map(_is_traced, filled)) else np.concatenate
        fields[field] = concatenate(filled, axis=-1)
    return type(zeros)(**fields)


def write(table: Table, cell: Cell, params: Params) -> Arrays:
    """Convert our parameters, NumPy arrays, to a framework's arrays.

    Raises:
        ValueError: if the framework has no place for a nonzero number.
    """
    fields = params._asdict()
    blocks = {
        (field, gate): block
        for field, array in fields.items()
        if array is not None
        for gate, block in zip(order(cell, field), _cut(array, order(cell, field)), strict=True)
    }
    arrays: Arrays = {}
    written: set[tuple[str, str]] = set()
    biased = any(value is not None for name, value in fields.items() if name.startswith("b"))
    for slot in table.slots:
        if table.bias_free and not biased and slot.field.startswith("b"):
            continue
        gates = [_outward(table, slot.field, g, blocks, written) for g in slot.gates]
        array = np.concatenate(gates, axis=-1)
        array = array.T if table.transposed else array
        if slot.name in arrays and not np.array_equal(arrays[slot.name], array):
            raise ValueError(f"params: {table.where} has one {slot.name} where {cell} has two")
        arrays[slot.name] = array
        written |= {(slot.field, gate) for gate in slot.gates}
    for field in fields:
        rest = {g: blocks[f, g] for f, g in blocks if f == field and (f, g) not in written}
        _expect_zero(f"{table.where} has no {field}", table, field, rest)
    return _join(table, arrays)


def _blocks(table: Table, arrays: Arrays) -> Blocks:
    """Cut arrays into gates with our signs; add two biases of the same gate."""
    blocks: Blocks = {}
    for slot in table.slots:
        if slot.name not in arrays:
            continue
        array = arrays[slot.name].T if table.transposed else arrays[slot.name]
        for gate, block in zip(slot.gates, _cut(array, slot.gates), strict=True):
            old = blocks.get((slot.field, gate))
            if old is None and slot.field.startswith("b") and gate in table.shifted:
                block = block + block.dtype.type(1)
            block = -block if gate in table.negated else block
            blocks[slot.field, gate] = block if old is None else _sum(old, block)
    return blocks


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Add two biases; a bias of zeros leaves the other unchanged, including signs of zeros."""
    if _is_traced(a) or _is_traced(b):
        return a + b
    if not b.any():
        return a
    return a + b if a.any() else b


def _is_traced(array: object) -> bool:
    return isinstance(array, Tracer)


def _outward(
    table: Table, field: str, gate: str, blocks: Blocks, written: Iterable[tuple[str, str]]
) -> np.ndarray:
    """Return one gate with the framework's sign; zeros if we lack it or it was written before."""
    again = (field, gate) in written
    block = None if again else blocks.get((field, gate))
    if block is None:
        block = np.zeros(blocks["w_hh", gate].shape[-1], blocks["w_ih", gate].dtype)
    elif gate in table.negated:
        block = -block
    if not again and field.startswith("b") and gate in table.shifted:
        block = block - block.dtype.type(1)
    return block


def _join(table: Table, parts: Arrays) -> Arrays:
    """Join the parts that the framework keeps in one array."""
    arrays = dict(parts)
    for join in table.joins:
        present = [arrays.pop(part) for part in join.parts if part in arrays]
        if present:
            put = np.stack if join.new else np.concatenate
            arrays[join.name] = put(present, axis=join.axis)
    return arrays


def _split(table: Table, arrays: Arrays, like: Arrays) -> Arrays:
    """Undo `_join`; `like` holds parts of the wanted shapes."""
    result = dict(arrays)
    for join in table.joins:
        if join.name not in arrays:
            continue
        whole = result.pop(join.name)
        if join.new:
            parts = [whole.take(i, axis=join.axis) for i in range(len(join.parts))]
        else:
            ends = np.cumsum([0, *(like[part].shape[join.axis] for part in join.parts)])
            ranges = (np.arange(start, end) for start, end in pairwise(ends))
            parts = [whole.take(indices, axis=join.axis) for indices in ranges]
        result |= dict(zip(join.parts, parts, strict=True))
    return result


def _cut(array: np.ndarray, gates: Sequence[str]) -> list[np.ndarray]:
    size = array.shape[-1] // len(gates)
    return [array[..., i * size : (i + 1) * size] for i in range(len(gates))]


def _expect_zero(
    lack: str, table: Table, field: str, blocks: Mapping[str, np.ndarray | None]
) -> None:
    """Raise unless the numbers without a place on the other side are zero."""
    present = {gate: block for gate, block in blocks.items() if block is not None}
    if any(map(_is_traced, present.values())):
        raise TypeError(
            f"{field}: {lack} for the gates {', '.join(present)} ({table.where}), so they must "
            f"be zero, got traced arrays; convert them outside of jit, grad and vmap"
        )
    full = [gate for gate, block in present.items() if block.any()]
    if full:
        hint = "; sc.interop.fold_biases moves redundant biases into b_ih" * (field == "b_hh")
        raise ValueError(
            f"{field}: {lack} for the gates {', '.join(full)} ({table.where}), so zeros were "
            f"expected there, got nonzero values: these weights cannot be represented exactly{hint}"
        )
