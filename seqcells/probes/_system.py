"""What the chaotic systems share: their steps, where they begin, and forecasting them."""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from seqcells._cell import FunctionCell
from seqcells._linear import wide
from seqcells._trees import select
from seqcells.probes import _draw
from seqcells.probes._probe import Numbers, Sample, Success, attribute

State = tuple[Any, ...]  # the variables, each an array of the same shape
ROWS, STEPS = 500, 2000  # of the simulation that measures a baseline


@dataclasses.dataclass(frozen=True)
class System(Numbers):
    """The next state of a chaotic system, given the states so far; each is a number a variable.

    Variables are shifted and scaled to a mean of 0 and a standard deviation of 1.
    """

    MEAN: ClassVar[tuple[float, ...]]  # of each variable, on the attractor
    STD: ClassVar[tuple[float, ...]]
    EXPONENTS: ClassVar[tuple[float, ...]]  # Lyapunov's, nats per unit of time
    BEGIN: ClassVar[tuple[float, ...]]  # a state near the attractor
    SPREAD: ClassVar[float]  # standard deviation of where sequences begin, around it
    SETTLE: ClassVar[float]  # least time, and half of the most, before they count

    length: int = 200

    def __post_init__(self) -> None:
        self._size("length", least=1)

    @property
    @abc.abstractmethod
    def step_time(self) -> float:
        """Time of one step, in the system's unit of time."""

    @abc.abstractmethod
    def advance(self, state: State) -> State:
        """Return the variables after one step; works on JAX and on NumPy arrays."""

    @attribute
    def input_size(self) -> int:
        """One number a variable."""
        return len(self.MEAN)

    @attribute
    def output_size(self) -> int:
        """One number a variable."""
        return len(self.MEAN)

    @attribute
    def cell(self) -> FunctionCell:
        """The system as a cell without inputs, in its own units: for `lyapunov_exponents`.

        Its carry and output are the variables [*B, S], and inputs are float[T, *B, 0].
        """
        return FunctionCell(_step_of(self), _begin_of(self))

    @attribute
    def baseline(self) -> float:
        """The mean square of a step's change, over 10^6 simulated steps."""
        return _measure(self)

    @attribute
    def success(self) -> Success:
        """A loss below a hundredth of the baseline (our threshold)."""
        return Success("loss", self.baseline / 100)

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [T, N, S]; the answer to each is the next one.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        k_start, k_time = jax.random.split(key)
        noise = jax.random.normal(k_start, (len(self.BEGIN), batch_size), jnp.float32)
        start = jnp.array(self.BEGIN, jnp.float32)[:, None] + jnp.float32(self.SPREAD) * noise
        settle = round(self.SETTLE / self.step_time)
        count = _draw.integers(k_time, (batch_size,), settle, 2 * settle)

        def step(state: State, _: None) -> tuple[State, jax.Array]:
            return self.advance(state), jnp.stack(state, axis=-1)

        def settled(i: jax.Array, state: State) -> State:
            return select(i < count, self.advance(state), state)

        state = jax.lax.fori_loop(0, 2 * settle, settled, tuple(start))
        states = jax.lax.scan(step, state, length=self.length + 1)[1]
        mean, std = (np.array(a, "float32")[None, None] for a in (self.MEAN, self.STD))
        scaled = (states - mean) / std
        return Sample.at_every_step(scaled[:-1], scaled[1:])

    def guess(self, sample: Sample) -> jax.Array:
        """Answer the state itself: no change."""
        return sample.xs


@functools.lru_cache(maxsize=64)
def _step_of(system: System) -> Any:
    def step(params: None, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        new = jnp.stack(system.advance(tuple(jnp.moveaxis(carry, -1, 0))), axis=-1)
        return new, new

    return step


@functools.lru_cache(maxsize=64)
def _begin_of(system: System) -> Any:
    def begin(x: jax.Array) -> jax.Array:
        begin = jnp.array(system.BEGIN, wide(x.dtype))
        return jnp.broadcast_to(begin, (*x.shape[:-1], len(system.BEGIN)))

    return begin


@functools.lru_cache(maxsize=64)
def _measure(system: System) -> float:
    rng, settle = np.random.default_rng(0), round(system.SETTLE / system.step_time)
    noise, count = (
        rng.normal(size=(len(system.BEGIN), ROWS)),
        rng.integers(settle, 2 * settle, ROWS),
    )
    state = tuple(np.array(system.BEGIN)[:, None] + system.SPREAD * noise)
    for i in range(2 * settle):
        pairs = zip(system.advance(state), state, strict=True)
        state = tuple(np.where(i < count, new, old) for new, old in pairs)
    squares = 0.0
    for _ in range(STEPS):
        new = system.advance(state)
        moved = [(a - b) / s for a, b, s in zip(new, state, system.STD, strict=True)]
        squares, state = squares + float(np.mean(np.square(moved))), new
    return squares / STEPS


class Flow(System):
    """A system of differential equations, integrated by Runge and Kutta's method of order 4."""

    @abc.abstractmethod
    def velocity(self, state: State) -> State:
        """Return the derivative of each variable by time."""

    def advance(self, state: State) -> State:
        """Take one step."""
        dt = self.step_time

        def moved(slope: State, time: float) -> State:
            return tuple(a + time * k for a, k in zip(state, slope, strict=True))

        first = self.velocity(state)
        second = self.velocity(moved(first, dt / 2))
        third = self.velocity(moved(second, dt / 2))
        fourth = self.velocity(moved(third, dt))
        slopes = zip(first, second, third, fourth, strict=True)
        return moved(tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in slopes), dt)
