"""What the cells share that discretise a model in continuous time: time steps."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells import _check
from seqcells._cell import LinearCell
from seqcells._linear import wide
from seqcells._types import Shape
from seqcells.cells._dense import SizedCell


@dataclasses.dataclass(frozen=True, repr=False)
class SteppedCell(SizedCell, LinearCell):
    """A linear cell whose time steps start between `step_min` and `step_max`."""

    _: dataclasses.KW_ONLY
    step_min: float = 0.001
    step_max: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        low = self.step_min
        _check.positive("step_min", low)
        least = f"a number of at least step_min = {low}"
        _check.number("step_max", self.step_max, least, lambda high: high >= low)

    def _draw_steps(self, key: jax.Array) -> jax.Array:
        """Draw logarithms of time steps [H], in at least float32."""
        shape, dtype = (self.hidden_size,), wide(self.param_dtype)
        return draw_logs(key, shape, self.step_min, self.step_max, dtype)


def draw_logs(key: jax.Array, shape: Shape, low: float, high: float, dtype: DTypeLike) -> jax.Array:
    """Draw logarithms of time steps, uniform between those of `low` and `high`."""
    ends = (jnp.log(jnp.asarray(end, dtype)) for end in (low, high))
    return jax.random.uniform(key, shape, dtype, *ends)


def inverse_softplus(steps: jax.Array) -> jax.Array:
    """Compute the biases for which softplus gives time steps above 0."""
    return steps + jnp.log(-jnp.expm1(-steps))
