"""What is the same for every chunk of a sweep, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check


class Halving(NamedTuple):
    """Successive halving (Jamieson & Talwalkar 2016), among the members of a chunk.

    After every `every` steps the best `keep` of those alive go on, by the mean metric of the
    last segment, in a program of the next power of two.
    """

    every: int  # steps, a multiple of the segment
    keep: float = 0.5  # the share that goes on, above 0 and below 1


class Plan(NamedTuple):
    """What is the same for every chunk."""

    make: Callable[..., Any]
    steps: int
    segment: int
    metric: str
    sign: int  # of the metric, so that less is better
    chunk: int | str
    halving: Halving | None
    key: jax.Array
    save_seconds: float


def plan(
    make: Any,
    steps: Any,
    segment: Any,
    metric: Any,
    mode: Any,
    chunk: Any,
    halving: Any,
    key: Any,
    save_seconds: float,
) -> Plan:
    if not callable(make):
        came = _check.describe_one(make)
        raise TypeError(f"make: expected a function of the static fields, got {came}")
    steps = _check.size("steps", steps, least=1)
    segment = min(_check.size("segment", segment, least=1), steps)
    _check.choice("mode", mode, ("min", "max"))
    _check.key("key", key)
    if chunk != "auto":
        chunk = _check.size("chunk", chunk, least=1)
    if steps % segment:
        raise ValueError(f"steps: expected a multiple of segment={segment}, got {steps}")
    if halving is not None:
        _check_halving(halving, segment)
    sign = 1 if mode == "min" else -1
    return Plan(make, steps, segment, metric, sign, chunk, halving, key, save_seconds)


def _check_halving(halving: Any, segment: int) -> None:
    if not isinstance(halving, Halving):
        came = _check.describe_one(halving)
        raise TypeError(f"halving: expected a sweep.Halving, got {came}")
    if _check.size("halving.every", halving.every, least=1) % segment:
        came = halving.every
        raise ValueError(f"halving.every: expected a multiple of segment={segment}, got {came}")
    if not 0 < halving.keep < 1:
        raise ValueError(f"halving.keep: expected a share between 0 and 1, got {halving.keep}")


def settings(plan: Plan, config: dict[str, Any] | None) -> dict[str, Any]:
    """What results depend on, as JSON has it."""
    key = plan.key if jnp.issubdtype(plan.key.dtype, jax.dtypes.prng_key) else None
    data = plan.key if key is None else jax.random.key_data(key)
    return {
        "config": config or {},
        "steps": plan.steps,
        "segment": plan.segment,
        "metric": plan.metric,
        "mode": "min" if plan.sign > 0 else "max",
        "chunk": plan.chunk,
        "halving": plan.halving and plan.halving._asdict(),
        "key": np.asarray(data).tolist(),
    }
