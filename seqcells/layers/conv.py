"""A short convolution over time that sees no later step."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells import _check, initializers
from seqcells._cell import zero_carry
from seqcells._layer import Layer, Start, Time
from seqcells._linear import wide
from seqcells._model import check_fit, one_input
from seqcells._static import brief, exported
from seqcells._trees import as_rows
from seqcells._types import InputSize, Params
from seqcells.initializers import Initializer
from seqcells.layers.dense import ACTIVATIONS, check_activation


@exported
class CausalConvParams(NamedTuple):
    """Parameters of `CausalConv`."""

    w: jax.Array  # [width, D]; the last row is for the step itself
    b: jax.Array | None  # [D]


@dataclasses.dataclass(frozen=True, repr=False)
class CausalConv(Layer):
    """A convolution over the last steps, each feature by itself, y_t = act(sum_i w_i x_{t-i} + b).

    i runs from 0 to width - 1, and w_i is row width - 1 - i of w, as `jax.lax.conv` has it. It
    stands before the cell in the blocks of Griffin and Mamba, with a width of 4. The carry
    float[*B, width - 1, D] is the window of the inputs before, the newest last: zeros where a
    sequence starts, and held at padding. All steps are computed at once.

    Args:
        width: steps that an output reads, at least 1.
        activation: "identity", "silu" (Mamba), "gelu", "gelu_exact", "tanh", "relu" or
            "sigmoid".
        bias: "single" (b) or "none".
        w_init: initialiser of w float[width, D].
        b_init: initialiser of b float[D].
        dtype: dtype of the output; that of the input if None. The sum and the window are in at
            least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a width below 1, an unknown activation or bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> conv = sc.CausalConv(2, w_init=sc.initializers.ones)
    >>> carry, ys = sc.unroll(conv, conv.init(jax.random.key(0), 1), jnp.arange(4.0)[:, None])
    >>> ys.ravel().tolist(), carry.ravel().tolist()
    ([0.0, 1.0, 3.0, 5.0], [3.0])
    """

    width: int = 4
    activation: str = "identity"
    _: dataclasses.KW_ONLY
    bias: str = "single"
    w_init: Initializer = initializers.Lecun()
    b_init: Initializer = initializers.zeros
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        _check.settle_dtypes(self)
        _check.size("width", self.width, least=1)
        check_activation(self.activation)
        _check.choice("bias", self.bias, ("single", "none"))
        initializers.check("w_init", self.w_init, 1)
        initializers.check("b_init", self.b_init, 1)

    def __repr__(self) -> str:
        return brief(self)

    def init(self, key: jax.Array, input_size: int) -> CausalConvParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        _check.key("key", key)
        shape = (self.width, _check.size("input_size", input_size, least=0))
        k_w, k_b = jax.random.split(key)
        w = initializers.per_gate("w_init", self.w_init, k_w, shape, 1, self.param_dtype)
        if self.bias == "none":
            return CausalConvParams(w, None)
        b = initializers.per_gate("b_init", self.b_init, k_b, shape[1:], 1, self.param_dtype)
        return CausalConvParams(w, b)

    def init_carry(self, x: jax.Array, params: Params = None) -> jax.Array:
        """Make zeros float[*B, width - 1, D] for one step's input x [*B, D]."""
        x = one_input(self, x)
        return zero_carry(x, (self.width - 1, x.shape[-1]), self._wide(x))

    def check_params(self, params: Params, input_size: InputSize) -> None:
        """Raise a ValueError unless `params` are of this layer and of this `input_size`."""
        check_fit(self, params, input_size)

    def run(
        self,
        params: CausalConvParams,
        xs: jax.Array,
        start: Start,
        time: Time,
        key: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        """Convolve all steps, or take one."""
        w, dtype = params.w.astype(self._wide(xs)), xs.dtype if self.dtype is None else self.dtype
        seen = time.silence(xs).astype(w.dtype)
        total, window = seen * as_rows(w[-1], seen), []
        for i in range(1, self.width):
            first = Start(*(carry[..., -i, :] for carry in start))
            end, seen = time.delay(seen, first)  # the input of i steps before
            total += seen * as_rows(w[-1 - i], seen)
            window.insert(0, end)
        if params.b is not None:
            total += as_rows(params.b.astype(total.dtype), total)
        carry = jnp.stack(window, axis=-2) if window else start.carry
        return carry, time.silence(ACTIVATIONS[self.activation](total).astype(dtype))

    def _wide(self, x: jax.Array) -> jnp.dtype:
        """Return the dtype of the window and the sum."""
        return wide(x.dtype if self.dtype is None else self.dtype)
