"""Run the authors' own code of recurrent cells with resets and from given carries.

    pip install torch==2.13.0 einops==0.8.2 keras==3.15.1
    pip install --no-deps mlstm-kernels==2.0.6 fla-core==0.6.0
    python scripts/make_cell_goldens.py [SOURCE ...]

The script writes the cases of these sources, or of all, into tests/goldens/resets.npz, which
`tests.goldens.read` reads: one record a case, so that the file is small. A record has the inputs
and weights by the names and in the layout of the source, `initial_*` and `reset_*` for the carry
before the first step and after a reset, `resets` bool[T, B], `ys` and `final_*` for what the source
computed, and `grad_*`, the gradient of `sum(ys ** 2)`. Numbers that were drawn are multiples of
1/64; results are float64 unless the source casts to float32 itself.

Every source has three cases: `*_resets` from a given carry, with resets to the source's own start;
`*_reset_carry`, which starts and resets to a given carry; and `*_one`, a single step from a given
carry. A source runs one sequence at a time. Where it has no resets of its own, each piece between
two resets is a call of its own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import os
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch

Tensor = Any  # of torch
Module = Any  # a module of a source, which may lack types
Arrays = dict[str, np.ndarray]
Carry = Sequence[Tensor]

OUT = Path(__file__).parents[1] / "tests" / "goldens" / "resets.npz"


class Model(NamedTuple):
    """What a source computes, and the axes of its arrays."""

    # (inputs and weights, carry or None) -> (ys, the last carry), of one sequence
    run: Callable[[dict[str, Tensor], Carry | None], tuple[Tensor, Carry]]
    axes: dict[str, str]  # of the inputs and of ys, such as {"x": "BTD"}
    carry: dict[str, str]  # of the leaves of the carry
    dtype: type = np.float64


class Form(NamedTuple):
    """The lengths and flags of a case."""

    T: int
    B: int
    start: str | None  # the carry that is given: "initial", "reset" or None
    resets: Sequence[tuple[int, int]] = ()  # (t, row)


FORMS = {
    # A row that goes on, one with a reset, one with three
    "resets": Form(5, 3, "initial", [(2, 1), (0, 2), (3, 2), (4, 2)]),
    "reset_carry": Form(3, 2, "reset", [(1, 0), (0, 1), (2, 1)]),
    "one": Form(1, 1, "initial"),
}


def load(distribution: str, file: str, **stubs: Module) -> Module:
    """Import one file of an installed distribution, and nothing around it."""
    path = importlib.metadata.distribution(distribution).locate_file(file)
    spec = importlib.util.spec_from_file_location(Path(file).stem, str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(name: str, shape: Sequence[int], dtype: type) -> np.ndarray:
    """Draw multiples of 1/64 from [-1, 1], others for every name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return (rng.integers(-64, 65, shape) / 64).astype(dtype)


def unit(a: np.ndarray) -> np.ndarray:
    """Scale vectors to length 1."""
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def positive(a: np.ndarray) -> np.ndarray:
    """Move numbers from [-1, 1] into (0, 1)."""
    return a / 4 + 0.5


def cases(
    name: str,
    model: Model,
    shapes: Callable[..., dict[str, Sequence[int]]],
    sizes: Mapping[str, Sequence[int]],
    **adjust: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Arrays]:
    """Draw the arrays of the forms and run the model on them.

    `shapes(T, B, *sizes[form])` has the shapes of all arrays, those of the carry by its leaves.
    `adjust` changes arrays that were drawn.
    """
    made = {}
    for label, its_sizes in sizes.items():
        form, case = FORMS[label], f"{name}_{label}"
        arrays: Arrays = {}
        for key, shape in shapes(form.T, form.B, *its_sizes).items():
            stored = f"{form.start}_{key}" if key in model.carry else key
            array = draw(f"{case}/{stored}", shape, model.dtype)
            arrays[stored] = adjust.get(key, lambda a: a)(array)
        if form.resets:
            arrays["resets"] = np.zeros((form.T, form.B), bool)
            arrays["resets"][tuple(zip(*form.resets, strict=True))] = True
        made[case] = arrays | results(model, arrays, form)
    return made


def results(model: Model, arrays: Arrays, form: Form) -> Arrays:
    """Run a model piece by piece; return ys, the last carry and the gradients."""
    floats = {key: a for key, a in arrays.items() if a.dtype.kind == "f"}
    tensors = {key: torch.tensor(a, requires_grad=key in floats) for key, a in arrays.items()}
    inputs = {key: axes for key, axes in model.axes.items() if key != "ys"}
    weights = {key: a for key, a in tensors.items() if key not in inputs}

    def start(kind: str, row: int) -> Carry | None:
        given = {key: tensors.get(f"{kind}_{key}") for key in model.carry}
        if any(a is None for a in given.values()) or not given:
            return None
        return [a.narrow(model.carry[key].index("B"), row, 1) for key, a in given.items()]

    def piece(row: int, first: int, last: int) -> dict[str, Tensor]:
        parts = dict(weights)
        for key, axes in inputs.items():
            of_row = tensors[key].narrow(axes.index("B"), row, 1)
            parts[key] = of_row.narrow(axes.index("T"), first, last - first)
        return parts

    rows, lasts = [], []
    for row in range(form.B):
        resets = sorted(t for t, other in form.resets if other == row)
        bounds = [0, *(t for t in resets if t), form.T]
        carry = start("initial", row) if 0 not in resets else None
        parts = []
        for first, last in itertools.pairwise(bounds):
            carry = carry if carry and first not in resets else start("reset", row)
            ys, carry = model.run(piece(row, first, last), carry)
            parts.append(ys)
        rows.append(torch.cat(parts, model.axes["ys"].index("T")))
        lasts.append(carry)
    ys = torch.cat(rows, model.axes["ys"].index("B"))
    gradients = torch.autograd.grad(
        torch.sum(ys**2), [tensors[key] for key in floats], materialize_grads=True
    )
    made = {"ys": ys}
    for (key, axes), leaf in zip(model.carry.items(), zip(*lasts, strict=True), strict=True):
        made[f"final_{key}"] = torch.cat(leaf, axes.index("B"))
    made |= {f"grad_{key}": a for key, a in zip(floats, gradients, strict=True)}
    return {key: a.detach().numpy() for key, a in made.items()}


def mlstm_cases() -> dict[str, Arrays]:
    """Run mLSTM.

    q and k are [B, NH, T, K], v and ys [B, NH, T, V], i and f [B, NH, T] before their exponential
    and sigmoid. The carry is C [B, NH, K, V], n [B, NH, K] and m [B, NH, 1]; a fresh one is zero, m
    too. eps is 1e-6.
    """
    from mlstm_kernels.torch.recurrent.native_sequence import mlstm_recurrent_sequence__native_fw

    def run(a: dict[str, Tensor], carry: Carry | None) -> tuple[Tensor, Carry]:
        names = ("c_initial", "n_initial", "m_initial")
        given = dict(zip(names, carry, strict=True)) if carry else {}
        return mlstm_recurrent_sequence__native_fw(
            *(a[key] for key in "qkvif"),
            **given,
            return_last_states=True,
            dtype_state=torch.float64,
        )

    def shapes(T: int, B: int, NH: int, K: int, V: int) -> dict[str, Sequence[int]]:
        steps = (B, NH, T)
        inputs = {"q": (*steps, K), "k": (*steps, K), "v": (*steps, V), "i": steps, "f": steps}
        return inputs | {"C": (B, NH, K, V), "n": (B, NH, K), "m": (B, NH, 1)}

    axes = dict.fromkeys(("q", "k", "v", "ys"), "BHTD") | {"i": "BHT", "f": "BHT"}
    model = Model(run, axes, {"C": "BHKV", "n": "BHK", "m": "BH1"})
    sizes = {"resets": (2, 3, 5), "reset_carry": (1, 5, 3), "one": (1, 3, 1)}
    return cases("mlstm", model, shapes, sizes, i=lambda a: 2 * a, n=lambda a: 4 * a)


def gdn_cases() -> dict[str, Arrays]:
    """Run gated DeltaNet.

    q and k are [B, T, NH, K], v and ys [B, T, NH, V], beta and g, the logarithm of the decay, are
    [B, T, NH], the carry S [B, NH, K, V]. q and k were drawn with length 1.
    """
    source = load("fla-core", "fla/ops/gated_delta_rule/naive.py")

    def run(a: dict[str, Tensor], carry: Carry | None) -> tuple[Tensor, Carry]:
        ys, S = source.naive_recurrent_gated_delta_rule(
            *(a[key] for key in ("q", "k", "v", "beta", "g")),
            initial_state=carry and carry[0],
            output_final_state=True,
        )
        return ys, [S]

    def shapes(T: int, B: int, NH: int, K: int, V: int) -> dict[str, Sequence[int]]:
        steps = (B, T, NH)
        inputs = {"q": (*steps, K), "k": (*steps, K), "v": (*steps, V), "beta": steps, "g": steps}
        return inputs | {"S": (B, NH, K, V)}

    axes = dict.fromkeys(("q", "k", "v", "ys"), "BTHD") | {"beta": "BTH", "g": "BTH"}
    model = Model(run, axes, {"S": "BHKV"}, np.float32)
    sizes = {"resets": (2, 3, 5), "reset_carry": (1, 5, 3), "one": (1, 3, 1)}
    return cases(
        "gdn", model, shapes, sizes, q=unit, k=unit, beta=positive, g=lambda a: -positive(a)
    )


def deltanet_cases() -> dict[str, Arrays]:
    """Run DeltaNet.

    q and k are [B, NH, T, K], v and ys [B, NH, T, V], beta is [B, NH, T], the carry S
    [B, NH, K, V]. q and k were drawn with length 1.
    """
    source = load("fla-core", "fla/ops/delta_rule/naive.py")

    def run(a: dict[str, Tensor], carry: Carry | None) -> tuple[Tensor, Carry]:
        given = carry and carry[0]
        ys, S = source.delta_rule_recurrence(
            *(a[key] for key in ("q", "k", "v", "beta")), initial_state=given
        )
        return ys, [S]

    def shapes(T: int, B: int, NH: int, K: int, V: int) -> dict[str, Sequence[int]]:
        steps = (B, NH, T)
        inputs = {"q": (*steps, K), "k": (*steps, K), "v": (*steps, V), "beta": steps}
        return inputs | {"S": (B, NH, K, V)}

    axes = dict.fromkeys(("q", "k", "v", "ys"), "BHTD") | {"beta": "BHT"}
    model = Model(run, axes, {"S": "BHKV"}, np.float32)
    sizes = {"resets": (2, 3, 5), "reset_carry": (1, 5, 3), "one": (1, 3, 1)}
    return cases("deltanet", model, shapes, sizes, q=unit, k=unit, beta=positive)


def retention_cases() -> dict[str, Arrays]:
    """Run retention.

    q and k are [B, NH, T, K], v and ys [B, NH, T, V], the carry S [B, NH, K, V]. The plain form of
    fla's retention takes no carry. fla computes retention as simple GLA with the decay
    gamma = 1 - 2^(-5 - head), and the plain form of that takes one.
    """
    source = load("fla-core", "fla/ops/simple_gla/naive.py")

    def run(a: dict[str, Tensor], carry: Carry | None) -> tuple[Tensor, Carry]:
        q, k, v = (a[key].transpose(1, 2) for key in "qkv")
        g = torch.log(1 - 2.0 ** (-5.0 - torch.arange(q.shape[2]))).expand(q.shape[:3])
        given = carry and carry[0]
        ys, S = source.naive_recurrent_simple_gla(q, k, v, g, initial_state=given)
        return ys.transpose(1, 2), [S]

    def shapes(T: int, B: int, NH: int, K: int, V: int) -> dict[str, Sequence[int]]:
        steps = (B, NH, T)
        inputs = {"q": (*steps, K), "k": (*steps, K), "v": (*steps, V)}
        return inputs | {"S": (B, NH, K, V)}

    axes = dict.fromkeys(("q", "k", "v", "ys"), "BHTD")
    model = Model(run, axes, {"S": "BHKV"}, np.float32)
    sizes = {"resets": (2, 3, 5), "reset_carry": (1, 5, 3), "one": (1, 3, 1)}
    return cases("retention", model, shapes, sizes)


def convlstm_cases() -> dict[str, Arrays]:
    """Run Keras's ConvLSTM2D, padding "same", on torch.

    x is [B, T, H, W, C], ys [B, T, H, W, F], kernel [KH, KW, C, 4F], recurrent_kernel
    [KH, KW, F, 4F] and bias [4F], in the order i|f|c|o; the carry is h and c [B, H, W, F].
    """
    import keras

    keras.backend.set_floatx("float64")

    def run(a: dict[str, Tensor], carry: Carry | None) -> tuple[Tensor, Carry]:
        layer = keras.layers.ConvLSTM2D(
            a["bias"].shape[0] // 4,
            tuple(a["kernel"].shape[:2]),
            padding="same",
            return_sequences=True,
            return_state=True,
        )
        layer.build(tuple(a["x"].shape))
        weights = [a["kernel"], a["recurrent_kernel"], a["bias"]]
        fixed = [variable.value for variable in layer.non_trainable_variables]
        given = {"initial_state": list(carry)} if carry else {}
        (ys, *last), _ = layer.stateless_call(weights, fixed, a["x"], **given)
        return ys, last

    def shapes(
        T: int, B: int, H: int, W: int, C: int, F: int, kernel: tuple[int, int]
    ) -> dict[str, Sequence[int]]:
        weights = {"kernel": (*kernel, C, 4 * F), "recurrent_kernel": (*kernel, F, 4 * F)}
        image = (B, H, W, F)
        return {"x": (B, T, H, W, C)} | weights | {"bias": (4 * F,), "h": image, "c": image}

    model = Model(run, dict.fromkeys(("x", "ys"), "BTHWC"), {"h": "BHWF", "c": "BHWF"})
    sizes = {
        "resets": (3, 4, 2, 2, (3, 3)),
        "reset_carry": (4, 2, 1, 3, (2, 3)),
        "one": (1, 3, 2, 1, (1, 2)),
    }
    return cases("convlstm", model, shapes, sizes)


def record(arrays: Arrays) -> np.ndarray:
    """Pack arrays into one, a field each."""
    kind = np.dtype([(key, a.dtype, a.shape) for key, a in arrays.items()])
    return np.array(tuple(arrays.values()), kind)


SOURCES = {
    "mlstm": mlstm_cases,
    "gdn": gdn_cases,
    "deltanet": deltanet_cases,
    "retention": retention_cases,
    "convlstm": convlstm_cases,
}


def main() -> None:
    """Save the goldens of the sources named on the command line, or of all."""
    records: Arrays = {}
    if OUT.exists():
        with np.load(OUT) as stored:
            records = dict(stored)
    for name in sys.argv[1:] or SOURCES:
        made = SOURCES[name]()
        records |= {case: record(arrays) for case, arrays in made.items()}
        print(f"{name}: {len(made)} cases")
    np.savez_compressed(OUT, **dict(sorted(records.items())))
    print(f"{OUT.name}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
