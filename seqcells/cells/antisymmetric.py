"""The antisymmetric RNN: a step of a differential equation that neither grows nor decays."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._linear import affine, gates
from seqcells._static import exported
from seqcells.cells._dense import DenseCell
from seqcells.initializers import GateInitializers

Drive = tuple[jax.Array, ...]  # n, and z if gated: float[*B, H] each


@exported
class AntisymmetricRNNParams(NamedTuple):
    """Parameters of `AntisymmetricRNN`."""

    w_ih: jax.Array  # [D, H], V
    w_hh: jax.Array  # [H, H], W; W - W^T is what multiplies
    b: jax.Array  # [H]
    w_iz: jax.Array | None = None  # [D, H], V_z; None if gated=False
    b_z: jax.Array | None = None  # [H]; None if gated=False


@dataclasses.dataclass(frozen=True, repr=False)
class AntisymmetricRNN(DenseCell):
    """Antisymmetric RNN (Chang et al. 2019), a forward Euler step of a stable equation.

    Both terms share one recurrent product::

        m_t = (W - W^T - gamma I) h_{t-1}
        n_t = tanh(m_t + V x_t + b)
        z_t = sigmoid(m_t + V_z x_t + b_z)     gated=True; else z_t = 1
        h_t = h_{t-1} + eps * z_t * n_t

    The eigenvalues of W - W^T are imaginary, so that gradients of the differential equation keep
    their norm; gamma makes up for the growth that steps of length eps bring.

    Args:
        hidden_size: H, at least 1.
        eps: the length of a step, above 0.
        gamma: the diffusion, at least 0.
        gated: whether z scales the step.
        w_ih_init: initialiser of w_ih float[D, H], and of w_iz.
        w_hh_init: initialiser of w_hh float[H, H].
        b_init: initialiser of b float[H], and of b_z.
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, or an eps or gamma out of range.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.AntisymmetricRNN(4).init(jax.random.key(0), input_size=2))
    28
    """

    GATES: ClassVar[tuple[str, ...]] = ("n",)

    _: dataclasses.KW_ONLY
    eps: float = 0.01
    gamma: float = 0.01
    gated: bool = False
    w_hh_init: GateInitializers = initializers.Lecun()
    b_init: GateInitializers = initializers.zeros

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.positive("eps", self.eps)
        _check.nonnegative("gamma", self.gamma)
        _check.flag("gated", self.gated)

    def init(self, key: jax.Array, input_size: int) -> AntisymmetricRNNParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        w_ih, w_hh, k_rest = self._matrices(key, input_size)
        k_b, k_z, k_bz = jax.random.split(k_rest, 3)
        width = (self.hidden_size,)
        params = AntisymmetricRNNParams(w_ih, w_hh, self._draw("b_init", k_b, width))
        if not self.gated:
            return params
        w_iz = self._draw("w_ih_init", k_z, (input_size, *width))
        return params._replace(w_iz=w_iz, b_z=self._draw("b_init", k_bz, width))

    def project(self, params: AntisymmetricRNNParams, x: jax.Array) -> Drive:
        """Compute V x + b, and V_z x + b_z if gated. x: float[*B, D]."""
        w, b = params.w_ih, params.b
        if params.w_iz is None or params.b_z is None:
            return (affine(x, w, b, self.compute_dtype(x)),)
        w, b = jnp.concatenate([w, params.w_iz], axis=-1), jnp.concatenate([b, params.b_z])
        return gates(affine(x, w, b, self.compute_dtype(x)), 2)

    def mix(self, params: AntisymmetricRNNParams, carry: jax.Array) -> jax.Array:
        """Compute (W - W^T) h in the dtype of the carry."""
        w = params.w_hh.astype(carry.dtype)
        return affine(carry, w - w.T, None, carry.dtype)

    def gate(self, carry: jax.Array, drive: Drive, mixed: jax.Array) -> jax.Array:
        """Compute h_t, elementwise."""
        n, *z = (d + (mixed - self.gamma * carry) for d in drive)
        step = self.eps * jnp.tanh(n)
        return carry + (step * jax.nn.sigmoid(z[0]) if z else step)

    def gates(
        self,
        params: AntisymmetricRNNParams,
        carry: jax.Array,
        drive: Drive,
        mixed: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Compute z, if there is one."""
        mixed = self.mix(params, carry) if mixed is None else mixed
        z = [jax.nn.sigmoid(d + (mixed - self.gamma * carry)) for d in drive[1:]]
        return {"z": z[0]} if z else {}
