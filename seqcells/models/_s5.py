"""S5: residual blocks of a state-space model and a gate."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells.cells import S5
from seqcells.layers import Activation, Dense, Norm, Residual, Stack
from seqcells.models._parts import Options, Sizes, assemble, settle

SIZES: dict[str, Sizes] = {  # of the authors' run_train.py and bin/run_experiments
    "mnist": {"layers": 6, "width": 128, "state_size": 128},
    "speech35": {"layers": 6, "width": 96, "state_size": 64},
    "lra-cifar": {"layers": 6, "width": 512, "state_size": 192},
}


def s5(
    size: str | None = None,
    *,
    vocab: int | None = None,
    outputs: int | None = None,
    layers: int | None = None,
    width: int | None = None,
    state_size: int | None = None,
    step_min: float = 0.001,
    step_max: float = 0.1,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
) -> Stack:
    """Make an S5 model (Smith, Warrington & Linderman 2023, arXiv 2208.04933).

    Each of its blocks is::

        u_t = gelu(S5(norm(x))_t)
        y_t = x_t + u_t * sigmoid(V u_t + c)

    The paper's models are classifiers: the mean of the outputs over time gives the logits of a
    sequence, because a mean and an affine map commute. A named size has as many parameters as the
    model of the authors' code (github.com/lindermanlab/S5) with `--bidirectional=False`, for which
    their scripts for "speech35" and "lra-cifar" set True. Its norm is that of each step's features,
    which the code has as `--batchnorm=False`: a norm over the batch would make one sequence depend
    on another. Their matrices start from the HiPPO-LegS matrix, those of `S5` from S4D-Lin.

    Args:
        size: "mnist", "speech35" or "lra-cifar"; or None, and then `layers`, `width` and
            `state_size`.
        vocab: the number of symbols; inputs are then int[T, *B]. None for inputs float[T, *B, D],
            which a `Dense` maps to `width` features, as in the paper.
        outputs: features of the outputs, by a `Dense`; None for logits of the symbols, or for the
            `width` features of the last block where there are no symbols.
        layers: how many blocks there are; that of `size` if None.
        width: features between the blocks; that of `size` if None.
        state_size: complex units of the memory, each for a conjugate pair of the code's
            `ssm_size_base`; that of `size` if None.
        step_min: the least time step at the start, above 0.
        step_max: the largest; at least step_min.
        dtype: dtype of computation; that of the inputs, or of the parameters for symbols, if None.
        param_dtype: dtype of the parameters.

    Returns:
        A `Stack` of the first map, the blocks, and the readout if there is one.

    Raises:
        ValueError: on an unknown size, or a number below 1.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.models.s5(layers=2, width=8, state_size=4, outputs=10)
    >>> carry, ys = sc.unroll(net, net.init(jax.random.key(0), 1), jnp.ones((5, 3, 1)))
    >>> ys.mean(0).shape
    (3, 10)
    """
    own = settle(SIZES, size, layers=layers, width=width, state_size=state_size)
    options: Options = {"dtype": dtype, "param_dtype": param_dtype}
    block = Residual(
        Stack(
            (
                Norm("layer", **options),
                S5(own.state_size, step_min=step_min, step_max=step_max, **options),
                Activation("gelu"),
                Residual(Dense(own.width, "sigmoid", **options), "mul"),
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
