"""Base classes of the library's cells: sizes, dtypes, and initialisers gate by gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells import _check, initializers
from seqcells._cell import Cell, SplitCell, zero_carry
from seqcells._linear import affine, gates, wide
from seqcells._model import one_input
from seqcells._static import brief
from seqcells._trees import distinct
from seqcells._types import Carry, Drive, Inputs, Params, Shape
from seqcells.initializers import GateInitializers

Gates = tuple[jax.Array, ...]  # float[*B, H] each
Activations = Mapping[str, Callable[[jax.Array], jax.Array]]  # by name, elementwise

ACTIVATIONS: Activations = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda a: a,
}


def check_activation(
    value: object, name: str = "activation", names: Iterable[str] = ACTIVATIONS
) -> None:
    """Raise unless the argument `name` names an activation."""
    sizes = isinstance(value, int)  # as in other libraries: (input_size, hidden_size)
    remedy = "; pass the size of the inputs to init" if sizes else ""
    _check.choice(name, value, names, remedy)


@dataclasses.dataclass(frozen=True, repr=False)
class SizedCell(Cell):
    """A cell with weights w_ih [D, G*H], whose carry float[*B, H] is also its output."""

    GATES: ClassVar[tuple[str, ...]]  # names, in their order along the last axis of w_ih
    BIASES: ClassVar[tuple[str, ...]] = ()  # the values of `bias` that the cell has
    CARRY: ClassVar[Any] = None  # a NamedTuple; None for one array

    hidden_size: int
    _: dataclasses.KW_ONLY
    w_ih_init: GateInitializers = initializers.Lecun()
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        size = _check.size("hidden_size", self.hidden_size, least=1)
        object.__setattr__(self, "hidden_size", size)
        _check.settle_dtypes(self)
        for field in dataclasses.fields(self):
            if field.name.endswith("_init"):
                initializers.check(field.name, getattr(self, field.name), len(self.GATES))

    def __repr__(self) -> str:
        return brief(self)

    @property
    def casts_params(self) -> bool:
        """True: `affine` casts weights to the product's dtype, and biases to the sum's."""
        return True

    def resolve(self, x: jax.Array) -> Self:
        """Return the cell with its `dtype` set: its own, or else that of x."""
        if not hasattr(x, "dtype"):
            raise TypeError(f"xs: expected one array for {self}, got {_check.describe(x)}")
        _check.floating("xs", x.dtype, "cast it, or embed tokens first")
        return self if self.dtype is not None else dataclasses.replace(self, dtype=x.dtype)

    def compute_dtype(self, x: jax.Array) -> DTypeLike:
        """Return the dtype in which an input x is multiplied.

        The carry is multiplied in its own dtype, because in bfloat16 a running sum would stop at
        256.
        """
        return x.dtype if self.dtype is None else self.dtype

    def init_carry(self, x: Inputs, params: Params = None) -> Carry:
        """Make zeros for one step's input x [*B, D], in at least float32."""
        x = one_input(self, x)
        first = jax.tree.leaves(x)[0]
        dtype = wide(self.resolve(x).compute_dtype(first))
        zeros = [zero_carry(first, shape, dtype) for shape in self._carry_shapes(first.shape[-1])]
        return zeros[0] if self.CARRY is None else distinct(self.CARRY(*zeros))

    def _carry_shapes(self, input_size: int) -> tuple[Shape, ...]:
        """Return the shape of each leaf of the carry, without batch axes: [H] unless overridden."""
        return ((self.hidden_size,),) * (1 if self.CARRY is None else len(self.CARRY._fields))

    def read(self, params: Params, carry: Carry, drive: Drive) -> jax.Array:
        """Return the first leaf of the carry in the dtype of computation."""
        y = jax.tree.leaves(carry)[0]
        return y if self.dtype is None else y.astype(self.dtype)

    def _draw(self, name: str, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw the gates of the parameter whose initialiser is the field `name`."""
        init = getattr(self, name)
        count = len(self.GATES)
        return initializers.per_gate(name, init, key, shape, count, self.param_dtype)

    def _draw_by_head(self, name: str, key: jax.Array, heads: int) -> jax.Array:
        """Draw [H/heads, G*H], head by head, the columns gate by gate and within each by head."""
        width, count = self.hidden_size // heads, len(self.GATES)
        keys = jax.random.split(key, heads) if heads > 1 else (key,)
        blocks = [self._draw(name, k, (width, width)) for k in keys]  # [H/heads, G*H/heads] each
        by_gate = jnp.stack(blocks).reshape(heads, width, count, width)
        return jnp.moveaxis(by_gate, 0, 2).reshape(width, count * self.hidden_size)

    def _sizes(self, key: jax.Array, input_size: int) -> tuple[int, int]:
        """Check the arguments of `init`; return the shape of one gate of w_ih."""
        _check.key("key", key)
        return _check.size("input_size", input_size, least=0), self.hidden_size

    def _check_width(self, input_size: int) -> None:
        """Raise unless inputs have a feature for each unit, as a cell that scales them asks for."""
        if input_size != self.hidden_size:
            raise ValueError(
                f"input_size: expected hidden_size = {self.hidden_size}, a feature for each unit "
                f"of {self}, got {input_size}; put a Dense({self.hidden_size}) before it"
            )


@dataclasses.dataclass(frozen=True, repr=False)
class OneBiasCell(SizedCell):
    """A cell with one bias b [G*H] or none."""

    BIASES: ClassVar[tuple[str, ...]] = ("single", "none")

    _: dataclasses.KW_ONLY
    bias: str = "single"
    b_init: GateInitializers = initializers.zeros

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("bias", self.bias, self.BIASES)

    def _bias(self, key: jax.Array) -> jax.Array | None:
        """Draw b [G*H]; None if the cell has no bias."""
        return self._draw("b_init", key, (self.hidden_size,)) if self.bias == "single" else None


@dataclasses.dataclass(frozen=True, repr=False)
class ActivatedCell(OneBiasCell):
    """A cell with an activation, and one bias b [G*H] or none."""

    ACTIVATIONS: ClassVar[Activations] = ACTIVATIONS

    activation: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation(self.activation, names=self.ACTIVATIONS)

    def act(self, a: jax.Array) -> jax.Array:
        """Apply the activation, elementwise."""
        return self.ACTIVATIONS[self.activation](a)


@dataclasses.dataclass(frozen=True, repr=False)
class MatrixCell(SizedCell):
    """A cell with weights w_ih [D, G*H] and w_hh [H, G*H]."""

    _: dataclasses.KW_ONLY
    w_hh_init: GateInitializers = initializers.Orthogonal()

    def _matrices(
        self, key: jax.Array, input_size: int, width: int | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draw w_ih [input_size, G*H] and w_hh [width, G*H]; return them and a key for the rest.

        The width is that of what recurs, H if None.
        """
        shape = self._sizes(key, input_size)
        k_ih, k_hh, k_rest = jax.random.split(key, 3)
        w_hh = self._draw("w_hh_init", k_hh, (width or self.hidden_size, self.hidden_size))
        return self._draw("w_ih_init", k_ih, shape), w_hh, k_rest


@dataclasses.dataclass(frozen=True, repr=False)
class DenseCell(MatrixCell, SplitCell):
    """A cell with weights w_ih [D, G*H] and w_hh [H, G*H], and one recurrent product."""


@dataclasses.dataclass(frozen=True, repr=False)
class BiasedCell(OneBiasCell, DenseCell):
    """A dense cell with one bias b [G*H] or none, whose product reads the carry's first leaf."""

    PARAMS: ClassVar[type]  # a NamedTuple of w_ih, w_hh and b

    def init(self, key: jax.Array, input_size: int) -> Params:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        w_ih, w_hh, k_bias = self._matrices(key, input_size)
        return self.PARAMS(w_ih, w_hh, self._bias(k_bias))

    def project(self, params: Params, x: jax.Array) -> Gates:
        """Compute W x + b, gate by gate. x: float[*B, D]."""
        return gates(affine(x, params.w_ih, params.b, self.compute_dtype(x)), len(self.GATES))

    def mix(self, params: Params, carry: Carry) -> Gates:
        """Compute U h in the dtype of the carry, gate by gate."""
        h = jax.tree.leaves(carry)[0]
        return gates(affine(h, params.w_hh, None, h.dtype), len(self.GATES))
