"""The benchmark problems: shapes, cells, weights and inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from tyro.extras import literal_type_from_choices

import seqcells as sc
from experiments.lab import BadInput

Params = Any  # weights: a pytree of arrays, or a list of a framework's tensors
Inputs = Any  # xs [T, B, D] in a framework's layout


class Shape(NamedTuple):
    """Sizes of a problem."""

    name: str
    B: int
    T: int
    D: int
    H: int

    @property
    def columns(self) -> dict[str, int]:
        """The sizes as columns of a table, where D is called I."""
        return {"B": self.B, "T": self.T, "I": self.D, "H": self.H}


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("S1", 32, 512, 128, 128),
        Shape("S2", 1, 1000, 32, 64),
        Shape("S3", 64, 100, 2, 64),
        Shape("S4", 128, 1000, 10, 128),
        Shape("S5", 16, 256, 512, 512),
        Shape("S6", 8, 10_000, 16, 32),
    )
}
_KINDS = {"RNN": sc.RNN, "GRU": sc.GRU, "LSTM": sc.LSTM}
CELLS: dict[str, Callable[[int], sc.Cell]] = {**_KINDS}
GATES = {name: len(cell.GATES) for name, cell in _KINDS.items()}

if TYPE_CHECKING:
    ShapeName = CellName = str
else:  # choices of the command line
    ShapeName, CellName = literal_type_from_choices(SHAPES), literal_type_from_choices(CELLS)
_SIZES = "; ".join(f"{s.name} {s.B}x{s.T}x{s.D}x{s.H}" for s in SHAPES.values())
ShapeNames = Annotated[
    tuple[ShapeName, ...],
    tyro.conf.arg(help=f"shapes to measure, sequences x steps x inputs x units: {_SIZES}"),
]


def parse_shape(text: str) -> Shape:
    """Read a shape such as "32,512,128,128"; its name is 32x512x128x128."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise BadInput(
            f"shape: expected B,T,I,H, four whole numbers of at least 1, got {text!r}; "
            "give --shape 32,512,128,128, for instance"
        )
    return Shape("x".join(parts), *map(int, parts))


def draw_params(cell: sc.Cell, input_size: int, seed: int = 0) -> Params:
    """Draw a cell's parameters with nonzero biases, so that ignoring a bias gives wrong outputs."""
    k_params, k_bias = jax.random.split(jax.random.key(seed))
    leaves, structure = jax.tree.flatten(cell.init(k_params, input_size))
    keys = jax.random.split(k_bias, len(leaves))
    drawn = [
        leaf if leaf.ndim > 1 else 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return structure.unflatten(drawn)


def draw_inputs(shape: Shape) -> jax.Array:
    """Draw inputs float32[T, B, D]."""
    return jax.random.normal(jax.random.key(1), (shape.T, shape.B, shape.D), jnp.float32)
