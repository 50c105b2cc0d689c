"""Base class of the cells that discretise a state-space model by a time step a unit."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import LinearCell
from seqcells._linear import wide
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
        """Draw logarithms of time steps [H], uniformly, in at least float32."""
        dtype = wide(self.param_dtype)
        ends = (jnp.log(jnp.asarray(end, dtype)) for end in (self.step_min, self.step_max))
        return jax.random.uniform(key, (self.hidden_size,), dtype, *ends)
