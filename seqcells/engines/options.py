"""Options of the compiler, which only the outermost `jax.jit` takes."""

from __future__ import annotations

GRAPHED = (  # kinds of work that become nodes of a CUDA graph
    *("FUSION", "CUBLAS", "CUBLASLT", "CUDNN", "CUSTOM_CALL", "CONDITIONAL", "WHILE"),
    "DYNAMIC_SLICE_FUSION",
)


def gpu_compiler_options() -> dict[str, str | int]:
    """Return options under which a GPU runs a jitted function, its loops too, as one CUDA graph.

    By default the host launches each turn of a loop. These are for the outermost `jax.jit`, which
    is the user's: `jax.jit(train_step, compiler_options=sc.gpu_compiler_options())`. Compiled for
    an H200 by jax 0.10.2, the forward pass and the gradient of an `unroll` are one graph each; what
    that is worth no device has measured yet. Other platforms take no notice.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> double = jax.jit(lambda x: 2 * x, compiler_options=sc.gpu_compiler_options())
    >>> float(double(jnp.float32(2)))
    4.0
    """
    return {
        "xla_gpu_enable_command_buffer": ",".join(GRAPHED),
        "xla_gpu_graph_min_graph_size": 1,
    }
