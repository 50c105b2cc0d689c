"""The continuous-time RNN: leaky units with time constants, as neuroscience trains them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell
from seqcells._linear import affine, wide
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells._types import Inputs
from seqcells.cells._dense import ActivatedCell, DenseCell


@exported
class CTRNNParams(NamedTuple):
    """Parameters of `CTRNN`."""

    w_ih: jax.Array  # [D, H], W
    w_hh: jax.Array  # [H, H], U
    b: jax.Array | None  # [H]; None if bias="none"
    tau_log: jax.Array | None = None  # [H], logarithms of tau; None if learn_tau=False


@dataclasses.dataclass(frozen=True, repr=False)
class CTRNN(ActivatedCell, DenseCell):
    """Continuous-time RNN, by steps of Euler's method.

    With a = dt / tau, the share of its memory that a unit replaces in a step::

        r_t = (1 - a) r_{t-1} + a act(W x_t + U r_{t-1} + b)       form="rate"
        v_t = (1 - a) v_{t-1} + a (W x_t + U act(v_{t-1}) + b)     form="current"

    The carry is r or v, and the output is the rate, r or act(v). With dt = tau, the rate form is
    `RNN`. The two forms are those of Miller & Fumarola (2012); Yang et al. (2019) train the first
    and Song et al. (2016) the second.

    With a `key`, `unroll` and `step` add noise to the units' input: N(0, 2 noise^2 / a) in each
    step, so that the noise of the memory does not depend on dt (Song et al. 2016).

    Args:
        hidden_size: H, at least 1.
        activation: "tanh", "relu", "sigmoid" or "identity".
        tau: time constant, at least dt; or a tuple with one for each unit.
        dt: length of a step, above 0, in the unit of tau.
        noise: standard deviation of the noise of a unit's input, at least 0.
        form: "rate" or "current".
        learn_tau: whether time constants are parameters, which start at tau. A learned one below dt
            counts as dt.
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih float[D, H].
        w_hh_init: initialiser of w_hh float[H, H].
        b_init: initialiser of b float[H].
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, a tau or dt out of range, an unknown form, activation or
            bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> cell = sc.CTRNN(4, "relu", tau=100.0, dt=20.0, learn_tau=True)
    >>> sc.param_count(cell.init(jax.random.key(0), input_size=2))
    32
    """

    GATES: ClassVar[tuple[str, ...]] = ("h",)
    RECURRENT_MATRIX = "w_hh"
    UNIT_WEIGHTS = ("w_ih", "w_hh", "b", "tau_log")

    tau: float | tuple[float, ...] = 100.0
    dt: float = 20.0
    noise: float = 0.0
    _: dataclasses.KW_ONLY
    form: str = "rate"
    learn_tau: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.positive("dt", self.dt)
        for tau in self.taus:
            _check.number("tau", tau, f"numbers of at least dt = {self.dt}", lambda t: t >= self.dt)
        if len(self.taus) not in (1, self.hidden_size):
            expected = f"one number, or one for each of {self.hidden_size} units"
            raise ValueError(f"tau: expected {expected}, got {len(self.taus)}")
        _check.nonnegative("noise", self.noise)
        _check.choice("form", self.form, ("rate", "current"))
        _check.flag("learn_tau", self.learn_tau)

    @property
    def taus(self) -> tuple[float, ...]:
        """The time constants: one, or one for each unit."""
        return self.tau if isinstance(self.tau, tuple) else (self.tau,)

    def init(self, key: jax.Array, input_size: int) -> CTRNNParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        w_ih, w_hh, k_bias = self._matrices(key, input_size)
        logs = jnp.log(jnp.broadcast_to(jnp.asarray(self.tau), (self.hidden_size,)))
        tau_log = logs.astype(self.param_dtype) if self.learn_tau else None
        return CTRNNParams(w_ih, w_hh, self._bias(k_bias), tau_log)

    def project(self, params: CTRNNParams, x: jax.Array) -> jax.Array:
        """Compute W x + b. x: float[*B, D]. Returns float[*B, H]."""
        return affine(x, params.w_ih, params.b, self.compute_dtype(x))

    def mix(self, params: CTRNNParams, carry: jax.Array) -> tuple[jax.Array, ...]:
        """Compute U times the rates in the dtype of the carry; and a, unless it is one number."""
        rates = self.act(carry) if self.form == "current" else carry
        product = affine(rates, params.w_hh, None, carry.dtype)
        share = self.share(params, carry.dtype)
        if share is None:
            return (product,)
        return product, jnp.broadcast_to(as_rows(share, carry), carry.shape)

    def gate(self, carry: jax.Array, drive: jax.Array, mixed: tuple[jax.Array, ...]) -> jax.Array:
        """Compute the next carry, elementwise."""
        product, *shares = mixed
        a = shares[0] if shares else self.dt / self.taus[0]
        new = drive + product
        return (1 - a) * carry + a * (self.act(new) if self.form == "rate" else new)

    def share(self, params: CTRNNParams, dtype: jnp.dtype) -> jax.Array | None:
        """Return a = dt / tau for each unit, [H]; None where it is one number."""
        if params.tau_log is not None:
            return jnp.minimum(self.dt * jnp.exp(-params.tau_log.astype(dtype)), 1)
        return self.dt / jnp.array(self.taus, dtype) if len(self.taus) > 1 else None

    def read(self, params: CTRNNParams, carry: jax.Array, drive: jax.Array) -> jax.Array:
        """Return the rates in the dtype of computation."""
        rates = self.act(carry) if self.form == "current" else carry
        return super().read(params, rates, drive)

    def noisy(
        self, params: CTRNNParams, xs: jax.Array, key: jax.Array
    ) -> tuple[Cell, CTRNNParams, Inputs]:
        """Draw the noise of all steps, as an input beside xs."""
        if not self.noise:
            return self, params, xs
        dtype = wide(xs.dtype)
        normal = jax.random.normal(key, (*xs.shape[:-1], self.hidden_size), dtype)
        share = self.share(params, dtype)
        share = self.dt / self.taus[0] if share is None else as_rows(share, normal)
        noise = self.noise * jnp.sqrt(2 / share) * normal
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return _NoisyCTRNN(**own), params, (xs, noise)


class _NoisyCTRNN(CTRNN):
    """A `CTRNN` that also reads the noise of its units: x [*B, D] and noise [*B, H]."""

    def init_carry(self, x: Inputs, params: CTRNNParams | None = None) -> jax.Array:
        return super().init_carry(x[0])

    def project(self, params: CTRNNParams, x: Inputs) -> jax.Array:
        drive = super().project(params, x[0])
        return drive + x[1].astype(drive.dtype)
