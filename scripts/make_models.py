"""Run the authors' code of the models and save its numbers, for `tests/models`.

    pip install torch flax einops dacite typeguard==2.13.3
    pip install --no-deps recurrentgemma==1.0.1 xlstm==2.0.6 mamba-ssm==2.2.2
    git clone https://github.com/lindermanlab/S5; git clone https://github.com/NicolasZucchet/minimal-LRU
    PYTHONPATH=S5:minimal-LRU python scripts/make_models.py

`tests/goldens/models.json` gets the number of parameters of every named size; nothing is allocated
for it. `tests/goldens/models.npz` gets small models, as `MODEL/NAME`: weights by the code's own
names, multiples of 1/64; the inputs `xs`, batch first; and the outputs `ys`. All are float64: where
the code casts to float32 by `.float()`, this casts to float64. Modules that the code imports and
does not need on a CPU are replaced by empty ones.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import json
import math
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from seqcells.models import SIZES

OUT = Path(__file__).parents[1] / "tests" / "goldens"
B, T, VOCAB = 2, 6, 8
UNUSED = {"triton", "selective_scan_cuda", "transformers", "huggingface_hub", "mlstm_kernels"}
UNUSED |= {"sentencepiece"}
Tensor = Any  # an array of a framework
Net = Any  # a module of a framework


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name == "Config":
            return lambda *args, **kwargs: types.SimpleNamespace(num_warps=1)
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        return "99.0.0" if name == "__version__" else mock.MagicMock()


class _Unused(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for each name in `UNUSED`."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> Any:
        if fullname.partition(".")[0] in UNUSED:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def draw(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw multiples of 1/64 from [-1, 1]."""
    return np.random.default_rng(seed).integers(-64, 65, shape) / 64


def symbols() -> np.ndarray:
    """Draw int[B, T]."""
    return np.random.default_rng(0).integers(0, VOCAB, (B, T))


def run_torch(net: Net) -> dict[str, np.ndarray]:
    """Fill a module of PyTorch that reads symbols, and run it."""
    import torch

    net = net.double().eval()
    names = {name: array.shape for name, array in net.named_parameters()}  # shared ones once
    arrays = {name: draw(i, tuple(shape)) for i, (name, shape) in enumerate(names.items())}
    with torch.no_grad(), mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        for name, array in net.named_parameters():
            array.copy_(torch.tensor(arrays[name]))
        ys: Tensor = net(torch.tensor(symbols()))
    return arrays | {"xs": symbols(), "ys": np.asarray(getattr(ys, "logits", ys))}


def run_flax(net: Net, *xs: Tensor) -> dict[str, np.ndarray]:
    """Fill a module of Flax, and run it on a row of the batch after another."""
    shapes = _flax_shapes(net, *(x[0] for x in xs))
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(shapes)
    ]
    leaves, structure = jax.tree.flatten(shapes)
    arrays = [draw(i, leaf.shape) for i, leaf in enumerate(leaves)]
    for path, array in zip(paths, arrays, strict=True):
        if path.endswith("Lambda_re"):
            array[:] = -np.abs(array) - 1 / 64  # so that it forgets
    params = {"params": structure.unflatten(map(jnp.asarray, arrays))}
    ys = [net.apply(params, *(x[i] for x in xs)) for i in range(B)]
    return dict(zip(paths, arrays, strict=True)) | {"xs": xs[0], "ys": np.stack(ys)}


def _flax_shapes(net: Net, *xs: Tensor) -> Any:
    return jax.eval_shape(lambda: net.init(jax.random.key(0), *xs))["params"]


def _count_flax(net: Net, *xs: Tensor) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_flax_shapes(net, *xs)))


def _count_torch(make: functools.partial[Net]) -> int:
    import torch

    with torch.device("meta"):
        return sum(array.numel() for array in make().parameters())


def mamba(vocab: int, layers: int, width: int, **options: Any) -> functools.partial[Net]:
    """Make state-spaces/mamba's language model."""
    from mamba_ssm.models import config_mamba, mixer_seq_simple
    from mamba_ssm.ops import selective_scan_interface as scan
    from mamba_ssm.ops.triton import layer_norm

    def rms_norm(*args: Tensor, residual_in_fp32: bool, **kwargs: Any) -> Tensor:
        return layer_norm.rms_norm_ref(*args, **kwargs)

    layer_norm.rms_norm_fn = rms_norm
    sys.modules["mamba_ssm.modules.mamba_simple"].selective_scan_fn = scan.selective_scan_ref
    config = config_mamba.MambaConfig(
        width, n_layer=layers, vocab_size=vocab, fused_add_norm=False, residual_in_fp32=False
    )
    config.ssm_cfg = options
    return functools.partial(mixer_seq_simple.MambaLMHeadModel, config)


def xlstm(
    vocab: int, layers: int, width: int, heads: int, slstm_at: tuple[int, ...]
) -> functools.partial[Net]:
    """Make NX-AI/xlstm's language model, with the settings of its README."""
    import xlstm as theirs
    from xlstm.blocks.mlstm import backends, cell

    def recurrent(queries: Tensor, keys: Tensor, values: Tensor, **gates: Tensor) -> Tensor:
        """The parallel form has another m, and eps is added to what is divided by exp(m)."""
        import torch

        size = queries.shape[-1]
        c = torch.zeros((*queries.shape[:2], size, size), dtype=queries.dtype)
        carry, ys = (c, c[..., :1], c[..., :1, :1]), []
        for t in range(T):
            parts = (a[:, :, t : t + 1].clone() for a in (queries, keys, values))
            own = (gates[f"{name}gate_preact"][:, :, t : t + 1] for name in "if")
            y, carry = backends.recurrent_step_stabilized_simple(*carry, *parts, *own)
            ys.append(y)
        return torch.cat(ys, dim=2)

    cell.parallel_stabilized_simple = recurrent
    slstm = theirs.sLSTMLayerConfig(backend="vanilla", num_heads=heads, dtype="float32")
    config = theirs.xLSTMLMModelConfig(
        mlstm_block=theirs.mLSTMBlockConfig(theirs.mLSTMLayerConfig(num_heads=heads)),
        slstm_block=theirs.sLSTMBlockConfig(slstm, theirs.FeedForwardConfig()),
        context_length=T,
        num_blocks=layers,
        embedding_dim=width,
        slstm_at=list(slstm_at),
        vocab_size=vocab,
    )
    return functools.partial(theirs.xLSTMLMModel, config)


def hawk(vocab: int, layers: int, width: int, rnn_width: int, heads: int) -> Net:
    """Make recurrentgemma's Griffin without attention."""
    from recurrentgemma import common
    from recurrentgemma.jax import griffin, scan

    scan.linear_scan = functools.partial(scan.linear_scan, acc_float_dtype=jnp.float64)
    config = common.GriffinConfig(
        vocab_size=vocab,
        width=width,
        mlp_expanded_width=3 * width,
        num_heads=heads,
        block_types=(common.TemporalBlockType.RECURRENT,) * layers,
        embeddings_scale_by_sqrt_dim=False,
        attention_window_size=T,
        logits_soft_cap=0.0,
        lru_width=rnn_width,
    )

    class Logits(griffin.Griffin):
        def __call__(self, tokens: Tensor, positions: Tensor) -> Tensor:
            rows = jnp.asarray(tokens)[None], jnp.asarray(positions)[None]
            return super().__call__(*rows, return_cache=False)[0][0]

    return Logits(config, gradient_checkpointing=False)


def s5(outputs: int, layers: int, width: int, state_size: int, blocks: int = 1) -> Net:
    """Make lindermanlab/S5's classifier, as its train.py does."""
    from jax.scipy.linalg import block_diag
    from s5 import seq_model, ssm, ssm_init

    half = state_size // blocks
    rates, _, _, vectors, _ = ssm_init.make_DPLR_HiPPO(2 * half)
    rates = (rates[:half] * jnp.ones((blocks, half))).ravel()
    vectors = vectors[:, :half]
    layer = ssm.init_S5SSM(
        H=width,
        P=state_size,
        Lambda_re_init=rates.real,
        Lambda_im_init=rates.imag,
        V=block_diag(*[vectors] * blocks),
        Vinv=block_diag(*[vectors.conj().T] * blocks),
        C_init="lecun_normal",
        discretization="zoh",
        dt_min=0.001,
        dt_max=0.1,
        conj_sym=True,
        clip_eigs=False,
        bidirectional=False,
    )
    return seq_model.ClassificationModel(
        layer, outputs, width, layers, False, "half_glu1", 0.0, prenorm=True, batchnorm=False
    )


def lru(outputs: int, layers: int, width: int, state_size: int, **ring: float) -> Net:
    """Make minimal-LRU's classifier."""
    from lru import model

    unit = functools.partial(model.LRU, d_hidden=state_size, d_model=width, **ring)
    return model.ClassificationModel(unit, outputs, width, layers, norm="layer", prenorm=True)


# Features of the inputs and classes of the tasks of which a size has its name.
TASKS = {"mnist": (1, 10), "speech35": (1, 35), "lra-cifar": (1, 10)}
TASKS |= {"scifar": (3, 10), "listops": (20, 10), "text": (135, 2)}


def counts() -> dict[str, dict[str, int]]:
    """Count the parameters of every named size."""

    def each(name: str, count: Any) -> dict[str, int]:
        sizes: Mapping[str, Any] = SIZES[name]
        return {size: count(size, **given) for size, given in sizes.items()}

    def classifier(make: Any) -> Any:
        def count(size: str, **given: Any) -> int:
            features, classes = TASKS[size]
            return _count_flax(make(classes, **given), jnp.zeros((T, features)))

        return count

    tokens, positions = jnp.zeros(T, int), jnp.arange(T)
    return {
        "hawk": each(
            "hawk", lambda size, **given: _count_flax(hawk(256_000, **given), tokens, positions)
        ),
        "mamba": each("mamba", lambda size, **given: _count_torch(mamba(50277, **given))),
        "xlstm": each("xlstm", lambda size, **given: _count_torch(xlstm(50304, **given))),
        "s5": each("s5", classifier(s5)),
        "lru": each("lru", classifier(lru)),
    }


def goldens() -> dict[str, dict[str, np.ndarray]]:
    """Run a small model of each kind."""
    floats, positions = draw(0, (B, T, 3)), np.array([[*range(T)], [*range(2), *range(T - 2)]])
    return {
        "hawk": run_flax(hawk(VOCAB, 2, 8, 12, 2), symbols(), positions) | {"positions": positions},
        "mamba": run_torch(mamba(VOCAB, 2, 8, d_state=4)()),
        "xlstm": run_torch(xlstm(VOCAB, 2, 32, 2, (1,))()),
        "s5": run_flax(s5(4, 2, 8, 5), floats),
        "lru": run_flax(lru(4, 2, 8, 5), floats),
    }


def main() -> None:
    """Write both files."""
    sys.meta_path.insert(0, _Unused())
    jax.config.update("jax_enable_x64", True)
    found = json.dumps(counts(), indent=2) + "\n"
    (OUT / "models.json").write_text(found, "utf-8")
    arrays = {f"{m}/{name}": a for m, case in goldens().items() for name, a in case.items()}
    np.savez_compressed(OUT / "models.npz", **arrays)


if __name__ == "__main__":
    main()
