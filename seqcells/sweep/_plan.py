"""The settings of all batches of a sweep, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells._types import Json
from seqcells.sweep._identity import bound
from seqcells.sweep._pbt import PBT, Evolution
from seqcells.sweep._space import DIGITS, Space

MOST = 2**31 - 1  # steps, which are counted in int32


class Halving(NamedTuple):
    """Successive halving (Jamieson & Talwalkar 2016) among the trials of a batch.

    After every `every` steps, the best share `keep` of the trials alive continues, by the mean
    metric of the last segment, in a program whose width is the next power of two.
    """

    every: int  # steps, a multiple of the segment
    keep: float = 0.5  # the share that continues, above 0 and below 1

    def check(self, segment: int, steps: int) -> None:
        """Raise unless the values are in range."""
        _check_every("halving.every", self.every, segment, steps)
        if isinstance(self.keep, bool) or not isinstance(self.keep, (int, float)):
            raise TypeError(f"halving.keep: expected a number, got {self.keep!r}")
        if not 0 < self.keep < 1:
            raise ValueError(f"halving.keep: expected a share between 0 and 1, got {self.keep}")


def _check_every(name: str, every: int, segment: int, steps: int) -> None:
    """Raise unless there is a step below `steps` at which trials are compared."""
    if _check.size(name, every, least=1) % segment:
        raise ValueError(f"{name}: expected a multiple of segment={segment}, got {every}")
    if every >= steps:
        raise ValueError(
            f"{name}: expected fewer than steps={steps}, because otherwise trials are never "
            f"compared, got {every}"
        )


class Plan(NamedTuple):
    """The settings of all batches; `seqcells.sweep.run` describes them."""

    make: Callable[..., Any]
    steps: int
    segment: int
    metric: str
    mode: Literal["min", "max"]
    batch: int | Literal["auto"]
    halving: Halving | None
    pbt: PBT | None
    key: tuple[int, int]  # the words of a threefry2x32 key
    save_seconds: float
    evolution: Evolution | None = None  # of `pbt`, once the space is known

    @classmethod
    def of(cls, *, key: jax.Array | None, **settings: Any) -> Plan:
        """Return a checked plan, with counts as ints, and a segment no longer than `steps`.

        Raises:
            TypeError: a setting has the wrong type.
            ValueError: a setting has a wrong value.
        """
        return cls(key=(0, 0) if key is None else _words("key", key), **settings)._checked()

    @property
    def random_key(self) -> jax.Array:
        """The key of the sweep."""
        return jax.random.wrap_key_data(jnp.asarray(self.key, jnp.uint32), impl="threefry2x32")

    @property
    def sign(self) -> int:
        """The factor that makes a lower metric better."""
        return 1 if self.mode == "min" else -1

    def _checked(self) -> Plan:
        if not callable(self.make):
            got = _check.describe_one(self.make)
            raise TypeError(f"make: expected a function of the static fields, got {got}")
        steps = _check.size("steps", self.steps, least=1)
        segment = min(_check.size("segment", self.segment, least=1), steps)
        _check.choice("mode", self.mode, ("min", "max"))
        batch = self.batch if self.batch == "auto" else _check.size("batch", self.batch, least=1)
        if steps % segment:
            raise ValueError(f"steps: expected a multiple of segment={segment}, got {steps}")
        if steps > MOST:
            raise ValueError(f"steps: expected at most {MOST}, got {steps}")
        if not isinstance(self.save_seconds, (int, float)) or not self.save_seconds >= 0:
            raise ValueError(f"save_seconds: expected a number >= 0, got {self.save_seconds!r}")
        if self.halving is not None:
            if not isinstance(self.halving, Halving):
                got = _check.describe_one(self.halving)
                raise TypeError(f"halving: expected a sweep.Halving, got {got}")
            self.halving.check(segment, steps)
        if self.pbt is not None:
            self._check_pbt(segment, steps)
        return self._replace(steps=steps, segment=segment, batch=batch)

    def _check_pbt(self, segment: int, steps: int) -> None:
        if not isinstance(self.pbt, PBT):
            got = _check.describe_one(self.pbt)
            raise TypeError(f"pbt: expected a sweep.PBT, got {got}")
        if self.halving is not None:
            raise ValueError(
                "pbt: expected halving=None, because a population keeps its size, got both; pass "
                "one of them"
            )
        _check_every("pbt.every", self.pbt.every, segment, steps)
        self.pbt.check()

    def of_space(self, space: Space) -> Plan:
        """Return the plan for a space, whose values JAX can hold, and whose names are different.

        Raises:
            TypeError: it is not a space.
            ValueError: a value does not fit JAX's dtypes, a field has the metric's name, or a
                population of the space cannot be trained.
        """
        if not isinstance(space, Space):
            raise TypeError(f"space: expected a sweep.Space, got {_check.describe_one(space)}")
        if self.metric in (*space.static, *space.grid, *space.draws[0]):
            raise ValueError(
                f"{self.metric}: expected different names for fields and the metric, got the same; "
                "rename one of them"
            )
        for name, values in space.grid.items():
            _check_fits(name, values, exact=True)
        for name in space.draws[0]:
            _check_fits(name, [draw[name] for draw in space.draws], exact=False)
        if self.pbt is None:
            return self
        evolution = Evolution.of(self.pbt, space, steps=self.steps, sign=self.sign)
        if self.batch != "auto" and self.batch < evolution.size:
            raise ValueError(
                f"batch: expected a whole population, {evolution.size} trials, or 'auto', got "
                f"{self.batch}"
            )
        return self._replace(evolution=evolution)

    def settings(self, config: Json | None) -> Json:
        """Return the settings that the results depend on, as JSON."""
        names = ("steps", "segment", "metric", "mode", "batch")
        make = bound(self.make)
        return {
            "config": config or {},
            **{name: getattr(self, name) for name in names},
            "halving": self.halving and self.halving._asdict(),
            "key": list(self.key),
            **({} if make is None else {"make": make}),
            **({} if self.evolution is None else {"pbt": self.evolution.settings}),
        }


def _words(name: str, key: jax.Array) -> tuple[int, int]:
    """Return the words of a key; raise unless it draws the same bits under vmap as alone."""
    _check.key(name, key)
    _check.independent_key(name, key)
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    first, second = np.asarray(jax.random.key_data(key) if typed else key).tolist()
    return first, second


def _check_fits(name: str, values: Sequence[float], *, exact: bool) -> None:
    """Raise unless JAX's dtype can hold all values and distinguish them, whole numbers exactly."""
    if isinstance(values[0], bool):
        return
    dtype = jax.dtypes.canonicalize_dtype(np.dtype(type(values[0])))
    fits, expected = (_float_fits, _FLOATS) if dtype.kind == "f" else (_int_fits, _INTS)
    wrong = [value for value in values if not fits(value, dtype, exact)]
    taken: dict[float, float] = {}
    if exact and not wrong:
        wrong = [v for v in values if taken.setdefault(dtype.type(v).item(), v) != v]
    if wrong:
        raise ValueError(
            f"{name}: expected {expected.format(**_range(dtype))}, got {wrong[0]!r}; choose "
            "another value or unit, or set jax_enable_x64"
        )


_INTS = "whole numbers from {least} to {most} ({dtype})"
_FLOATS = (
    "numbers that {dtype} distinguishes, of size {least:.3g} to {most:.3g}, and whole ones only "
    "where {dtype} has them exactly"
)


def _range(dtype: np.dtype) -> dict[str, Any]:
    if dtype.kind == "f":
        floats = np.finfo(dtype)
        return {"dtype": dtype, "least": float(floats.tiny), "most": float(floats.max)}
    return {"dtype": dtype, "least": np.iinfo(dtype).min, "most": np.iinfo(dtype).max}


def _int_fits(value: float, dtype: np.dtype, exact: bool) -> bool:
    return np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _float_fits(value: float, dtype: np.dtype, exact: bool) -> bool:
    """Whether a number stays finite and nonzero in a dtype; every dtype has inf."""
    if math.isinf(value) or value == 0:
        return True
    size = _range(dtype)
    if not size["least"] <= abs(value) <= size["most"]:
        return False
    whole = exact and value.is_integer() and abs(value) < 10**DIGITS
    return not whole or dtype.type(value).item() == value
