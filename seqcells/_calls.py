"""Errors for calls with wrong arguments: they translate the names of other libraries."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_BATCH = "time is the first axis; write time_axis=1 if the batch is"
_BOTH = "leave it out: the carry and the outputs of all steps are returned"
_INIT = "pass it to init: params = model.init(key, input_size)"
_SIZES = "pass the size of the inputs to init: params = model.init(key, input_size)"
_KEY = "pass key= to train with noise; leave it out to evaluate"
_DROPOUT = "wrap the cell in VariationalDropout or Zoneout, or write Stack(layers, dropout=)"
ARGUMENTS = {  # {name in another library: what to write here}
    **dict.fromkeys(("batch_first", "time_major"), _BATCH),
    **dict.fromkeys(
        ("seq_lengths", "seq_length", "seq_len", "sequence_length", "sequence_lengths", "length"),
        "write lengths=",
    ),
    **dict.fromkeys(("padding_mask", "masks", "valid"), "write mask=, True where a step is valid"),
    **dict.fromkeys(
        ("initial_carry", "initial_state", "init_state", "init_carry", "initial_states"),
        "write carry=",
    ),
    **dict.fromkeys(("state", "hidden", "hidden_state", "h", "h0", "h_0", "hx"), "write carry="),
    **dict.fromkeys(("return_carry", "return_state", "return_sequences"), _BOTH),
    "keep_order": "leave it out: outputs stay in the order of time",
    "go_backwards": "write reverse=True",
    **dict.fromkeys(("reset", "starts", "start", "done", "dones", "is_first"), "write resets="),
    **dict.fromkeys(("rng", "rngs", "prng_key"), "write key="),
    **dict.fromkeys(("train", "training", "deterministic", "inference"), _KEY),
    **dict.fromkeys(
        ("features", "units", "num_units", "hidden_dim", "hidden_features", "cell_size"),
        "write hidden_size=",
    ),
    **dict.fromkeys(("input_size", "input_dim", "in_features", "input_shape"), _INIT),
    "num_layers": "stack cells: Stack((GRU(64), GRU(64)))",
    "bidirectional": "write the layer Bidirectional(GRU(64))",
    **dict.fromkeys(("dropout", "recurrent_dropout", "dropout_rate"), _DROPOUT),
    "use_bias": 'write bias="none" for a cell without one',
    "nonlinearity": "write activation=",
    **dict.fromkeys(("kernel_init", "kernel_initializer", "w_i_init"), "write w_ih_init="),
    **dict.fromkeys(
        ("recurrent_kernel_init", "recurrent_initializer", "w_h_init"), "write w_hh_init="
    ),
    **dict.fromkeys(
        ("bias_init", "bias_initializer"), "write b_init=, or b_ih_init= and b_hh_init="
    ),
}
_UNROLL = "carry, ys = seqcells.unroll(model, params, xs) runs it over sequences"
_STEP = "carry, y = model.step(params, carry, x) takes one step"
_MAKE = "params = model.init(key, input_size) makes its parameters"
_CARRY = "carry = model.init_carry(x) makes the first carry for one step's input x"
ATTRIBUTES = {  # {attribute of a model in another library: what to write here}
    **dict.fromkeys(("apply", "unroll", "scan", "forward", "call", "predict"), _UNROLL),
    **dict.fromkeys(("parameters", "params", "weights", "state_dict", "build", "variables"), _MAKE),
    **dict.fromkeys(
        ("initialize_carry", "initial_state", "get_initial_state", "init_hidden", "zero_state"),
        _CARRY,
    ),
}
CALLED = f"{_UNROLL}, {_STEP}"


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function whose TypeError for wrong arguments says what to write instead."""
    known = dict(inspect.signature(function).parameters)
    known.pop("self", None)
    own = inspect.signature(function).parameters.keys() - known.keys()
    name = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError:
            message = misfit(name, known, args[len(own) :], kwargs)
            if message is None:
                raise
        raise TypeError(message)

    return call


def misfit(
    function: str,
    known: Mapping[str, inspect.Parameter],
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> str | None:
    """Return what is wrong with the arguments of a call, or None if they fit."""
    for name in kwargs:
        if name not in known:
            have = f"expected an argument of {function} ({', '.join(known)})"
            return f"{name}: {have}, got another name; {_way(name, known)}"
    places = [name for name, one in known.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
    if len(args) > len(places):
        have = f"expected {', '.join(places) or 'none'} by position, got {len(args)} arguments"
        sizes = places == ["hidden_size"] and all(isinstance(one, int) for one in args)
        return f"{function}: {have}; {_SIZES if sizes else 'name the others'}"
    given = {*places[: len(args)], *kwargs}
    needs = [
        name
        for name, one in known.items()
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    missing = [name for name in needs if name not in given]
    if missing:
        needed = f"{function}({', '.join(needs)})"
        way = f"; {_MAKE}" if "params" in missing else ""
        return f"{', '.join(missing)}: expected by {needed}, got nothing{way}"
    return None


def _way(name: str, known: Mapping[str, object]) -> str:
    way = ARGUMENTS.get(name)
    if way is not None and (not way.startswith("write ") or way[6:].partition("=")[0] in known):
        return way
    near = difflib.get_close_matches(name, known, n=1)
    return f"write {near[0]}=" if near else "leave it out"


def elsewhere(name: str, kind: type) -> str:
    """Return the message that a model has no such attribute, and what to call instead."""
    missing = f"{kind.__name__!r} object has no attribute {name!r}"
    return f"{missing}; {ATTRIBUTES[name]}" if name in ATTRIBUTES else missing
