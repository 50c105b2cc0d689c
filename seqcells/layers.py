"""Layers: cells over time, put together. A layer is a static value; its parameters are a pytree.

Padding is inert here as in `unroll`: where there is none to see, outputs are zero.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check, _flags
from seqcells._cell import Carry, Cell, Params, fresh_carry
from seqcells._flags import Flags
from seqcells._static import Named
from seqcells._unroll import run, time_back, time_first, unroll
from seqcells.engines import Engine

MERGES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "concat": lambda a, b: jnp.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
}


class Layer(Named, abc.ABC):
    """A function of whole sequences with parameters and a carry.

    Subclasses are frozen dataclasses, and static values to JAX.
    """

    @abc.abstractmethod
    def init(self, key: jax.Array, input_size: int) -> Params:
        """Make parameters for inputs with `input_size` features."""

    @abc.abstractmethod
    def run(
        self,
        params: Params,
        xs: jax.Array,
        carry: Carry,
        flags: Flags,
        key: jax.Array | None,
    ) -> tuple[Carry, jax.Array]:
        """Do what `apply` does, for xs [T, *B, D] and flags that are checked already."""

    def apply(
        self,
        params: Params,
        xs: ArrayLike,
        carry: Carry = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        time_axis: int = 0,
        key: jax.Array | None = None,
    ) -> tuple[Carry, jax.Array]:
        """Run the layer over sequences.

        Args:
            params: its parameters, as `init(key, D)` makes them.
            xs: float[T, *B, D]; time first unless `time_axis` says otherwise.
            carry: the memory before the first step; a fresh one where None.
            lengths: int[*B], as in `unroll`.
            mask: bool[T, *B], as in `unroll`.
            resets: bool[T, *B], as in `unroll`.
            time_axis: where time stands in xs, mask, resets and ys.
            key: one random key for dropout and the like; None for evaluation.

        Returns:
            The carry at the end, and ys [T, *B, H].

        Raises:
            TypeError: as `unroll`.
            ValueError: as `unroll`.
        """
        xs, axis = time_first(xs, time_axis)
        if key is not None:
            _check.key("key", key)
        flags = _flags.make(xs, lengths, mask, resets, axis)
        carry, ys = self.run(params, xs, carry, flags, key)
        return carry, time_back(ys, axis)

    def output_size(self, input_size: int) -> int:
        """Return the number of features of ys for inputs with `input_size` features."""

        def one_step() -> jax.Array:
            params = self.init(jax.random.key(0), input_size)
            return self.run(params, jnp.zeros((1, input_size)), None, Flags(), None)[1]

        return jax.eval_shape(one_step).shape[-1]


class RecurrentParams(NamedTuple):
    """Parameters of `Recurrent(learned_carry=True)`."""

    cell: Params  # of the cell
    carry: Carry  # without batch axes, such as [H]; where every sequence starts


@dataclasses.dataclass(frozen=True)
class Recurrent(Layer):
    """A cell over time.

    Its parameters are those of the cell, or `RecurrentParams` with a learned carry.

    Args:
        cell: any cell.
        reverse: read each sequence from its own last valid step.
        learned_carry: whether the carry with which a sequence starts, also at a reset, is a
            parameter; it starts as the cell's own.
        engine: the way through time; the best that can run this where None.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> layer = sc.Recurrent(sc.GRU(4), learned_carry=True)
    >>> params = layer.init(jax.random.key(0), input_size=2)
    >>> carry, ys = layer.apply(params, jnp.ones((5, 3, 2)), lengths=jnp.array([5, 2, 0]))
    >>> ys.shape
    (5, 3, 4)
    """

    cell: Cell
    reverse: bool = False
    learned_carry: bool = False
    engine: Engine | None = None

    def __post_init__(self) -> None:
        _check.instance("cell", self.cell, Cell, "GRU(64)")
        _check.flag("reverse", self.reverse)
        _check.flag("learned_carry", self.learned_carry)
        if self.engine is not None:
            _check.instance("engine", self.engine, Engine, "Scan()")

    def init(self, key: jax.Array, input_size: int) -> Params:
        """Make the parameters of the cell, and the carry if it is learned."""
        params = self.cell.init(key, input_size)
        if not self.learned_carry:
            return params
        x = jnp.zeros((1, input_size))
        return RecurrentParams(params, fresh_carry(self.cell, x))

    def run(
        self, params: Params, xs: jax.Array, carry: Carry, flags: Flags, key: jax.Array | None
    ) -> tuple[Carry, jax.Array]:
        """Unroll the cell."""
        flags = flags.backward() if self.reverse else flags
        params, start = self.start(params, xs)
        return run(self.cell, params, xs, carry, flags, start, self.engine, key)

    def start(self, params: Params, xs: jax.Array) -> tuple[Params, Carry]:
        """Return the parameters of the cell, and the learned carry [*B, ...] or None."""
        if not self.learned_carry:
            return params, None
        fresh = fresh_carry(self.cell, xs)
        carry = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), params.carry, fresh)
        return params.cell, carry


class Both(NamedTuple):
    """What belongs to the two directions of a `Bidirectional`."""

    forward: Any
    backward: Any


@dataclasses.dataclass(frozen=True)
class Bidirectional(Layer):
    """Two cells that read each sequence from its two ends (Schuster & Paliwal 1997).

    Parameters and carry are `Both`.

    Args:
        forward: a cell, or a `Recurrent` that reads forward.
        backward: the same for the other direction; as `forward` where None, with parameters of its
            own.
        merge: "concat", "sum", "mean", "mul", or a function of two arrays [T, *B, H].

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> layer = sc.Bidirectional(sc.LSTM(4))
    >>> carry, ys = layer.apply(layer.init(jax.random.key(0), 2), jnp.ones((5, 3, 2)))
    >>> ys.shape
    (5, 3, 8)
    """

    forward: Cell | Recurrent
    backward: Cell | Recurrent | None = None
    merge: str | Callable[[jax.Array, jax.Array], jax.Array] = "concat"

    def __post_init__(self) -> None:
        if not callable(self.merge):
            _check.choice("merge", self.merge, MERGES)
        _ = self.ways  # which checks them

    @property
    def ways(self) -> Both:
        """The two layers, the second of which reads from the end."""
        forward = _as_layer(self.forward)
        backward = forward if self.backward is None else _as_layer(self.backward)
        for layer in (forward, backward):
            _check.instance("forward, backward", layer, Recurrent, "Recurrent(GRU(64))")
        return Both(
            dataclasses.replace(forward, reverse=False), dataclasses.replace(backward, reverse=True)
        )

    def init(self, key: jax.Array, input_size: int) -> Both:
        """Make parameters for both directions."""
        keys = jax.random.split(key)
        return Both(*(way.init(k, input_size) for way, k in zip(self.ways, keys, strict=True)))

    def run(
        self, params: Both, xs: jax.Array, carry: Both | None, flags: Flags, key: jax.Array | None
    ) -> tuple[Both, jax.Array]:
        """Run both directions and merge their outputs."""
        parts = (_parts("params", params, 2, self), _parts("carry", carry, 2, self))
        (one, ahead), (two, back) = (
            way.run(p, xs, c, flags, k)
            for way, p, c, k in zip(self.ways, *parts, _split(key, 2), strict=True)
        )
        merge = MERGES[self.merge] if isinstance(self.merge, str) else self.merge
        return Both(one, two), _flags.silence(flags.valid, merge(ahead, back))


@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """A layer whose input is added to its output.

    Args:
        layer: a layer or a cell with as many outputs as inputs.
    """

    layer: Layer | Cell

    def __post_init__(self) -> None:
        _check.instance("layer", _as_layer(self.layer), Layer, "Recurrent(GRU(64))")

    def init(self, key: jax.Array, input_size: int) -> Params:
        """Make the parameters of the layer."""
        inner = _as_layer(self.layer)
        size = inner.output_size(input_size)
        if size != input_size:
            came = f"{size} outputs for {input_size} inputs"
            raise ValueError(f"layer: expected as many outputs as inputs, got {came}: {inner}")
        return inner.init(key, input_size)

    def run(
        self, params: Params, xs: jax.Array, carry: Carry, flags: Flags, key: jax.Array | None
    ) -> tuple[Carry, jax.Array]:
        """Run the layer and add."""
        carry, ys = _as_layer(self.layer).run(params, xs, carry, flags, key)
        return carry, ys + _flags.silence(flags.valid, xs).astype(ys.dtype)


@dataclasses.dataclass(frozen=True)
class Stack(Layer):
    """Layers one on the other. Parameters and carry are tuples, with an entry for each.

    Args:
        layers: layers or cells, at least one.
        dropout: share of what goes from one layer to the next that is dropped, drawn anew at every
            step where there is a key; what is kept is scaled by 1 / (1 - dropout).
        skip: whether every layer after the first also sees xs, and ys holds the outputs of all of
            them, side by side (Haiku's `deep_rnn_with_skip_connections`).

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.Stack((sc.GRU(4), sc.Bidirectional(sc.LSTM(3))), dropout=0.1)
    >>> params = net.init(jax.random.key(0), input_size=2)
    >>> carry, ys = net.apply(params, jnp.ones((5, 3, 2)), key=jax.random.key(1))
    >>> ys.shape
    (5, 3, 6)
    """

    layers: tuple[Layer | Cell, ...]
    dropout: float = 0.0
    skip: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.layers, (tuple, list)) or not self.layers:
            raise TypeError(f"layers: expected a tuple of layers or cells, got {self.layers!r}")
        object.__setattr__(self, "layers", tuple(self.layers))
        for layer in self.layers:
            _check.instance("layers", _as_layer(layer), Layer, "Recurrent(GRU(64))")
        _check.rate("dropout", self.dropout)
        _check.flag("skip", self.skip)

    def init(self, key: jax.Array, input_size: int) -> tuple[Params, ...]:
        """Make parameters for every layer."""
        params, size = [], input_size
        for layer, k in zip(self.layers, jax.random.split(key, len(self.layers)), strict=True):
            layer = _as_layer(layer)
            params.append(layer.init(k, size))
            size = layer.output_size(size) + (input_size if self.skip else 0)
        return tuple(params)

    def run(
        self,
        params: tuple[Params, ...],
        xs: jax.Array,
        carry: tuple[Carry, ...] | None,
        flags: Flags,
        key: jax.Array | None,
    ) -> tuple[tuple[Carry, ...], jax.Array]:
        """Run every layer on the output of the one before."""
        count = len(self.layers)
        carry = _parts("carry", carry, count, self)
        params = _parts("params", params, count, self)
        carries, outputs, seen = [], [], xs
        for i, k in enumerate(_split(key, count)):
            k_layer, k_drop = (None, None) if k is None else jax.random.split(k)
            if i > 0:
                seen = self._between(outputs[-1], xs, k_drop)
            end, ys = _as_layer(self.layers[i]).run(params[i], seen, carry[i], flags, k_layer)
            carries.append(end)
            outputs.append(ys)
        return tuple(carries), jnp.concatenate(outputs, axis=-1) if self.skip else outputs[-1]

    def _between(self, ys: jax.Array, xs: jax.Array, key: jax.Array | None) -> jax.Array:
        """What a layer sees of the one before."""
        if key is not None and self.dropout:
            keep = jax.random.bernoulli(key, 1 - self.dropout, ys.shape)
            ys = jnp.where(keep, ys / (1 - self.dropout), jnp.zeros_like(ys))
        return jnp.concatenate([ys, xs.astype(ys.dtype)], axis=-1) if self.skip else ys


def call(
    cell: Cell | Layer, params: Params, xs: ArrayLike, carry: Carry = None, **flags: Any
) -> tuple[Carry, Any]:
    """Run a cell by `unroll`, or a layer by its `apply`, with what flags each of them takes."""
    if isinstance(cell, Layer):
        return cell.apply(params, xs, carry, **flags)
    return unroll(cell, params, xs, carry, **flags)


def _as_layer(layer: Any) -> Any:
    return Recurrent(layer) if isinstance(layer, Cell) else layer


def _split(key: jax.Array | None, count: int) -> list[Any]:
    return [None] * count if key is None else list(jax.random.split(key, count))


def _parts(name: str, tree: Any, count: int, layer: Layer) -> tuple[Any, ...]:
    """Check that there is one entry a layer, or make as many None."""
    if tree is None:
        return (None,) * count
    if not isinstance(tree, (tuple, list)) or len(tree) != count:
        came = len(tree) if isinstance(tree, (tuple, list)) else type(tree).__name__
        raise ValueError(f"{name}: expected a tuple of {count} for {layer}, got {came}")
    return tuple(tree)
