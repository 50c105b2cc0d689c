"""Wrong arguments of a sweep, and values that JAX would change, are refused by name."""

import math

import jax
import jax.numpy as jnp
import pytest

from seqcells import sweep
from tests.support.sweeps import PBT, make, space


def broken(**parts):
    return lambda size=2: make(size)._replace(**parts)


def rbg(s, hparams, n):
    return s, {"loss": jax.random.normal(jax.random.key(hparams["seed"], impl="rbg"), n)}


RATES = sweep.Space(learning_rate=[0.1, -0.1])
TRAINED = lambda: sweep.from_loss(lambda p, *_: (p, {}), lambda *_: 1.0)  # noqa: E731
RBG = broken(segment=rbg)
RANK = broken(segment=lambda s, hparams, n: (s, {"loss": jnp.ones(n), "rank": jnp.ones(n)}))
FINAL = broken(
    segment=lambda s, h, n: (s, {"loss": h["lr"] * jnp.ones(n), "final_gain": jnp.ones(n)})
)
OTHER_STATE = broken(segment=lambda s, hparams, n: (s["w"], {"loss": jnp.ones(n)}))
ONE_LOSS = broken(segment=lambda s, hparams, n: (s, {"loss": jnp.ones(())}))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"make": 3}, TypeError, "make: expected a function"),
        ({"make": lambda: 3}, TypeError, "make: expected to return a task with init and segment"),
        ({"space": 3}, TypeError, "space: expected a sweep.Space, got 3"),
        ({"steps": 25}, ValueError, "steps: expected a multiple of segment=10, got 25"),
        ({"mode": "least"}, ValueError, "mode: expected one of 'min', 'max'"),
        ({"batch": 0}, ValueError, "batch: expected an int >= 1, got 0"),
        ({"batch": "all"}, TypeError, "batch: expected an int >= 1, got 'all'"),
        ({"key": 0}, TypeError, "key: expected one random key"),
        ({"metric": "accuracy"}, ValueError, r"metric: .* \(largest, loss\), got 'accuracy'"),
        ({"space": space(largest=[1])}, ValueError, "segment: .* columns id, .*, got largest"),
        ({"make": RANK}, ValueError, "segment: .* columns id, .*, got rank"),
        (
            {"space": space(loss=[1])},
            ValueError,
            "loss: expected different names for fields and the metric",
        ),
        ({"key": jax.random.key(0, impl="rbg")}, ValueError, "key: expected a threefry2x32 key"),
        (
            {"space": RATES, "make": TRAINED},
            ValueError,
            "learning_rate: expected 0, or numbers .*, got -0.1",
        ),
        ({"make": RBG}, ValueError, "make: .* threefry2x32 keys, got key<rbg>"),
        ({"steps": 2**31, "segment": 2**31}, ValueError, "steps: expected at most 2147483647"),
        ({"save_seconds": -1}, ValueError, "save_seconds: expected a number >= 0, got -1"),
        ({"halving": sweep.Halving(20)}, ValueError, "every: expected fewer than steps=20"),
        ({"halving": sweep.Halving(10, "a")}, TypeError, "keep: expected a number, got 'a'"),
        ({"halving": 2}, TypeError, "halving: expected a sweep.Halving, got 2"),
        ({"halving": sweep.Halving(15)}, ValueError, "every: expected a multiple of segment=10"),
        ({"halving": sweep.Halving(10, 1.0)}, ValueError, "keep: expected a share .* got 1.0"),
        ({"pbt": 2}, TypeError, "pbt: expected a sweep.PBT, got 2"),
        (
            {"pbt": PBT, "halving": sweep.Halving(10)},
            ValueError,
            "pbt: expected halving=None, .*, got both",
        ),
        ({"pbt": PBT._replace(every=15)}, ValueError, "every: expected a multiple of segment=10"),
        ({"pbt": PBT._replace(every=20)}, ValueError, "pbt.every: expected fewer than steps=20"),
        ({"pbt": PBT._replace(quantile=0.6)}, ValueError, "quantile: .* at most 0.5, got 0.6"),
        ({"pbt": PBT._replace(resample=2)}, ValueError, "resample: .* from 0 to 1, got 2"),
        ({"pbt": PBT._replace(resample=0.1)}, ValueError, "resample: expected 0, .*, got 0.1"),
        ({"pbt": PBT._replace(perturb={})}, ValueError, "perturb: expected fields of numbers"),
        ({"pbt": PBT._replace(perturb={"x": (2,)})}, ValueError, r"\(lr, gain, .*\), got 'x'"),
        ({"pbt": PBT._replace(perturb=2)}, TypeError, "perturb: expected a list of factors, got 2"),
        ({"pbt": PBT._replace(perturb=(0,))}, ValueError, "perturb: expected a number above 0"),
        (
            {"pbt": PBT._replace(perturb=(0.5,))},
            ValueError,
            "perturb: expected fields that segment reads, got gain",
        ),
        ({"pbt": PBT, "batch": 7}, ValueError, "batch: expected a whole .*, 8 trials, .* got 7"),
        (
            {"pbt": PBT, "space": space(lr=[0.1], seeds=1)},
            ValueError,
            "space: expected a population of 2 trials or more, got 1",
        ),
        (
            {"pbt": PBT, "space": space(lr=[0.1, math.inf])},
            ValueError,
            "lr: expected finite numbers in a population, got inf",
        ),
        (
            {"pbt": PBT, "space": space(final_lr=[0.1])},
            ValueError,
            "final_lr: expected a unique name",
        ),
        (
            {"pbt": PBT, "make": FINAL},
            ValueError,
            "segment: .*, got final_gain",
        ),
        ({"make": OTHER_STATE}, ValueError, "segment: expected a state like the one given, dict"),
        ({"make": ONE_LOSS}, ValueError, r"segment: expected loss as float\[10\], got float32\[\]"),
        (
            {"make": lambda: sweep.from_loss(lambda *_: (jnp.float32(0), {}), lambda *_: 1.0)},
            ValueError,
            "optimizer: expected .* a field learning_rate, got lr, gain, boom, seed;",
        ),
    ],
)
def test_wrong_arguments_are_refused(changed, error, message):
    given = {"make": make, "space": space(), "steps": 20, "segment": 10} | changed
    with pytest.raises(error, match=message):
        sweep.run(**given)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2**31], "whole numbers from -2147483648 to 2147483647"),
        ([0, 2**32], "got 4294967296"),
        ([-(2**31) - 1], "got -2147483649"),
        ([2**70], "got 1180591620717411303424"),
        ([1e39], r"numbers .* of size 1.18e-38 to 3.4e\+38, .*, got 1e\+39"),
        ([-1e39], "got -1e"),
        ([1e-50], "got 1e-50"),
        ([1e-40], "got 1e-40"),  # XLA takes it for 0
        ([16777217.0], "got 16777217.0"),
        ([0.5, 16777217], "got 16777217.0"),
        ([0.1, 0.100000001], "got 0.100000001"),  # the same float32
    ],
)
def test_a_value_that_jax_would_change_is_refused_with_the_range(values, expected):
    with pytest.raises(ValueError, match=f"x: expected .*{expected}"):
        sweep.run(make, sweep.Space(x=values), 10, segment=10)
