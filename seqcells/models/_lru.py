"""The model of the linear recurrent unit: residual blocks of an LRU and a gated linear unit."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells.cells import LRU
from seqcells.layers import Activation, Dense, Norm, Parallel, Residual, Stack
from seqcells.models._parts import Options, Sizes, assemble, settle

SIZES: dict[str, Sizes] = {  # tables 8 and 9 of the paper: its models that read forward alone
    "scifar": {"layers": 6, "width": 512, "state_size": 384, "r_min": 0.9, "r_max": 0.999},
    "listops": {"layers": 6, "width": 128, "state_size": 256, "r_min": 0.0, "r_max": 0.99},
    "text": {"layers": 6, "width": 256, "state_size": 192, "r_min": 0.5, "r_max": 0.9},
}


def lru(
    size: str | None = None,
    *,
    vocab: int | None = None,
    outputs: int | None = None,
    layers: int | None = None,
    width: int | None = None,
    state_size: int | None = None,
    r_min: float | None = None,
    r_max: float | None = None,
    max_phase: float = 2 * math.pi,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
) -> Stack:
    """Make the model of the linear recurrent unit (Orvieto et al. 2023, arXiv 2303.06349).

    Each of its blocks is::

        u_t = gelu(LRU(norm(x))_t)                          with the skip d * norm(x_t)
        y_t = x_t + (W u_t + b) * sigmoid(V u_t + c)

    The paper's models are classifiers: the mean of the outputs over time gives the logits of a
    sequence, because a mean and an affine map commute. A named size has as many parameters as the
    model of minimal-LRU (github.com/NicolasZucchet/minimal-LRU, by others than the authors, who
    published the LRU alone). The norm is that of each step's features, where the paper has one over
    the batch, which would make one sequence depend on another.

    Args:
        size: "scifar", "listops" or "text"; or None, and then `layers`, `width` and `state_size`.
        vocab: the number of symbols; inputs are then int[T, *B]. None for inputs float[T, *B, D],
            which a `Dense` maps to `width` features, as in the paper.
        outputs: features of the outputs, by a `Dense`; None for logits of the symbols, or for the
            `width` features of the last block where there are no symbols.
        layers: how many blocks there are; that of `size` if None.
        width: features between the blocks; that of `size` if None.
        state_size: complex units of the memory; that of `size` if None.
        r_min: lower end of the ring on which lambda is drawn; that of `size` if None, or 0.
        r_max: upper end of the ring; that of `size` if None, or 1.
        max_phase: phases are drawn from [0, max_phase], radians per step.
        dtype: dtype of computation; that of the inputs, or of the parameters for symbols, if None.
        param_dtype: dtype of the parameters.

    Returns:
        A `Stack` of the first map, the blocks, and the readout if there is one.

    Raises:
        ValueError: on an unknown size, a number below 1, or a ring that is empty.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.models.lru(layers=2, width=8, state_size=4, outputs=10)
    >>> carry, ys = sc.unroll(net, net.init(jax.random.key(0), 1), jnp.ones((5, 3, 1)))
    >>> ys.mean(0).shape
    (3, 10)
    """
    if size is None:
        r_min, r_max = (end if given is None else given for given, end in ((r_min, 0), (r_max, 1)))
    own = settle(
        SIZES, size, layers=layers, width=width, state_size=state_size, r_min=r_min, r_max=r_max
    )
    options: Options = {"dtype": dtype, "param_dtype": param_dtype}
    ring = {"r_min": own.r_min, "r_max": own.r_max, "max_phase": max_phase}
    gated = Dense(own.width, **options), Dense(own.width, "sigmoid", **options)
    block = Residual(
        Stack(
            (
                Norm("layer", **options),
                LRU(own.state_size, skip=True, **ring, **options),
                Activation("gelu"),
                Parallel(gated, "mul"),
            )
        )
    )
    return assemble(
        [block] * own.layers,
        None,
        width=own.width,
        vocab=vocab,
        outputs=outputs,
        tied=False,
        bias="single",
        options=options,
    )
