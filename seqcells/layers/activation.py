"""An activation of each feature."""

from __future__ import annotations

import dataclasses

import jax

from seqcells._types import InputSize
from seqcells.layers._each import EachStep
from seqcells.layers.dense import ACTIVATIONS, check_activation


@dataclasses.dataclass(frozen=True, repr=False)
class Activation(EachStep):
    """An activation of each feature, y_t = act(x_t), where no layer before it has one.

    Args:
        kind: "gelu" (by tanh), "gelu_exact" (by erf), "silu", "tanh", "relu", "sigmoid" or
            "identity".

    Raises:
        ValueError: on an unknown activation.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.Stack((sc.S5(4), sc.Activation("relu")))
    >>> carry, ys = sc.unroll(net, net.init(jax.random.key(0), 2), jnp.ones((5, 3, 2)))
    >>> bool(jnp.all(ys >= 0))
    True
    """

    kind: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation(self.kind, "kind")

    def init(self, key: jax.Array, input_size: InputSize) -> None:
        """Return None: there are no parameters."""

    def apply(self, params: None, xs: jax.Array, key: jax.Array | None) -> jax.Array:
        """Compute the activation. xs: float[..., D]. Returns the same."""
        return ACTIVATIONS[self.kind](xs)
