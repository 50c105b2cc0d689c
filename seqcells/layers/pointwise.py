"""Any function of one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._layer import Start, Time
from seqcells._model import is_function, leading
from seqcells._types import Carry, Inputs, InputSize, Outputs, Params
from seqcells.layers._each import EachStep


@dataclasses.dataclass(frozen=True, repr=False)
class Pointwise(EachStep):
    """Any function of one step as a layer, such as a module of Flax Linen.

    The function gets one step, x [*B, ...], also within `unroll`. At padding x is zero, so the
    derivative at zero must be finite. Two such layers are equal if their functions are the same
    objects: define the functions once, not in a loop.

    Args:
        init_fn: `(key, x) -> params`, for one step's input x without batch axes; None if the
            function has no parameters, and its params are None.
        apply_fn: `(params, x) -> y`, for one step's input x [*B, ...]; every leaf of y starts with
            the batch axes.
        x_ndim: the number of feature axes of x, the last ones; the axes before are batch axes.
        x_dtypes: the kinds of dtype that x may have, such as `(jnp.integer,)`.

    Raises:
        TypeError: if `init_fn` or `apply_fn` is not a function, or `x_dtypes` is not a tuple.
        ValueError: on an output without the batch axes.

    >>> import flax.linen as nn, jax, jax.numpy as jnp, seqcells as sc
    >>> mlp = nn.Sequential([nn.Dense(8), nn.gelu, nn.Dense(3)])
    >>> net = sc.Stack((sc.GRU(4), sc.Pointwise(mlp.init, mlp.apply)))
    >>> params = net.init(jax.random.key(0), input_size=2)
    >>> carry, ys = sc.unroll(net, params, jnp.ones((5, 6, 2)))
    >>> ys.shape
    (5, 6, 3)
    """

    init_fn: Callable[[jax.Array, Inputs], Params] | None
    apply_fn: Callable[[Params, Inputs], Outputs]
    # Properties in `Model`, but fields here, because the user sets them.
    x_ndim: int = 1  # pyright: ignore[reportIncompatibleMethodOverride]
    x_dtypes: tuple[type, ...] = (  # pyright: ignore[reportIncompatibleMethodOverride]
        jnp.floating,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("init_fn", "apply_fn"):
            value = getattr(self, name)
            if name == "init_fn" and value is None:
                continue
            module = hasattr(value, "init") and hasattr(value, "apply")
            if module or not is_function(value):
                hint = "; write Pointwise(module.init, module.apply)" if module else ""
                got = _check.describe_one(value)
                raise TypeError(f"{name}: expected a function, got {got}{hint}")
        _check.size("x_ndim", self.x_ndim, least=0)
        _check.kinds("x_dtypes", self.x_dtypes)

    def init(self, key: jax.Array, input_size: InputSize) -> Params:
        """Call `init_fn` with zeros [...] of this size."""
        _check.key("key", key)
        return None if self.init_fn is None else self.init_fn(key, self.zero_input(input_size))

    def apply(self, params: Params, xs: Inputs, key: jax.Array | None) -> Outputs:
        """Call `apply_fn` with one step's xs [*B, ...]."""
        ys, batch = self.apply_fn(params, xs), leading(self, xs)
        for leaf in jax.tree.leaves(ys):
            if jnp.shape(leaf)[: len(batch)] != batch:
                raise ValueError(
                    f"apply_fn: expected outputs with the batch axes {list(batch)} first, got "
                    f"{_check.describe(ys)} for inputs {_check.describe(xs)}"
                )
        return ys

    def run(
        self, params: Params, xs: Inputs, start: Start, time: Time, key: jax.Array | None
    ) -> tuple[Carry, Outputs]:
        """Compute the outputs step by step; zeros at padding."""
        ys = time.each(lambda x: self.apply(params, x, key), time.silence(xs))
        return start.carry, time.silence(ys)
