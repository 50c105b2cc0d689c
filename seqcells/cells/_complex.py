"""Base class of the cells with a complex diagonal recurrence, stored as pairs of real numbers."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from seqcells import _check, initializers
from seqcells._cell import LinearCell
from seqcells._linear import affine, gates
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells._types import Params
from seqcells.cells._dense import SizedCell
from seqcells.initializers import GateInitializers


@exported
class LRUCarry(NamedTuple):
    """The memory of `LRU` and `S5`, a complex number a unit."""

    re: jax.Array  # [*B, H]
    im: jax.Array  # [*B, H]


Drive = tuple[LRUCarry, jax.Array | None]  # what is written, float[*B, H] twice; x float[*B, D]


@dataclasses.dataclass(frozen=True, repr=False)
class ComplexCell(SizedCell, LinearCell):
    """A linear cell of complex units, with w_ih [D, 2H], and w_ho [H, 2O] that reads the memory.

    Its drive is what is written, and x for the skip d * x.
    """

    GATES: ClassVar[tuple[str, ...]] = ("re", "im")
    CARRY: ClassVar[type] = LRUCarry

    _: dataclasses.KW_ONLY
    output_size: int | None = None
    skip: bool = False
    w_ih_init: GateInitializers = initializers.Lecun(0.5)
    w_ho_init: GateInitializers = initializers.Lecun()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_size is not None:
            _check.size("output_size", self.output_size, least=1)
        _check.flag("skip", self.skip)

    def times(self, a: LRUCarry, carry: LRUCarry) -> LRUCarry:
        """Multiply complex numbers."""
        return LRUCarry(a.re * carry.re - a.im * carry.im, a.re * carry.im + a.im * carry.re)

    def read(self, params: Params, carry: LRUCarry, drive: Drive) -> jax.Array:
        """Compute Re(C h) + d * x, float[*B, O], in the dtype of computation."""
        c_re, c_im = gates(params.w_ho, 2)
        re, im = (affine(h, c, None, h.dtype) for h, c in zip(carry, (c_re, c_im), strict=True))
        y, x = re - im, drive[1]
        if x is not None:
            y += as_rows(params.d.astype(y.dtype), y) * x
        return super().read(params, y, drive)

    def _drive(self, written: LRUCarry, x: jax.Array) -> Drive:
        return written, x.astype(written.re.dtype) if self.skip else None

    def _draw_skip(self, key: jax.Array, input_size: int, width: int) -> jax.Array | None:
        """Draw d for `width` outputs, or raise if x has another number of features."""
        if not self.skip:
            return None
        if width != input_size:
            raise ValueError(
                f"output_size: expected input_size = {input_size}, to which the skip adds x, got "
                f"{width}; give skip=False, or a Dense({width}) after the cell"
            )
        return jax.random.normal(key, (width,), self.param_dtype)
