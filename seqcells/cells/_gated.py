"""Base class of GRU, MGU and ConvGRU: a reset gate after or before the product, a write gate."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._linear import gates, of_all_gates
from seqcells._types import Params
from seqcells.cells._dense import DenseCell
from seqcells.initializers import GateInitializers

Gates = tuple[jax.Array, ...]  # float[*B, H] each, the candidate last


@dataclasses.dataclass(frozen=True, repr=False)
class GatedCell(DenseCell):
    """A cell with h_t = (1 - z_t) * h_{t-1} + z_t * n_t, whose candidate n reads r_t and h."""

    PARAMS: ClassVar[type]  # a NamedTuple of w_ih, w_hh, b_ih and b_hh
    BIASES: ClassVar[tuple[str, ...]] = ("double", "single", "candidate", "none")

    _: dataclasses.KW_ONLY
    reset_after: bool = True
    bias: str = "double"
    b_ih_init: GateInitializers = initializers.zeros
    b_hh_init: GateInitializers = initializers.zeros

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.flag("reset_after", self.reset_after)
        _check.choice("bias", self.bias, self.BIASES)

    @abc.abstractmethod
    def reset_and_write(self, sums: Gates) -> tuple[jax.Array, jax.Array]:
        """Compute r and z from the gates' sums, without those of the candidate."""

    def init(self, key: jax.Array, input_size: int) -> Params:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        w_ih, w_hh, k_bias = self._matrices(key, input_size)
        k_b, k_c = jax.random.split(k_bias)
        width = (self.hidden_size,)
        b_ih = self._draw("b_ih_init", k_b, width) if self.bias != "none" else None
        has_c = self.bias in ("double", "candidate")
        b_hh = self._draw("b_hh_init", k_c, width) if has_c else None
        if b_hh is not None and self.bias == "candidate":
            b_hh = b_hh[-self.hidden_size :]
        return self.PARAMS(w_ih, w_hh, b_ih, b_hh)

    def project(self, params: Params, x: jax.Array) -> Gates:
        """Compute W x + b, gate by gate. x: float[*B, D]."""
        sums = self._product(x, params.w_ih, params.b_ih, self.compute_dtype(x))
        return gates(sums, len(self.GATES))

    def mix(self, params: Params, carry: jax.Array) -> Gates:
        """Compute U h + c in the dtype of the carry, gate by gate. carry: float[*B, H]."""
        c = of_all_gates(params.b_hh, params.w_hh.shape[-1])
        return gates(self._product(carry, params.w_hh, c, carry.dtype), len(self.GATES))

    def gate(self, carry: jax.Array, drive: Gates, mixed: Gates) -> jax.Array:
        """Compute h_t for reset_after=True, elementwise.

        Raises:
            ValueError: for reset_after=False, with the reason.
        """
        reason = self.why_not_split()
        if reason is not None:
            raise ValueError(f"reset_after: {self} has no gate(): {reason}; call recur")
        r, z = self.reset_and_write(_sums(drive, mixed))
        n = jnp.tanh(drive[-1] + r * mixed[-1])
        return (1 - z) * carry + z * n

    def gates(
        self, params: Params, carry: jax.Array, drive: Gates, mixed: Gates | None = None
    ) -> dict[str, jax.Array]:
        """Compute r and z, or the single gate that serves as both."""
        mixed = self.mix(params, carry) if mixed is None else mixed
        return dict(zip(self.GATES[:-1], self.reset_and_write(_sums(drive, mixed)), strict=False))

    def why_not_split(self) -> str | None:
        """Return why `reset_after=False` cannot be split, or None."""
        if self.reset_after:
            return None
        return "reset_after=False has two products in sequence, of the gates and U_n (r * h)"

    def recur(self, params: Params, carry: jax.Array, drive: Gates) -> jax.Array:
        """Compute h_t."""
        if self.reset_after:
            return super().recur(params, carry, drive)
        count = len(self.GATES) - 1  # without the candidate
        cut = self.hidden_size * count
        u, u_n = params.w_hh[..., :cut], params.w_hh[..., cut:]
        c = of_all_gates(params.b_hh, params.w_hh.shape[-1])
        c, c_n = (None, None) if c is None else jnp.split(c, [cut])
        mixed = gates(self._product(carry, u, c, carry.dtype), count)
        r, z = self.reset_and_write(_sums(drive, mixed))
        n = jnp.tanh(drive[-1] + self._product(r * carry, u_n, c_n, carry.dtype))
        return (1 - z) * carry + z * n


def _sums(drive: Gates, mixed: Gates) -> Gates:
    return tuple(d + m for d, m in zip(drive[:-1], mixed, strict=False))
