"""GRU-D: a GRU for irregular series with missing values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._linear import affine, gates
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells._types import Inputs, Shape
from seqcells.cells._dense import ActivatedCell, Gates, MatrixCell


@exported
class GRUDInputs(NamedTuple):
    """What `GRUD` reads at a step; over time [T, *B, ...]."""

    values: jax.Array  # float[*B, D]; anything where they are not observed, NaN too
    observed: jax.Array  # bool[*B, D], or float 0 and 1
    elapsed: jax.Array  # float[*B, 1], time since the step that was read before


Drive = tuple[GRUDInputs, Gates]  # what was read, and V m + b, [*B, H] a gate
GATE_ACTIVATIONS = {
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": lambda a: jnp.clip(0.2 * a + 0.5, 0, 1),  # Keras's, before Keras 3
}


@exported
class GRUDParams(NamedTuple):
    """Parameters of `GRUD`; gates in the order r|z|n along the last axis."""

    w_ih: jax.Array  # [D, 3H], W_r|W_z|W_n
    w_mh: jax.Array  # [D, 3H], V_r|V_z|V_n, of the flags
    w_hh: jax.Array  # [H, 3H], U_r|U_z|U_n
    b: jax.Array | None  # [3H], b_r|b_z|b_n; None if bias="none"
    w_dx: jax.Array  # [D], by which a value decays a unit of time
    c_dx: jax.Array  # [D]
    w_dh: jax.Array  # [D, H], by which h decays a unit of time
    c_dh: jax.Array  # [H]


@exported
class GRUDCarry(NamedTuple):
    """The memory of `GRUD`."""

    h: jax.Array  # [*B, H], also the output
    last: jax.Array  # [*B, D], the value last observed of each variable; 0 before the first
    since: jax.Array  # [*B, D], time since then, or since the first step
    begun: jax.Array  # [*B, 1], above 0 after the first step of a sequence


@dataclasses.dataclass(frozen=True, repr=False)
class GRUD(ActivatedCell, MatrixCell):
    """Gated recurrent unit with decay (Che et al. 2018), for missing values at irregular times.

    A value x that was not observed (m_t = 0) decays from the one last observed to 0, the mean of
    standardised inputs; h decays too. z is the fraction that is WRITTEN, as in the paper::

        delta_t = time since each variable was last observed, or since the first step
        x_t  = m_t * x_t + (1 - m_t) * exp(-relu(w_x * delta_t + c_x)) * last observed x
        h'   = exp(-relu(W_h delta_t + c_h)) * h_{t-1}
        r_t  = sigmoid(W_r x_t + U_r h' + V_r m_t + b_r)
        z_t  = sigmoid(W_z x_t + U_z h' + V_z m_t + b_z)
        n_t  = tanh(W_n x_t + U_n (r_t * h') + V_n m_t + b_n)
        h_t  = (1 - z_t) * h' + z_t * n_t

    It reads `GRUDInputs(values, observed, elapsed)`; `init` takes D. `elapsed` is not read at the
    first step of a sequence, also after a reset; padding is no step. With `reverse` it is the time
    to the step after, so in a `Bidirectional` it fits both directions only where steps are equally
    far apart. Standardise values, and give times a unit in which steps are near 1. What stands at
    unobserved places, NaN too, touches neither values nor gradients.

    The authors' code (github.com/PeterChe1990/GRU-D) keeps the h that was not decayed in the last
    line (`decayed_mix=False`), multiplies V by 1 - m_t, has z the other way round, and by default
    activation="sigmoid", gate_activation="hard_sigmoid" and decays of zero.

    Args:
        hidden_size: H, at least 1.
        activation: that of n: "tanh", "relu", "sigmoid" or "identity".
        gate_activation: "sigmoid", or "hard_sigmoid", which is 0.2 a + 0.5 cut to [0, 1].
        decayed_mix: whether h_t keeps a share of the decayed h'; if False, of h_{t-1}.
        bias: "single" (b) or "none"; the decays have their c in any case.
        w_ih_init: initialiser of w_ih and w_mh, called on float[D, H] a gate; or a tuple (r, z, n).
        w_hh_init: initialiser of w_hh, called on float[H, H] a gate; or a tuple (r, z, n).
        b_init: initialiser of b, called on float[H] a gate; or a tuple (r, z, n).
        decay_init: initialiser of w_dx float[D] and w_dh float[D, H]. Where the argument of relu
            is at most 0, nothing decays and there is no gradient.
        c_init: initialiser of c_dx float[D] and c_dh float[H].
        dtype: dtype of computation; None means that of the values. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown activation or bias, or inputs whose shapes differ.
        TypeError: on an argument of the wrong type, or inputs that are no `GRUDInputs`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> values = jnp.array([[0.3, jnp.nan], [jnp.nan, jnp.nan], [0.1, -1.2]])  # [T, D]
    >>> xs = sc.GRUDInputs(values, ~jnp.isnan(values), jnp.array([[0.0], [0.5], [2.5]]))
    >>> cell = sc.GRUD(4)
    >>> carry, ys = sc.unroll(cell, cell.init(jax.random.key(0), input_size=2), xs)
    >>> ys.shape, carry.since.tolist()
    ((3, 4), [0.0, 0.0])
    """

    GATES: ClassVar[tuple[str, ...]] = ("r", "z", "n")
    CARRY: ClassVar[type] = GRUDCarry

    _: dataclasses.KW_ONLY
    gate_activation: str = "sigmoid"
    decayed_mix: bool = True
    decay_init: initializers.Initializer = initializers.Uniform(0.0, 0.1)
    c_init: initializers.Initializer = initializers.zeros

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("gate_activation", self.gate_activation, GATE_ACTIVATIONS)
        _check.flag("decayed_mix", self.decayed_mix)

    @property
    def x_dtypes(self) -> tuple[type, ...]:
        """Floating, and bool for what is observed."""
        return jnp.floating, jnp.bool_

    def input_size(self, x: Inputs) -> int:
        """Return D, the number of variables."""
        return jnp.shape(self._inputs(x).values)[-1]

    def zero_input(self, input_size: int) -> GRUDInputs:
        """Return one step's input without batch axes, of which nothing is observed."""
        size = _check.size("input_size", input_size, least=0)
        return GRUDInputs(jnp.zeros(size), jnp.zeros(size, bool), jnp.zeros(1))

    def resolve(self, x: Inputs) -> Self:
        """Return the cell with a `dtype`: its own, or else that of the values."""
        return super().resolve(self._inputs(x).values)

    def _inputs(self, x: object) -> GRUDInputs:
        """Return the inputs of any leading axes, or raise."""
        if not isinstance(x, GRUDInputs):
            wanted = "GRUDInputs(values, observed, elapsed)"
            raise TypeError(f"xs: expected {wanted} for {self}, got {_check.describe(x)}")
        values, observed, elapsed = map(jnp.shape, x)
        if observed != values or elapsed != (*values[:-1], 1):
            wanted = "values and observed [*B, D] and elapsed [*B, 1], the time since the last step"
            raise ValueError(f"xs: expected {wanted}, got {_check.describe(x)}")
        return x

    def map_features(
        self, function: Callable[[jax.Array], jax.Array], xs: GRUDInputs
    ) -> GRUDInputs:
        """Apply a function to the values, and neither to flags nor to times."""
        return xs._replace(values=function(xs.values))

    def init(self, key: jax.Array, input_size: int) -> GRUDParams:
        """Make parameters in `param_dtype` for `input_size` variables."""
        w_ih, w_hh, k_rest = self._matrices(key, input_size)
        k_mh, k_b, *keys = jax.random.split(k_rest, 6)
        shapes = (input_size,), (input_size,), (input_size, self.hidden_size), (self.hidden_size,)
        inits = (self.decay_init, self.c_init, self.decay_init, self.c_init)
        rows = zip(inits, keys, shapes, strict=True)
        decays = (init(k, shape, self.param_dtype) for init, k, shape in rows)
        w_mh = self._draw("w_ih_init", k_mh, (input_size, self.hidden_size))
        return GRUDParams(w_ih, w_mh, w_hh, self._bias(k_b), *decays)

    def _carry_shapes(self, input_size: int) -> tuple[Shape, ...]:
        return (self.hidden_size,), (input_size,), (input_size,), (1,)

    def project(self, params: GRUDParams, x: Inputs) -> Drive:
        """Compute V m + b, gate by gate, and values in the dtype of computation."""
        observed = x.observed.astype(x.values.dtype) > 0  # False for NaN
        dtype = self.compute_dtype(x.values)
        sums = gates(affine(observed.astype(dtype), params.w_mh, params.b, dtype), 3)
        return GRUDInputs(x.values.astype(dtype), observed, x.elapsed), sums

    def why_not_split(self) -> str:
        """Return why the cell cannot be split."""
        return "it has two products in sequence, that of the gates and U_n (r * h)"

    def recur(self, params: GRUDParams, carry: GRUDCarry, drive: Drive) -> GRUDCarry:
        """Compute h_t, and when and how each variable was last observed."""
        observed = drive[0].observed
        delta, x, h, (r, z, n) = self._parts(params, carry, drive)
        n = self.act(n + affine(r * h, params.w_hh[:, -self.hidden_size :], None, h.dtype))
        h = (1 - z) * (h if self.decayed_mix else carry.h) + z * n
        last, since = jnp.where(observed, x, carry.last), jnp.where(observed, 0, delta)
        return GRUDCarry(h, last, since, jnp.ones_like(carry.begun))

    def gates(
        self, params: GRUDParams, carry: GRUDCarry, drive: Drive, mixed: None = None
    ) -> dict[str, jax.Array]:
        """Compute r and z."""
        *_, (r, z, _) = self._parts(params, carry, drive)
        return {"r": r, "z": z}

    def _parts(
        self, params: GRUDParams, carry: GRUDCarry, drive: Drive
    ) -> tuple[jax.Array, jax.Array, jax.Array, Gates]:
        """Compute delta_t, x_t, h'; and r, z, and W x + V m + b of n; in the carry's dtype."""
        (values, observed, elapsed), sums = drive
        dtype, act = carry.h.dtype, GATE_ACTIVATIONS[self.gate_activation]
        delta = jnp.where(carry.begun > 0, carry.since + elapsed.astype(dtype), 0)
        w, c = (as_rows(a.astype(dtype), delta) for a in (params.w_dx, params.c_dx))
        kept = jnp.exp(-jax.nn.relu(w * delta + c)) * carry.last
        x = jnp.where(observed, values.astype(dtype), kept)
        h = jnp.exp(-jax.nn.relu(affine(delta, params.w_dh, params.c_dh, dtype))) * carry.h
        by_x = gates(affine(x, params.w_ih, None, dtype), 3)
        r, z, n = (a + b for a, b in zip(sums, by_x, strict=True))
        u_r, u_z = gates(affine(h, params.w_hh[:, : -self.hidden_size], None, dtype), 2)
        return delta, x, h, (act(r + u_r), act(z + u_z), n)
