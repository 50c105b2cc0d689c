"""Selective copying: symbols among noise."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._copying import AtTheEnd
from seqcells.probes._probe import Sample


@dataclasses.dataclass(frozen=True)
class SelectiveCopy(AtTheEnd):
    """Repeat the symbols hidden in noise (Gu & Dao 2023, after Jing et al. 2019).

    Steps 0 to L - 1 show `count` symbols at distinct steps, all choices equally likely, and the
    noise token at the other steps. Then `count` steps show the marker: at the k-th of them, the
    k-th symbol is due. Answers are not fed back as inputs. Only these answers are scored. Guessing
    costs ln(symbols) per token; all of them correct in more than 99 % of the sequences solves it.

    `symbols` does not count noise and marker. In the code of S4, from which the task of Gu and Dao
    comes, a dictionary of A includes those two, so 16 leaves 14 symbols; and its L counts only the
    noise. Jing et al. show one marker, then noise, and score every step.

    Args:
        length: L, steps before the first marker; at least `count`. Arrays have L + count steps.
        symbols: number of symbols, at least 2.
        count: symbols to repeat, at least 1.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (256, 4096)

    length: int = 256
    symbols: int = 16
    count: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        self._size("length", least=self.count)

    def sample(self, key: jax.Array, batch_size: int, length: ArrayLike | None = None) -> Sample:
        """Draw inputs [L + count, N, symbols + 2] with `count` answers each.

        Args:
            key: one random key.
            batch_size: N.
            length: int[], steps of these sequences before the first marker, `count` to L; may be
                traced. None means L.
        """
        _draw.check(key, batch_size)
        length = _draw.knob("length", length, self.count, self.length)
        k_symbols, k_place = jax.random.split(key)
        symbols = self._draw(k_symbols, batch_size)
        places = self._place(k_place, length, batch_size)
        times = _draw.steps(self.length + self.count)
        shown = jnp.where(times < length, self.symbols, self.symbols + 1)
        shown = jnp.where(times < length + self.count, shown, -1)
        shown = jnp.broadcast_to(shown.astype(jnp.int32), (len(times), batch_size))
        shown = shown.at[places, jnp.arange(batch_size)].set(symbols)
        steps = jnp.broadcast_to(length + _draw.steps(self.count), symbols.shape)
        return Sample(_draw.one_hot(shown, self.input_size), symbols, steps)

    def _place(self, key: jax.Array, length: jax.Array, batch_size: int) -> jax.Array:
        """Draw `count` distinct steps below `length`, ascending: those of the smallest draws."""
        numbers = _draw.uniform(key, (self.length, batch_size))
        numbers = jnp.where(_draw.steps(self.length) < length, numbers, jnp.inf)
        first = jnp.argsort(numbers, axis=0)[: self.count]
        return jnp.sort(first, axis=0).astype(jnp.int32)
