"""A vector for each symbol."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._linear import affine, wide
from seqcells._static import exported
from seqcells._types import Inputs, InputSize
from seqcells.initializers import Initializer
from seqcells.layers._each import TypedStep


@exported
class EmbedParams(NamedTuple):
    """Parameters of `Embed`."""

    w: jax.Array  # [vocabulary, size], a row for each symbol


@dataclasses.dataclass(frozen=True, repr=False)
class Embed(TypedStep):
    """A learned vector for each symbol: integers [T, *B] in, floats [T, *B, size] out.

    Symbols are 0 to `vocabulary` - 1. Others give NaN; `seqcells.debug.checked` raises for them
    instead. In the padding, any value is allowed.

    Args:
        vocabulary: the number of symbols, at least 1.
        size: features of the output, at least 1.
        w_init: initialiser of w float[vocabulary, size].
        dtype: dtype of the output; `param_dtype` if None.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a number below 1.
        TypeError: on an argument of the wrong type.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.Stack((sc.Embed(1000, 32), sc.GRU(64), sc.Dense(1000)))
    >>> params = net.init(jax.random.key(0), input_size=())
    >>> carry, logits = sc.unroll(net, params, jnp.zeros((12, 4), int))
    >>> logits.shape
    (12, 4, 1000)
    """

    vocabulary: int
    size: int
    _: dataclasses.KW_ONLY
    w_init: Initializer = initializers.Normal(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.size("vocabulary", self.vocabulary, least=1)
        _check.size("size", self.size, least=1)
        initializers.check("w_init", self.w_init, 1)

    @property
    def x_ndim(self) -> int:
        """0: one step's input is an integer without feature axes."""
        return 0

    @property
    def x_dtypes(self) -> tuple[type, ...]:
        """Integers only."""
        return (jnp.integer,)

    def init(self, key: jax.Array, input_size: InputSize = ()) -> EmbedParams:
        """Make parameters in `param_dtype`; integers have no size, so `input_size` is ()."""
        _check.key("key", key)
        shape = (self.vocabulary, self.size)
        return EmbedParams(
            initializers.per_gate("w_init", self.w_init, key, shape, 1, self.param_dtype)
        )

    def apply(self, params: EmbedParams, xs: Inputs, key: jax.Array | None) -> jax.Array:
        """Take a row for each symbol. xs: int[...]. Returns float[..., size]."""
        _check.within("xs", xs, 0, self.vocabulary - 1, f"symbols below {self.vocabulary}")
        rows = params.w.astype(wide(params.w.dtype))  # so that gradients are summed in float32
        known = (xs >= 0) & (xs < self.vocabulary)
        seen = jnp.take(rows, xs, axis=0, mode="clip")
        dtype = params.w.dtype if self.dtype is None else self.dtype
        return jnp.where(known[..., None], seen, jnp.nan).astype(dtype)

    def logits(self, params: EmbedParams, ys: jax.Array) -> jax.Array:
        """Compute w y, for `Stack(tied=True)`. ys: float[..., size]; float[..., vocabulary]."""
        if ys.shape[-1] != self.size:
            raise ValueError(
                f"tied: expected a last layer with {self.size} outputs, which {self} can read, got "
                f"{ys.shape[-1]}"
            )
        dtype = ys.dtype if self.dtype is None else self.dtype
        return affine(ys, params.w.T, None, dtype).astype(dtype)
