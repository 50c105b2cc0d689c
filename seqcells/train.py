"""Training as one jitted scan: pure functions of arrays, to vmap over hyperparameters.

`run(loss, state, hparams, steps)` is a whole run. Its random key is folded with the step, so that
100 steps and then 100 more give the same bits as 200. `fit` is a loop on the host around it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from seqcells import _check, _members, _variables, distributed
from seqcells._calls import explained
from seqcells._cell import Params
from seqcells._linear import wide
from seqcells._optimizer import HParams as HParams
from seqcells._optimizer import Optimizer, adamw, like, remainder, update, widen
from seqcells._optimizer import Scalar as Scalar
from seqcells._static import exported
from seqcells._stream import Example as Example
from seqcells._stream import Stream as Stream
from seqcells._stream import StreamState as StreamState
from seqcells._stream import stream as stream
from seqcells._trees import distinct
from seqcells._types import PyTree
from seqcells._variables import Metrics, Variables, trained, with_trained

LossOut = tuple[jax.Array, Metrics] | tuple[jax.Array, Metrics, PyTree]
Loss = Callable[[Params, jax.Array, PyTree], LossOut]
AxisName = str | tuple[str, ...]
Segment = Callable[["TrainState", PyTree], tuple["TrainState", Metrics]]


@exported
class TrainState(NamedTuple):
    """Everything that a run needs to continue: the same state gives the same bits."""

    step: jax.Array  # int32[]
    key: jax.Array  # key[], never changed: step t uses fold_in(key, t)
    params: Params  # or Variables
    opt_state: optax.OptState
    remainder: PyTree = ()  # rounding remainders of bfloat16 and float16 parameters


def init(
    params: Params, hparams: PyTree, key: jax.Array, optimizer: Optimizer = adamw
) -> TrainState:
    """Return the state before the first step.

    For parameters in bfloat16 or float16 the state also keeps the rounding remainders in float32,
    so that updates below the last bit add up.

    Args:
        params: the parameters to train, any tree of floating arrays; or `Variables`.
        hparams: hyperparameters, read by `optimizer`.
        key: one random key for the whole run.
        optimizer: hparams -> an Optax transformation.

    Returns:
        The state at step 0.

    Raises:
        TypeError: a parameter is not floating, or is known to be the state of a model.
    """
    _check.key("key", key)
    if not callable(optimizer):
        raise TypeError(
            f"optimizer: expected a function of hparams, got {type(optimizer).__name__}; "
            "write lambda hparams: optax.adam(1e-3)"
        )
    _variables.check_trainable(trained(params))
    params = jax.tree.map(jnp.asarray, params)
    opt_state = optimizer(hparams).init(widen(trained(params)))
    return distinct(TrainState(jnp.int32(0), key, params, opt_state, remainder(trained(params))))


def train_step(
    loss: Loss,
    state: TrainState,
    hparams: PyTree,
    optimizer: Optimizer = adamw,
    axis: AxisName | None = None,
) -> tuple[TrainState, Metrics]:
    """Take one step of gradient descent.

    Args:
        loss: (params, key, hparams) -> (scalar, further scalars by name); for `Variables`, also the
            new state.
        state: the state before the step.
        hparams: hyperparameters, read by `loss` and by `optimizer`.
        optimizer: hparams -> an Optax transformation.
        axis: within a `shard_map`, the axis whose devices share the step. Each device folds its
            index into the key; gradient, loss and further scalars are means over the devices, by
            one all-reduce. State and hyperparameters are the same on all of them.

    Returns:
        The state after the step, and the metrics before it: `loss`, `grad_norm` and the further
        scalars.
    """
    _check_kind(state)
    key, params = jax.random.fold_in(state.key, state.step), trained(state.params)
    if axis is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        # Parameters are the same on all devices, so JAX would all-reduce each leaf's gradient.
        params = jax.lax.pcast(params, axis, to="varying")

    def checked(params: Params) -> tuple[jax.Array, tuple[Metrics, PyTree]]:
        out = loss(with_trained(state.params, params), key, hparams)
        return _variables.checked(out, state.params)

    def value_fn(full: Params) -> jax.Array:
        value = checked(like(full, params))[0]
        return value if axis is None else jax.lax.pmean(value, axis)

    (value, (further, memory)), grads = jax.value_and_grad(checked, has_aux=True)(params)
    grads = widen(grads)
    if axis is not None:
        parts = value, further, grads, _variables.floats(memory)
        value, further, grads, means = _mean(parts, axis)
        memory = _variables.agreed(memory, means, axis)
    params, opt_state, rest = update(
        optimizer(hparams),
        grads,
        state.opt_state,
        trained(state.params),
        state.remainder,
        value=value,
        value_fn=value_fn,
    )
    metrics = {"loss": value, "grad_norm": optax.tree.norm(grads), **further}
    if isinstance(state.params, Variables):
        params = Variables(params, memory)
    return TrainState(state.step + 1, state.key, params, opt_state, rest), metrics


def _mean(tree: PyTree, axis: AxisName) -> PyTree:
    """Return the mean over devices as floats, by one all-reduce of one flat vector."""
    flat, back = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, _wide_float(a)), tree))
    return back(jax.lax.pmean(flat, axis))


def _wide_float(a: jax.Array) -> jnp.dtype:
    dtype = jnp.result_type(a)
    return wide(dtype) if jnp.issubdtype(dtype, jnp.inexact) else jnp.dtype(jnp.float32)


def run(
    loss: Loss,
    state: TrainState,
    hparams: PyTree,
    steps: int,
    optimizer: Optimizer = adamw,
    axis: AxisName | None = None,
) -> tuple[TrainState, Metrics]:
    """Take `steps` steps as one scan; a pure function to jit, and to vmap over state and hparams.

    Args:
        loss: (params, key, hparams) -> (scalar, further scalars by name).
        state: the state to continue from.
        hparams: hyperparameters, read by `loss` and by `optimizer`.
        steps: how many, at least 0.
        optimizer: hparams -> an Optax transformation.
        axis: within a `shard_map`, the axis whose devices share every step, as in `train_step`.

    Returns:
        The state after the steps, and the metrics of each, float[steps].
    """
    steps = _check.size("steps", steps, least=0)

    def body(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
        return train_step(loss, state, hparams, optimizer, axis)

    return jax.lax.scan(body, state, length=steps)


@explained
def fit(
    loss: Loss,
    state: TrainState,
    hparams: PyTree,
    steps: int,
    *,
    segment: int = 100,
    optimizer: Optimizer = adamw,
    transform: Callable[[Segment], Segment] = lambda segment: segment,
    on_segment: Callable[[TrainState, Metrics], object] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[TrainState, Metrics]:
    """Train in jitted segments, with a loop on the host between them.

    A segment is compiled once for each `loss`, `optimizer` and `transform`. Define these functions
    once, outside of loops, so that calls of `fit` share the program.

    Args:
        loss: (params, key, hparams) -> (scalar, further scalars by name).
        state: the state to continue from.
        hparams: hyperparameters, read by `loss` and by `optimizer`.
        steps: how many steps to take.
        segment: steps per call of the compiled program, at least 1.
        optimizer: hparams -> an Optax transformation.
        transform: a function such as `jax.vmap` that wraps the training function
            `(state, hparams) -> (state, metrics)` before it is jitted; `jax.vmap` trains a model
            for every row of state and hparams.
        on_segment: called with the state and the metrics of each segment; training ends if it
            returns True. Under vmap it may return bool[M]: the members that are done. They keep
            their state from then on, their metrics are NaN, and training ends when all are done.
        mesh: devices of all processes (`seqcells.distributed`) that share every step. Each device
            evaluates the loss with the key `fold_in(key, jax.lax.axis_index(mesh.axis_names))`, so
            a loss that draws 32 sequences trains on 32 per device. State and hyperparameters are
            the same on all devices; one all-reduce per step averages the gradients.

    Returns:
        The state at the end, and the metrics of all steps taken, [steps]; under vmap [M, steps].

    Raises:
        ValueError: keys under vmap are not threefry2x32, so that the draws of a member depend on
            the others; or a number is out of range.

    >>> import jax, jax.numpy as jnp
    >>> def loss(params, key, hparams):
    ...     return jnp.square(params - jax.random.normal(key)), {}
    >>> hparams = HParams(learning_rate=0.1)
    >>> state = init(jnp.float32(3.0), hparams, jax.random.key(0))
    >>> state, metrics = fit(loss, state, hparams, steps=200)
    >>> int(state.step), metrics["loss"].shape
    (200, (200,))
    """
    steps = _check.size("steps", steps, least=0)
    segment = _check.size("segment", segment, least=1)
    _check_state(state, steps)
    if mesh is not None:
        _check_mesh(mesh, state, hparams)
    history: list[Metrics] = []
    taken, done = 0, np.zeros((), bool)
    while taken < steps or not history:
        length = min(segment, steps - taken)
        distributed.beat()  # the program starts; devices wait for each other in it
        after, metrics = _segment(loss, length, optimizer, transform, mesh)(state, hparams)
        metrics = jax.tree.map(np.asarray, metrics)
        distributed.beat()  # the program has ended
        state, metrics = _members.keep(done, state, after, metrics)
        history.append(metrics)
        taken += length
        if on_segment is not None:
            done = done | _members.done(on_segment(state, metrics), metrics["loss"].shape[:-1])
        if done.all():
            break
    return state, jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *history)


def _check_state(state: TrainState, steps: int) -> None:
    """Raise if the step count would overflow, or members under vmap would share random bits."""
    _check_kind(state)
    before, most = int(np.max(np.asarray(state.step))), np.iinfo(np.int32).max
    if before + steps > most:
        raise ValueError(f"steps: expected at most {most} in all, got {steps} after {before}")
    typed = jnp.issubdtype(state.key.dtype, jax.dtypes.prng_key)
    if jnp.ndim(state.key) > (0 if typed else 1):
        _check.independent_key("state.key", state.key)


@functools.lru_cache(maxsize=64)
def _segment(
    loss: Loss,
    steps: int,
    optimizer: Optimizer,
    transform: Callable[[Segment], Segment],
    mesh: jax.sharding.Mesh | None,
) -> jax.stages.Wrapped:
    axis = None if mesh is None else mesh.axis_names

    def segment(state: TrainState, hparams: PyTree) -> tuple[TrainState, Metrics]:
        return run(loss, state, hparams, steps, optimizer, axis)

    over = transform(segment)
    if mesh is not None:  # JAX checks that the state stays the same on all devices
        over = jax.shard_map(over, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec())
    return jax.jit(over)


def _check_kind(state: TrainState) -> None:
    """Raise unless this is a `TrainState`; parameters have to go through `init` first."""
    if not isinstance(state, TrainState):
        got = _check.describe(state)
        raise TypeError(
            f"state: expected a TrainState, got {got}; write train.init(params, hparams, key)"
        )


def _check_mesh(mesh: jax.sharding.Mesh, state: TrainState, hparams: PyTree) -> None:
    """Raise unless all processes have the same state and hparams."""
    if not isinstance(mesh, jax.sharding.Mesh):
        got = _check.describe_one(mesh)
        raise TypeError(f"mesh: expected a mesh, such as jax.make_mesh((8,), ('data',)), got {got}")
    ranks = {device.process_index for device in mesh.devices.flat}
    if not 1 < len(ranks) == jax.process_count():
        return
    leaves = jax.tree.leaves((state._replace(key=jax.random.key_data(state.key)), hparams))
    text = b"".join(np.asarray(leaf).tobytes() for leaf in leaves)
    words = np.frombuffer(hashlib.sha256(text).digest(), np.uint32)
    every = np.asarray(multihost_utils.process_allgather(words))
    others = [rank for rank in range(len(every)) if np.any(every[rank] != every[0])]
    if others:
        raise ValueError(
            f"state: expected the same state and hparams in every process, got another in process "
            f"{', '.join(map(str, others))} than in process 0; make them from the same seed"
        )
