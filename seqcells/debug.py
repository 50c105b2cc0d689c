"""Checks of your own cells (`check`), of rollouts (`check_replay`) and of values under jit."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells._cell import Cell, LinearCell, SplitCell
from seqcells._checked import checked
from seqcells._flags import Flags
from seqcells._model import fresh_carry
from seqcells._rollouts import Replay, check_replay
from seqcells._types import Carry, Inputs, InputSize, Outputs, Params, PyTree
from seqcells._unroll import trajectory, unroll
from seqcells.engines import ENGINES, Scan
from seqcells.engines.deferred import products, slopes

__all__ = ["LAWS", "Finding", "Replay", "Report", "check", "check_replay", "checked"]

Step = Callable[[Params, Carry, Inputs], tuple[Carry, Outputs]]


class Finding(NamedTuple):
    """Whether one law holds."""

    law: str
    holds: bool | None  # None: the law does not apply to this cell
    detail: str  # why the law fails or does not apply


class Report(NamedTuple):
    """The result of `check`; its string is a table."""

    cell: Cell
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether all laws hold or do not apply."""
        return all(finding.holds is not False for finding in self.findings)

    def __str__(self) -> str:
        words = {True: "holds", False: "BROKEN", None: "-"}
        rows = [f"{f.law:<12}{words[f.holds]:<8}{f.detail}".rstrip() for f in self.findings]
        return "\n".join([f"The laws of {self.cell}", *rows])


@dataclasses.dataclass(frozen=True)
class Sample:
    """A cell, and the random numbers that the laws are tested on."""

    cell: Cell
    params: Params
    xs: jax.Array  # float32[T, B, D]
    carry: Carry  # [B, ...], not the fresh one
    reference: Step | None

    def unroll(self, xs: Inputs = None, carry: Carry = None, **options: Any) -> PyTree:
        """Unroll the cell from the sample's carry."""
        xs = self.xs if xs is None else xs
        return unroll(self.cell, self.params, xs, self.carry if carry is None else carry, **options)


class _Skipped(Exception):
    """The law does not apply to this cell."""


def check(
    cell: Cell,
    input_size: InputSize = 3,
    *,
    params: Params = None,
    reference: Step | None = None,
    laws: Sequence[str] | None = None,
    seed: int = 0,
) -> Report:
    """Test the laws of a cell on random numbers in float32.

    Args:
        cell: any cell.
        input_size: features of the test inputs.
        params: its parameters; those of `cell.init` if None.
        reference: the same step in plain NumPy, `(params, carry, x) -> (carry, y)` for one sequence
            x [D]; without it the law of that name is skipped.
        laws: the names of the laws to test; all of `LAWS` if None.
        seed: the seed of the random numbers.

    Returns:
        A report to print; its `ok` is False if a law fails.

    >>> import seqcells as sc
    >>> print(sc.debug.check(sc.GRU(4), laws=["step", "batch"]))
    The laws of GRU(4)
    step        holds
    batch       holds
    """
    _check.instance("cell", cell, Cell, "GRU(64)")
    names = tuple(LAWS if laws is None else laws)
    for name in names:
        _check.choice("laws", name, LAWS)
    k_params, k_xs, k_carry = jax.random.split(jax.random.key(_check.seed("seed", seed)), 3)
    params = cell.init(k_params, input_size) if params is None else params
    zero = cell.zero_input(input_size)
    if not hasattr(zero, "shape"):
        raise TypeError(f"cell: expected one that reads one array, got {cell}, which reads {zero}")
    xs = jax.random.normal(k_xs, (7, 3, *zero.shape))
    leaves, structure = jax.tree.flatten(fresh_carry(cell.resolve(xs), xs, params))
    keys = jax.random.split(k_carry, len(leaves))
    drawn = [_near(leaf, key) for leaf, key in zip(leaves, keys, strict=True)]
    sample = Sample(cell, params, xs, jax.tree.unflatten(structure, drawn), reference)
    return Report(cell, tuple(_try(name, LAWS[name], sample) for name in names))


def _near(leaf: jax.Array, key: jax.Array) -> jax.Array:
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf + 0.5 * jax.random.normal(key, leaf.shape, leaf.dtype) if floating else leaf


def _try(name: str, law: Callable[[Sample], None], sample: Sample) -> Finding:
    try:
        law(sample)
    except _Skipped as reason:
        return Finding(name, None, str(reason))
    except Exception as error:  # any error of a user's cell is the finding
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return Finding(name, False, f"{type(error).__name__}: {' '.join(lines)[:200]}")
    return Finding(name, True, "")


def _same(what: str, got: PyTree, expected: PyTree, tol: float = 1e-4) -> None:
    if jax.tree.structure(got) != jax.tree.structure(expected):
        raise AssertionError(f"{what}: {_check.describe(got)}, not {_check.describe(expected)}")
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.shape != b.shape:
            raise AssertionError(f"{what}: shape {a.shape}, not {b.shape}")
        if not np.allclose(a, b, tol, tol):
            raise AssertionError(f"{what}: differs by {np.max(np.abs(a - b)):.1e}")


def static(s: Sample) -> None:
    """A cell is a static value: it holds no array, and can be hashed."""
    if jax.tree.leaves(s.cell):
        raise AssertionError("the cell holds arrays; put them in its parameters")
    if dataclasses.is_dataclass(s.cell):
        again = dataclasses.replace(s.cell)
        if again != s.cell or hash(again) != hash(s.cell):
            raise AssertionError(
                "an equal cell compares unequal, so every call would trace it again"
            )


def step(s: Sample) -> None:
    """A step keeps the carry's structure, shapes and dtypes."""
    before = jax.eval_shape(lambda: s.carry)
    after, _ = jax.eval_shape(s.cell.step, s.params, s.carry, s.xs[0])
    if before != after:
        raise AssertionError(f"carry {_check.describe(after)}, not {_check.describe(before)}")


def reference(s: Sample) -> None:
    """A step equals the equations in NumPy."""
    if s.reference is None:
        raise _Skipped("no reference was given")
    got = jax.jit(s.cell.step)(s.params, s.carry, s.xs[0])
    params, carry, x = jax.tree.map(np.asarray, (s.params, s.carry, s.xs[0]))
    rows = []
    for b in range(len(x)):
        own = jax.tree.map(lambda a, b=b: a[b], carry)
        rows.append(jax.tree.leaves(s.reference(params, own, x[b])))
    _same("step", jax.tree.leaves(got), [np.stack(leaf) for leaf in zip(*rows, strict=True)])


def batch(s: Sample) -> None:
    """A batch gives what its sequences give one by one."""
    alone = jax.jit(jax.vmap(s.cell.step, (None, 0, 0)))
    args = (s.params, s.carry, s.xs[0])
    _same("step", jax.jit(s.cell.step)(*args), alone(*args))


def scan(s: Sample) -> None:
    """`unroll` equals a loop of steps, and every engine equals the plain scan."""
    carry, ys, one = s.carry, [], jax.jit(s.cell.step)
    for x in s.xs:
        carry, y = one(s.params, carry, x)
        ys.append(y)
    expected = (carry, jax.tree.map(lambda *a: jnp.stack(a), *ys))
    engines = [e for e in ENGINES if e.why_not(s.cell, s.xs, Flags()) is None]
    for engine in (*engines, Scan(checkpoint="sqrt")):
        _same(f"{engine}", s.unroll(engine=engine), expected)
    last = jax.tree.map(lambda a: a[-1], trajectory(s.cell, s.params, s.xs, s.carry))
    _same("trajectory", last, carry)


def stream(s: Sample) -> None:
    """Two halves, with the carry passed on, equal one call."""
    carry, first = s.unroll(s.xs[:3])
    carry, second = s.unroll(s.xs[3:], carry)
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    _same("halves", (carry, joined), s.unroll())


def gradient(s: Sample) -> None:
    """Backward, forward and numerical derivatives agree."""

    @jax.jit
    def loss(params: Params, xs: jax.Array) -> jax.Array:
        out = unroll(s.cell, params, xs, s.carry)
        floats = [a for a in jax.tree.leaves(out) if jnp.issubdtype(a.dtype, jnp.floating)]
        return jnp.sum(jnp.stack([jnp.sum(jnp.sin(a)) for a in floats]))

    inputs = (s.params, s.xs)
    tangents = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size)).reshape(a.shape), inputs)
    back = jax.jit(jax.grad(loss, (0, 1)))(*inputs)
    pairs = zip(jax.tree.leaves(back), jax.tree.leaves(tangents), strict=True)
    backward = sum(jnp.vdot(a, b) for a, b in pairs)
    _, forward = jax.jit(lambda *args: jax.jvp(loss, *args))(inputs, tangents)
    _same("forward mode", forward, backward, 1e-3)
    eps = 1e-3
    ends = [jax.tree.map(lambda a, d, e=e: a + e * d, inputs, tangents) for e in (eps, -eps)]
    numerical = (loss(*ends[0]) - loss(*ends[1])) / (2 * eps)
    _same("numerical derivative", backward, numerical, 2e-2)


def padding(s: Sample) -> None:
    """Padding keeps the carry, and NaN in the padding changes no value and no gradient."""
    n = 4
    dirty = s.xs.at[n:].set(jnp.nan)
    lengths = jnp.full(s.xs.shape[1], n)
    carry, ys = s.unroll(dirty, lengths=lengths)
    expected = s.unroll(s.xs[:n])
    _same("values", (carry, jax.tree.map(lambda a: a[:n], ys)), expected)

    def loss(params: Params, xs: jax.Array, **flags: Any) -> jax.Array:
        out = unroll(s.cell, params, xs, s.carry, **flags)[1]
        return jnp.sum(jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(out)]))

    graded = jax.jit(jax.grad(loss))
    got, clean = graded(s.params, dirty, lengths=lengths), graded(s.params, s.xs[:n])
    _same("gradient", got, clean, 1e-3)


def resets(s: Sample) -> None:
    """Packed sequences, unrolled forward, in reverse or step by step, equal separate ones."""
    cut = 3
    starts = jnp.zeros(s.xs.shape[:2], bool).at[jnp.array([0, cut])].set(True)
    for reverse in (False, True):
        _, packed = unroll(s.cell, s.params, s.xs, resets=starts, reverse=reverse)
        # Read in one way: from the end, nothing comes before the last sequence to restart it.
        read = functools.partial(jnp.flip, axis=0) if reverse else jnp.asarray
        xs, ys = jax.tree.map(read, (s.xs, packed))
        at = len(xs) - cut if reverse else cut
        alone = []
        for part, restarts in ((xs[:at], not reverse), (xs[at:], True)):
            first = jnp.zeros(part.shape[:2], bool).at[0].set(restarts)
            alone.append(unroll(s.cell, s.params, part, resets=first)[1])
        _same("packed", ys, jax.tree.map(lambda *a: jnp.concatenate(a), *alone))
    carry, one = s.carry, jax.jit(s.cell.step)
    for x, reset in zip(s.xs, starts, strict=True):
        carry, _ = one(s.params, carry, x, reset)
    _same("step with a reset", carry, unroll(s.cell, s.params, s.xs, resets=starts)[0])


def dtype(s: Sample) -> None:
    """Values in bfloat16, float16 and float64 are close to those in float32."""
    expected = unroll(s.cell, s.params, s.xs)
    for narrow in (jnp.bfloat16, jnp.float16):
        got = unroll(s.cell, s.params, s.xs.astype(narrow))
        _same(f"values in {jnp.dtype(narrow)}", got, expected, 0.1)
    with jax.enable_x64(True):
        params, xs = jax.tree.map(_in_float64, (s.params, s.xs))
        _same("values in float64", unroll(s.cell, params, xs), expected, 1e-3)


def _in_float64(leaf: jax.Array) -> jax.Array:
    floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.asarray(leaf, jnp.float64) if floating else leaf


def split(s: Sample) -> None:
    """The parts of a split or linear cell combine to its `recur`."""
    cell = s.cell.resolve(s.xs[0])
    drive = cell.project(s.params, s.xs[0])
    if isinstance(cell, SplitCell) and cell.why_not_split() is None:
        mixed = cell.mix(s.params, s.carry)
        slopes.dependence(cell.gate, s.carry, drive, mixed)  # raises unless it is elementwise
        got = cell.gate(s.carry, drive, mixed)
        _products(s, cell)
    elif isinstance(cell, LinearCell):
        a, b = cell.coefficients(s.params, drive, None)
        got = jax.tree.map(jnp.add, cell.times(a, s.carry), b)
    else:
        raise _Skipped("neither a SplitCell that can be split nor a LinearCell")
    _same("recur", got, cell.recur(s.params, s.carry, drive))


def _products(s: Sample, cell: SplitCell) -> None:
    """The products that a class declares are those that its methods compute."""
    expected, x = cell.step(s.params, s.carry, s.xs[0])[0], s.xs[0]
    for name, form in products.FORMS.items():
        if form.why_not(cell, s.xs) is None:
            prepared = form.prepare(cell, s.params, x, s.carry)
            new = cell.gate(s.carry, *form.both(cell, s.params, prepared, x, s.carry))
            _same(f"INPUT_WEIGHTS or RECURRENT_WEIGHTS, {name} products", new, expected)


LAWS: dict[str, Callable[[Sample], None]] = {
    "static": static,
    "step": step,
    "reference": reference,
    "batch": batch,
    "scan": scan,
    "stream": stream,
    "gradient": gradient,
    "padding": padding,
    "resets": resets,
    "dtype": dtype,
    "split": split,
}
