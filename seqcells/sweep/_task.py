"""A sweep's task: two pure functions of one trial; and a task made from a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from seqcells import train
from seqcells._optimizer import checked
from seqcells._types import PyTree

Fields = dict[str, jax.Array]  # the hyperparameters of one trial: {field of the space: scalar}


class Task(NamedTuple):
    """The interface of a task; any object with the first two functions is a task.

    Both are written for one trial, and the sweep vmaps them over a batch of trials.
    Hyperparameters are passed to both, so the state holds only what training changes.
    """

    init: Callable[[Fields, jax.Array], PyTree]  # (hparams, key) -> state
    segment: Callable[[PyTree, Fields, int], tuple[PyTree, train.Metrics]]
    # (state, hparams, n) -> the state after n steps, and metrics float[n] by name
    check: Callable[[Mapping[str, Any]], object] | None = None
    # (hparams) -> None; raises if a number of a trial is out of range, before training


def from_loss(
    loss: train.Loss,
    init: Callable[[jax.Array, Fields], PyTree],
    optimizer: Callable[[Fields], optax.GradientTransformation] = train.adamw,
) -> Task:
    """Make a task from a loss for `seqcells.train`.

    Args:
        loss: (params, key, hparams) -> (scalar, further scalars by name); the key differs at every
            step.
        init: (key, hparams) -> params, any pytree of arrays; or `train.Variables`.
        optimizer: hparams -> an Optax transformation; the default, AdamW, reads the fields of the
            space that have names of `train.HParams`.

    Returns:
        A task whose state is a `train.TrainState`, with the metrics `loss`, `grad_norm` and the
        further scalars.
    """

    def begin(hparams: Fields, key: jax.Array) -> train.TrainState:
        k_params, k_train = jax.random.split(key)
        return train.init(init(k_params, hparams), hparams, k_train, optimizer)

    def segment(
        state: train.TrainState, hparams: Fields, n: int
    ) -> tuple[train.TrainState, train.Metrics]:
        return train.run(loss, state, hparams, n, optimizer)

    return Task(begin, segment, checked if optimizer is train.adamw else None)
