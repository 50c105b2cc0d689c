"""The residual block of today's recurrent models."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer, Start, Time, output_shapes
from seqcells._model import Model, one_input
from seqcells._static import exported
from seqcells._types import Carry, Params
from seqcells.layers._parts import split
from seqcells.layers.dense import Dense, DenseParams, check_activation
from seqcells.layers.norm import KINDS, Norm, NormParams


@exported
class BlockParams(NamedTuple):
    """Parameters of `Block`; None where there is no such part."""

    norm: NormParams  # [D]
    cell: Params  # of the cell, or of the layer in its place
    gate: DenseParams | None  # [D, H], V
    out: DenseParams  # [H, D]
    mlp_norm: NormParams | None = None  # [D]
    mlp: Params = None  # of the layer `mlp`


@exported
class BlockCarry(NamedTuple):
    """Carry of `Block`."""

    cell: Carry  # of the cell, or of the layer in its place
    mlp: Carry  # of the layer `mlp`; () without one


@dataclasses.dataclass(frozen=True)
class Block(Layer):
    """A residual block: normalise, run a cell, map back and add; then the same for a perceptron.

    For D inputs and a cell with H outputs::

        y_t = x_t + W_o (cell(norm(x))_t * act(V norm(x_t) + c)) + b_o     the factor if `gate`
        z_t = y_t + mlp(norm(y_t))                                         if `mlp`

    What a paper puts before the cell is part of the cell's place, which takes any layer, so these
    are the blocks of

    - Griffin and Hawk (De et al. 2024, arXiv 2402.19427, section 2), with RG-LRU for the cell::

          Block(Stack((Dense(R), CausalConv(4), cell)), mlp=GLU(3 * D, "gelu"), gate="gelu")

    - Mamba (Gu & Dao 2023, arXiv 2312.00752, section 3.4), with the selective state space for the
      cell; its own code has biases in the convolution alone, and an eps of 1e-5 in the norm::

          Block(Stack((Dense(2 * D, bias="none"), CausalConv(4, "silu"), cell)), gate="silu",
                bias="none")

    - xLSTM (Beck et al. 2024, arXiv 2405.04517, appendix A.4) around the mLSTM, with a mixer of
      several branches: see `seqcells.models.xlstm`.

    Args:
        cell: a cell or a layer, with any number of outputs.
        norm: "rms" or "layer", of what the cell and the perceptron read; or a `Norm` with its own
            settings.
        mlp: a layer with as many outputs as inputs, such as `MLP` or `GLU`; or None.
        gate: activation of a gate for the cell's outputs: "gelu", "gelu_exact", "silu", "sigmoid",
            "tanh", "relu" or "identity"; or None for no gate.
        bias: "single" (c and b_o) or "none".
        dtype: dtype of the norms, of the gate and of the map back; that of the input if None.
        param_dtype: dtype of their parameters. A `Norm` has its own two.

    Raises:
        ValueError: on an unknown norm, gate or bias, and in `init` on an `mlp` with another number
            of outputs.
        TypeError: on an argument of the wrong type.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> block = sc.Block(sc.GRU(16), mlp=sc.GLU(8, "gelu"))
    >>> net = sc.Stack((sc.Dense(4), block, block, sc.Norm("rms")))
    >>> params = net.init(jax.random.key(0), input_size=2)
    >>> carry, ys = sc.unroll(net, params, jnp.ones((5, 3, 2)))
    >>> ys.shape
    (5, 3, 4)
    """

    cell: Model
    norm: str | Norm = "rms"
    mlp: Layer | None = None
    gate: str | None = None
    _: dataclasses.KW_ONLY
    bias: str = "single"
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        _check.settle_dtypes(self)
        _check.instance("cell", self.cell, (Cell, Layer), "GRU(64)")
        if not isinstance(self.norm, Norm):
            _check.choice("norm", self.norm, KINDS)
        if self.mlp is not None:
            _check.instance("mlp", self.mlp, Layer, "GLU(64)")
        if self.gate is not None:
            check_activation(self.gate, "gate")
        _check.choice("bias", self.bias, ("single", "none"))

    @property
    def _norm(self) -> Norm:
        if isinstance(self.norm, Norm):
            return self.norm
        return Norm(self.norm, dtype=self.dtype, param_dtype=self.param_dtype)

    def _dense(self, size: int, activation: str | None = None) -> Dense:
        options = {"bias": self.bias, "dtype": self.dtype, "param_dtype": self.param_dtype}
        return Dense(size, activation or "identity", **options)

    def init(self, key: jax.Array, input_size: int) -> BlockParams:
        """Make the parameters of all parts for inputs with `input_size` features."""
        _check.key("key", key)
        k_cell, k_gate, k_out, k_mlp = jax.random.split(key, 4)
        norms = [self._norm.init(key, input_size) for _ in range(2)]
        cell, seen = self.cell.init(k_cell, input_size), self._seen(self.zero_input(input_size))
        size = _outputs("cell", self.cell, seen, cell)
        gate = None if self.gate is None else self._dense(size).init(k_gate, input_size)
        params = BlockParams(norms[0], cell, gate, self._dense(input_size).init(k_out, size))
        if self.mlp is None:
            return params
        mlp = self.mlp.init(k_mlp, input_size)
        _check_sum(self.mlp, seen, mlp)
        return params._replace(mlp_norm=norms[1], mlp=mlp)

    def init_carry(self, x: jax.Array, params: BlockParams | None = None) -> BlockCarry:
        """Make the first carries of the cell and of the perceptron."""
        seen = self._seen(one_input(self, x))
        own = None if params is None else self._own(params)
        cell = self.cell.resolve(seen).init_carry(seen, None if own is None else own.cell)
        if self.mlp is None:
            return BlockCarry(cell, ())
        mlp = self.mlp.resolve(seen).init_carry(seen, None if own is None else own.mlp)
        return BlockCarry(cell, mlp)

    def check_params(self, params: BlockParams, input_size: int) -> None:
        """Raise a ValueError unless `params` fit all parts."""
        own, seen = self._own(params), self._seen(self.zero_input(input_size))
        for name, part in (("gate", self.gate), ("mlp_norm", self.mlp), ("mlp", self.mlp)):
            if part is None and getattr(own, name) is not None:
                got = _check.describe(getattr(own, name))
                raise ValueError(f"params.{name}: expected None for {self}, got {got}")
        self._norm.check_params(own.norm, input_size)
        self.cell.check_params(own.cell, self.cell.input_size(seen))
        size = _outputs("cell", self.cell, seen, own.cell)
        if self.gate is not None:
            self._dense(size).check_params(own.gate, input_size)
        self._dense(input_size).check_params(own.out, size)
        if self.mlp is not None:
            self._norm.check_params(own.mlp_norm, input_size)
            self.mlp.check_params(own.mlp, self.mlp.input_size(seen))
            _check_sum(self.mlp, seen, own.mlp)

    def run(
        self, params: BlockParams, xs: jax.Array, start: Start, time: Time, key: jax.Array | None
    ) -> tuple[BlockCarry, jax.Array]:
        """Run both halves of the block."""
        own, xs = self._own(params), time.silence(xs)
        k_cell, k_mlp = split(key, 2)
        seen = self._norm.apply(own.norm, xs, None)
        begin = Start(*(carry.cell for carry in start))
        cell, ys = time.run(self.cell, own.cell, seen, begin, k_cell)
        if self.gate is not None and own.gate is not None:
            gate = self._dense(ys.shape[-1], self.gate).apply(own.gate, seen, None)
            ys = ys * gate.astype(ys.dtype)
        ys = time.silence(self._dense(xs.shape[-1]).apply(own.out, ys, None))
        ys += xs.astype(ys.dtype)
        if self.mlp is None or own.mlp_norm is None:
            return BlockCarry(cell, ()), ys
        seen = self._norm.apply(own.mlp_norm, ys, None)
        begin = Start(*(carry.mlp for carry in start))
        mlp, more = time.run(self.mlp, own.mlp, seen, begin, k_mlp)
        return BlockCarry(cell, mlp), ys + more.astype(ys.dtype)

    def _own(self, params: BlockParams) -> BlockParams:
        if not isinstance(params, BlockParams):
            raise ValueError(
                f"params: expected BlockParams for {self}, got {_check.describe(params)}"
            )
        return params

    def _seen(self, x: jax.Array) -> jax.Array:
        """Return zeros as the cell and the perceptron see them, for a step's input x."""
        return x if self.dtype is None else x.astype(self.dtype)


def _check_sum(mlp: Model, seen: jax.Array, own: Params) -> None:
    """Raise unless a part has as many outputs as inputs."""
    size = _outputs("mlp", mlp, seen, own)
    if size != seen.shape[-1]:
        got = f"{size} outputs for {seen.shape[-1]} inputs: {mlp}"
        raise ValueError(f"mlp: expected as many outputs as inputs, got {got}")


def _outputs(name: str, model: Model, seen: jax.Array, own: Params) -> int:
    """Return how many outputs a part has, or raise."""
    y = output_shapes(model, seen, own)
    if getattr(y, "ndim", 0) != seen.ndim:
        raise ValueError(f"{name}: expected outputs [*B, H], got {_check.describe(y)} of {model}")
    return y.shape[-1]
