"""A march as CUDA C++: `march.cu`, with the sizes, and what a step computes, written before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax

from seqcells.engines.kernels import _scalar
from seqcells.engines.kernels._blocks import Blocks, Sizes
from seqcells.engines.kernels._march import March
from seqcells.engines.kernels._tiles import STEP, Rule

HERE = Path(__file__).parent
TILE = 16  # rows of a cluster
SLICE = 16  # of a sum: what one product of the hardware adds up
COLUMNS = 8  # units of a warp
WARP = 32  # threads
CLUSTERS = {32: 1, 64: 2, 128: 4}  # blocks, by the units that they compute at most
LARGEST = 8  # blocks, that any GPU starts as one cluster
REGISTERS = 65536, 255  # of a multiprocessor, and of a thread at most
BASE_REGISTERS = 56  # of a thread: addresses, counters; with fewer, ptxas spills (test_aot.py)
CHAINED = 96  # registers of matrices, up to which sums are split in two chains of products


def padded_units(size: int) -> int:
    """Return the units that a kernel computes for a cell of `size`: the same in each block."""
    least = max(COLUMNS * _cluster(size), SLICE)
    return -(-size // least) * least


def _cluster(units: int) -> int:
    return next((n for most, n in CLUSTERS.items() if units <= most), LARGEST)


class Plan(NamedTuple):
    """How a march is cut up."""

    units: int
    dots: int  # products of a step
    operands: int  # different tiles in them
    numbers: int  # that a thread keeps in registers besides matrices and sums

    @property
    def blocks(self) -> int:
        """Return the blocks of a cluster."""
        return _cluster(self.units)

    @property
    def warps(self) -> int:
        """Return the warps of a block, each of which computes `COLUMNS` units."""
        return self.units // self.blocks // COLUMNS

    @property
    def threads(self) -> int:
        """Return the threads of a block."""
        return WARP * self.warps

    @property
    def chains(self) -> int:
        """Return the sums that a product is split into, which do not wait for each other."""
        return 2 if 2 * self.dots * self.units // SLICE <= CHAINED else 1

    @property
    def kept(self) -> int:
        """Return the slices of the matrices that stay in registers."""
        file, most = REGISTERS
        most = min(file // (WARP * -(-self.warps // 4) * 4) // 8 * 8, most)  # 4 warps at a time
        sums = 4 * (self.dots * self.chains + self.operands)
        room = most - BASE_REGISTERS - sums - self.numbers
        return min(max(room // (2 * self.dots), 0), self.units // SLICE)

    @property
    def stride(self) -> int:
        """Return the units of a row in memory: 8 rows of 8 units lie in different banks."""
        return self.units + 8

    @property
    def shared_bytes(self) -> int:
        """Return the bytes of a multiprocessor's memory: two buffers, and the other slices."""
        buffers = 2 * self.operands * TILE * self.stride * 2
        return buffers + (self.units // SLICE - self.kept) * self.dots * self.threads * 8


class Kernel(NamedTuple):
    """A kernel to be launched."""

    name: str
    source: str  # CUDA C++
    tiles: int  # of the rows, each a cluster
    plan: Plan


def write(march: March, rule: Rule, read: Blocks, made: Blocks, sizes: Sizes, size: int) -> Kernel:
    """Write a march.

    Args:
        march: the kernel.
        rule: the cell; how operands are multiplied is left open.
        read: what it reads, padded.
        made: the shapes of what it makes.
        sizes: those of both.
        size: the units that are no padding.

    Returns:
        A kernel that takes the leaves of `read` and makes those of `made`, each with an axis before
        all others, whose members are computed by themselves.
    """
    matrices, *biases = jax.tree.leaves(read.whole)
    dots = len(matrices)
    rows, seen, code = map(_tiny, (read.rows, read.steps, read.code))
    bias = [jax.ShapeDtypeStruct((1,), one.dtype) for one in biases for _ in range(dots)]
    products = [jax.ShapeDtypeStruct((1, 1), "float32")] * dots

    def start(rows: Any) -> Any:
        return march.start(Blocks(rows=rows))

    def step(rows: Any, bias: Any, state: Any, seen: Any, code: Any, products: Any) -> Any:
        whole = jax.tree.map(lambda a: _Numbers(dots) if a.ndim == 3 else bias, read.whole)
        multiplied: dict[int, jax.Array] = {}

        def dot(a: jax.Array, number: Any) -> jax.Array:
            multiplied[number] = a
            return products[number]

        held = march.hold(Blocks(rows=rows, whole=whole))
        new, written = march.take(rule._replace(dot=dot), held, state, seen, code)
        return [multiplied[number] for number in range(dots)], new, written

    state = jax.eval_shape(start, rows)
    args = (rows, bias, state, seen, code, products)
    held = _names("held", (rows, bias))
    told = [_names("state", state), _names("seen", seen), ["code"] * _count(code)]
    names = sum(told, held) + _names("products", products)
    begin = _scalar.statements(start, (rows,), held[: _count(rows)])
    before = _scalar.statements(step, args, names, slice(dots))
    after = _scalar.statements(step, args, names, slice(dots, None))
    operands = list(dict.fromkeys(before.values))

    plan = Plan(sizes.units, dots, len(operands), 8 * _count(seen) + 4 * _count((held, state)))
    tiles = -(-sizes.rows // TILE)
    constants = {
        "TILE": TILE,
        "SLICE": SLICE,
        "COLUMNS": COLUMNS,
        "SIZE": size,
        "UNITS": sizes.units,
        "STRIDE": plan.stride,
        "ROWS": sizes.rows,
        "STEPS": sizes.steps,
        "TILES": tiles,
        "BLOCKS": plan.blocks,
        "KEPT": plan.kept,
        "CHAINS": plan.chains,
        "DOTS": dots,
        "OPERANDS": len(operands),
        "READS": _count(seen),
        "HELD_ROWS": _count(rows),
        "HELD": len(held),
        "STATES": _count(state),
        "WRITES": _count(made.steps),
        "LASTS": _count(made.rows),
        "BACK": int(march.back),
        "CODED": _count(code),
        "STEP": STEP,
    }
    numbers = ", ".join(str(operands.index(value)) for value in before.values)
    place = "const float* held, const float* state, const float* seen, int code"
    parts = [
        (HERE / "device.cuh").read_text(),
        *(f"constexpr int {name} = {value};" for name, value in constants.items()),
        f"constexpr int OPERAND[] = {{{numbers}}};",
        *_parameters(march.name, read, made),
        _function("begin", "const float* held", begin.lines, {"state": begin.values}),
        _function("operands", place, before.lines, {"out": operands}),
        _function(
            *("advance", f"{place}, const float* products", after.lines),
            {"next": after.values[: _count(state)], "written": after.values[_count(state) :]},
        ),
        (HERE / "march.cu").read_text(),
    ]
    return Kernel(march.name, "\n".join(parts), tiles, plan)


class _Numbers:
    """Stands for matrices where only their numbers are asked for."""

    def __init__(self, count: int):
        self.shape = (count,)

    def __getitem__(self, index: int) -> int:
        return index


def _function(name: str, takes: str, lines: list[str], puts: dict[str, list[str]]) -> str:
    """Write a function of one place, which puts values into arrays."""
    outs = "".join(f", float* {array}" for array in puts)
    ends = [f"{a}[{i}] = {value};" for a, values in puts.items() for i, value in enumerate(values)]
    body = "\n".join(f"  {line}" for line in [*lines, *ends])
    return f"__device__ __forceinline__ void {name}({takes}{outs}) {{\n{body}\n}}"


def _parameters(name: str, read: Blocks, made: Blocks) -> list[str]:
    """Write what a kernel is called and takes, in the order of the leaves."""
    kinds = {
        "read": ("const float*", read.steps),
        "code": ("const int*", read.code),
        "row": ("const float*", read.rows),
        "matrices": ("const Bfloat16*", [a for a in jax.tree.leaves(read.whole) if a.ndim == 3]),
        "biases": ("const float*", [a for a in jax.tree.leaves(read.whole) if a.ndim == 2]),
        "written": ("float*", (made.steps, made.rows)),
    }
    called = {kind: [f"{kind}_{i}" for i in range(_count(one))] for kind, (_, one) in kinds.items()}
    every = [f"{kinds[kind][0]} __restrict__ {n}" for kind, names in called.items() for n in names]
    lists = [f"#define {kind.upper()} {', '.join(n) or 'nullptr'}" for kind, n in called.items()]
    return [f"#define NAME {name}", f"#define PARAMETERS {', '.join(every)}", *lists]


def _names(array: str, tree: Any) -> list[str]:
    return [f"{array}[{i}]" for i in range(_count(tree))]


def _count(tree: Any) -> int:
    return len(jax.tree.leaves(tree))


def _tiny(tree: Any) -> Any:
    """Return the shapes of tiles of one place."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, 1), a.dtype), tree)
