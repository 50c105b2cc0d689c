"""Mamba: blocks of a convolution, the selective state-space model and a gate."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells.cells import Mamba
from seqcells.initializers import Normal
from seqcells.layers import Block, CausalConv, Dense, Norm, Stack
from seqcells.models._parts import Options, Sizes, assemble, settle

SIZES: dict[str, Sizes] = {  # of the authors' checkpoints: state-spaces/mamba-130m and so on
    "130m": {"layers": 24, "width": 768},
    "370m": {"layers": 48, "width": 1024},
    "790m": {"layers": 48, "width": 1536},
    "1.4b": {"layers": 48, "width": 2048},
    "2.8b": {"layers": 64, "width": 2560},
}


def mamba(
    size: str | None = None,
    *,
    vocab: int | None = None,
    outputs: int | None = None,
    layers: int | None = None,
    width: int | None = None,
    state_size: int = 16,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
) -> Stack:
    """Make a Mamba model (Gu & Dao 2023, arXiv 2312.00752).

    Each of its blocks is, with `sc.Mamba` for the selective state-space model S6::

        u_t = silu(conv(W norm(x)))_t                       2 * width features
        y_t = x_t + W_o (S6(u)_t * silu(V norm(x_t)))

    Logits are made by the matrix of the embedding. As in mamba_ssm 2.2.2: norms are "rms" with an
    eps of 1e-5, biases are those of the convolution and of the time steps alone, and a named size
    has as many parameters with `vocab=50280`, which is 50277 symbols, padded to a multiple of 8.
    Weights start otherwise in the convolution and in W_o, which is drawn there with a standard
    deviation that falls with the number of blocks.

    Args:
        size: "130m", "370m", "790m", "1.4b" or "2.8b"; or None, and then `layers` and `width`.
        vocab: the number of symbols; inputs are then int[T, *B]. None for inputs float[T, *B, D],
            which a `Dense` maps to `width` features.
        outputs: features of the outputs, by a `Dense`; None for logits of the symbols, or for the
            `width` features after the last norm where there are no symbols.
        layers: how many blocks there are; that of `size` if None.
        width: features between the blocks; that of `size` if None.
        state_size: numbers that the memory holds of a feature.
        dtype: dtype of computation; that of the inputs, or of the parameters for symbols, if None.
        param_dtype: dtype of the parameters.

    Returns:
        A `Stack` of the embedding, the blocks, a `Norm`, and the readout if there is one.

    Raises:
        ValueError: on an unknown size, or a number below 1.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.models.mamba(layers=2, width=16, vocab=50)
    >>> carry, logits = sc.unroll(net, net.init(jax.random.key(0), ()), jnp.zeros((5, 3), int))
    >>> logits.shape
    (5, 3, 50)
    """
    own = settle(SIZES, size, layers=layers, width=width)
    options: Options = {"dtype": dtype, "param_dtype": param_dtype}
    norm, inner = Norm("rms", eps=1e-5, **options), 2 * own.width
    mixer = Stack(
        (
            Dense(inner, bias="none", **options),
            CausalConv(4, "silu", **options),
            Mamba(inner, state_size=state_size, rank=math.ceil(own.width / 16), **options),
        )
    )
    block = Block(mixer, norm, gate="silu", bias="none", **options)
    return assemble(
        [block] * own.layers,
        norm,
        width=own.width,
        vocab=vocab,
        outputs=outputs,
        tied=True,
        bias="none",
        embed_init=Normal(0.02),
        options=options,
    )
