"""Laws of spaces: the trials do not depend on how the space is written."""

import dataclasses
import datetime
import enum
import functools
import itertools
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqcells as sc
from seqcells import sweep
from seqcells.sweep import Space
from seqcells.sweep._identity import digest, marked

ANY: Any = sweep  # to call it with wrong types


def ids(space):
    return [trial.id for trial in space.trials()]


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    a: int
    b: int


class Other(NamedTuple):
    a: int
    b: int


@dataclasses.dataclass
class Point:
    x: float
    scale: dataclasses.InitVar[int] = 1

    def __post_init__(self, scale):
        self.hidden = scale

    def act(self):
        pass


CONTENTS = [  # each row one value in several spellings, no two rows the same
    [1],
    [True, np.bool_(True)],
    [1.0, np.float64(1), np.float32(1)],
    ["1"],
    [Level.LOW],
    [0.0],
    [-0.0],
    [math.nan, np.float32("nan")],
    [2**70],
    [None],
    ["None"],
    [b"1"],
    [1j, np.complex64(1j)],
    [(8,), [8], (np.int32(8),)],
    ["(8)"],
    [(8.0,)],
    [(True,)],
    [("a", "b")],
    [("a, b",)],
    ["(a, b)"],
    [Pair(1, 2)],
    [Other(1, 2)],
    [(1, 2)],
    [{1, 2}, {2, 1}, frozenset([1, 2])],
    [{"a", "b", "c", "d"}, {"d", "c", "b", "a"}],  # their order depends on the process
    [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
    [{"a": 2, "b": 1}],
    [range(3)],
    [slice(3)],
    [datetime.date(2026, 1, 2)],
    [Path("a/b")],
    ["a/b"],
    [np.arange(3), np.arange(3).astype(">i8")],
    [np.arange(3.0)],
    [jnp.arange(3, dtype=jnp.bfloat16)],
    [np.arange(3, dtype=np.int32), jnp.arange(3)],
    [np.arange(3).reshape(1, 3)],
    [jax.random.key(0)],
    [jax.random.key(0, impl="rbg")],
    [jnp.float32, np.float32, np.dtype("float32"), jnp.dtype("float32")],
    [jnp.bfloat16, np.dtype(jnp.bfloat16)],
    ["float32"],
    [float],
    [np.tanh],
    [jnp.tanh],
    ["numpy.tanh"],
    ["name(numpy.tanh)"],
    [json.dumps],
    [optax.adam],
    [functools.partial(json.dumps, indent=2)],
    [functools.partial(json.dumps, indent=3)],
    [Point(1.0)],
    [Point(1.0, 2)],
    [Point(1.0).act],
    [Point(2.0).act],
    ["ab".upper],
    ["ba".upper],
    [sc.GRU],
    [sc.GRU(8)],
    [sc.GRU(8, b_ih_init=sc.initializers.ones)],
    [sc.GRU(8, b_ih_init=sc.initializers.Chrono(8))],
    [sc.FunctionCell(json.dumps, json.loads)],
]


def content_ids():
    return [[ids(Space(static={"a": [value]}))[0] for value in row] for row in CONTENTS]


def test_static_values_are_one_only_if_their_contents_are():
    rows = content_ids()
    assert [len(set(row)) for row in rows] == [1] * len(rows)
    assert len({row[0] for row in rows}) == len(rows)
    shown = [
        [json.dumps(Space(static={"a": [v]}).trials()[0].fields) for v in row] for row in CONTENTS
    ]
    assert len(set(itertools.chain(*shown))) == len(rows) - 3  # but for three strings that say it


def closure(rate=0.0):
    def act(x):
        return rate * x

    class Local(NamedTuple):
        a: int

    return act, Local(1), functools.partial(act, 1), Point(act)


class Plain:
    def act(self):
        pass

    def __repr__(self):
        return "Plain()"


wrapped = jax.jit(json.dumps)  # has the name of another function
UNKNOWN = [
    *closure(),
    lambda x: x,
    object(),
    Plain(),
    Plain().act,
    [Plain()],
    {"a": Plain()},
    wrapped,
    np.asarray([Plain()]),
    np.datetime64(1, "ns"),  # its item is 1
    np.ma.array([1, 2], mask=[True, False]),
    optax.adam(1e-3),
    jax.nn.initializers.normal(0.1),
    sc.GRU(8, w_ih_init=jax.nn.initializers.normal(0.1)),
    sc.FunctionCell(closure()[0], json.loads),
    np.random.default_rng(0).normal,
    type("int", (int,), {})(1),
]


@pytest.mark.parametrize("value", UNKNOWN, ids=lambda value: type(value).__name__)
def test_a_value_whose_content_cannot_be_read_is_refused_by_name(value):
    with pytest.raises(TypeError, match=r"static: .* got act=\["):
        Space(static={"act": [value]})


def test_a_space_is_the_product_of_its_fields_with_buckets_together():
    space = Space(lr=[0.1, 0.2], seed=range(3), static={"size": [8, 16], "kind": ["a"]})
    trials = space.trials()
    assert len(trials) == len(set(ids(space))) == 12
    assert [t.static["size"] for t in trials] == [8] * 6 + [16] * 6
    assert trials[4].hparams == {"lr": 0.2, "seed": 1}
    assert trials[0].fields == {"size": 8, "kind": "a", "lr": 0.1, "seed": 0}


def test_an_id_depends_on_the_configuration_alone():
    one = Space(lr=[0.1, 0.3], seed=range(2), static={"size": [8, 16]})
    other = Space(static={"size": (16, 8)}, seed=np.arange(2), lr=np.asarray([0.3, 0.1, 0.2]))
    assert set(ids(one)) < set(ids(other))
    changed = [Space(lr=[0.1], seed=[1]), Space(lr=[1], seed=[0.1]), Space(lr=[0.1], seed=[1.0])]
    changed += [Space(lr=[0.1], static={"seed": [1]}), Space(lr=[0.1], seed=[True])]
    assert len({ids(space)[0] for space in changed}) == 5


def test_an_id_is_the_same_in_every_process_and_version():
    code = """from seqcells import sweep, GRU; import json; from tests.sweep import test_space
print(json.dumps([[t.id for t in sweep.Space(lr=sweep.log(1e-4, 1e-1, 3), gain=sweep.uniform(0, 1),
    samples=1, static={"cell": [GRU(8)]}).trials()], test_space.content_ids()]))"""
    env = os.environ | {"PYTHONHASHSEED": "7"}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, encoding="utf-8", env=env, check=True)
    read, contents = json.loads(done.stdout)
    assert read == ["3d1c8bc89687", "4ad08ca2ae0c", "40b6dbfac85a"]
    assert contents == content_ids()


NAMES = ["lr", "Gain", "b_z", "a", "z z", 'x"y', "ü"]
GRIDS = [(0.1,), (1, 2**31), (-0.5, 0.0, 1e-300, math.inf), (True, False), (3,)]


@pytest.mark.parametrize("seed", range(30))
def test_ids_are_the_digests_of_configurations_and_columns_those_of_trials(seed):
    rng = random.Random(seed)
    names = rng.sample(NAMES, len(NAMES))
    count, drawn, static = (rng.randrange(3) for _ in range(3))
    fields = {names.pop(): rng.choice(GRIDS) for _ in range(count)}
    fields |= {names.pop(): sweep.uniform(-1, i) for i in range(drawn)}
    fields = dict(rng.sample([*fields.items()], len(fields)))
    values = {names.pop(): rng.sample([1, "ü", "a)", None, (1.0, 2)], 2) for _ in range(static)}
    space = Space(samples=2 if drawn else None, static=values, **fields)
    trials = space.trials()
    assert len(space) == len(trials)
    assert ids(space) == [
        digest({"static": {n: marked(v) for n, v in t.static.items()}, "hparams": t.hparams})
        for t in trials
    ]
    columns = space.columns()
    assert columns.pop("id") == ids(space)
    assert [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ] == [trial.fields for trial in trials if trial.fields]


def test_grids_are_even_and_reach_both_ends():
    np.testing.assert_allclose(sweep.log(1e-4, 1e-1, 16), np.geomspace(1e-4, 1e-1, 16), 1e-8)
    np.testing.assert_allclose(sweep.linear(-1, 2, 7), np.linspace(-1, 2, 7), atol=1e-8)


def test_samples_follow_their_distribution_and_stay_as_the_space_grows():
    low = Space(a=sweep.uniform(2, 4), b=sweep.log_uniform(1e-4, 1), samples=400)
    a, b = ([t.hparams[name] for t in low.trials()] for name in "ab")
    assert 2 <= min(a) < 2.05 < 3.95 < max(a) < 4
    np.testing.assert_allclose(np.quantile(a, [0.25, 0.5, 0.75]), [2.5, 3, 3.5], atol=0.2)
    np.testing.assert_allclose(np.quantile(np.log10(b), [0.25, 0.5, 0.75]), [-3, -2, -1], atol=0.4)
    assert abs(np.corrcoef(a, np.log(b))[0, 1]) < 0.15
    fewer = Space(c=[1], a=sweep.uniform(2, 4), samples=3, seed=range(2)).trials()
    assert [t.hparams["a"] for t in fewer] == [value for value in a[:3] for _ in range(2)]
    other = Space(a=sweep.uniform(2, 4), samples=3, draw=1).trials()
    assert not {t.hparams["a"] for t in other} & set(a)


def test_cells_and_functions_are_identified_by_name_and_fields():
    space = Space(static={"cell": [sc.GRU(8), sc.RNN(8)], "f": [np.tanh, json.dumps]})
    assert space.trials()[1].fields["f"] == "name(json.dumps)"
    assert "hidden_size=8" in space.trials()[0].fields["cell"]
    assert len(set(ids(space))) == 4


VALUES = [
    (lambda: ANY.Space(lr=[]), "lr: expected one or more different values, got none"),
    (lambda: ANY.Space(lr=[0.1, 0.1]), "lr: .* got 1 twice"),
    (lambda: ANY.Space(lr=[1, 1.0]), "lr: .* got 1 twice"),
    (lambda: ANY.Space(static={"n": [1, 1]}), "n: .* got 1 twice"),
    (lambda: ANY.Space(n=[1], static={"n": [1]}), "n: expected a unique name"),
    *(
        (lambda name=name: ANY.Space(**{name: [1]}), f"{name}: expected a unique name")
        for name in ("id", "status", "step", "steps", "seconds", "metrics")
    ),
    *(
        (lambda name=name: ANY.Space(static={name: ["a"]}), f"{name}: expected a unique name")
        for name in ("rank", "mean", "low", "high", "n", "diverged")
    ),
    (lambda: ANY.Space(static={"f": ["name(numpy.tanh)", np.tanh]}), "f: .* got 1 twice"),
    (lambda: ANY.Space(static={"f": [[8], (8,)]}), "f: .* got 1 twice"),
    (lambda: ANY.Space(static={"f": [np.float32, "float32", jnp.float32]}), "f: .* got 1 twice"),
    (lambda: ANY.Space(lr=[0.0, -0.0]), "lr: .* got 1 twice"),
    (
        lambda: ANY.Space(seed=[0.5, 2**31 - 1]),
        "seed: .* at most 9 significant digits.* got 2147483647",
    ),
    (lambda: ANY.Space(a=sweep.uniform(0, 1)), r"samples: .* got None, .*\['a'\]"),
    (lambda: ANY.Space(a=[1], samples=3), "samples: .* got 3, no distribution"),
    (lambda: ANY.log(0, 1, 3), "expected 0 < low < high, finite, got 0, 1"),
    (lambda: ANY.linear(1, 1, 3), "expected low < high, finite, got 1, 1"),
    (lambda: ANY.log(1, 2, 1), "count: expected an int >= 2, got 1"),
]
TYPES = [
    (lambda: ANY.Space(lr=0.1), r"lr: expected a list .* got 0.1; write lr=\[...\]"),
    (lambda: ANY.Space(lr=["a"]), r"lr: expected numbers, .*static=dict\(lr="),
    (lambda: ANY.Space(lr="ab"), "lr: expected a list"),
    (lambda: ANY.Space(lr={0.1, 0.2}), "lr: expected a list"),  # a set has no order
    (lambda: ANY.Space(static={"f": {"a": 1}}), "f: expected a list"),
    (lambda: ANY.Space(lr=[1, True]), "lr: expected numbers"),
    (lambda: ANY.Space(lr=[math.nan]), "lr: expected numbers"),
    (lambda: ANY.Space(static={1: [1]}), "static: expected names that are strings, got 1"),
    (lambda: ANY.Space(static=[1]), "static: expected a dict"),
    (lambda: ANY.Space(static={"f": [object()]}), "static: expected values with a name"),
    (lambda: ANY.Space(static={"f": [lambda x: x]}), "static: .* in make"),
    (lambda: ANY.linear("a", 1, 3), "low: expected a number, got 'a'"),
]
REFUSED = [(ValueError, *row) for row in VALUES] + [(TypeError, *row) for row in TYPES]


@pytest.mark.parametrize(("error", "make", "message"), REFUSED)
def test_wrong_spaces_are_refused(error, make, message):
    with pytest.raises(error, match=message):
        make()
