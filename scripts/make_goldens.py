"""Run the real frameworks and keep what they compute, for `tests/test_interop.py`.

    pip install torch keras dm-haiku equinox flax onnx onnxruntime
    python scripts/make_goldens.py [NAME ...]

It writes tests/goldens/NAME.npz: for every case the framework's own arrays, an input, the outputs
and the final carries. Computed in float64, but for ONNX Runtime, which has float32 only.
Weights are multiples of 1/64, so that the files are small. Inputs are [T, B, D], outputs [T, B, H]
with zeros at padding; carries stand in the order (h, c), layer by layer, forward then backward.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np

T, B, D, H = 5, 2, 3, 4
LENGTHS = np.array([5, 3])
OUT = Path(__file__).parents[1] / "tests" / "goldens"


class Case(NamedTuple):
    """What one model was given, and what it computed."""

    arrays: dict[str, Any]  # its own weights, by its own names
    ys: Any  # [T, B, ...]
    carry: list[Any]  # [B, H] each
    lengths: Any = None


def draw(seed: int, *shape: int) -> np.ndarray:
    """Multiples of 1/64 on [-1, 1]."""
    return np.random.default_rng(seed).integers(-64, 65, shape) / 64


XS = draw(0, T, B, D)
VALID = np.arange(T)[:, None, None] < LENGTHS[:, None]  # [T, B, 1]


def fill(tree: Any) -> Any:
    """The same tree with weights drawn anew, none of them zero alike."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten([jnp.asarray(draw(i + 1, *a.shape)) for i, a in enumerate(leaves)])


def names(tree: Any, separator: str = "/") -> dict[str, np.ndarray]:
    """A tree as one dict, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator=separator): np.asarray(leaf)
        for path, leaf in leaves
    }


def torch_cases() -> dict[str, Case]:
    """nn.GRU, nn.LSTM, nn.RNN and their cells."""
    import torch

    def run(cls: Any, lengths: Any = None, **options: Any) -> Case:
        net = getattr(torch.nn, cls)(D, H, dtype=torch.float64, **options)
        arrays = {k: draw(i, *v.shape) for i, (k, v) in enumerate(net.state_dict().items())}
        net.load_state_dict({k: torch.tensor(v) for k, v in arrays.items()})
        xs: Any = torch.tensor(XS)
        with torch.no_grad():
            if "Cell" in cls:
                ys, carry = cell(net, xs)
            else:
                pack = torch.nn.utils.rnn.pack_padded_sequence
                xs = xs if lengths is None else pack(xs, lengths, enforce_sorted=False)
                ys, carry = net(xs)
        if lengths is not None:
            ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys)
        both = carry if isinstance(carry, tuple) else (carry,)
        flat = [a for pair in zip(*both, strict=True) for a in pair] if "Cell" not in cls else both
        return Case(arrays, ys, list(flat), lengths)

    def cell(net: Any, xs: Any) -> Any:
        ys, carry = [], None
        for x in xs:
            carry = net(x, carry)
            ys.append(carry[0] if isinstance(carry, tuple) else carry)
        return torch.stack(ys), carry

    cases = {}
    for cls in ("GRU", "LSTM", "RNN"):
        name = cls.lower()
        cases[name] = run(cls)
        cases[f"{name}-nobias"] = run(cls, bias=False)
        cases[f"{name}-cell"] = run(f"{cls}Cell")
        both = {"num_layers": 2, "bidirectional": True}
        cases[f"{name}-deep"] = run(cls, **both)
        cases[f"{name}-deep-nobias"] = run(cls, bias=False, **both)
        cases[f"{name}-deep-lengths"] = run(cls, LENGTHS, **both)
    cases["rnn-relu"] = run("RNN", nonlinearity="relu")
    return cases


def save(name: str, cases: dict[str, Case]) -> None:
    """Write one framework's cases."""
    rows: dict[str, np.ndarray] = {}
    for case, made in cases.items():
        rows |= {f"{case}|w|{k}": np.asarray(a) for k, a in made.arrays.items()}
        rows |= {f"{case}|carry|{i}": np.asarray(a) for i, a in enumerate(made.carry)}
        rows[f"{case}|ys"] = np.asarray(made.ys)
        if made.lengths is not None:
            rows[f"{case}|lengths"] = made.lengths
    np.savez_compressed(OUT / f"{name}.npz", xs=XS, **rows)
    print(f"{name}: {len(cases)} cases, {(OUT / f'{name}.npz').stat().st_size} bytes")


FRAMEWORKS = {
    "torch": (torch_cases, ("torch",)),
}


def main() -> None:
    """Make the goldens of the frameworks that are named, or of all."""
    jax.config.update("jax_enable_x64", True)
    OUT.mkdir(exist_ok=True)
    versions = OUT / "versions.json"
    known = json.loads(versions.read_text()) if versions.exists() else {}
    for name in sys.argv[1:] or FRAMEWORKS:
        make, packages = FRAMEWORKS[name]
        save(name, make())
        known |= {package: importlib.metadata.version(package) for package in packages}
    versions.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
