"""Calling a Pallas kernel: pad its inputs, cut them into blocks, crop its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from seqcells._types import PyTree, Shape, Shaped
from seqcells.engines._platform import varies_over

T = TypeVar("T")


class Blocks(NamedTuple):
    """Trees of arrays, shapes or blocks, grouped by the axes along which they are cut."""

    steps: PyTree = None  # [C, N, H]: cut along time and rows
    code: PyTree = None  # int32[C, N, 1]: time and rows
    rows: PyTree = None  # [N, H]: rows
    whole: PyTree = None  # [G, H, H] or [G, H]: not cut


class Sizes(NamedTuple):
    """The sizes of a problem, or its padded sizes."""

    steps: int
    rows: int
    units: int

    def of(self, kind: str, a: Shaped) -> Shape:
        """Return the shape of an array of a kind."""
        lead = {"steps": (self.steps, self.rows), "code": (self.steps, self.rows)}
        lead |= {"rows": (self.rows,), "whole": (a.shape[0], *[self.units] * (len(a.shape) - 2))}
        return (*lead[kind], 1 if kind == "code" else self.units)


def call(
    name: str,
    kernel: Callable[..., None],
    *,
    inputs: Blocks,
    out: Blocks,
    sizes: Sizes,
    cut: dict[str, Callable[[Shape], pl.BlockSpec]],
    interpret: bool,
    **options: object,
) -> Blocks:
    """Run a kernel.

    Args:
        name: the name that profilers show.
        kernel: a function of the blocks of inputs, the blocks of outputs, and scratch references.
        inputs: the arrays that it reads.
        out: the shapes and dtypes of its outputs.
        sizes: the padded sizes; inputs are padded with zeros.
        cut: for each kind, a function from a shape to its block spec.
        interpret: whether to run it in plain JAX operations.
        options: further arguments of `pallas_call`.
    """

    def spec(kind: str, a: Shaped) -> pl.BlockSpec:
        return cut[kind](sizes.of(kind, a))

    leaves, reads = jax.tree.flatten(pad(inputs, sizes))
    shapes, writes = jax.tree.flatten(padded(out, sizes, varies_over(inputs)))
    ends = (len(leaves), len(leaves) + len(shapes))

    def body(*refs: PyTree) -> None:
        read = jax.tree.unflatten(reads, refs[: ends[0]])
        write = jax.tree.unflatten(writes, refs[ends[0] : ends[1]])
        kernel(read, write, *refs[ends[1] :])

    called = pl.pallas_call(
        body,
        in_specs=jax.tree.leaves(_map(spec, inputs)),
        out_specs=jax.tree.leaves(_map(spec, out)),
        out_shape=shapes,
        name=name,
        interpret=interpret,
        **options,  # pyright: ignore[reportArgumentType] - checked by pallas_call
    )
    # Indices on a device are int32, also if x64 is enabled.
    with jax.enable_x64(jax.config.read("jax_enable_x64") and interpret):
        outputs = called(*leaves)
    return crop(jax.tree.unflatten(writes, outputs), out)


def pad(inputs: Blocks, sizes: Sizes) -> Blocks:
    """Pad arrays with zeros."""

    def one(kind: str, a: jax.Array) -> jax.Array:
        return jnp.pad(a, [(0, n - m) for n, m in zip(sizes.of(kind, a), a.shape, strict=True)])

    return _map(one, inputs)


def padded(shapes: Blocks, sizes: Sizes, varying: frozenset[str] = frozenset()) -> Blocks:
    """Return padded shapes that vary over the given axes of a `shard_map`."""
    manual = jax.sharding.ManualAxisType(varying=varying) if varying else None

    def shape(kind: str, a: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes.of(kind, a), a.dtype, manual_axis_type=manual)

    return _map(shape, shapes)


def crop(outputs: Blocks, shapes: Blocks) -> Blocks:
    """Undo `pad`: return arrays of the given shapes."""
    return jax.tree.map(lambda a, one: a[tuple(map(slice, one.shape))], outputs, shapes)


def _map(function: Callable[..., T], blocks: Blocks) -> Blocks:
    def one(kind: str, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: function(kind, a), tree)

    return Blocks(*map(one, Blocks._fields, blocks))
