"""The engine that solves for the carries of all steps at once, by Newton's method."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import export

from seqcells import _check
from seqcells._cell import Cell
from seqcells._flags import Flags
from seqcells._model import leading
from seqcells._trees import closed_over, select, silence
from seqcells._types import Carry, Inputs, Outputs, Params, PyTree, Shape
from seqcells.engines import _platform
from seqcells.engines._engine import Engine
from seqcells.engines.newton import affine, certificate, jacobians
from seqcells.engines.newton.certificate import NewtonReport, Progress
from seqcells.engines.newton.implicit import implicit
from seqcells.engines.newton.iteration import Solver
from seqcells.engines.newton.layout import DIAGONAL, FULL, Layout, layout_of
from seqcells.engines.newton.recurrence import Given, Recurrence, project, read
from seqcells.engines.scan import Scan, in_chunks

DTYPES = ("bfloat16", "float16", "float32", "float64")
MOST = 100  # iterations where none are named
LARGE = 32  # numbers in a block: from more on, products of blocks cost more than rounds


@dataclasses.dataclass(frozen=True)
class Newton(Engine):
    """Solve for the carries of all steps at once by Newton's method (Lim et al. 2024, DEER).

    The carries solve h_t = f_t(h_{t-1}) for all t. An iteration linearizes f at the carries that
    are known so far, and corrects all of them by an affine recurrence, which runs in parallel over
    time. Near the solution the error squares in each iteration, so few are needed if the recurrence
    forgets: 3 to 5 for a GRU at initialisation, whatever the number of steps. Where errors grow
    along a sequence, as in a chaotic net, many are needed, and `on_fail` says what happens then.

    Values are those of `Scan` to rounding, with every flag, for any cell with a derivative.
    Derivatives are those at the solution with the full Jacobian, whatever the settings (Gonzalez et
    al. 2024 differentiate with the diagonal one). `newton` returns a report beside the outputs; to
    see it for this engine, call `diagnostics.newton_report`. This engine runs only if you name it:
    on a CPU `Scan` and `Deferred` are faster, and on other platforms nobody has timed it yet.

    Args:
        jacobian: "full" uses all of J_t, S x S for a carry of S numbers: T * S * S numbers of
            memory. "diagonal" uses only its diagonal: cheaper iterations, but more of them, and
            O(T S) memory; its `error_bound` is wider. For a cell that is elementwise in its carry,
            both use the exact Jacobian at the cost of a diagonal. J_t of a `SplitCell` comes from
            the slopes of its gates; other cells take S products for it.
        tol: the largest residual abs(h_t - f_t(h_{t-1})) of a solution. None: 16 times the rounding
            error of the dtype of computation, for carries up to 1; in proportion for larger ones.
        max_iters: the largest number of iterations of a chunk; None: 100. There are never more than
            the chunk has steps, which always suffice without damping and in full precision.
        chunk: steps that are solved for at once, so that memory holds their Jacobians alone; chunks
            run one after another. None: all steps. It need not divide T.
        damping: from 0 to below 1; J_t is multiplied by 1 - damping in the iterations, which can
            help where corrections overshoot.
        scan_dtype: the dtype of the iterations' corrections, such as "bfloat16". Residuals, the
            report and derivatives keep the carry's dtype, so the solution is the same. None: that
            of the carry.
        on_fail: what is returned for sequences that have not converged, or are too sensitive to
            tell. "sequential": they are run step by step, under `vmap` in any case. "nan": NaN.
            "flag": the last iterate.
        scan: how affine recurrences are run: "sequential", "associative" or "blocked". None: on a
            CPU the first; elsewhere the second for fewer than 32 numbers in a block of the
            Jacobian, and else the third, by a model of the cost.

    Raises:
        ValueError: on a value out of range or an unknown name.
        TypeError: on a size that is no int.
    """

    jacobian: str = "full"
    tol: float | None = None
    max_iters: int | None = None
    chunk: int | None = None
    damping: float = 0.0
    scan_dtype: str | None = None
    on_fail: str = "sequential"
    scan: str | None = None

    def __post_init__(self) -> None:
        _check.choice("jacobian", self.jacobian, (FULL, DIAGONAL))
        _check.choice("on_fail", self.on_fail, ("sequential", "nan", "flag"))
        for name in ("max_iters", "chunk"):
            if getattr(self, name) is not None:
                _check.size(name, getattr(self, name), least=1)
        if self.tol is not None:
            _check.positive("tol", self.tol)
        _check.rate("damping", self.damping)
        if self.scan_dtype is not None:
            _check.choice("scan_dtype", self.scan_dtype, DTYPES)
        if self.scan is not None:
            _check.choice("scan", self.scan, tuple(affine.SCANS))

    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return that a size is symbolic, or None."""
        sizes = (size for leaf in jax.tree.leaves(xs) for size in leaf.shape)
        if any(map(export.is_symbolic_dim, sizes)):
            return "its program depends on the sizes of xs, and some are symbolic"
        return None

    def why_slow(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return that another engine is faster, or may be."""
        if _platform.platform(xs) == "cpu":
            return "a CPU is faster step by step"
        return "it has not been timed on this platform"

    def run(
        self, cell: Cell, params: Params, xs: Inputs, carry: Carry, flags: Flags
    ) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        last, _, ys, _ = self.solve(cell, params, xs, carry, flags)
        return last, ys

    def solve(
        self,
        cell: Cell,
        params: Params,
        xs: Inputs,
        carry: Carry,
        flags: Flags,
        guess: Carry = None,
    ) -> tuple[Carry, Carry, Outputs, NewtonReport]:
        """Run the cell over time, and report how well the equations were solved.

        Args:
            cell: the cell, resolved.
            params: its parameters.
            xs: the inputs [T, *B, ...].
            carry: the carry before the first step, [*B, ...].
            flags: lengths, masks, resets and direction.
            guess: approximate carries after each step, [T, *B, ...]; where it is None or not
                finite, those of one step from the first carry.

        Returns:
            The last carry, the carries after each step and ys, both [T, *B, ...], and the report.
        """
        lead = leading(cell, xs)
        if 0 in lead:
            every = jax.tree.map(lambda a: jnp.broadcast_to(a, (lead[0], *a.shape)), carry)
            last, ys = Scan().run(cell, params, xs, carry, flags)
            return last, every, ys, _nothing(carry, lead[1:])
        _check_carry(cell, carry)
        steps = (project(cell, params, silence(flags.valid, xs)), flags.valid, flags.restart, guess)
        drive, valid, restart, guess = _in_order(steps, flags.reverse)
        read_flags = Flags(valid, restart, flags.fresh)
        layout = layout_of(cell, self.jacobian, params, carry, drive, read_flags, len(lead) - 1)
        fresh = None if restart is None else flags.fresh
        given = Given(params, fresh, layout.flatten(carry), drive, valid, restart)
        solver = self._solver(given, layout, cell, lead, _platform.platform(xs))
        carries, known = self._solved(
            solver, given, None if guess is None else layout.flatten(guess)
        )
        before = layout.unflatten(solver.recurrence.before(given, carries))
        every = layout.unflatten(carries)
        ys = silence(valid, read(cell, given, before, every))
        last = layout.unflatten(carries[-1])
        every, ys = _in_order((every, ys), flags.reverse)
        return last, every, ys, certificate.report(solver, known)

    def _solver(
        self, given: Given, layout: Layout, cell: Cell, lead: Shape, platform: str
    ) -> Solver:
        """Choose what is None, by the platform and the sizes."""
        tree = layout.unflatten(jnp.zeros_like(given.start, shape=(*lead, *given.start.shape[-2:])))
        ys = jax.tree.leaves(
            jax.eval_shape(lambda carries: read(cell, given, carries, carries), tree)
        )
        dtypes = [y.dtype for y in ys if jnp.issubdtype(y.dtype, jnp.floating)]
        largest = given.start.shape[-1]
        scan = (
            "sequential" if platform == "cpu" else "associative" if largest < LARGE else "blocked"
        )
        steps = min(self.chunk or lead[0], lead[0])
        own = tuple(a.dtype for a in jax.tree.leaves(given.params))
        return Solver(
            recurrence=Recurrence(cell, layout, own, jacobians.factored(cell, layout, given)),
            scan=self.scan or scan,
            eps=max(float(jnp.finfo(dtype).eps) for dtype in (layout.dtype, *dtypes)),
            tol=self.tol,
            max_iters=min(self.max_iters or MOST, steps),
            damping=self.damping,
            scan_dtype=jnp.dtype(self.scan_dtype or layout.dtype),
        )

    def _solved(
        self, solver: Solver, given: Given, guess: jax.Array | None
    ) -> tuple[jax.Array, Progress]:
        """Solve chunk after chunk. Returns the carries [T, *B, U, K] and what is known of them."""
        params, _ = closed_over(given.params)  # gradients of all chunks are summed in float32
        length = len(jax.tree.leaves(given.drive)[0])

        def chunk(
            state: tuple[jax.Array, Progress], inputs: PyTree
        ) -> tuple[tuple[jax.Array, Progress], jax.Array]:
            start, past = state
            drive, valid, restart, guess, signs = inputs
            part = Given(params, given.fresh, start, drive, valid, restart)
            carries, sound, past = self._found(
                solver, jax.lax.stop_gradient(part), guess, signs, past
            )
            carries = implicit(solver.recurrence, solver.scan, part, carries, sound)
            return (carries[-1], past), carries

        signs = certificate.draw_signs(length, given.start.shape[-2:], given.start.dtype)
        inputs = (given.drive, given.valid, given.restart, guess, signs)
        state = (given.start, certificate.begin(solver, given))
        chunks = min(self.chunk or length, length)
        if chunks == length:
            (_, known), carries = chunk(state, inputs)
        else:
            (_, known), carries = in_chunks(chunk, state, inputs, chunk=chunks, reverse=False)
        return carries, known

    def _found(
        self,
        solver: Solver,
        given: Given,
        guess: jax.Array | None,
        signs: jax.Array,
        past: Progress,
    ) -> tuple[jax.Array, jax.Array, Progress]:
        """Solve a chunk; return its carries, whether all have converged, and what is known."""
        shape = (*signs.shape[:1], *given.start.shape)
        cold = solver.recurrence.all(given, jnp.broadcast_to(given.start, shape))
        guess = cold if guess is None else jnp.where(jnp.isfinite(guess), guess, cold)
        found = solver.iterate(given, jax.lax.stop_gradient(guess))
        carries, good, known = certificate.certify(solver, given, found, signs, past)
        sound = jnp.all(good)
        rows = jnp.broadcast_to(good, shape[:-2])
        if self.on_fail == "nan":
            carries = select(rows, carries, jnp.full_like(carries, jnp.nan))
        elif self.on_fail == "sequential":
            carries = jax.lax.cond(
                sound,
                lambda carries: carries,
                lambda carries: select(rows, carries, solver.recurrence.in_turn(given)),
                carries,
            )
        return carries, sound, known


def _in_order(tree: PyTree, reverse: bool) -> PyTree:
    """Turn arrays [T, ...] from the order of time to that of reading, or back."""
    return jax.tree.map(lambda a: jnp.flip(a, axis=0), tree) if reverse else tree


def _check_carry(cell: Cell, carry: Carry) -> None:
    """Raise unless all numbers of a carry are real: others have no slopes."""
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(carry)}
    wrong = [dtype for dtype in dtypes if not jnp.issubdtype(dtype, jnp.floating)]
    if wrong or not dtypes:
        got = ", ".join(map(str, wrong)) or "no array"
        raise TypeError(
            f"cell: expected a carry of floating arrays, which has a Jacobian, got {got} of "
            f"{cell}; use engine=Scan()"
        )


def _nothing(carry: Carry, batch: Shape) -> NewtonReport:
    """Return the report of sequences without steps."""
    dtype = jnp.result_type(*jax.tree.leaves(carry))
    zero = jnp.zeros(batch, dtype)
    return NewtonReport(zero == 0, zero.astype(jnp.int32), zero, zero, zero)
