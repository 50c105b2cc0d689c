"""Base class of the convolutional cells, which read images."""

from __future__ import annotations

import dataclasses

import jax
from jax.typing import DTypeLike

from seqcells import _check
from seqcells._convolution import convolve
from seqcells._types import InputSize, Shape
from seqcells.cells._dense import MatrixCell

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True, repr=False)
class ConvCell(MatrixCell):
    """A cell of images float[*B, H, W, C], each of whose products is a convolution.

    The carry has the height and width of the images, and no parameter depends on them.
    """

    _: dataclasses.KW_ONLY
    kernel_size: int | Pair = (3, 3)
    recurrent_kernel_size: int | Pair | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "kernel_size", _pair("kernel_size", self.kernel_size))
        if self.recurrent_kernel_size is not None:
            own = _pair("recurrent_kernel_size", self.recurrent_kernel_size)
            own = None if own == self.kernel_size else own  # so that equal cells compare equal
            object.__setattr__(self, "recurrent_kernel_size", own)

    @property
    def x_ndim(self) -> int:
        """3: the input of a step is an image [H, W, C]."""
        return 3

    def zero_input(self, input_size: InputSize) -> jax.Array:
        """Return an image of zeros; of one pixel where `input_size` is its channels alone."""
        channels = _channels(input_size)
        height, width = input_size[:2] if isinstance(input_size, tuple) else (1, 1)
        return super().zero_input((height, width, channels))

    def _sizes(self, key: jax.Array, input_size: InputSize) -> tuple[int, int]:
        return super()._sizes(key, _channels(input_size))

    def _draw(self, name: str, key: jax.Array, shape: Shape) -> jax.Array:
        kernels = {
            "w_ih_init": self.kernel_size,
            "w_hh_init": self.recurrent_kernel_size or self.kernel_size,
        }
        kernel = _pair(name, kernels[name]) if name in kernels else ()
        return super()._draw(name, key, (*kernel, *shape))

    def _product(
        self, x: jax.Array, w: jax.Array, b: jax.Array | None, dtype: DTypeLike
    ) -> jax.Array:
        return convolve(x, w, b, dtype)


def _pair(name: str, value: object) -> Pair:
    """Return the height and width of a kernel, of which an int is both."""
    sides = value if isinstance(value, tuple) else (value, value)
    if len(sides) != 2:
        raise ValueError(f"{name}: expected an int or (height, width), got {value!r}")
    rows, columns = (_check.size(name, side, least=1) for side in sides)
    return rows, columns


def _channels(input_size: InputSize) -> int:
    """Return the channels of images of this size."""
    if not isinstance(input_size, tuple):
        return input_size
    if len(input_size) != 3:
        wanted = "the channels of an image, or its (height, width, channels)"
        raise ValueError(f"input_size: expected {wanted}, got {input_size}")
    return input_size[-1]
