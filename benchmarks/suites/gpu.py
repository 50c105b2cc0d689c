"""On a GPU: every way to run a GRU at one shape, checked, and timed beside its peers."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import math
import secrets
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqcells as sc
from benchmarks.harness import machine, naive
from benchmarks.harness.problem import GATES, Shape, draw_params
from benchmarks.harness.timing import Call, Spread, Times, interleave, ratio, spread
from experiments.lab import BadInput
from seqcells import interop

Row = dict[str, Any]
Say = Callable[[str], None]
Forward = Callable[[Any, jax.Array], jax.Array]  # (params, xs) -> ys

NNX, CUDNN, FLOOR = "flax.nnx.RNN", "torch, cuDNN", "products alone"
CHECKED = 16  # rows of the batch that are compared with float64, which takes memory
TOLERANCES = {"bfloat16": 3e-2, "float32": 6e-3}  # of an error's norm to that of what is right
SIZES: dict[str, tuple[int, ...]] = {  # in the order in which they are measured
    "T": (1024, 128, 8192),
    "H": (128, 64, 256, 512, 1024),
    "B": (16, 128, 1, 1024),
}
DTYPES, WHATS = ("bfloat16", "float32"), ("forward", "training")
ENTRIES = 2**28  # of xs: larger problems do not fit memory in every way
KERNELS = {
    "bfloat16": (sc.PallasTriton("bfloat16"), sc.CUDACluster("bfloat16")),
    "float32": (sc.PallasTriton("tf32"), sc.PallasTriton("tf32x3")),
}
KEYS = ["dtype", "what", "B", "T", "H"]  # of a group
RATIOS = {"to_cudnn": CUDNN, "to_nnx": NNX, "to_floor": FLOOR}
SPREADS = ("us_step", *RATIOS)
COLUMNS = [
    *(*KEYS, "contestant", "status", "difference"),
    *(f"{name}{end}" for name in SPREADS for end in ("", "_low", "_high")),
    *("rounds", "device", "driver", *machine.COLUMNS),
]


class Case(NamedTuple):
    """A group: what is measured, of what."""

    dtype: str
    what: str
    shape: Shape

    @property
    def group(self) -> Row:
        """Return the values of `KEYS`."""
        B, T, H = self.shape.B, self.shape.T, self.shape.H
        return dict(zip(KEYS, (self.dtype, self.what, B, T, H), strict=True))


class Way(NamedTuple):
    """A way to run a GRU in JAX."""

    forward: Forward
    params: Any
    options: dict[str, Any] | None = None  # of the compiler
    ours: bool = False  # then its gradient by w_hh is compared, which others add up in bfloat16


def cases() -> Iterator[Case]:
    """Every case, the most telling first; inputs are as wide as the carry."""
    for T, H, B in itertools.product(*(SIZES[name] for name in "THB")):
        for dtype, what in itertools.product(DTYPES, WHATS):
            if T * B * H <= ENTRIES:
                yield Case(dtype, what, Shape(f"{B}x{T}x{H}", B, T, H, H))


def seen(rows: list[Row]) -> set[tuple[Any, ...]]:
    """Return the groups of a table, without those that lack cuDNN where it is there now."""
    least = {CUDNN} if has_cudnn() else {FLOOR}
    return {tuple(row[key] for key in KEYS) for row in rows if row["contestant"] in least}


def prepare() -> tuple[str, str]:
    """Return the GPU and its driver.

    Raises:
        BadInput: where there is none.
    """
    device = jax.devices()[0]
    if device.platform != "gpu":
        raise BadInput(
            f"gpu: expected an NVIDIA GPU, and this is a {device.platform}; on a machine that has "
            "one, pip install 'jax[cuda13]'"
        )
    jax.config.update("jax_enable_compilation_cache", False)
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        driver = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    return device.device_kind, driver


def ways(dtype: str, shape: Shape, interpret: bool = False) -> dict[str, Way | str]:
    """Return the ways of JAX by name, or why one cannot run this.

    Args:
        dtype: of inputs and weights.
        shape: the sizes.
        interpret: whether kernels run in plain operations, where there is no GPU.
    """
    cell = sc.GRU(shape.H, bias="single")
    params = jax.tree.map(lambda a: a.astype(dtype), draw_params(cell, shape.D))
    xs = jax.ShapeDtypeStruct((shape.T, shape.B, shape.D), dtype)

    def unrolled(engine: sc.Engine, options: dict[str, Any] | None = None) -> Way | str:
        try:
            chosen = sc.select_engine(cell, xs, engine=engine)
        except ValueError as error:
            return str(error)
        forward: Forward = lambda params, xs: sc.unroll(cell, params, xs, engine=chosen)[1]  # noqa: E731
        return Way(forward, params, options, ours=True)

    lean = sc.Deferred(keep=(), ahead=True, one_by_one=False, unroll=8)
    found: dict[str, Way | str] = {
        NNX: _nnx(cell, params, shape, dtype),
        "scan by hand": Way(by_hand, params),
        "lean scan": unrolled(lean),
        "lean scan, one graph": unrolled(lean, sc.gpu_compiler_options()),
    }
    for kernel in KERNELS[dtype]:
        name = f"{type(kernel).__name__} {kernel.precision}"
        found[name] = unrolled(dataclasses.replace(kernel, interpret=interpret))
    return found


def by_hand(params: sc.GRUParams, xs: jax.Array) -> jax.Array:
    """Run the scan that a user writes by hand."""
    zeros = jnp.zeros((xs.shape[1], params.w_hh.shape[0]), xs.dtype)
    assert params.b_ih is not None
    both = params._replace(b_hh=jnp.zeros_like(params.b_ih))
    return jax.lax.scan(functools.partial(naive.gru, both), zeros, xs)[1]


def _nnx(cell: sc.GRU, params: sc.GRUParams, shape: Shape, dtype: str) -> Way:
    """Return Flax's, told its dtype and given a carry of it: by itself it fails in bfloat16."""
    from flax import nnx

    net = nnx.RNN(nnx.GRUCell(shape.D, shape.H, dtype=dtype, rngs=nnx.Rngs(0)), time_major=True)
    graph, state, rest = nnx.split(net, nnx.Param, ...)
    arrays = interop.nnx.dump(sc.Recurrent(cell), params, like=nnx.to_pure_dict(state))
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, arrays))

    def forward(params: Any, xs: jax.Array) -> Any:
        own = jax.tree.map(lambda a: a, rest)
        zeros = jnp.zeros((xs.shape[1], shape.H), dtype)
        return nnx.merge(graph, params, own)(xs, initial_carry=zeros)

    return Way(forward, state)


def measure(case: Case, seconds: float, about: Row, say: Say, interpret: bool = False) -> list[Row]:
    """Measure a case as `race` does; where that fails, a row says why, and others go on."""
    try:
        return race(case, seconds, about, say, interpret)
    except Exception as failure:  # of memory, for instance
        told = {"contestant": FLOOR, "status": _first_line(failure), "difference": math.nan}
        return [case.group | told | _timed({}, FLOOR, case.shape.T) | about]


def race(case: Case, seconds: float, about: Row, say: Say, interpret: bool) -> list[Row]:
    """Check every way against float64, and time those that are right; returns a row each.

    Args:
        case: what is measured.
        seconds: how long it is timed, at least five rounds.
        about: columns that all rows share.
        say: is told what is being done.
        interpret: whether kernels run in plain operations, where there is no GPU.
    """
    shape, dtype, train = case.shape, case.dtype, case.what == "training"
    key = jax.random.key(secrets.randbits(31))
    xs = jax.random.normal(key, (shape.T, shape.B, shape.D), dtype)
    calls: dict[str, Call] = {}
    told: dict[str, Row] = {}

    def enter(name: str, make: Callable[[], Call], ours: bool = False) -> None:
        say(f"{name}: compiling")
        try:
            call = make()
            _poison(xs)
            error = _error(_told(call(), shape.B, ours), right)
        except Exception as failure:  # whatever a compiler or a device says is told
            told[name] = {"status": _first_line(failure), "difference": math.nan}
            return
        told[name] = {"status": _verdict(error, dtype), "difference": error}
        if told[name]["status"] == "ok":
            calls[name] = call

    say("float64: compiling")
    right = _exact(dtype, shape, xs, train)
    for name, way in ways(dtype, shape, interpret).items():
        ours = isinstance(way, Way) and way.ours
        enter(name, functools.partial(_program, way, xs, train), ours)
    if has_cudnn():
        enter(CUDNN, functools.partial(_cudnn, dtype, shape, xs, train))
    told[FLOOR] = {"status": "ok", "difference": math.nan}
    calls[FLOOR] = _products(dtype, shape)
    say("timing")
    times = interleave(calls, seconds)
    if train:
        times[FLOOR] = [3 * t for t in times[FLOOR]]
    return [
        case.group | {"contestant": name} | told[name] | _timed(times, name, shape.T) | about
        for name in told
    ]


def graded(forward: Forward) -> Callable[[Any, jax.Array], Any]:
    """Return (params, xs) -> the value of mean(ys**2), and its gradient by both."""

    def loss(params: Any, xs: jax.Array) -> jax.Array:
        ys = forward(params, xs)
        return jnp.mean(jnp.square(ys.astype(jnp.promote_types(ys.dtype, jnp.float32))))

    return jax.value_and_grad(loss, (0, 1))


def _program(way: Way | str, xs: jax.Array, train: bool) -> Call:
    """Compile a way; its value or its gradient."""
    if isinstance(way, str):
        raise BadInput(way)
    f = graded(way.forward) if train else way.forward
    compiled = jax.jit(f, compiler_options=way.options).lower(way.params, xs).compile()
    return lambda: jax.block_until_ready(compiled(way.params, xs))


def _exact(dtype: str, shape: Shape, xs: jax.Array, train: bool) -> list[np.ndarray]:
    """Compute what is right for the first rows, in float64: what `_told` returns."""
    params = draw_params(sc.GRU(shape.H, bias="single"), shape.D)
    some = np.asarray(xs[:, :CHECKED].astype("float32"))
    rounded = jax.tree.map(lambda a: np.asarray(a.astype(dtype)).astype(np.float64), params)
    with jax.enable_x64(True):
        args = jax.tree.map(jnp.asarray, (rounded, some.astype(np.float64)))
        right = jax.jit(graded(by_hand) if train else by_hand)(*args)
        return _told(right, some.shape[1], ours=some.shape[1] == shape.B)


def _told(found: Any, rows: int, ours: bool) -> list[np.ndarray]:
    """Return what is compared: ys; or the gradient by xs, as if by the sum over rows, and by w_hh.

    The latter where it is laid out as ours, and of use where all rows were compared.
    """
    if not isinstance(found, tuple):
        return [_array(found[:, :CHECKED])]
    params, xs = found[1]
    by_w_hh = [_array(rows * params.w_hh)] if ours else []
    return [rows * _array(xs[:, :CHECKED]), *by_w_hh]


def _array(a: Any) -> np.ndarray:
    """Return an array of JAX or a tensor of PyTorch in float64."""
    return np.asarray(a.float().cpu() if hasattr(a, "cpu") else a).astype(np.float64)


def _error(mine: list[np.ndarray], right: list[np.ndarray]) -> float:
    """Return the norm of what is wrong over that of what is right, the largest."""
    pairs = zip(mine, right, strict=False)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


def _verdict(error: float, dtype: str) -> str:
    return "ok" if error <= TOLERANCES[dtype] else f"differs from float64 by {error:.1e}"


def _first_line(failure: Exception) -> str:
    return f"{type(failure).__name__}: {failure}".splitlines()[0][:200]


def _poison(xs: jax.Array) -> None:
    """Leave NaN in memory that is free: what a kernel forgets to write is seen then."""
    jax.block_until_ready([jnp.full(xs.shape, jnp.nan, xs.dtype) for _ in range(8)])


def _products(dtype: str, shape: Shape) -> Call:
    """Return the multiplications of the forward pass alone, as two products."""
    rows, width = shape.T * shape.B, GATES["GRU"] * shape.H
    pairs = [
        (jnp.ones((rows, size), dtype), jnp.ones((size, width), dtype))
        for size in (shape.D, shape.H)
    ]
    compiled = jax.jit(lambda pairs: [a @ b for a, b in pairs]).lower(pairs).compile()
    return lambda: jax.block_until_ready(compiled(pairs))


def has_cudnn() -> bool:
    """Say whether PyTorch is there and has a GPU."""
    try:
        return importlib.import_module("torch").cuda.is_available()
    except (ImportError, OSError):  # or a library of it is missing
        return False


def _cudnn(dtype: str, shape: Shape, xs: jax.Array, train: bool) -> Call:
    """Return PyTorch's GRU, which is cuDNN's."""
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

    def call() -> Any:
        if train:
            loss = net(inputs)[0].float().square().mean()
            by_xs, *by_params = torch.autograd.grad(loss, [inputs, *net.parameters()])
            found = loss, (by_params, by_xs)
        else:
            with torch.inference_mode():
                found = net(inputs)[0]
        torch.cuda.synchronize()
        return found

    return call


def _timed(times: Times, name: str, steps: int) -> Row:
    """Return microseconds a step, and the ratios to those that are there."""
    nothing = Spread(math.nan, math.nan, math.nan)
    there = name in times
    found = {"us_step": spread(1e6 * t / steps for t in times[name]) if there else nothing}
    for column, other in RATIOS.items():
        both = there and other in times
        found[column] = ratio(times, name, other) if both else nothing
    ends = {"": "median", "_low": "low", "_high": "high"}
    row = {f"{n}{end}": getattr(found[n], field) for n in SPREADS for end, field in ends.items()}
    return row | {"rounds": len(times.get(name, []))}
