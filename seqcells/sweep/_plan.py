"""The settings that all batches of a sweep share, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells._types import Json


class Halving(NamedTuple):
    """Successive halving (Jamieson & Talwalkar 2016) among the trials of a batch.

    After every `every` steps the best `keep` of those alive go on, by the mean metric of the
    last segment, in a program of the next power of two.
    """

    every: int  # steps, a multiple of the segment
    keep: float = 0.5  # the share that goes on, above 0 and below 1

    def check(self, segment: int) -> None:
        """Raise unless the values are in range."""
        if _check.size("halving.every", self.every, least=1) % segment:
            raise ValueError(
                f"halving.every: expected a multiple of segment={segment}, got {self.every}"
            )
        if not 0 < self.keep < 1:
            raise ValueError(f"halving.keep: expected a share between 0 and 1, got {self.keep}")


class Plan(NamedTuple):
    """The settings that all batches share; `seqcells.sweep.run` describes them."""

    make: Callable[..., Any]
    steps: int
    segment: int
    metric: str
    mode: Literal["min", "max"]
    batch: int | Literal["auto"]
    halving: Halving | None
    key: jax.Array
    save_seconds: float

    @property
    def sign(self) -> int:
        """The factor that makes a lower metric better."""
        return 1 if self.mode == "min" else -1

    def checked(self) -> Plan:
        """Return the plan with ints for what counts, and a segment no longer than the steps.

        Raises:
            TypeError: a setting has the wrong type.
            ValueError: a setting has a wrong value.
        """
        if not callable(self.make):
            got = _check.describe_one(self.make)
            raise TypeError(f"make: expected a function of the static fields, got {got}")
        steps = _check.size("steps", self.steps, least=1)
        segment = min(_check.size("segment", self.segment, least=1), steps)
        _check.choice("mode", self.mode, ("min", "max"))
        _check.key("key", self.key)
        batch = self.batch if self.batch == "auto" else _check.size("batch", self.batch, least=1)
        if steps % segment:
            raise ValueError(f"steps: expected a multiple of segment={segment}, got {steps}")
        if self.halving is not None:
            if not isinstance(self.halving, Halving):
                got = _check.describe_one(self.halving)
                raise TypeError(f"halving: expected a sweep.Halving, got {got}")
            self.halving.check(segment)
        return self._replace(steps=steps, segment=segment, batch=batch)

    def settings(self, config: Json | None) -> Json:
        """Return what the results depend on, as JSON."""
        typed = jnp.issubdtype(self.key.dtype, jax.dtypes.prng_key)
        key = jax.random.key_data(self.key) if typed else self.key
        names = ("steps", "segment", "metric", "mode", "batch")
        return {
            "config": config or {},
            **{name: getattr(self, name) for name in names},
            "halving": self.halving and self.halving._asdict(),
            "key": np.asarray(key).tolist(),
        }
