"""Training as one jitted scan: pure functions of arrays, to vmap over hyperparameters.

`run(loss, state, hparams, steps)` is a whole run. Its random key is folded with the step, so that
100 steps and then 100 more give the same bits as 200. `fit` is a loop on the host around it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from seqcells import _check, distributed
from seqcells._cell import Params
from seqcells._linear import wide
from seqcells._static import exported
from seqcells._trees import distinct
from seqcells._types import PyTree

Scalar = float | jax.Array  # float[]
Metrics = dict[str, jax.Array]
Loss = Callable[[Params, jax.Array, PyTree], tuple[jax.Array, Metrics]]
Optimizer = Callable[[PyTree], optax.GradientTransformation]
AxisName = str | tuple[str, ...]
Segment = Callable[["TrainState", PyTree], tuple["TrainState", Metrics]]


@exported
class HParams(NamedTuple):
    """Hyperparameters of `adamw`, all arrays or numbers, so that you can vmap over any of them."""

    learning_rate: Scalar = 1e-3  # []
    max_norm: Scalar = 1.0  # [], global gradient norm to which gradients are clipped; inf: never
    b1: Scalar = 0.9  # []
    b2: Scalar = 0.999  # []
    eps: Scalar = 1e-8  # []
    weight_decay: Scalar = 0.0  # []


@exported
class TrainState(NamedTuple):
    """Everything that a run needs to continue: the same state gives the same bits."""

    step: jax.Array  # int32[]
    key: jax.Array  # key[], never changed: step t uses fold_in(key, t)
    params: Params
    opt_state: optax.OptState


def adamw(hparams: HParams | Mapping[str, Scalar]) -> optax.GradientTransformation:
    """Return AdamW (Loshchilov & Hutter 2019), preceded by clipping of the global norm.

    Args:
        hparams: an `HParams`; or a mapping with `learning_rate` and any other of its fields, such
            as the hyperparameters of a sweep's trial. Further entries are ignored.

    Raises:
        ValueError: the mapping has no `learning_rate`.
    """
    if isinstance(hparams, Mapping):
        if "learning_rate" not in hparams:
            raise ValueError(
                "optimizer: expected hyperparameters with a field learning_rate, got "
                f"{', '.join(hparams) or 'none'}; name it so, or pass an optimizer such as "
                "lambda hparams: optax.adam(hparams['lr'])"
            )
        hparams = HParams(**{n: hparams[n] for n in HParams._fields if n in hparams})
    return optax.chain(
        optax.clip_by_global_norm(hparams.max_norm),
        optax.adamw(
            hparams.learning_rate,
            b1=hparams.b1,
            b2=hparams.b2,
            eps=hparams.eps,
            weight_decay=hparams.weight_decay,
        ),
    )


def init(
    params: Params, hparams: PyTree, key: jax.Array, optimizer: Optimizer = adamw
) -> TrainState:
    """Return the state before the first step.

    Args:
        params: the parameters to train, any tree of arrays.
        hparams: hyperparameters, read by `optimizer`.
        key: one random key for the whole run.
        optimizer: hparams -> an Optax transformation.

    Returns:
        The state at step 0.
    """
    _check.key("key", key)
    if not callable(optimizer):
        raise TypeError(
            f"optimizer: expected a function of hparams, got {type(optimizer).__name__}; "
            "write lambda hparams: optax.adam(1e-3)"
        )
    params = jax.tree.map(jnp.asarray, params)
    opt_state = optimizer(hparams).init(_widen(params))
    return distinct(TrainState(jnp.int32(0), key, params, opt_state))


def train_step(
    loss: Loss,
    state: TrainState,
    hparams: PyTree,
    optimizer: Optimizer = adamw,
    axis: AxisName | None = None,
) -> tuple[TrainState, Metrics]:
    """Take one step of gradient descent.

    Args:
        loss: (params, key, hparams) -> (scalar, further scalars by name).
        state: the state before the step.
        hparams: hyperparameters, read by `loss` and by `optimizer`.
        optimizer: hparams -> an Optax transformation.
        axis: within a `shard_map`, the axis whose devices share the step. Each device folds its
            index into the key; gradient, loss and further scalars are means over the devices, by
            one all-reduce. State and hyperparameters are the same on all of them.

    Returns:
        The state after the step, and `loss`, `grad_norm` and the further scalars before it.
    """
    key, params = jax.random.fold_in(state.key, state.step), state.params
    if axis is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        # The gradient of parameters that do not vary is already a sum over devices, one a leaf.
        params = jax.lax.pcast(params, axis, to="varying")

    def checked(params: Params) -> tuple[jax.Array, Metrics]:
        return _checked(loss(params, key, hparams))

    (value, further), grads = jax.value_and_grad(checked, has_aux=True)(params)
    grads = _widen(grads)
    if axis is not None:
        value, further, grads = _mean((value, further, grads), axis)
    updates, opt_state = optimizer(hparams).update(grads, state.opt_state, _widen(state.params))
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": value, "grad_norm": optax.tree.norm(grads), **further}
    return TrainState(state.step + 1, state.key, params, opt_state), metrics


def _checked(out: tuple[jax.Array, Metrics]) -> tuple[jax.Array, Metrics]:
    """Return what a loss has returned, or raise."""
    if not isinstance(out, tuple) or len(out) != 2 or not isinstance(out[1], dict):
        got = type(out).__name__
        raise TypeError(f"loss: expected to return (scalar, dict of further scalars), got {got}")
    for name, value in out[1].items():
        if name in ("loss", "grad_norm"):
            raise ValueError(f"loss: its further scalars may not be named {name!r}; that is taken")
        if jnp.shape(value) != ():
            got = _check.describe_one(value)
            raise ValueError(f"loss: expected further scalars, got {name} {got}; reduce it")
    return out


def _mean(tree: PyTree, axis: AxisName) -> PyTree:
    """Return the mean over devices as floats, by one all-reduce of one flat vector."""
    flat, back = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, _wide_float(a)), tree))
    return back(jax.lax.pmean(flat, axis))


def _wide_float(a: jax.Array) -> jnp.dtype:
    dtype = jnp.result_type(a)
    return wide(dtype) if jnp.issubdtype(dtype, jnp.inexact) else jnp.dtype(jnp.float32)


def _widen(tree: PyTree) -> PyTree:
    """Cast bfloat16 and float16 to float32, so that the optimiser's state is not rounded."""
    return jax.tree.map(lambda a: a.astype(wide(a.dtype)), tree)


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


def fit(
    loss: Loss,
    state: TrainState,
    hparams: PyTree,
    steps: int,
    *,
    segment: int = 100,
    optimizer: Optimizer = adamw,
    transform: Callable[[Segment], Segment] = lambda segment: segment,
    on_segment: Callable[[TrainState, Metrics], bool | None] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[TrainState, Metrics]:
    """Train in jitted segments, with a loop on the host between them.

    A segment is compiled once for each `loss`, `optimizer` and `transform`. Define these functions
    once, and calls of `fit` share the program.

    Args:
        loss: (params, key, hparams) -> (scalar, further scalars by name).
        state: the state to continue from.
        hparams: hyperparameters, read by `loss` and by `optimizer`.
        steps: how many steps to take.
        segment: steps of one call of the program, at least 1.
        optimizer: hparams -> an Optax transformation.
        transform: a function such as `jax.vmap` that wraps the training function
            `(state, hparams) -> (state, metrics)` before it is jitted; `jax.vmap` trains a model
            for every row of state and hparams.
        on_segment: called with the state and the metrics of each segment; training ends if it
            returns True.
        mesh: devices of all processes (`seqcells.distributed`) that share every step. Each device
            evaluates the loss with the key `fold_in(key, jax.lax.axis_index(mesh.axis_names))`, so
            a loss that draws 32 sequences trains on 32 a device. State and hyperparameters are the
            same on all; one all-reduce a step takes the mean of the gradients.

    Returns:
        The state at the end, and the metrics of all steps taken, [steps], under vmap
        [M, steps].

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
    if mesh is not None:
        _check_mesh(mesh, state, hparams)
    history: list[Metrics] = []
    done = 0
    while done < steps or not history:
        length = min(segment, steps - done)
        distributed.beat()  # the program begins, in which devices wait for one another
        state, metrics = _segment(loss, length, optimizer, transform, mesh)(state, hparams)
        history.append(jax.tree.map(np.asarray, metrics))
        distributed.beat()  # the program has ended
        done += length
        if on_segment is not None and on_segment(state, metrics):
            break
    return state, jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *history)


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


def _check_mesh(mesh: jax.sharding.Mesh, state: TrainState, hparams: PyTree) -> None:
    """Raise unless all processes have the same state and hparams, which nothing else checks."""
    if not isinstance(mesh, jax.sharding.Mesh):
        got = _check.describe_one(mesh)
        raise TypeError(f"mesh: expected a mesh, as jax.make_mesh((8,), ('data',)), got {got}")
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
            f"state: expected the same state and hparams in every process, got another one in "
            f"process {', '.join(map(str, others))} than in process 0; make them of the same seed"
        )
