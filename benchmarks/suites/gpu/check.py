"""One case on a GPU: check every way against float64, and time the correct ones."""

from __future__ import annotations

import functools
import itertools
import math
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqcells as sc
from benchmarks.harness.benchmark import Report
from benchmarks.harness.problem import Inputs, Shape, draw_params
from benchmarks.harness.tables import Row
from benchmarks.harness.timing import Call, Times, interleave, ratio, spread
from benchmarks.suites.gpu import ways
from benchmarks.suites.gpu.ways import CUDNN, NNX, PRODUCTS

CHECKED = 16  # rows of the batch that are compared with float64, which takes memory
TOLERANCES = {"bfloat16": 3e-2, "float32": 6e-3}  # norm of the error over that of the exact result
SIZES: dict[str, tuple[int, ...]] = {  # in measuring order
    "T": (1024, 128, 8192),
    "H": (128, 64, 256, 512, 1024),
    "B": (16, 128, 1, 1024),
}
DTYPES, WHATS = ("bfloat16", "float32"), ("forward", "training")
ENTRIES = 2**28  # bytes of xs: with larger problems, some ways run out of memory
KEYS = ["dtype", "what", "B", "T", "H"]
RATIOS = {"to_cudnn": CUDNN, "to_nnx": NNX, "to_floor": PRODUCTS}
ENDS = ("", "_low", "_high")


class Case(NamedTuple):
    """A group: a pass, a dtype and a shape."""

    dtype: str
    what: str
    shape: Shape

    @property
    def group(self) -> Row:
        """The values of `KEYS`."""
        B, T, H = self.shape.B, self.shape.T, self.shape.H
        return dict(zip(KEYS, (self.dtype, self.what, B, T, H), strict=True))


def cases() -> Iterator[Case]:
    """List every case, the most informative first; inputs are as wide as the carry."""
    for T, H, B in itertools.product(*(SIZES[name] for name in "THB")):
        for dtype, what in itertools.product(DTYPES, WHATS):
            if T * B * H <= ENTRIES:
                yield Case(dtype, what, Shape(f"{B}x{T}x{H}", B, T, H, H))


def measure(case: Case, seconds: float, report: Report, interpret: bool = False) -> list[Row]:
    """Measure a case; return a row for each way.

    If the case fails as a whole, one row has the reason, so that other cases can continue.

    Args:
        case: the case.
        seconds: how long it is timed, at least five rounds.
        report: shows the current work.
        interpret: whether kernels run as plain operations, for a machine without a GPU.
    """
    try:
        checks, times = _measure(case, seconds, report, interpret)
    except Exception as failure:  # out of memory, for instance
        checks, times = {PRODUCTS: _failed(failure)}, {}
    return [
        case.group | {"contestant": name} | check | _time_columns(times, name, case.shape.T)
        for name, check in checks.items()
    ]


def _measure(
    case: Case, seconds: float, report: Report, interpret: bool
) -> tuple[dict[str, Row], Times]:
    dtype, what, shape = case
    train, key = what == "training", jax.random.key(secrets.randbits(31))
    xs = jax.random.normal(key, (shape.T, shape.B, shape.D), dtype)
    builders: dict[str, tuple[Callable[[], Call], bool]] = {
        name: (functools.partial(way.compile, xs, train), way.ours)
        for name, way in ways.ways(dtype, shape, interpret).items()
    }
    if ways.has_cudnn():
        builders[CUDNN] = functools.partial(ways.cudnn, dtype, shape, xs, train), False
    report("compiling")
    checks, calls = {}, {}
    with ThreadPoolExecutor() as pool:  # compilers run in parallel
        built = {name: pool.submit(build) for name, (build, _) in builders.items()}
        expected = _exact(case, xs)
    for name, (_, ours) in builders.items():
        report(f"{name}: checking")
        checks[name], call = _check(case, built[name].result, xs, expected, ours)
        calls |= {name: call} if call else {}
    checks[PRODUCTS] = {"status": "ok", "difference": math.nan}
    calls[PRODUCTS] = ways.products(dtype, shape)
    report("timing")
    times = interleave(calls, seconds)
    if train:
        times[PRODUCTS] = [3 * t for t in times[PRODUCTS]]
    return checks, times


def _check(
    case: Case, build: Callable[[], Call], xs: jax.Array, expected: list[np.ndarray], ours: bool
) -> tuple[Row, Call | None]:
    """Build a way and compare its result; return columns, and the way if it may be timed."""
    try:
        call = build()
        _poison(xs)
        error = _error(_compared(call(), case.shape.B, ours), expected)
    except Exception as failure:  # a compiler or a device may raise any error
        return _failed(failure), None
    right = error <= TOLERANCES[case.dtype]
    status = "ok" if right else f"differs from float64 by {error:.1e}"
    return {"status": status, "difference": error}, call if right else None


def _failed(failure: Exception) -> Row:
    first_line = f"{type(failure).__name__}: {failure}".splitlines()[0]
    return {"status": first_line[:400], "difference": math.nan}


def _exact(case: Case, xs: jax.Array) -> list[np.ndarray]:
    """Compute the result of `_compared` in float64, for the first rows of the batch."""
    dtype, what, shape = case
    params = draw_params(sc.GRU(shape.H, bias="single"), shape.D)
    some = np.asarray(xs[:, :CHECKED].astype("float32"))
    rounded = jax.tree.map(lambda a: np.asarray(a.astype(dtype)).astype(np.float64), params)
    with jax.enable_x64(True):
        args = jax.tree.map(jnp.asarray, (rounded, some.astype(np.float64)))
        f = ways.graded(ways.by_hand) if what == "training" else ways.by_hand
        return _compared(jax.jit(f)(*args), some.shape[1], ours=some.shape[1] == shape.B)


def _compared(result: Inputs, rows: int, ours: bool) -> list[np.ndarray]:
    """Return the arrays to compare.

    Args:
        result: ys, or the result of `ways.graded`.
        rows: rows of the batch; gradients of a mean over rows are multiplied by it, so that those
            of `CHECKED` rows and of all rows are equal.
        ours: whether to compare the gradient by w_hh too; it must have the layout of seqcells.

    Returns:
        The first `CHECKED` rows of ys, or of the gradient by xs; and the gradient by w_hh.
    """
    if not isinstance(result, tuple):
        return [_array(result[:, :CHECKED])]
    params, xs = result[1]
    by_w_hh = [_array(rows * params.w_hh)] if ours else []
    return [rows * _array(xs[:, :CHECKED]), *by_w_hh]


def _array(a: Inputs) -> np.ndarray:
    """Return a JAX array or a PyTorch tensor in float64."""
    return np.asarray(a.float().cpu() if hasattr(a, "cpu") else a).astype(np.float64)


def _error(got: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Return the largest norm of an error, relative to the norm of the expected array."""
    pairs = zip(got, expected, strict=False)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


def _poison(xs: jax.Array) -> None:
    """Fill free memory with NaN, which reveals kernels that do not write all outputs."""
    jax.block_until_ready([jnp.full(xs.shape, jnp.nan, xs.dtype) for _ in range(8)])


def _time_columns(times: Times, name: str, steps: int) -> Row:
    """Return microseconds per step, the ratios (NaN if not timed), and the rounds."""
    spreads = {"us_step": spread(1e6 * t / steps for t in times.get(name, []))}
    spreads |= {column: ratio(times, name, other) for column, other in RATIOS.items()}
    row = {f"{n}{end}": v for n, s in spreads.items() for end, v in zip(ENDS, s, strict=True)}
    return row | {"rounds": len(times.get(name, []))}
