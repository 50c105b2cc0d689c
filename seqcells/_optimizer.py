"""AdamW with its hyperparameters, and optimiser steps on parameters of any floating dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.core import Tracer

from seqcells._linear import wide
from seqcells._static import exported
from seqcells._types import PyTree

Scalar = float | jax.Array  # float[]
Optimizer = Callable[[PyTree], optax.GradientTransformation]


@exported
class HParams(NamedTuple):
    """Hyperparameters of `adamw`, all arrays or numbers, so that you can vmap over any of them."""

    learning_rate: Scalar = 1e-3  # [], at least 0
    max_norm: Scalar = 1.0  # [], above 0: global norm to which gradients are clipped; inf: never
    b1: Scalar = 0.9  # [], from 0 to below 1
    b2: Scalar = 0.999  # [], from 0 to below 1
    eps: Scalar = 1e-8  # [], at least 0
    weight_decay: Scalar = 0.0  # [], at least 0


def _fits(a: Any) -> Any:
    """Whether float32 distinguishes numbers above 0 from 0 and from infinity."""
    return (a >= _TINY) & (a <= _MOST)


_TINY, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_RANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(
        ("learning_rate", "eps", "weight_decay"),
        (f"0, or numbers from {_TINY:.3g} to {_MOST:.3g}", lambda a: (a == 0) | _fits(a)),
    ),
    "max_norm": (
        f"numbers from {_TINY:.3g} to {_MOST:.3g}, or inf",
        lambda a: _fits(a) | (a == math.inf),
    ),
    **dict.fromkeys(("b1", "b2"), ("numbers from 0 to below 1", lambda a: (a >= 0) & (a < 1))),
}


def adamw(hparams: HParams | Mapping[str, Scalar]) -> optax.GradientTransformation:
    """Return AdamW (Loshchilov & Hutter 2019), preceded by clipping of the global norm.

    Args:
        hparams: an `HParams`; or a mapping with `learning_rate` and any other of its fields, such
            as the hyperparameters of a sweep's trial. Further entries are ignored.

    Raises:
        ValueError: the mapping has no `learning_rate`, or a number is out of its range.
    """
    hparams = checked(hparams)
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


def checked(hparams: HParams | Mapping[str, Scalar]) -> HParams:
    """Return what `adamw` reads, or raise; traced numbers, as under vmap, are not checked."""
    if isinstance(hparams, Mapping):
        if "learning_rate" not in hparams:
            raise ValueError(
                "optimizer: expected hyperparameters with a field learning_rate, got "
                f"{', '.join(hparams) or 'none'}; name it so, or pass an optimizer such as "
                "lambda hparams: optax.adam(hparams['lr'])"
            )
        hparams = HParams(**{n: hparams[n] for n in HParams._fields if n in hparams})
    for name, value in hparams._asdict().items():
        if isinstance(value, Tracer) or callable(value):  # a callable is a schedule
            continue
        expected, fits = _RANGES[name]
        good = fits(value if type(value) is float else np.asarray(value, np.float64))
        if good is not True and not np.all(good):  # a sweep checks every trial
            raise ValueError(f"{name}: expected {expected}, got {value}")
    return hparams


def widen(tree: PyTree) -> PyTree:
    """Cast bfloat16 and float16 to float32, so that the optimiser's state is not rounded."""
    return jax.tree.map(lambda a: a.astype(wide(a.dtype)), tree)


def remainder(params: PyTree) -> PyTree:
    """Return the rounding remainder of bfloat16 and float16 parameters, initially 0.

    A tree like the parameters, with None for leaves of float32 or wider; () if all leaves are.
    """
    rest = jax.tree.map(lambda a: None if a.dtype == wide(a.dtype) else widen(a) * 0, params)
    return rest if jax.tree.leaves(rest) else ()


def update(
    optimizer: optax.GradientTransformation,
    grads: PyTree,
    opt_state: optax.OptState,
    params: PyTree,
    rest: PyTree,
    *,
    value: jax.Array,
    value_fn: Callable[[PyTree], jax.Array],
) -> tuple[PyTree, optax.OptState, PyTree]:
    """Return parameters, state and remainder after an optimiser's step, taken in float32.

    A bfloat16 or float16 parameter and its remainder add up to a float32 value. Every update
    changes that value, however small; the parameter is the value, rounded.

    Args:
        optimizer: an Optax transformation; it gets `value`, `grad` and `value_fn` if it accepts
            them, as `optax.lbfgs` does.
        grads: gradients, cast to float32 or wider.
        opt_state: its state.
        params: the parameters.
        rest: their `remainder`.
        value: the loss.
        value_fn: widened parameters -> loss.
    """
    full, is_narrow = widen(params), bool(jax.tree.leaves(rest))
    if is_narrow:
        full = jax.tree.map(lambda p, f, r: f if r is None else f + r, params, full, rest)
    value = value.astype(wide(value.dtype))
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        grads, opt_state, full, value=value, grad=grads, value_fn=value_fn
    )
    full = optax.apply_updates(full, updates)
    params = like(full, params)
    if is_narrow:
        rest = jax.tree.map(
            lambda p, f, r: None if r is None else f - p.astype(f.dtype), params, full, rest
        )
    return params, opt_state, rest


def like(tree: PyTree, params: PyTree) -> PyTree:
    """Cast a tree to the dtypes of `params`."""
    return jax.tree.map(lambda a, own: a.astype(own.dtype), tree, params)
