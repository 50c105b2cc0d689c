"""A model that reads its own outputs equals the loop by hand, with a teacher and without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support.laws import assert_close

pytestmark = pytest.mark.usefixtures("strict", "x64")

STEPS, B, O = 5, 3, 2  # noqa: E741
KEY = jax.random.key(0)
GRU = sc.GRU(4)
PARAMS = jax.tree.map(lambda a: a.astype(float), GRU.init(KEY, O))
W = np.random.default_rng(0).normal(size=(4, O))
Y0 = np.random.default_rng(1).normal(size=(B, O))
FORCE = np.random.default_rng(2).normal(size=(STEPS, B, O))
CARRY = np.random.default_rng(3).normal(size=(B, 4))


def readout(h):
    return h @ W


def inverse(y, carry):
    return carry + (y - carry @ W) @ np.linalg.pinv(W)


def by_hand(feed=lambda y, t: y, mix=lambda carry, t: carry, carry=CARRY):
    """Every y, and the last carry; `feed` and `mix` say what follows step t."""
    y, ys = Y0, []
    for t in range(STEPS):
        carry, h = GRU.step(PARAMS, carry, y)
        ys.append(readout(h))
        y, carry = feed(ys[-1], t), mix(carry, t)
    return carry, np.stack(ys)


def check(got, wanted):
    assert_close((got.carry, got.ys), wanted)
    assert got.lengths.tolist() == [STEPS] * B


def test_it_reads_what_it_puts_out():
    check(sc.closed_loop(GRU, PARAMS, readout, Y0, STEPS, carry=CARRY), by_hand())
    fresh = sc.closed_loop(GRU, PARAMS, readout, Y0, STEPS)
    check(fresh, by_hand(carry=np.zeros((B, 4))))


SOME = np.random.default_rng(4).random((STEPS, B)) < 0.5


@pytest.mark.parametrize("where", [None, SOME, SOME[:, 0]], ids=["all", "rows", "steps"])
def test_a_teachers_output_is_read_in_the_place_of_its_own(where):
    rows = np.ones((STEPS, B), bool) if where is None else where
    rows = np.broadcast_to(rows.reshape(STEPS, -1), (STEPS, B))
    force = np.where(rows[..., None], FORCE, np.nan)  # the others are not looked at
    got = sc.closed_loop(GRU, PARAMS, readout, Y0, STEPS, carry=CARRY, force=force, where=where)
    check(got, by_hand(lambda y, t: np.where(rows[t][:, None], FORCE[t], y)))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, np.array([0.1, 0.5, 0.9])], ids=str)
def test_generalised_teacher_forcing_mixes_carries(alpha):
    share = np.broadcast_to(alpha, B)[:, None]

    def mix(carry, t):
        return (1 - share) * carry + share * inverse(FORCE[t], carry)

    options = {"carry": CARRY, "force": FORCE, "alpha": alpha, "inverse": inverse}
    check(sc.closed_loop(GRU, PARAMS, readout, Y0, STEPS, **options), by_hand(mix=mix))
    given = sc.closed_loop(GRU, PARAMS, readout, Y0, STEPS, **options, where=SOME)
    check(given, by_hand(mix=lambda c, t: np.where(SOME[t][:, None], mix(c, t), c)))


def test_gradients_shrink_by_one_minus_alpha_a_step():
    """A linear model without inputs, whose matrix is the identity."""
    cell = sc.FunctionCell(lambda w, h, x: (h @ w, h @ w), lambda x: jnp.zeros(2))

    def last(h, alpha):
        args = cell, np.eye(2), lambda h: h, np.zeros(2), STEPS
        options = {"feed": lambda y: y[..., :0], "force": np.zeros((STEPS, 2)), "alpha": alpha}
        return sc.closed_loop(*args, carry=h, **options, inverse=lambda y, carry: y).carry[0]

    assert_close(jax.grad(last)(np.ones(2), 0.25), np.array([0.75**STEPS, 0.0]))


def test_a_readout_may_draw_tokens():
    net = sc.Stack((sc.Embed(5, 3), sc.GRU(4), sc.Dense(5)))
    params = net.init(KEY, ())

    def draw(logits, key):
        return jax.random.categorical(key, logits)

    got = sc.closed_loop(net, params, draw, jnp.zeros(B, int), STEPS, key=KEY)
    carry, y = net.init_carry(jnp.zeros(B, int), params), jnp.zeros(B, int)
    for t in range(STEPS):
        carry, h = net.step(params, carry, y)
        y = draw(h, jax.random.fold_in(KEY, t))
        np.testing.assert_array_equal(got.ys[t], y)
    assert_close(got.carry, carry)


@jax.jit
def counting(first, steps_of):
    """Counts up from `first`, until a multiple of `steps_of`."""
    cell = sc.FunctionCell(lambda p, h, x: (h + 1.0, x + 1.0), lambda x: jnp.zeros_like(x[..., 0]))
    return sc.closed_loop(
        cell, None, lambda y: y, first, 6, stop=lambda y: y[..., 0] % steps_of == 0
    )


def test_each_sequence_ends_when_it_stops():
    got = counting(jnp.array([[0.0], [2.0], [7.0]]), 4.0)
    wanted = [[1, 2, 3, 4, 0, 0], [3, 4, 0, 0, 0, 0], [8, 0, 0, 0, 0, 0]]
    assert_close(got.ys[..., 0].T, np.array(wanted, float))
    assert got.lengths.tolist() == [4, 2, 1]
    assert got.carry.tolist() == [4, 2, 1]
    never = counting(jnp.array([[0.5]]), 4.0)
    assert never.lengths.tolist() == [6]


def test_the_loop_ends_when_all_have_stopped():
    """Steps after the last would count up a number that is far from the end."""
    seen = []

    def readout(y):
        jax.debug.callback(lambda: seen.append(1))
        return y

    cell = sc.FunctionCell(lambda p, h, x: (h, x + 1.0), lambda x: x)
    sc.closed_loop(cell, None, readout, jnp.zeros(1), 100, stop=lambda y: y[..., 0] > 2)
    jax.effects_barrier()
    assert len(seen) == 3


def test_bfloat16_outputs_are_fed_in_the_dtype_of_y0():
    cell = sc.GRU(4, dtype=jnp.bfloat16)
    params = cell.init(KEY, 4)
    got = sc.closed_loop(cell, params, lambda h: h, jnp.zeros((B, 4), "float32"), STEPS)
    assert got.ys.dtype == jnp.bfloat16
    assert got.carry.dtype == jnp.float32


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"readout": 3}, TypeError, "readout: expected a function"),
        ({"stop": True}, TypeError, "stop: expected a function"),
        ({"steps": -1}, ValueError, "steps: expected an int >= 0"),
        ({"where": SOME}, ValueError, "where: expected None without force"),
        ({"force": FORCE[1:]}, ValueError, r"force: expected .*\[5, 3, 2\]"),
        ({"force": FORCE, "alpha": 0.5}, ValueError, "inverse: expected one beside alpha"),
        ({"force": FORCE, "inverse": inverse}, ValueError, "alpha: expected one beside inverse"),
        (
            {"force": FORCE, "inverse": inverse, "alpha": 1.5},
            ValueError,
            "alpha: expected numbers from 0 to 1",
        ),
        (
            {"force": FORCE, "inverse": inverse, "alpha": np.zeros(2)},
            ValueError,
            r"alpha: expected a number or float\[3\]",
        ),
        (
            {"force": FORCE, "inverse": lambda y, carry: y, "alpha": 1.0},
            ValueError,
            r"inverse\(force\)",
        ),
        ({"force": FORCE, "where": SOME[1:]}, ValueError, r"where: expected bool\[5, 3\]"),
        ({"readout": lambda h: h}, ValueError, "y0: expected .*3, 4.*as readout makes it"),
        ({"stop": lambda y: y > 0}, ValueError, r"stop\(y\): expected bool\[3\]"),
        (
            {"model": sc.Bidirectional(GRU), "params": (PARAMS, PARAMS)},
            ValueError,
            "cannot step|reads forward",
        ),
    ],
)
def test_a_wrong_argument_is_named(options, error, message):
    given = {"model": GRU, "params": PARAMS, "readout": readout, "y0": Y0, "steps": STEPS}
    with pytest.raises(error, match=message):
        sc.closed_loop(**given | options)


def test_members_of_a_shard_map_have_readouts_of_their_own():
    """What the readout closes over varies over the devices, and the first y does not."""
    mesh = jax.make_mesh((1,), ("members",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec("members")

    def run(w):
        readout = lambda h: h @ w  # noqa: E731
        stop = sc.closed_loop(GRU, PARAMS, readout, Y0, STEPS, stop=lambda y: y[..., 0] > 9)
        return sc.closed_loop(GRU, PARAMS, readout, Y0, STEPS).ys, stop.ys

    weights = np.stack([W, 2 * W])
    sharded = jax.shard_map(jax.vmap(run), mesh=mesh, in_specs=rows, out_specs=rows)
    assert_close(jax.jit(sharded)(weights), jax.vmap(run)(weights))
