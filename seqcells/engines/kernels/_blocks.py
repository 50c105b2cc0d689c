"""Calling a kernel: arrays padded to the sizes that it takes, cut into blocks, cropped again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from seqcells.engines._platform import varies_over

Shape = tuple[int, ...]


class Blocks(NamedTuple):
    """Trees of arrays, of their shapes or of blocks of them, by what they are cut along."""

    steps: Any = None  # [C, N, H]: time and rows
    code: Any = None  # int32[C, N, 1]: the same
    rows: Any = None  # [N, H]: rows
    whole: Any = None  # [G, H, H] or [G, H]: nothing


class Sizes(NamedTuple):
    """The sizes of a problem, or those that it is padded to."""

    steps: int
    rows: int
    units: int

    def of(self, kind: str, a: Any) -> Shape:
        """Return the shape of an array of a kind."""
        lead = {"steps": (self.steps, self.rows), "code": (self.steps, self.rows)}
        lead |= {"rows": (self.rows,), "whole": (a.shape[0], *[self.units] * (a.ndim - 2))}
        return (*lead[kind], 1 if kind == "code" else self.units)


def call(
    name: str,
    kernel: Callable[..., None],
    given: Blocks,
    made: Blocks,
    sizes: Sizes,
    cut: dict[str, Callable[[Shape], pl.BlockSpec]],
    interpret: bool,
    **options: Any,
) -> Blocks:
    """Run a kernel.

    Args:
        name: as profilers show it.
        kernel: takes the blocks of what is given and of what is made, and scratch.
        given: the arrays that it reads.
        made: the shapes and dtypes of the arrays that it makes.
        sizes: those that it takes: what is given is padded to them with zeros.
        cut: a block of a kind, of the shape that is cut.
        interpret: whether it is run in plain operations.
        options: those of `pallas_call`.
    """

    def spec(kind: str, a: Any) -> pl.BlockSpec:
        return cut[kind](sizes.of(kind, a))

    leaves, reads = jax.tree.flatten(pad(given, sizes))
    shapes, writes = jax.tree.flatten(padded(made, sizes, varies_over(given)))
    ends = (len(leaves), len(leaves) + len(shapes))

    def body(*refs: Any) -> None:
        read = jax.tree.unflatten(reads, refs[: ends[0]])
        write = jax.tree.unflatten(writes, refs[ends[0] : ends[1]])
        kernel(read, write, *refs[ends[1] :])

    called = pl.pallas_call(
        body,
        in_specs=jax.tree.leaves(_map(spec, given)),
        out_specs=jax.tree.leaves(_map(spec, made)),
        out_shape=shapes,
        name=name,
        interpret=interpret,
        **options,
    )
    # Indices on a device are int32, whatever a program computes in.
    with jax.enable_x64(jax.config.read("jax_enable_x64") and interpret):
        found = called(*leaves)
    return crop(jax.tree.unflatten(writes, found), made)


def pad(given: Blocks, sizes: Sizes) -> Blocks:
    """Pad arrays with zeros."""

    def one(kind: str, a: jax.Array) -> jax.Array:
        return jnp.pad(a, [(0, n - m) for n, m in zip(sizes.of(kind, a), a.shape, strict=True)])

    return _map(one, given)


def padded(made: Blocks, sizes: Sizes, varying: frozenset[str] = frozenset()) -> Blocks:
    """Return the padded shapes of what is made, which may vary over axes of a shard_map."""
    manual = jax.sharding.ManualAxisType(varying=varying) if varying else None

    def shape(kind: str, a: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes.of(kind, a), a.dtype, manual_axis_type=manual)

    return _map(shape, made)


def crop(found: Blocks, made: Blocks) -> Blocks:
    """Undo `pad`: arrays of the shapes of `made`."""
    return jax.tree.map(lambda a, one: a[tuple(map(slice, one.shape))], found, made)


def _map(function: Callable[[str, Any], Any], blocks: Blocks) -> Blocks:
    def one(kind: str, tree: Any) -> Any:
        return jax.tree.map(lambda a: function(kind, a), tree)

    return Blocks(*map(one, Blocks._fields, blocks))
