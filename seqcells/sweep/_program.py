"""Many members as one program: vmapped, spread over the devices, and small enough for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqcells import _check

SHARE = 0.8  # of the memory that is free; the rest is for what XLA's analysis does not see
GB = 1e9


class Program(NamedTuple):
    """A task compiled for one width W."""

    width: int
    init: Callable[..., Any]  # (hparams [W] by name, words uint32[W, 2]) -> state
    advance: Callable[..., Any]  # (state, alive bool[W]) -> state, alive, mean metrics [W] by name
    place: Callable[[Any], Any]  # a tree of host arrays [W, ...] -> a share on each device
    like: Any  # the state's shapes, dtypes and shardings
    metrics: tuple[str, ...]
    bytes: int  # that one device needs

    def begin(self, hparams: dict[str, np.ndarray], words: np.ndarray) -> Any:
        """Make the state of members before the first step."""
        return self.init(*self.place((hparams, words)))


def build(
    task: Any, hparams: dict[str, np.ndarray], width: int, segment: int, metric: str, key: jax.Array
) -> Program:
    """Compile a task for `width` members; `hparams` are those of any one or more of them.

    Members never meet: there is no collective. A member whose `metric` is not finite at some step
    keeps the state it had before that segment, and is alive no more. The state given to `advance`
    is donated.
    """
    devices = jax.local_devices()  # other processes have members of their own
    mesh = jax.make_mesh(
        (len(devices),), ("members",), axis_types=(AxisType.Auto,), devices=devices
    )
    rows = NamedSharding(mesh, PartitionSpec("members"))

    def over_members(f: Callable[..., Any]) -> Callable[..., Any]:
        # Nothing is shared, so how values vary need not be checked: any scan of a user's passes.
        return jax.shard_map(
            jax.vmap(f), mesh=mesh, in_specs=rows.spec, out_specs=rows.spec, check_vma=False
        )

    def init(hparams: dict[str, jax.Array], words: jax.Array) -> Any:
        return task.init(hparams, jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1]))

    def advance(state: Any, alive: jax.Array) -> Any:
        after, metrics = task.segment(state, segment)
        _check_segment(state, after, metrics, segment, metric)
        alive &= jnp.all(jnp.isfinite(metrics[metric]))
        after = jax.tree.map(lambda new, old: _choose(alive, new, old), after, state)
        return after, alive, {name: jnp.mean(values) for name, values in metrics.items()}

    def like(a: Any, dtype: Any = None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((width, *a.shape[1:]), dtype or a.dtype, sharding=rows)

    def place(tree: Any) -> Any:
        return jax.tree.map(lambda a: jax.device_put(a, rows), tree)

    given = {name: like(values) for name, values in hparams.items()}
    words, alive = like(np.zeros((1, 2), np.uint32)), like(np.zeros(1, bool))
    begin = jax.jit(over_members(init)).lower(given, words)
    state = jax.tree.map(like, begin.out_info)
    lowered = jax.jit(over_members(advance), donate_argnums=0).lower(state, alive)
    compiled = lowered.compile()
    names = tuple(lowered.out_info[2])
    return Program(width, begin.compile(), compiled, place, state, names, _bytes(compiled))


def fitting(build: Callable[[int], Program], width: int, *, fixed: bool) -> Program:
    """Return the program of `width` members or, unless that is fixed, of as many as fit.

    Raises:
        ValueError: it does not fit, or not even one member a device does; nothing has been run.
    """
    while True:
        program, free = build(width), SHARE * available()
        if program.bytes <= free:
            return program
        least = jax.local_device_count()
        if fixed or width == least:
            some = f"chunk of {width} members" if fixed else "member"
            do = "take chunk='auto' or a smaller one" if fixed else "make the task smaller"
            raise ValueError(
                f"chunk: expected a {some} that fits into {free / GB:.3g} GB a device, got one "
                f"that needs {program.bytes / GB:.3g} GB; {do}"
            )
        width = max(least, min(width // 2, shared(_power_below(width * free / program.bytes))))


def shared(width: int) -> int:
    """Return the least width that devices can share evenly."""
    count = jax.local_device_count()
    return -(-width // count) * count


def power_of_two(width: int) -> int:
    """Return the least power of two that is no smaller, shared evenly."""
    return shared(1 << (width - 1).bit_length())


def available() -> int:
    """Bytes that are free for each device: its own, or its share of the machine's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return min(_free_of_machine(), _free_of_group()) // jax.local_device_count()


def _free_of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kilobytes = {name: value for name, value, *_ in (line.split() for line in lines)}
    return int(kilobytes["MemAvailable:"]) * 1024


def _free_of_group() -> int:
    """Bytes that a container still grants."""
    group = Path("/sys/fs/cgroup")
    try:
        most, used = ((group / name).read_text() for name in ("memory.max", "memory.current"))
        return int(most) - int(used)
    except (OSError, ValueError):  # no container, or one that grants "max"
        return 1 << 62


def _choose(alive: jax.Array, new: Any, old: jax.Array) -> jax.Array:
    """Take the new one of those alive. JAX takes a key for used when it stands on both sides."""
    if not jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        return jnp.where(alive, new, old)
    data = jnp.where(alive, jax.random.key_data(new), jax.random.key_data(old))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(old))


def _power_below(width: float) -> int:
    return 1 << max(int(width).bit_length() - 1, 0)


def _bytes(compiled: Any) -> int:
    sizes = compiled.memory_analysis()
    held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return held + sizes.temp_size_in_bytes


def _check_segment(state: Any, after: Any, metrics: Any, segment: int, metric: str) -> None:
    """Raise unless a task's segment keeps to the contract."""

    def kinds(tree: Any) -> Any:
        return jax.tree.structure(tree), [(a.shape, a.dtype) for a in jax.tree.leaves(tree)]

    if kinds(jax.tree.map(jnp.asarray, after)) != kinds(state):
        raise ValueError(
            f"segment: expected a state like the one given, {_check.describe(state)}, got "
            f"{_check.describe(after)}"
        )
    if not isinstance(metrics, dict) or metric not in metrics:
        came = ", ".join(metrics) if isinstance(metrics, dict) else _check.describe_one(metrics)
        raise ValueError(f"metric: expected one that segment returns ({came}), got {metric!r}")
    for name, values in metrics.items():
        if jnp.shape(values) != (segment,):
            came = _check.describe_one(values)
            raise ValueError(f"segment: expected {name} as float[{segment}], got {came}")
