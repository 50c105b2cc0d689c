"""Checks of your own cells (`check`), of rollouts (`check_replay`) and of values under jit."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from seqcells import _check
from seqcells._cell import Cell, LinearCell, SplitCell
from seqcells._checked import checked
from seqcells._flags import Flags
from seqcells._model import fresh_carry
from seqcells._rollouts import Replay, check_replay
from seqcells._types import Carry, Inputs, InputSize, Outputs, Params, PyTree, Shape
from seqcells._unroll import trajectory, unroll
from seqcells.engines import ENGINES, Scan
from seqcells.engines.deferred import products, slopes
from seqcells.online import _forms
from seqcells.online._influence import spread
from seqcells.online._moment import Moment

__all__ = ["LAWS", "Finding", "Replay", "Report", "check", "check_replay", "checked"]

Step = Callable[[Params, Carry, Inputs], tuple[Carry, Outputs]]
T, B = 7, 3  # steps and sequences of the test inputs


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
    xs: Inputs  # a tree of arrays [T, B, ...]; the floating ones in float32
    carry: Carry  # [B, ...], not the fresh one
    reference: Step | None

    @property
    def x(self) -> Inputs:
        """The input of the first step."""
        return _cut(self.xs, 0)

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

    Inputs are drawn by the shapes and dtypes of the cell's `zero_input`: floats are normal, flags
    are True or False, integers 0 or 1.

    Args:
        cell: any cell.
        input_size: features of the test inputs; a tree of sizes for a cell that reads a tree.
        params: its parameters; those of `cell.init` if None.
        reference: the same step in plain NumPy, `(params, carry, x) -> (carry, y)` for one sequence
            without batch axes; without it the law of that name is skipped.
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
    xs = _draw(_input, k_xs, cell.zero_input(input_size))
    carry = _draw(_near, k_carry, fresh_carry(cell.resolve(xs), xs, params))
    sample = Sample(cell, params, xs, carry, reference)
    return Report(cell, tuple(_try(name, LAWS[name], sample) for name in names))


def _draw(
    draw: Callable[[jax.Array, jax.Array], jax.Array], key: jax.Array, tree: PyTree
) -> PyTree:
    """Apply `draw(key, leaf)` to each leaf, with a key of its own."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, map(draw, keys, leaves))


def _input(key: jax.Array, leaf: jax.Array) -> jax.Array:
    """Draw the inputs of all steps and sequences, for a leaf of one input."""
    shape = (T, B, *leaf.shape)
    if _floating(leaf):
        return jax.random.normal(key, shape)
    return jax.random.bernoulli(key, shape=shape).astype(leaf.dtype)


def _near(key: jax.Array, leaf: jax.Array) -> jax.Array:
    return leaf + 0.5 * jax.random.normal(key, leaf.shape, leaf.dtype) if _floating(leaf) else leaf


def _floating(leaf: object) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _cut(tree: PyTree, index: PyTree) -> PyTree:
    """Index every leaf of a tree."""
    return jax.tree.map(lambda a: a[index], tree)


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
    after, _ = jax.eval_shape(s.cell.step, s.params, s.carry, s.x)
    if before != after:
        raise AssertionError(f"carry {_check.describe(after)}, not {_check.describe(before)}")


def reference(s: Sample) -> None:
    """A step equals the equations in NumPy."""
    if s.reference is None:
        raise _Skipped("no reference was given")
    got = jax.jit(s.cell.step)(s.params, s.carry, s.x)
    params, carry, x = jax.tree.map(np.asarray, (s.params, s.carry, s.x))
    rows = []
    for b in range(B):
        rows.append(jax.tree.leaves(s.reference(params, _cut(carry, b), _cut(x, b))))
    _same("step", jax.tree.leaves(got), [np.stack(leaf) for leaf in zip(*rows, strict=True)])


def batch(s: Sample) -> None:
    """A batch gives what its sequences give one by one."""
    alone = jax.jit(jax.vmap(s.cell.step, (None, 0, 0)))
    args = (s.params, s.carry, s.x)
    _same("step", jax.jit(s.cell.step)(*args), alone(*args))


def scan(s: Sample) -> None:
    """`unroll` equals a loop of steps, and every engine equals the plain scan."""
    carry, ys, one = s.carry, [], jax.jit(s.cell.step)
    for t in range(T):
        carry, y = one(s.params, carry, _cut(s.xs, t))
        ys.append(y)
    expected = (carry, jax.tree.map(lambda *a: jnp.stack(a), *ys))
    engines = [e for e in ENGINES if e.why_not(s.cell, s.xs, Flags()) is None]
    for engine in (*engines, Scan(checkpoint="sqrt")):
        _same(f"{engine}", s.unroll(engine=engine), expected)
    last = _cut(trajectory(s.cell, s.params, s.xs, s.carry), -1)
    _same("trajectory", last, carry)


def stream(s: Sample) -> None:
    """Two halves, with the carry passed on, equal one call."""
    carry, first = s.unroll(_cut(s.xs, slice(3)))
    carry, second = s.unroll(_cut(s.xs, slice(3, None)), carry)
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    _same("halves", (carry, joined), s.unroll())


def gradient(s: Sample) -> None:
    """Backward, forward and numerical derivatives agree."""
    leaves, structure = jax.tree.flatten((s.params, s.xs))
    floats = {i: leaf for i, leaf in enumerate(leaves) if _floating(leaf)}
    direction = {i: jnp.cos(jnp.arange(a.size)).reshape(a.shape) for i, a in floats.items()}

    def loss(floats: dict[int, jax.Array]) -> jax.Array:
        mixed = [floats.get(i, leaf) for i, leaf in enumerate(leaves)]
        params, xs = jax.tree.unflatten(structure, mixed)
        out = unroll(s.cell, params, xs, s.carry)
        seen = [jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out) if _floating(leaf)]
        return jnp.sum(jnp.stack(seen))

    def value_and_slope(t: jax.Array) -> tuple[jax.Array, jax.Array]:
        at = jax.tree.map(lambda a, d: a + t * d, floats, direction)
        return jax.jvp(loss, (at,), (direction,))

    # The mean slope of an interval is the change over it, also across kinks, such as those of relu.
    eps, n = 1e-3, 256
    points = jnp.array([-eps, 0, eps, *(np.arange(1 - n, n, 2) * (eps / n))], jnp.float32)
    values, slopes = jax.jit(jax.lax.map, static_argnums=0)(value_and_slope, points)
    back = jax.jit(jax.grad(loss))(floats)
    _same("forward mode", slopes[1], sum(jnp.vdot(back[i], direction[i]) for i in floats), 1e-3)
    numerical = (values[2] - values[0]) / (2 * eps)
    _same("numerical derivative", jnp.mean(slopes[3:]), numerical, 2e-2)


def padding(s: Sample) -> None:
    """Padding keeps the carry, and NaN in the padding changes no value and no gradient."""
    n = 4
    clean = _cut(s.xs, slice(n))
    dirty = jax.tree.map(lambda a: a.at[n:].set(jnp.nan if _floating(a) else a.dtype.type(1)), s.xs)
    lengths = jnp.full(B, n)
    carry, ys = s.unroll(dirty, lengths=lengths)
    _same("values", (carry, _cut(ys, slice(n))), s.unroll(clean))

    def loss(params: Params, xs: Inputs, **flags: Any) -> jax.Array:
        out = unroll(s.cell, params, xs, s.carry, **flags)[1]
        return jnp.sum(jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(out)]))

    graded = jax.jit(jax.grad(loss))
    _same("gradient", graded(s.params, dirty, lengths=lengths), graded(s.params, clean), 1e-3)


def resets(s: Sample) -> None:
    """Packed sequences, unrolled forward, in reverse or step by step, equal separate ones."""
    cut = 3
    starts = jnp.zeros((T, B), bool).at[jnp.array([0, cut])].set(True)
    for reverse in (False, True):
        _, packed = unroll(s.cell, s.params, s.xs, resets=starts, reverse=reverse)
        # Read in one way: from the end, nothing comes before the last sequence to restart it.
        read = functools.partial(jnp.flip, axis=0) if reverse else jnp.asarray
        xs, ys = jax.tree.map(read, (s.xs, packed))
        at = T - cut if reverse else cut
        alone = []
        for part, restarts in ((slice(at), not reverse), (slice(at, None), True)):
            first = jnp.zeros((T, B), bool)[part].at[0].set(restarts)
            alone.append(unroll(s.cell, s.params, _cut(xs, part), resets=first)[1])
        _same("packed", ys, jax.tree.map(lambda *a: jnp.concatenate(a), *alone))
    carry, one = s.carry, jax.jit(s.cell.step)
    for t in range(T):
        carry, _ = one(s.params, carry, _cut(s.xs, t), starts[t])
    _same("step with a reset", carry, unroll(s.cell, s.params, s.xs, resets=starts)[0])


def dtype(s: Sample) -> None:
    """Values in bfloat16, float16 and float64 are close to those in float32."""
    expected = unroll(s.cell, s.params, s.xs)
    for narrow in (jnp.bfloat16, jnp.float16):
        got = unroll(s.cell, s.params, _cast(s.xs, narrow))
        _same(f"values in {jnp.dtype(narrow)}", got, expected, 0.1)
    with jax.enable_x64(True):
        params, xs = _cast((s.params, s.xs), jnp.float64)
        _same("values in float64", unroll(s.cell, params, xs), expected, 1e-3)


def _cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    """Cast the floating leaves of a tree."""
    return jax.tree.map(lambda a: jnp.asarray(a, dtype) if _floating(a) else a, tree)


def split(s: Sample) -> None:
    """The parts of a split or linear cell combine to its `recur`."""
    cell = s.cell.resolve(s.x)
    drive = cell.project(s.params, s.x)
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
    expected, x = cell.step(s.params, s.carry, s.x)[0], s.x
    for name, form in products.FORMS.items():
        if form.why_not(cell, s.xs) is None:
            prepared = form.prepare(cell, s.params, x, s.carry)
            new = cell.gate(s.carry, *form.both(cell, s.params, prepared, x, s.carry))
            _same(f"INPUT_WEIGHTS or RECURRENT_WEIGHTS, {name} products", new, expected)


def units(s: Sample) -> None:
    """An entry of a parameter in UNIT_WEIGHTS reaches one unit of the carry in a step."""
    cell = s.cell.resolve(s.x)
    fields = _forms.unit_fields(cell)
    if not vars(type(cell)).get("UNIT_WEIGHTS") or not fields:
        raise _Skipped("it declares no UNIT_WEIGHTS that hold for it")
    moment = Moment(cell, s.params, s.carry, s.x)
    shape = _forms.unit_shape(moment)
    if shape is None:
        raise AssertionError("UNIT_WEIGHTS: the leaves of the carry are not all float[*B, *U]")

    def changes(params: Params) -> list[jax.Array]:
        return jax.tree.leaves(cell.advance(params, s.carry, s.x)[0])

    by_leaf = jax.jit(jax.jacfwd(changes))(s.params)  # of each leaf of the carry
    paths = jax.tree_util.tree_leaves_with_path(s.params)
    for (path, leaf), own in zip(paths, _forms.own(moment) or (), strict=True):
        name = jax.tree_util.keystr(path, simple=True)
        if name in fields and not own:
            raise AssertionError(f"UNIT_WEIGHTS: {name} {list(leaf.shape)} does not end in units")
        if name in fields and not _by_unit([getattr(part, name) for part in by_leaf], shape, leaf):
            raise AssertionError(f"UNIT_WEIGHTS: an entry of {name} reaches several units")


def _by_unit(slopes_of: list[jax.Array], shape: Shape, leaf: jax.Array) -> bool:
    """Whether slopes [B, *U, *leaf.shape] are 0 unless the unit of the entry is that of *U."""
    places = jnp.arange(math.prod(shape)).reshape(shape)
    mine = jnp.broadcast_to(spread(places, jnp.zeros(leaf.shape, int), own=True), leaf.shape)
    other = places.reshape(*shape, *[1] * leaf.ndim) != mine
    return not any(bool(jnp.any(jnp.where(other, a, 0) != 0)) for a in slopes_of)


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
    "units": units,
}
