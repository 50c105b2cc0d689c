"""Learning from a stream: a step of data, a step of a rule, and an update every k steps."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells._model import Model
from seqcells._optimizer import remainder, update, widen
from seqcells._static import Static, exported
from seqcells._trees import distinct, silence, zeros_like
from seqcells._types import Inputs, Outputs, Params, PyTree
from seqcells.online import EProp, Rule, Trace

if TYPE_CHECKING:
    import optax

Metrics = dict[str, jax.Array]
StepLoss = Callable[[Outputs, PyTree], jax.Array]


@exported
class Example(NamedTuple):
    """One step of a stream; or many, with an axis of time before the batch."""

    x: Inputs  # [*B, D]
    target: PyTree  # [*B, ...]; ignored where `scored` is False
    scored: jax.Array | None = None  # bool[*B], whether there is a target; None where always
    reset: jax.Array | None = None  # bool[*B], a new sequence starts here; None where none does
    mask: jax.Array | None = None  # bool[*B], False = padding; None where there is none


@exported
class StreamState(NamedTuple):
    """Everything that a learner needs to continue: the same state gives the same bits."""

    step: jax.Array  # int32[]
    key: jax.Array  # key[], never changed: step t uses fold_in(key, t)
    params: PyTree  # (those of the rule's model, those of the readout)
    feedback: jax.Array | None  # the matrix of random feedback
    trace: Trace
    grads: PyTree  # the sum since the last update, in at least float32
    opt_state: PyTree
    remainder: PyTree  # rounding remainders of bfloat16 and float16 parameters


@dataclasses.dataclass(frozen=True)
class Stream(Static):
    """A learner that updates its parameters as it reads; see `stream`."""

    rule: Rule
    loss: StepLoss
    readout: Model
    optimizer: Any  # an optax.GradientTransformation, which pyright takes for a tuple
    every: int = 1

    def __post_init__(self) -> None:
        _check.instance("rule", self.rule, Rule, "online.RTRL(GRU(64))")
        _check.instance("readout", self.readout, Model, "Dense(10)")
        for name, value in (("loss", self.loss), ("optimizer", getattr(self.optimizer, "init", 0))):
            if not callable(value):
                example = "(output, target) -> float[*B]" if name == "loss" else "optax.adam(1e-3)"
                got = _check.describe_one(getattr(self, name))
                raise TypeError(f"{name}: expected {example}, got {got}")
        _check.size("every", self.every, least=1)

    def init(self, key: jax.Array, x: Inputs, params: PyTree = None) -> StreamState:
        """Return the state before the first step.

        Args:
            key: one random key for the whole stream.
            x: one step's input [*B, D]; its values are not used.
            params: a pair, the parameters of the rule's model and of the readout; drawn if None.

        Raises:
            TypeError: if the readout has a memory, or the key is not a random key.
            ValueError: if shapes do not fit.
        """
        _check.key("key", key)
        k_model, k_readout, k_feedback, k_trace, key = jax.random.split(key, 5)
        model, x = self.rule.model, jax.tree.map(jnp.asarray, x)
        if params is None:
            own = model.init(k_model, model.input_size(x))
            y = self._output(own, x)
            params = own, self.readout.init(k_readout, self.readout.input_size(y))
        own, of_readout = params = jax.tree.map(jnp.asarray, params)
        y = self._output(own, x)
        if jax.tree.leaves(jax.eval_shape(self.readout.init_carry, y, of_readout)):
            raise TypeError(
                f"readout: expected a layer without memory, such as Dense(10), got {self.readout}; "
                "put what has a memory into the rule's model"
            )
        feedback = None
        if isinstance(self.rule, EProp) and self.rule.feedback == "random":
            out = jax.eval_shape(self._read, of_readout, y)
            feedback = self.rule.init_feedback(k_feedback, out.shape[-1], y.shape[-1])
        trace = self.rule.init(own, x, key=k_trace)
        opt_state = self.optimizer.init(widen(params))
        grads = zeros_like(widen(params))
        rest = remainder(params)
        start = jnp.int32(0), key, params, feedback, trace, grads, opt_state, rest
        return distinct(StreamState(*start))

    def step(self, state: StreamState, example: Example) -> tuple[StreamState, Metrics]:
        """Read one step, and update the parameters if it is the last of `every`.

        Args:
            state: the state before the step.
            example: the step.

        Returns:
            The state after it, and metrics: `loss`, the mean over the rows that are scored, NaN if
            none is; and `scored`, their number.
        """
        own, of_readout = state.params
        key = jax.random.fold_in(_key_of(state), 0)
        reset, mask = example.reset, example.mask
        trace, y = self.rule.step(own, state.trace, example.x, reset, mask=mask, key=key)
        scored = trace.valid if example.scored is None else trace.valid & example.scored
        target = silence(scored, example.target)  # what is not scored may be NaN

        def total(out: Outputs) -> jax.Array:
            return jnp.sum(silence(scored, self.loss(out, target)))

        out, through = jax.vjp(self._read, of_readout, y)
        value, error = jax.value_and_grad(total)(out)
        by_readout, dy = through(error)
        if state.feedback is None:
            by_own = self.rule.gradient(own, trace, dy)
        else:
            assert isinstance(self.rule, EProp)  # for the type checker: `init` has drawn for it
            by_own = self.rule.gradient(own, trace, error, state.feedback)
        share = 1 / (max(1, scored.size) * self.every)
        sums = jax.tree.map(lambda s, g: s + share * g, state.grads, (by_own, widen(by_readout)))
        new = state._replace(step=state.step + 1, trace=trace, grads=sums)
        due = new.step % self.every == 0
        new = jax.lax.cond(due, self._update, lambda new, _: new, new, share * value)
        count = jnp.sum(scored)
        mean = jnp.where(count > 0, value / jnp.maximum(count, 1), jnp.nan)
        return new, {"loss": mean, "scored": count}

    def run(self, state: StreamState, examples: Example) -> tuple[StreamState, Metrics]:
        """Read many steps as one scan; a pure function to jit, and to vmap over states.

        Args:
            state: the state before the first step.
            examples: [T, *B, ...].

        Returns:
            The state after them, and the metrics of each step, [T].
        """
        return jax.lax.scan(self.step, state, examples)

    def fit(
        self,
        state: StreamState,
        data: Iterable[Example] | Callable[[jax.Array, jax.Array], Example],
        steps: int,
        *,
        segment: int = 100,
        on_segment: Callable[[StreamState, Metrics], object] | None = None,
    ) -> tuple[StreamState, Metrics]:
        """Learn from a stream, in jitted segments with a loop on the host between them.

        Args:
            state: the state to continue from.
            data: an iterable of examples [T, *B, ...], with any T, of which a segment is one; it
                may be endless, and to resume it is yours to continue it. Or a pure function
                `(key, step) -> Example` of one step, which draws it from a key of that step; a
                state that is resumed then sees the same data as one that goes on.
            steps: how many steps to read, at least 0; fewer if the iterable ends.
            segment: steps per call of the compiled program, if data is a function; at least 1.
            on_segment: called with the state and the metrics of each segment; learning ends if it
                returns True.

        Returns:
            The state at the end, and the metrics of all steps, float[steps].
        """
        steps = _check.size("steps", steps, least=0)
        segment = _check.size("segment", segment, least=1)
        history: list[PyTree] = [{"loss": np.zeros(0, np.float32), "scored": np.zeros(0, np.int32)}]
        left, chunks = steps, None if callable(data) else iter(data)
        while left > 0:
            if chunks is None:
                state, metrics = _drawn(self, data, min(segment, left), state)
            else:
                examples = next(chunks, None)
                if examples is None:
                    break
                state, metrics = _given(self, state, jax.tree.map(_first(left), examples))
            history.append(jax.tree.map(np.asarray, metrics))
            left -= len(history[-1]["loss"])
            if on_segment is not None and on_segment(state, history[-1]) is True:
                break
        return state, jax.tree.map(lambda *parts: np.concatenate(parts), *history)

    def _output(self, params: Params, x: Inputs) -> Outputs:
        """Return zeros shaped as y of the rule's model."""
        model = self.rule.model
        _, y = jax.eval_shape(lambda p: model.step(p, model.init_carry(x, p), x), params)
        return jnp.zeros(y.shape, y.dtype)

    def _read(self, params: Params, y: Outputs) -> Outputs:
        return self.readout.step(params, self.readout.init_carry(y, params), y)[1]

    def _update(self, state: StreamState, value: jax.Array) -> StreamState:
        """Take a step of the optimiser, and begin the next sum of gradients."""
        params, opt_state, rest = update(
            self.optimizer,
            state.grads,
            state.opt_state,
            state.params,
            state.remainder,
            value=value,
            value_fn=_no_line_search,
        )
        grads = zeros_like(state.grads)
        return state._replace(params=params, opt_state=opt_state, remainder=rest, grads=grads)


def stream(
    rule: Rule,
    loss: StepLoss,
    readout: Model,
    optimizer: optax.GradientTransformation,
    *,
    every: int = 1,
) -> Stream:
    """Return a learner that reads a stream step by step, and updates its parameters as it reads.

    A step of data moves the rule's trace on; the loss of the step gives gradients of the readout
    and, by the rule, of its model. They are summed over `every` steps, in which the parameters stay
    the same, divided by the number of rows and steps, and passed to the optimiser. Nothing is
    stored of the past but the trace, so a stream may be endless.

    Targets may come late: the loss of a step is that of its output, and rows that are not `scored`
    have none. To let a target of step t - k count, remember it for k steps in the data.

    Args:
        rule: such as `online.RTRL(GRU(64))`; its model's y is an array [*B, H].
        loss: `(output, target) -> float[*B]`, the loss of one step for each row.
        readout: a layer without memory that reads y, such as `Dense(10)`; it has its own exact
            gradient.
        optimizer: an Optax transformation, such as `optax.adam(1e-3)`. It has the loss, but no
            function of the parameters, so no line search.
        every: k, steps between updates, at least 1.

    Returns:
        A static value with the functions `init(key, x)`, `step(state, example)`, which is pure,
        `run(state, examples)`, its scan, and `fit(state, data, steps)`, a loop on the host.

    Raises:
        TypeError: on an argument of the wrong type.
        ValueError: if `every` is below 1.

    >>> import jax, jax.numpy as jnp, optax, seqcells as sc
    >>> def loss(output, target):
    ...     return jnp.mean((output - target) ** 2, axis=-1)
    >>> rule = sc.online.RTRL(sc.MinGRU(8))
    >>> learner = sc.train.stream(rule, loss, sc.Dense(1), optax.adam(1e-2))
    >>> def wave(key, step):  # says what comes next
    ...     times = jnp.sin(0.3 * jnp.stack([step, step + 1]))
    ...     return sc.train.Example(times[:1], times[1:])
    >>> state = learner.init(jax.random.key(0), jnp.zeros(1))
    >>> state, metrics = learner.fit(state, wave, steps=500)
    >>> bool(metrics["loss"][-50:].mean() < 0.1 * metrics["loss"][:50].mean())
    True
    """
    return Stream(rule, loss, readout, optimizer, every)


def _first(count: int) -> Callable[[jax.Array], jax.Array]:
    return lambda a: a[:count]


def _key_of(state: StreamState) -> jax.Array:
    return jax.random.fold_in(state.key, state.step)


def _no_line_search(params: PyTree) -> jax.Array:
    raise TypeError(
        "optimizer: expected one that needs gradients alone, got one that evaluates the loss at "
        "other parameters, which a stream cannot repeat; use optax.adam or optax.sgd"
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _drawn(
    learner: Stream,
    data: Callable[[jax.Array, jax.Array], Example],
    count: int,
    state: StreamState,
) -> tuple[StreamState, Metrics]:
    """Draw and read `count` steps."""

    def step(state: StreamState, _: None) -> tuple[StreamState, Metrics]:
        key = jax.random.fold_in(_key_of(state), 1)  # the rule has another one of this step
        return learner.step(state, data(key, state.step))

    return jax.lax.scan(step, state, length=count)


@functools.partial(jax.jit, static_argnums=0)
def _given(learner: Stream, state: StreamState, examples: Example) -> tuple[StreamState, Metrics]:
    return learner.run(state, examples)
