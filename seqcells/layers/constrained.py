"""Cells whose recurrent matrix keeps its signs and its zeros."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells._cell import Cell, SplitCell, recurrent_matrix
from seqcells._linear import wide
from seqcells._static import Named
from seqcells._types import Carry, Drive, Inputs, InputSize, Mixed, Outputs, Params
from seqcells.initializers import with_radius
from seqcells.layers.wrappers import _Wrapper


@dataclasses.dataclass(frozen=True)
class Dale(Named):
    """Dale's law: a unit excites all units that read it, or inhibits all of them.

    The first round(share * H) units are excitatory: their outgoing weights, a row of w_hh, are at
    least 0. The others are inhibitory, with weights of at most 0, drawn larger by the ratio of the
    two counts, so that what a unit receives sums to about zero (Rajan & Abbott 2006).

    Args:
        share: that of the excitatory units, from 0 to 1.

    Raises:
        ValueError: on another share.
    """

    share: float = 0.8

    def __post_init__(self) -> None:
        _check.number("share", self.share, "a number from 0 to 1", lambda share: 0 <= share <= 1)

    def signs(self, size: int) -> np.ndarray:
        """Return 1 for each excitatory unit and -1 for each inhibitory one, int[size]."""
        return np.where(np.arange(size) < self._count(size), 1, -1)

    def balance(self, size: int) -> np.ndarray:
        """Return by how much the weights of each unit are scaled when drawn, float[size]."""
        count = self._count(size)
        ratio = count / (size - count) if 0 < count < size else 1.0
        return np.where(np.arange(size) < count, 1.0, ratio)

    def _count(self, size: int) -> int:
        return round(self.share * size)


@dataclasses.dataclass(frozen=True)
class SparsePattern(Named):
    """Which units are connected, drawn once: each unit reads round(density * H) others, at least 1.

    It may read itself. The pattern follows from H and the two arguments alone, and no array is
    stored. For a matrix that starts sparse and is free, see `initializers.Sparse`.

    Args:
        density: share of the units that a unit reads, above 0 and at most 1.
        seed: another one gives another pattern.

    Raises:
        ValueError: on a density or a seed out of range.
        TypeError: on a seed that is no int.
    """

    density: float
    seed: int = 0

    def __post_init__(self) -> None:
        expected = "a number above 0 and at most 1"
        _check.number("density", self.density, expected, lambda density: 0 < density <= 1)
        _check.seed("seed", self.seed)

    def mask(self, size: int) -> np.ndarray:
        """Return bool[size, size], True where the unit of the column reads that of the row."""
        return _mask(size, max(1, round(self.density * size)), self.seed)


@dataclasses.dataclass(frozen=True)
class Constrained(SplitCell, _Wrapper):
    """A cell whose recurrent matrix w_hh keeps the signs of its rows and a pattern of zeros.

    Its parameters are those of the cell, in which w_hh [H, G*H] is free. The cell computes with a
    function of it, which has the signs and zeros whatever an optimiser does to w::

        w_hh = sign * |w|    where units are connected, else 0

    `effective` returns the parameters with this matrix. It is computed once, before the loop over
    time, which then is that of the cell alone. Signs belong to the rows, the units that are read,
    and are alike in the blocks of all gates; so is the pattern. Weights without a connection have
    no gradient. The derivative of abs(w) at 0 is 1, so a weight of zero can grow. (PsychRNN has
    abs(w), too; Song et al. 2016 have max(w, 0), under which a weight below 0 has no gradient.)

    Args:
        cell: a `SplitCell` with a recurrent matrix, such as `RNN`, `CTRNN`, `GRU` or `LSTM`: its
            class declares RECURRENT_WEIGHTS or RECURRENT_MATRIX.
        signs: `Dale`, or None for free signs.
        pattern: `SparsePattern`, or None for a full matrix.
        radius: spectral radius with which the [H, H] block of each gate starts, which the cell's
            `w_hh_init` draws; None to leave its scale as it is drawn. A block without cycles has
            radius 0 and stays as drawn.

    Raises:
        ValueError: for a cell without such a matrix, without signs and pattern, or on a radius that
            is not above 0.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> cell = sc.Constrained(sc.CTRNN(10, "relu"), sc.Dale(0.8), sc.SparsePattern(0.3))
    >>> w = cell.effective(cell.init(jax.random.key(0), input_size=2)).w_hh
    >>> bool((w[:8] >= 0).all()), bool((w[8:] <= 0).all()), int((w != 0).sum())
    (True, True, 30)
    """

    cell: SplitCell
    signs: Dale | None = None
    pattern: SparsePattern | None = None
    radius: float | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._name
        for name, kind, example in (
            ("signs", Dale, "Dale(0.8)"),
            ("pattern", SparsePattern, "SparsePattern(0.1)"),
        ):
            if getattr(self, name) is not None:
                _check.instance(name, getattr(self, name), kind, example)
        if self.signs is None and self.pattern is None:
            raise ValueError("signs, pattern: expected at least one of the two, got None for both")
        if self.radius is not None:
            _check.positive("radius", self.radius)

    @property
    def _name(self) -> str:
        """The field of params with the matrix."""
        name = recurrent_matrix(self.cell)
        if name is None:
            raise ValueError(
                f"cell: expected a SplitCell with a recurrent matrix, got {self.cell}: its class "
                f"{type(self.cell).__name__} declares neither RECURRENT_WEIGHTS nor "
                "RECURRENT_MATRIX"
            )
        return name

    def init(self, key: jax.Array, input_size: InputSize) -> Params:
        """Make the parameters of the cell, and scale its recurrent matrix gate by gate."""
        params = self.cell.init(key, input_size)
        w = getattr(params, self._name)
        size = w.shape[0]
        if w.shape[1] % size:
            raise ValueError(
                f"cell: expected {self._name} float[H, G*H], got {list(w.shape)} of {self.cell}"
            )
        blocks = [self._start(block) for block in jnp.split(w, w.shape[1] // size, axis=1)]
        return params._replace(**{self._name: jnp.concatenate(blocks, axis=1).astype(w.dtype)})

    def _start(self, block: jax.Array) -> jax.Array:
        """Return the free numbers with which a gate starts, for those that were drawn [H, H]."""
        size, block = block.shape[0], block.astype(wide(block.dtype))
        if self.signs is not None:
            rows = jnp.asarray(self.signs.balance(size), block.dtype)[:, None]
            block = jnp.abs(block) * rows
        if self.pattern is not None:
            block = jnp.where(self.pattern.mask(size), block, 0)
        return block if self.radius is None else with_radius(block, self.radius, self._held)

    def _held(self, w: jax.Array) -> jax.Array:
        """Return the matrix that follows from free numbers [H, G*H]."""
        size, gates = w.shape[0], w.shape[1] // w.shape[0]
        if self.signs is not None:
            sign = jnp.asarray(self.signs.signs(size), w.dtype)[:, None]
            w = sign * jnp.abs(w)  # whose derivative at 0 is 1
        if self.pattern is None:
            return w
        return jnp.where(np.tile(self.pattern.mask(size), gates), w, 0)

    def effective(self, params: Params) -> Params:
        """Return the parameters with which the cell computes."""
        return params._replace(**{self._name: self._held(getattr(params, self._name))})

    @property
    def settled(self) -> Cell:
        """The cell within."""
        return self.cell.settled

    def settle(self, params: Params) -> Params:
        """Compute the matrix, once before a loop."""
        return self.cell.settle(self.effective(params))

    def init_carry(self, x: Inputs, params: Params = None) -> Carry:
        """Make the carry of the cell within."""
        return self.cell.init_carry(x, None if params is None else self.effective(params))

    def project(self, params: Params, x: Inputs) -> Drive:
        """Project as the cell within."""
        return self.cell.project(self.effective(params), x)

    def mix(self, params: Params, carry: Carry) -> Mixed:
        """Compute the recurrent product with the matrix that keeps its signs and zeros."""
        return self.cell.mix(self.effective(params), carry)

    def gate(self, carry: Carry, drive: Drive, mixed: Mixed) -> Carry:
        """Compute the next carry as the cell within."""
        return self.cell.gate(carry, drive, mixed)

    def why_not_split(self) -> str | None:
        """As the cell within."""
        return self.cell.why_not_split()

    def recur(self, params: Params, carry: Carry, drive: Drive) -> Carry:
        """Compute the next carry."""
        return self.cell.recur(self.effective(params), carry, drive)

    def next_carry(
        self, params: Params, carry: Carry, drive: Drive, fresh: jax.Array | None
    ) -> Carry:
        """Compute the next carry, given which sequences start by a reset."""
        return self.cell.next_carry(self.effective(params), carry, drive, fresh)

    def read(self, params: Params, carry: Carry, drive: Drive) -> Outputs:
        """Read the output of the cell within."""
        return self.cell.read(self.effective(params), carry, drive)

    def gates(
        self, params: Params, carry: Carry, drive: Drive, mixed: Mixed = None
    ) -> dict[str, jax.Array]:
        """Compute the gates of the cell within."""
        return self.cell.gates(self.effective(params), carry, drive, mixed)

    def noisy(self, params: Params, xs: Inputs, key: jax.Array) -> tuple[Cell, Params, Inputs]:
        """Draw the noise of the cell within, and return it with the matrix that holds."""
        return self.cell.noisy(self.effective(params), xs, key)


@functools.lru_cache(64)
def _mask(size: int, count: int, seed: int) -> np.ndarray:
    """Draw `count` rows in each column: bits of a generator are the same in all versions."""
    bits = np.random.PCG64(seed).random_raw(size * size).reshape(size, size)
    mask = np.argsort(np.argsort(bits, axis=0), axis=0) < count
    mask.flags.writeable = False  # it is shared
    return mask
