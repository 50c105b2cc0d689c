"""Long short-term memory, with a forget gate, and optional peepholes and projection."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._linear import affine, gates
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells._types import Shape
from seqcells.cells._dense import BiasedCell
from seqcells.initializers import GateInitializers

Gates = tuple[jax.Array, ...]  # i, f, g, o: float[*B, H] each


@exported
class LSTMParams(NamedTuple):
    """Parameters of `LSTM`; gates in the order i|f|g|o along the last axis."""

    w_ih: jax.Array  # [D, 4H], W_i|W_f|W_g|W_o
    w_hh: jax.Array  # [H, 4H], U_i|U_f|U_g|U_o; [P, 4H] with a projection
    b: jax.Array | None  # [4H], b_i|b_f|b_g|b_o; None if bias="none"
    p: jax.Array | None = None  # [3H], p_i|p_f|p_o; None if peepholes=False
    w_hr: jax.Array | None = None  # [H, P], the projection; None if proj_size=None


@exported
class LSTMCarry(NamedTuple):
    """The memory of `LSTM`."""

    h: jax.Array  # [*B, H], also the output; [*B, P] with a projection
    c: jax.Array  # [*B, H]


@dataclasses.dataclass(frozen=True, repr=False)
class LSTM(BiasedCell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    The peepholes p (Gers & Schmidhuber 2000) are optional::

        i_t = sigmoid(W_i x_t + U_i h_{t-1} + p_i * c_{t-1} + b_i)  input gate
        f_t = sigmoid(W_f x_t + U_f h_{t-1} + p_f * c_{t-1} + b_f)  forget gate
        g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)                     candidate
        c_t = f_t * c_{t-1} + i_t * g_t
        o_t = sigmoid(W_o x_t + U_o h_{t-1} + p_o * c_t + b_o)      output gate
        h_t = o_t * tanh(c_t)

    With `proj_size` (Sak et al. 2014, LSTMP) a projection of h_t to P numbers recurs in its place
    and is the output, as in PyTorch. Then the U are [P, H], and c keeps its H units::

        h_t = R (o_t * tanh(c_t))

    The bias of the forget gate starts at 1, as Jozefowicz et al. (2015) advise; in PyTorch it
    starts near 0. PyTorch has two biases, whose sum is b.

    Args:
        hidden_size: H, at least 1.
        bias: "single" (b) or "none".
        peepholes: whether the cell has peepholes.
        proj_size: P, from 1 to below H; None for no projection.
        w_ih_init: initialiser of w_ih, called per gate on float[D, H]; or a tuple (i, f, g, o).
        w_hh_init: initialiser of w_hh, called per gate on float[H, H], with a projection on
            float[P, H]; or a tuple (i, f, g, o).
        b_init: initialiser of b, called per gate on float[H]; or a tuple (i, f, g, o).
        p_init: initialiser of p, called on float[3H].
        w_hr_init: initialiser of w_hr, called on float[H, P].
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, a proj_size of H or more, or an unknown bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> params = sc.LSTM(64).init(jax.random.key(0), input_size=1)
    >>> sc.param_count(params)
    16896
    """

    GATES: ClassVar[tuple[str, ...]] = ("i", "f", "g", "o")
    CARRY: ClassVar[type] = LSTMCarry
    INPUT_WEIGHTS = ("w_ih", "b")
    RECURRENT_WEIGHTS = ("w_hh", None)
    PEEPHOLES: ClassVar[tuple[str, ...]] = ("i", "f", "o")  # the gates, in their order in p

    _: dataclasses.KW_ONLY
    peepholes: bool = False
    proj_size: int | None = None
    b_init: GateInitializers = (
        initializers.zeros,
        initializers.ones,
        initializers.zeros,
        initializers.zeros,
    )
    p_init: initializers.Initializer = initializers.zeros
    w_hr_init: initializers.Initializer = initializers.Lecun()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.flag("peepholes", self.peepholes)
        if self.proj_size is not None:
            size = _check.size("proj_size", self.proj_size, least=1)
            if size >= self.hidden_size:
                expected = f"an int below hidden_size = {self.hidden_size}"
                raise ValueError(f"proj_size: expected {expected}, got {size}")
            object.__setattr__(self, "proj_size", size)

    @property
    def _width(self) -> int:
        """The size of h: P, or H without a projection."""
        return self.hidden_size if self.proj_size is None else self.proj_size

    def init(self, key: jax.Array, input_size: int) -> LSTMParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        w_ih, w_hh, k_rest = self._matrices(key, input_size, self._width)
        k_b, k_p = jax.random.split(k_rest)
        b = self._bias(k_b)
        p = self.p_init(k_p, (3 * self.hidden_size,), self.param_dtype) if self.peepholes else None
        if self.proj_size is None:
            return LSTMParams(w_ih, w_hh, b, p)
        k_hr, shape = jax.random.fold_in(k_rest, 2), (self.hidden_size, self.proj_size)
        return LSTMParams(w_ih, w_hh, b, p, self.w_hr_init(k_hr, shape, self.param_dtype))

    def _carry_shapes(self, input_size: int) -> tuple[Shape, ...]:
        return (self._width,), (self.hidden_size,)

    def gate(self, carry: LSTMCarry, drive: Gates, mixed: Gates) -> LSTMCarry:
        """Compute h_t and c_t without peepholes or a projection, elementwise.

        Raises:
            ValueError: if the cell has peepholes or a projection.
        """
        reason = self.why_not_split()
        if reason is not None:
            name = "peepholes" if self.peepholes else "proj_size"
            raise ValueError(f"{name}: {self} has no gate(): {reason}; call recur")
        *_, o, c = self._sums(None, carry, drive, mixed)
        return LSTMCarry(jax.nn.sigmoid(o) * jnp.tanh(c), c)

    def why_not_split(self) -> str | None:
        """Return why a cell with peepholes or a projection cannot be split, or None."""
        if self.peepholes:
            return "with peepholes the gates use parameters"
        return None if self.proj_size is None else "its second product projects the new h"

    def recur(self, params: LSTMParams, carry: LSTMCarry, drive: Gates) -> LSTMCarry:
        """Compute h_t and c_t."""
        *_, o, c = self._sums(params.p, carry, drive, self.mix(params, carry))
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMCarry(h if params.w_hr is None else affine(h, params.w_hr, None, h.dtype), c)

    def gates(
        self, params: LSTMParams, carry: LSTMCarry, drive: Gates, mixed: Gates | None = None
    ) -> dict[str, jax.Array]:
        """Compute i, f and o."""
        mixed = self.mix(params, carry) if mixed is None else mixed
        *sums, _ = self._sums(params.p, carry, drive, mixed)
        return dict(zip(self.PEEPHOLES, map(jax.nn.sigmoid, sums), strict=True))

    def _sums(self, p: jax.Array | None, carry: LSTMCarry, drive: Gates, mixed: Gates) -> Gates:
        """Compute the sums whose sigmoids are i, f and o; and c_t."""
        i, f, g, o = (d + m for d, m in zip(drive, mixed, strict=True))
        peep = None if p is None else gates(as_rows(p.astype(carry.c.dtype), carry.c), 3)
        if peep is not None:
            i, f = i + peep[0] * carry.c, f + peep[1] * carry.c
        c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return i, f, o if peep is None else o + peep[2] * c, c
