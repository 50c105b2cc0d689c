"""Base class of the cells with a complex diagonal recurrence, stored as pairs of real numbers."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from seqcells import _check, initializers
from seqcells._cell import LinearCell
from seqcells._linear import affine, gates
from seqcells._static import exported
from seqcells._types import Params
from seqcells.cells._dense import SizedCell
from seqcells.initializers import GateInitializers


@exported
class LRUCarry(NamedTuple):
    """The memory of `LRU` and `S5`, a complex number a unit."""

    re: jax.Array  # [*B, H]
    im: jax.Array  # [*B, H]


@dataclasses.dataclass(frozen=True, repr=False)
class ComplexCell(SizedCell, LinearCell):
    """A linear cell of complex units, with w_ih [D, 2H], and w_ho [H, 2O] that reads the memory."""

    GATES: ClassVar[tuple[str, ...]] = ("re", "im")
    CARRY: ClassVar[type] = LRUCarry

    _: dataclasses.KW_ONLY
    output_size: int | None = None
    w_ih_init: GateInitializers = initializers.Lecun(0.5)
    w_ho_init: GateInitializers = initializers.Lecun()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_size is not None:
            _check.size("output_size", self.output_size, least=1)

    def times(self, a: LRUCarry, carry: LRUCarry) -> LRUCarry:
        """Multiply complex numbers."""
        return LRUCarry(a.re * carry.re - a.im * carry.im, a.re * carry.im + a.im * carry.re)

    def output(self, params: Params, carry: LRUCarry) -> jax.Array:
        """Compute Re(C h), float[*B, O], in the dtype of the carry."""
        c_re, c_im = gates(params.w_ho, 2)
        re, im = (affine(h, c, None, h.dtype) for h, c in zip(carry, (c_re, c_im), strict=True))
        return re - im
