"""Many trials as one program: batched, distributed over the devices, within their memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.stages import Compiled, CompilerOptions

from seqcells import _check
from seqcells._types import PyTree
from seqcells.engines.deferred.primitive import OPERATION
from seqcells.sweep._pbt import WORD, Evolution, Member, evolve, with_hparams
from seqcells.sweep._task import Fields, Task
from seqcells.train import Metrics

# Entries of a sequence of carries: from here on, a CPU is faster if it runs the whole segment of
# one trial before the next (1.1 to 1.4 times for GRUs); with fewer, vmap is faster because it
# launches less.
ENTRIES = 2**14
SHARE = 0.8  # share of the free memory; the rest is for memory that XLA's analysis does not count
GB = 1e9


class Program(NamedTuple):
    """A task compiled for one width W, the number of trials in a batch including padding."""

    width: int
    init: Compiled  # (hparams [W] by name, words uint32[W, 2]) -> state
    advance: Compiled  # (state, hparams, alive bool[W]) -> state, alive, mean metrics [W] by name
    place: Callable[[PyTree], PyTree]  # arrays [W, ...] on the host -> sharded arrays
    like: PyTree  # shapes, dtypes and shardings of the state
    metrics: tuple[str, ...]
    bytes: int  # memory needed per device

    def begin(self, hparams: PyTree, words: np.ndarray) -> PyTree:
        """Return the state before the first step."""
        return self.init(*self.place((hparams, words)))


def build(
    task: Task,
    hparams: PyTree,
    width: int,
    segment: int,
    metric: str,
    key: jax.Array,
    evolution: Evolution | None = None,
) -> Program:
    """Compile a task for `width` trials; `hparams` may be those of any trials.

    The program has no collective, because trials do not communicate. A trial whose `metric` is not
    finite at some step keeps its state from before that segment and stops training. The state
    passed to `advance` is donated.

    With an `evolution`, the state is a `Member`. At the steps where copies are made, and only
    there, every device gathers the members of all devices. `advance` has the further arguments
    present bool[W] (not padding) and step int32[] (after the segment), and returns int32[W] too:
    the row that each row has become a copy of, or its own.
    """
    if evolution is not None:
        task = with_hparams(task)
    devices = jax.local_devices()  # other processes train their own trials
    mesh = jax.make_mesh((len(devices),), ("trials",), axis_types=(AxisType.Auto,), devices=devices)
    rows = NamedSharding(mesh, PartitionSpec("trials"))

    def over_trials(f: Callable[..., PyTree]) -> Callable[..., PyTree]:
        # Trials do not communicate, so the check of varying axes is off: it rejects some users'
        # scans.
        return jax.shard_map(
            _batched(f), mesh=mesh, in_specs=rows.spec, out_specs=rows.spec, check_vma=False
        )

    def like(a: jax.Array | np.ndarray | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((width, *a.shape[1:]), a.dtype, sharding=rows)

    def place(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: jax.device_put(a, rows), tree)

    fields = jax.tree.map(like, hparams)
    words, alive = like(np.zeros((1, 2), np.uint32)), like(np.zeros(1, bool))
    with jax.set_mesh(mesh):  # also if the sweep is called under another mesh, such as `sc.cores()`
        first = jax.jit(over_trials(functools.partial(_init, task, key))).trace(fields, words)
        begin = first.lower()
        state = jax.tree.map(like, begin.out_info)
        segments = over_trials(functools.partial(_advance, task, segment, metric))
        given = (state, fields, alive)
        if evolution is not None:
            segments = _evolving(segments, evolution, metric, key, mesh)
            given = (*given, alive, jax.ShapeDtypeStruct((), np.int32))
        further = jax.jit(segments, donate_argnums=0, out_shardings=rows).trace(*given)
        if evolution is not None:
            _check_reads(further.jaxpr.jaxpr, given, further.out_info, evolution)
        _check_keys(first.jaxpr)
        _check_keys(further.jaxpr)
        lowered = further.lower()
    with ThreadPoolExecutor(1) as other:  # XLA compiles on one core
        init = other.submit(begin.compile, _once())
        advance = lowered.compile()
    names = tuple(lowered.out_info[2])
    return Program(width, init.result(), advance, place, state, names, _bytes(advance))


def _once() -> CompilerOptions | None:
    """Return the options of a program that runs once: half the time to compile, the same bits."""
    level = "xla_backend_optimization_level"
    return None if level in os.environ.get("XLA_FLAGS", "") else {level: "1"}


def _batched(f: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Run a function of one trial on many: by `jax.vmap`, or one after another if that is faster.

    On a CPU an engine also runs its loops one trial after another under vmap, but it then stores
    the residuals of all trials until the backward pass begins.
    """
    if jax.default_backend() != "cpu":
        return jax.vmap(f)

    def run(*trials: PyTree) -> PyTree:
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), trials)
        traced, shapes = jax.make_jaxpr(f, return_shape=True)(*one)
        structure, call = jax.tree.structure(shapes), jaxpr_as_fun(traced)

        def run_one(*trial: PyTree) -> PyTree:
            return jax.tree.unflatten(structure, call(*jax.tree.leaves(trial)))

        if _largest(traced) < ENTRIES:
            return jax.vmap(run_one)(*trials)
        return jax.lax.map(lambda trial: run_one(*trial), trials)

    return run


def _largest(jaxpr: Any) -> int:
    """Return the entries of the largest result of an engine's loop in a program, or 0."""
    sizes = [0]
    for eqn in _equations(jaxpr):
        if eqn.primitive.name == OPERATION:
            sizes += [v.aval.size for v in eqn.outvars]
    return max(sizes)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yield the equations of a program and of its inner programs."""
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield eqn
        inner = jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr)
        for one in filter(_is_jaxpr, inner):
            yield from _equations(one)


def _init(task: Task, key: jax.Array, hparams: Fields, words: jax.Array) -> PyTree:
    return task.init(hparams, jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1]))


def _advance(
    task: Task, segment: int, metric: str, state: PyTree, hparams: Fields, alive: jax.Array
) -> tuple[PyTree, jax.Array, Metrics]:
    after, metrics = task.segment(state, hparams, segment)
    _check_segment(state, after, metrics, segment, metric)
    alive &= jnp.all(jnp.isfinite(metrics[metric]))
    after = jax.tree.map(lambda new, old: _choose(alive, new, old), after, state)
    return after, alive, {name: jnp.mean(values) for name, values in metrics.items()}


def _evolving(
    segments: Callable[..., PyTree],
    evolution: Evolution,
    metric: str,
    key: jax.Array,
    mesh: jax.sharding.Mesh,
) -> Callable[..., PyTree]:
    """Return a function that trains members for a segment, and then evolves them if it is due."""
    rows, everywhere = PartitionSpec("trials"), NamedSharding(mesh, PartitionSpec())

    def take(members: PyTree, indices: jax.Array) -> PyTree:
        def of_device(members: PyTree, indices: jax.Array) -> PyTree:
            return jax.tree.map(lambda a: _gathered(a, indices), members)

        spread = jax.shard_map(of_device, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
        return spread(members, indices)

    def advance(
        members: Member, hparams: Fields, alive: jax.Array, present: jax.Array, step: jax.Array
    ) -> tuple[Member, jax.Array, Metrics, jax.Array]:
        members, alive, means = segments(members, hparams, alive)
        small = evolution.sign * means[metric], alive, present
        score, still, real = (jax.lax.with_sharding_constraint(a, everywhere) for a in small)
        own = jnp.arange(len(alive), dtype=jnp.int32)
        due = (step % evolution.every == 0) & (step < evolution.steps)
        at = jax.random.fold_in(jax.random.fold_in(key, WORD), step)
        members, parents = jax.lax.cond(
            due,
            lambda members: evolve(evolution, at, members, score, still, real, take),
            lambda members: (members, own),
            members,
        )
        return members, alive, means, parents

    return advance


def _gathered(a: jax.Array, indices: jax.Array) -> jax.Array:
    """Return rows of all devices, by their indices in the batch."""
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        data = _gathered(jax.random.key_data(a), indices)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))
    return jax.lax.all_gather(a, "trials", axis=0, tiled=True)[indices]


def _check_reads(jaxpr: Any, given: PyTree, results: PyTree, evolution: Evolution) -> None:
    """Raise if a segment does not depend on a hyperparameter that is perturbed."""
    members, *others = jax.tree.map(lambda _: True, results)
    wanted = members._replace(hparams=jax.tree.map(lambda _: False, members.hparams)), *others
    _, read = dce_jaxpr(jaxpr, jax.tree.leaves(wanted), instantiate=False)
    by_name = jax.tree.unflatten(jax.tree.structure(given), read)[0].hparams
    unread = [name for name in evolution.fields if not by_name[name]]
    if unread:
        raise ValueError(
            f"pbt.perturb: expected fields that segment reads, got {unread[0]}, which is read "
            "before training only (by init, or by an optimiser that keeps it in its state, such as "
            "optax.inject_hyperparams); name the fields: perturb={'learning_rate': (0.8, 1.25)}"
        )


def largest_that_fits(
    build: Callable[[int], Program], width: int, *, fixed: bool, sharing: int = 1
) -> Program:
    """Return the program of `width` trials or, unless the width is fixed, of as many as fit.

    Args:
        build: width -> program.
        width: the number of trials.
        fixed: whether to raise instead of returning a narrower program.
        sharing: processes that share the memory of the host.

    Raises:
        ValueError: it does not fit, or not even one trial per device does; nothing was run.
    """
    while True:
        program, free = build(width), SHARE * available(sharing)
        if program.bytes <= free:
            return program
        least = jax.local_device_count()
        if fixed or width == least:
            expected = f"batch of {width} trials" if fixed else "trial"
            remedy = "pass a smaller batch" if fixed else "make the task smaller"
            raise ValueError(
                f"batch: expected a {expected} that fits into {free / GB:.3g} GB per device, got "
                f"one that needs {program.bytes / GB:.3g} GB; {remedy}"
            )
        fitting = _power_below(width * free / program.bytes)
        width = max(least, min(width // 2, shared_evenly(fitting)))


def shared_evenly(width: int) -> int:
    """Round up to a multiple of the number of devices."""
    count = jax.local_device_count()
    return -(-width // count) * count


def next_power_of_two(width: int) -> int:
    """Round up to a power of two, and then to a multiple of the number of devices."""
    return shared_evenly(1 << (width - 1).bit_length())


def available(sharing: int = 1) -> int:
    """Return the free bytes of each device: of its own memory, or its share of the host's.

    A process that shares a GPU has its part of it from the start (XLA_PYTHON_CLIENT_MEM_FRACTION).
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return min(_free_on_host(), _free_in_container()) // (jax.local_device_count() * sharing)


def _free_on_host() -> int:
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kilobytes = {name: value for name, value, *_ in (line.split() for line in lines)}
    return int(kilobytes["MemAvailable:"]) * 1024


def _free_in_container() -> int:
    """Return the bytes left below the memory limit of the container."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (
            (group / name).read_text("utf-8") for name in ("memory.max", "memory.current")
        )
        return int(limit) - int(used)
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return 1 << 62


def _choose(alive: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Return the new value where alive. Keys are unwrapped: JAX forbids `where` on used keys."""
    if not jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        return jnp.where(alive, new, old)
    data = jnp.where(alive, jax.random.key_data(new), jax.random.key_data(old))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(old))


def _power_below(width: float) -> int:
    return 1 << max(int(width).bit_length() - 1, 0)


def _bytes(compiled: Compiled) -> int:
    sizes = compiled.memory_analysis()
    assert sizes is not None  # the same on CPU, GPU and TPU
    arrays = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return arrays + sizes.temp_size_in_bytes


def _check_keys(jaxpr: Any) -> None:
    """Raise if a task draws with keys whose bits, under vmap, depend on the other trials."""
    for eqn in _equations(jaxpr):
        kinds = {str(getattr(v.aval, "dtype", "")) for v in eqn.outvars}
        wrong = kinds & {"key<rbg>", "key<urbg>"}
        if wrong or eqn.primitive.name == "rng_bit_generator":
            got = ", ".join(wrong) or eqn.primitive.name
            raise ValueError(
                f"make: expected a task that draws with threefry2x32 keys, got {got}, whose bits "
                "depend on the other trials; make keys with impl='threefry2x32'"
            )


def _is_jaxpr(value: object) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def _check_segment(
    state: PyTree, after: PyTree, metrics: object, segment: int, metric: str
) -> None:
    """Raise unless a task's segment returns what `Task` requires."""

    def kinds(tree: PyTree) -> object:
        return jax.tree.structure(tree), [(a.shape, a.dtype) for a in jax.tree.leaves(tree)]

    if kinds(jax.tree.map(jnp.asarray, after)) != kinds(state):
        raise ValueError(
            f"segment: expected a state like the one given, {_check.describe(state)}, got "
            f"{_check.describe(after)}"
        )
    if not isinstance(metrics, dict) or metric not in metrics:
        got = ", ".join(metrics) if isinstance(metrics, dict) else _check.describe_one(metrics)
        raise ValueError(f"metric: expected one that segment returns ({got}), got {metric!r}")
    for name, values in metrics.items():
        if jnp.shape(values) != (segment,):
            got = _check.describe_one(values)
            raise ValueError(f"segment: expected {name} as float[{segment}], got {got}")
