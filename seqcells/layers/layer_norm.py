"""Layer norm inside the gates of a cell."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell, SplitCell
from seqcells._model import start_carry
from seqcells._static import exported
from seqcells._types import Carry, Drive, Inputs, InputSize, Mixed, Outputs, Params, PyTree
from seqcells.layers.norm import centred, scaled
from seqcells.layers.wrappers import _Wrapper, check_split


@exported
class LayerNormParams(NamedTuple):
    """Parameters of `LayerNorm`; scales and shifts are structured like the drive, [H] per gate."""

    cell: Params  # of the inner cell
    drive_scale: Drive  # [H] a gate, starts at 1
    drive_shift: Drive  # [H] a gate, starts at 0
    mixed_scale: Mixed  # [H] a gate, starts at 1
    mixed_shift: Mixed  # [H] a gate, starts at 0


@dataclasses.dataclass(frozen=True)
class LayerNorm(SplitCell, _Wrapper):
    """Layer norm inside the gates (after Ba, Kiros & Hinton 2016).

    For each gate, the term from the input and the term from the carry are normalised separately
    over the units, (a - mean) / sqrt(variance + eps) * scale + shift, and then added. (The paper
    takes the mean and variance over all gates of a product together, and also normalises an LSTM's
    c where it enters the output.) In a cell of images, each pixel is normalised over its channels.
    A bias of the cell is normalised too. Use a cell without one, `GRU(64, bias="none")`: the shifts
    are biases.

    Args:
        cell: a `SplitCell` that can be split, such as `GRU(64)`.
        eps: the constant added to the variance.

    Raises:
        ValueError: for a cell that cannot be split, with the reason, or an `eps` below 0.
    """

    cell: SplitCell
    eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_split("cell", self.cell)
        _check.nonnegative("eps", self.eps)

    def init(self, key: jax.Array, input_size: InputSize) -> LayerNormParams:
        """Make the parameters of the inner cell, scales of 1 and shifts of 0."""
        params = self.cell.init(key, input_size)
        dtype = jax.tree.leaves(params)[0].dtype
        x = jax.tree.map(lambda a: a.astype(dtype), self.zero_input(input_size))
        drive = jax.eval_shape(self.cell.project, params, x)
        mixed = jax.eval_shape(lambda: self.cell.mix(params, start_carry(self.cell, x, params)))

        def filled(tree: PyTree, value: int) -> PyTree:
            return jax.tree.map(lambda a: jnp.full(a.shape[-1:], value, dtype), tree)

        ones_and_zeros = (filled(tree, value) for tree in (drive, mixed) for value in (1, 0))
        return LayerNormParams(params, *ones_and_zeros)

    def init_carry(self, x: Inputs, params: LayerNormParams | None = None) -> Carry:
        """Make the first carry of the inner cell."""
        return self.cell.init_carry(x, None if params is None else params.cell)

    def noisy(
        self, params: LayerNormParams, xs: Inputs, key: jax.Array
    ) -> tuple[Cell, LayerNormParams, Inputs]:
        """Draw the noise of the cell within."""
        cell, own, xs = self.cell.noisy(params.cell, xs, key)
        return dataclasses.replace(self, cell=cell), params._replace(cell=own), xs

    def settle(self, params: LayerNormParams) -> LayerNormParams:
        """As the cell within."""
        return params._replace(cell=self.cell.settle(params.cell))

    def project(self, params: LayerNormParams, x: Inputs) -> Drive:
        """Project and normalise, gate by gate."""
        drive = self.cell.project(params.cell, x)
        return jax.tree.map(self._normal, drive, params.drive_scale, params.drive_shift)

    def mix(self, params: LayerNormParams, carry: Carry) -> Mixed:
        """Compute the recurrent product and normalise it, gate by gate."""
        mixed = self.cell.mix(params.cell, carry)
        return jax.tree.map(self._normal, mixed, params.mixed_scale, params.mixed_shift)

    def gate(self, carry: Carry, drive: Drive, mixed: Mixed) -> Carry:
        """Compute the next carry as the inner cell."""
        return self.cell.gate(carry, drive, mixed)

    def gates(
        self, params: LayerNormParams, carry: Carry, drive: Drive, mixed: Mixed = None
    ) -> dict[str, jax.Array]:
        """Compute the gates of the inner cell from the normalised terms."""
        mixed = self.mix(params, carry) if mixed is None else mixed
        return self.cell.gates(params.cell, carry, drive, mixed)

    def next_carry(
        self, params: LayerNormParams, carry: Carry, drive: Drive, fresh: jax.Array | None
    ) -> Carry:
        """Compute the next carry as `gate(carry, drive, mix(params, carry))`."""
        return self.recur(params, carry, drive)

    def read(self, params: LayerNormParams, carry: Carry, drive: Drive) -> Outputs:
        """Read the output of the inner cell."""
        return self.cell.read(params.cell, carry, drive)

    def _normal(self, a: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
        return scaled(centred(a), scale, shift, self.eps)
