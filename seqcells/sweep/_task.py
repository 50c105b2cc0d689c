"""What is swept: a task of two pure functions, and how a loss becomes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from seqcells import train

HParams = dict[str, jax.Array]  # of one trial: a scalar for every field of the space
Metrics = dict[str, jax.Array]  # float[n], a value a step


class Task(NamedTuple):
    """The whole contract; any object with these two functions is a task.

    Both are written for one trial and vmapped over many. The state carries whatever of the
    hyperparameters `segment` needs.
    """

    init: Callable[[HParams, jax.Array], Any]  # (hparams, key) -> state
    segment: Callable[[Any, int], tuple[Any, Metrics]]  # (state, n) -> state after n steps, metrics


class Member(NamedTuple):
    """The state of a task that `from_loss` makes."""

    train: train.TrainState
    hparams: HParams


def adamw(hparams: HParams) -> optax.GradientTransformation:
    """Make `train.adamw` of those fields of the space that are named as `train.HParams` has them.

    Raises:
        ValueError: the space has no `learning_rate`.
    """
    if "learning_rate" not in hparams:
        came = ", ".join(hparams) or "none"
        raise ValueError(
            f"optimizer: expected a field learning_rate in the space, got {came}; "
            "name it so, or pass an optimizer such as lambda hparams: optax.adam(hparams['lr'])"
        )
    return train.adamw(
        train.HParams(**{n: hparams[n] for n in train.HParams._fields if n in hparams})
    )


def from_loss(
    loss: train.Loss,
    init: Callable[[jax.Array, HParams], Any],
    optimizer: Callable[[HParams], optax.GradientTransformation] = adamw,
) -> Task:
    """Make a task of a loss as `seqcells.train` has them.

    Args:
        loss: (params, key, hparams) -> (scalar, further scalars by name); a new key every step.
        init: (key, hparams) -> params, any tree of arrays.
        optimizer: hparams -> an Optax transformation.

    Returns:
        A task with the metrics `loss`, `grad_norm` and the further scalars.
    """

    def begin(hparams: HParams, key: jax.Array) -> Member:
        k_params, k_train = jax.random.split(key)
        return Member(train.init(init(k_params, hparams), hparams, k_train, optimizer), hparams)

    def segment(member: Member, n: int) -> tuple[Member, Metrics]:
        state, metrics = train.run(loss, member.train, member.hparams, n, optimizer)
        return Member(state, member.hparams), metrics

    return Task(begin, segment)
