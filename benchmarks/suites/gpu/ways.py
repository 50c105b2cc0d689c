"""The ways to run a GRU on a GPU: in JAX, by cuDNN, and the products alone."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqcells as sc
from benchmarks.harness import naive
from benchmarks.harness.contestants import split_nnx
from benchmarks.harness.problem import GATES, Params, Shape, draw_params
from benchmarks.harness.timing import Call
from seqcells import interop

Forward = Callable[[Params, jax.Array], jax.Array]  # (params, xs) -> ys

NNX, CUDNN, PRODUCTS = "flax.nnx.RNN", "torch, cuDNN", "products alone"
KERNELS = {
    "bfloat16": (sc.PallasTriton("bfloat16"), sc.CUDACluster("bfloat16")),
    "float32": (sc.PallasTriton("tf32"), sc.PallasTriton("tf32x3")),
}


class Way(NamedTuple):
    """A way to run a GRU in JAX."""

    forward: Forward
    params: Params
    options: dict[str, Any] | None = None  # compiler options
    ours: bool = False  # compare its gradient by w_hh too; other ways sum it in bfloat16

    def compile(self, xs: jax.Array, train: bool) -> Call:
        """Compile the forward pass, or the value of `graded` with its gradient."""
        f = graded(self.forward) if train else self.forward
        compiled = jax.jit(f, compiler_options=self.options).lower(self.params, xs).compile()
        return lambda: jax.block_until_ready(compiled(self.params, xs))


def ways(dtype: str, shape: Shape, interpret: bool = False) -> dict[str, Way]:
    """Return the ways in JAX by name; a way that cannot run the case raises when compiled.

    Args:
        dtype: the dtype of inputs and weights.
        shape: the sizes.
        interpret: whether kernels run as plain operations, for a machine without a GPU.
    """
    cell = sc.GRU(shape.H, bias="single")
    params = jax.tree.map(lambda a: a.astype(dtype), draw_params(cell, shape.D))

    def unrolled(engine: sc.Engine, options: dict[str, Any] | None = None) -> Way:
        run = functools.partial(sc.unroll, cell, engine=engine)
        return Way(lambda params, xs: run(params, xs)[1], params, options, ours=True)

    lean = sc.Deferred(keep=(), project_ahead=True, vmap_sequentially=False, unroll=8)
    kernels = [dataclasses.replace(kernel, interpret=interpret) for kernel in KERNELS[dtype]]
    return {
        NNX: _nnx(cell, params, shape, dtype),
        "scan by hand": Way(by_hand, params),
        "lean scan": unrolled(lean),
        "lean scan, one graph": unrolled(lean, sc.gpu_compiler_options()),
    } | {f"{type(k).__name__} {k.precision}": unrolled(k) for k in kernels}


def _nnx(cell: sc.GRU, params: sc.GRUParams, shape: Shape, dtype: str) -> Way:
    """Return Flax's RNN; in bfloat16 it needs an explicit dtype and a carry of that dtype."""
    from flax import nnx

    net = nnx.RNN(nnx.GRUCell(shape.D, shape.H, dtype=dtype, rngs=nnx.Rngs(0)), time_major=True)
    split = split_nnx(net, cell, params)

    def forward(params: Params, xs: jax.Array) -> jax.Array:
        zeros = jnp.zeros((xs.shape[1], shape.H), dtype)
        return split.forward(params, xs, initial_carry=zeros)

    return Way(forward, split.params)


def by_hand(params: sc.GRUParams, xs: jax.Array) -> jax.Array:
    """Run the scan that a user writes by hand."""
    zeros = jnp.zeros((xs.shape[1], params.w_hh.shape[0]), xs.dtype)
    assert params.b_ih is not None
    both = params._replace(b_hh=jnp.zeros_like(params.b_ih))
    return jax.lax.scan(functools.partial(naive.gru, naive.rows(both)), zeros, xs)[1]


def graded(forward: Forward) -> Callable[[Params, jax.Array], tuple[jax.Array, tuple]]:
    """Return (params, xs) -> the value of mean(ys**2), and its gradient by both."""

    def loss(params: Params, xs: jax.Array) -> jax.Array:
        ys = forward(params, xs)
        return jnp.mean(jnp.square(ys.astype(jnp.promote_types(ys.dtype, jnp.float32))))

    return jax.value_and_grad(loss, (0, 1))


def products(dtype: str, shape: Shape) -> Call:
    """Return the multiplications of the forward pass alone, as two products."""
    rows, width = shape.T * shape.B, GATES["GRU"] * shape.H
    pairs = [
        (jnp.ones((rows, size), dtype), jnp.ones((size, width), dtype))
        for size in (shape.D, shape.H)
    ]
    compiled = jax.jit(lambda pairs: [a @ b for a, b in pairs]).lower(pairs).compile()
    return lambda: jax.block_until_ready(compiled(pairs))


def has_cudnn() -> bool:
    """Return whether PyTorch is installed and has a GPU."""
    try:
        return importlib.import_module("torch").cuda.is_available()
    except (ImportError, OSError):  # OSError: one of its libraries is missing
        return False


def cudnn(dtype: str, shape: Shape, xs: jax.Array, train: bool) -> Call:
    """Return PyTorch's GRU, which calls cuDNN; its result has the form of `graded`."""
    torch = importlib.import_module("torch")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    cell = sc.GRU(shape.H, bias="single")
    arrays = interop.torch.dump(sc.Recurrent(cell), draw_params(cell, shape.D))
    net = torch.nn.GRU(shape.D, shape.H)
    net.load_state_dict({name: torch.tensor(a) for name, a in arrays.items()})
    net = net.to("cuda", getattr(torch, dtype))
    net.flatten_parameters()
    inputs = torch.tensor(np.asarray(xs.astype("float32"))).to("cuda", getattr(torch, dtype))
    inputs.requires_grad_(train)

    def call():
        if train:
            loss = net(inputs)[0].float().square().mean()
            by_xs, *by_params = torch.autograd.grad(loss, [inputs, *net.parameters()])
            result = loss, (by_params, by_xs)
        else:
            with torch.inference_mode():
                result = net(inputs)[0]
        torch.cuda.synchronize()
        return result

    return call
