"""A time loop in CUDA C++: the sizes and the functions of a step, followed by `time_loop.cu`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import jax

from seqcells._types import PyTree
from seqcells.engines.kernels._blocks import Blocks, Sizes
from seqcells.engines.kernels._scalar import Statements, statements
from seqcells.engines.kernels._tiles import STEP, StepSpec
from seqcells.engines.kernels._time_loop import TimeLoop

HERE = Path(__file__).parent
TILE = 16  # rows of a cluster
SLICE = 16  # terms that one hardware product sums
COLUMNS = 8  # units of a warp
WARP = 32  # threads
CLUSTERS = {32: 1, 64: 2, 128: 4}  # {largest number of units: blocks}
LARGEST = 8  # blocks per cluster that every GPU supports
REGISTERS = 65536, 255  # of a multiprocessor, and of a thread at most
BASE_REGISTERS = 56  # of a thread: addresses, counters; with fewer, ptxas spills (test_aot.py)
CHAINED = 96  # up to so many registers of matrices, sums are split in two chains of products


def padded_units(size: int) -> int:
    """Return the padded units of a cell of `size`, so that all blocks have equally many."""
    least = max(COLUMNS * _cluster(size), SLICE)
    return -(-size // least) * least


def _cluster(units: int) -> int:
    return next((n for most, n in CLUSTERS.items() if units <= most), LARGEST)


class Layout(NamedTuple):
    """How a time loop is laid out over blocks, warps and registers."""

    units: int
    dots: int  # products of a step
    operands: int  # distinct operands of them
    numbers: int  # registers per thread, apart from those for matrices and sums

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
        """Return the independent sums that a product is split into."""
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
        """Return the units of a row in memory, so that 8 rows of 8 units lie in different banks."""
        return self.units + 8

    @property
    def shared_bytes(self) -> int:
        """Return the bytes of shared memory: two buffers, and the slices not in registers."""
        buffers = 2 * self.operands * TILE * self.stride * 2
        return buffers + (self.units // SLICE - self.kept) * self.dots * self.threads * 8


class Kernel(NamedTuple):
    """A kernel to be launched."""

    name: str
    source: str  # CUDA C++
    tiles: int  # tiles of rows; one cluster each
    layout: Layout


class _Step(NamedTuple):
    """The functions of a step in C."""

    begin: Statements  # the state before the first step
    operands: Statements  # the operand of each product
    advance: Statements  # the new state, then the outputs


def write(
    loop: TimeLoop, spec: StepSpec, inputs: Blocks, out: Blocks, sizes: Sizes, size: int
) -> Kernel:
    """Write the CUDA source of a time loop.

    Args:
        loop: the loop.
        spec: the cell; its `dot` is replaced by the product of the hardware.
        inputs: the arrays that it reads, padded.
        out: the shapes of its outputs.
        sizes: the padded sizes of both.
        size: the units that are not padding.

    Returns:
        A kernel that reads the leaves of `inputs` and writes the leaves of `out`. Each array has a
        leading axis, whose members are independent runs.
    """
    step = _translate(loop, spec, inputs)
    dots, operands = len(step.operands.values), list(dict.fromkeys(step.operands.values))
    reads, rows, states = _count(inputs.steps), _count(inputs.rows), len(step.begin.values)
    constants = rows + dots * sum(a.ndim == 2 for a in jax.tree.leaves(inputs.whole))
    numbers = 8 * reads + 4 * (constants + states)
    layout = Layout(sizes.units, dots, len(operands), numbers)
    tiles = -(-sizes.rows // TILE)
    sizes_in_c = {
        "TILE": TILE,
        "SLICE": SLICE,
        "COLUMNS": COLUMNS,
        "SIZE": size,
        "UNITS": sizes.units,
        "STRIDE": layout.stride,
        "ROWS": sizes.rows,
        "STEPS": sizes.steps,
        "TILES": tiles,
        "BLOCKS": layout.blocks,
        "KEPT": layout.kept,
        "CHAINS": layout.chains,
        "DOTS": dots,
        "OPERANDS": len(operands),
        "READS": reads,
        "ROW_CONSTANTS": rows,
        "CONSTANTS": constants,
        "STATES": states,
        "WRITES": _count(out.steps),
        "LASTS": _count(out.rows),
        "BACK": int(loop.reverse),
        "CODED": _count(inputs.code),
        "STEP": STEP,
    }
    numbers = ", ".join(str(operands.index(value)) for value in step.operands.values)
    parts = [
        (HERE / "device.cuh").read_text("utf-8"),
        *(f"constexpr int {name} = {value};" for name, value in sizes_in_c.items()),
        f"constexpr int OPERAND[] = {{{numbers}}};",
        *_parameters(loop.name, inputs, out),
        *_functions(step, operands),
        (HERE / "time_loop.cu").read_text("utf-8"),
    ]
    return Kernel(loop.name, "\n".join(parts), tiles, layout)


def _translate(loop: TimeLoop, spec: StepSpec, inputs: Blocks) -> _Step:
    """Write the functions of a step in C, with the products as arguments."""
    matrices, *biases = jax.tree.leaves(inputs.whole)
    dots = len(matrices)
    rows, steps, code = map(_one_place, (inputs.rows, inputs.steps, inputs.code))
    bias = [jax.ShapeDtypeStruct((1,), one.dtype) for one in biases for _ in range(dots)]
    products = [jax.ShapeDtypeStruct((1, 1), "float32")] * dots

    def init(rows: PyTree) -> PyTree:
        return loop.init(Blocks(rows=rows))

    state = jax.eval_shape(init, rows)
    args = (rows, bias, state, steps, code, products)
    constants = _names("constants", (rows, bias))
    names = [
        *constants,
        *_names("state", state),
        *_names("inputs", steps),
        *["code"] * _count(code),
    ]
    names += _names("products", products)
    function = functools.partial(_open_step, loop, spec, inputs.whole)
    return _Step(
        begin=statements(init, (rows,), constants[: _count(rows)]),
        operands=statements(function, args, names, slice(dots)),
        advance=statements(function, args, names, slice(dots, None)),
    )


def _open_step(
    loop: TimeLoop,
    spec: StepSpec,
    shapes: PyTree,
    rows: PyTree,
    bias: list[jax.Array],
    state: PyTree,
    inputs: PyTree,
    code: jax.Array | None,
    products: list[jax.Array],
) -> tuple[list[jax.Array], PyTree, PyTree]:
    """Run a step with given products.

    Returns:
        The operand of each product, the new state and the outputs.
    """
    dots = len(products)
    operands: dict[int, jax.Array] = {}

    def dot(a: jax.Array, number: int) -> jax.Array:
        operands[number] = a
        return products[number]

    whole = jax.tree.map(lambda a: _Numbers(dots) if a.ndim == 3 else bias, shapes)
    constants = loop.constants(Blocks(rows=rows, whole=whole))
    new, outputs = loop.step(spec._replace(dot=dot), constants, state, inputs, code)
    return [operands[number] for number in range(dots)], new, outputs


class _Numbers:
    """A stand-in for a stack of matrices; indexing returns the number of the matrix."""

    def __init__(self, count: int):
        self.shape = (count,)

    def __getitem__(self, index: int) -> int:
        return index


def _functions(step: _Step, distinct: list[str]) -> list[str]:
    """Write the three functions of a step."""
    place = "const float* constants, const float* state, const float* inputs, int code"
    begin, operands, advance = step.begin, step.operands, step.advance
    states = len(begin.values)
    writes = {"next": advance.values[:states], "written": advance.values[states:]}
    return [
        _function("begin", "const float* constants", begin.lines, {"state": begin.values}),
        _function("operands", place, operands.lines, {"out": distinct}),
        _function("advance", f"{place}, const float* products", advance.lines, writes),
    ]


def _function(name: str, parameters: str, lines: list[str], out: dict[str, list[str]]) -> str:
    """Write a function of one position, which stores values in arrays."""
    arrays = "".join(f", float* {array}" for array in out)
    stores = [f"{a}[{i}] = {value};" for a, values in out.items() for i, value in enumerate(values)]
    body = "\n".join(f"  {line}" for line in [*lines, *stores])
    return f"__device__ __forceinline__ void {name}({parameters}{arrays}) {{\n{body}\n}}"


def _parameters(name: str, inputs: Blocks, out: Blocks) -> list[str]:
    """Write the name and the parameters of a kernel, in the order of the leaves."""
    whole = jax.tree.leaves(inputs.whole)
    kinds = {
        "read": ("const float*", inputs.steps),
        "code": ("const int*", inputs.code),
        "row": ("const float*", inputs.rows),
        "matrices": ("const Bfloat16*", [a for a in whole if a.ndim == 3]),
        "biases": ("const float*", [a for a in whole if a.ndim == 2]),
        "written": ("float*", (out.steps, out.rows)),
    }
    called = {kind: [f"{kind}_{i}" for i in range(_count(one))] for kind, (_, one) in kinds.items()}
    every = [f"{kinds[kind][0]} __restrict__ {n}" for kind, names in called.items() for n in names]
    lists = [f"#define {kind.upper()} {', '.join(n) or 'nullptr'}" for kind, n in called.items()]
    return [f"#define NAME {name}", f"#define PARAMETERS {', '.join(every)}", *lists]


def _names(array: str, tree: PyTree) -> list[str]:
    return [f"{array}[{i}]" for i in range(_count(tree))]


def _count(tree: PyTree) -> int:
    return len(jax.tree.leaves(tree))


def _one_place(tree: PyTree) -> PyTree:
    """Return the shapes of tiles with one position."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, 1), a.dtype), tree)
