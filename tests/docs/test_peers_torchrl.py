"""Each row on torchrl in docs/peers.md: what it does, and what seqcells does instead."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support import peers
from tests.support.peers import BAD, LENGTHS, XS, B, D, H, Ours, T, Table, installed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TORCHRL = Table("torchrl")
VALID = np.arange(T) < np.asarray(LENGTHS)[:, None]
RESETS = np.zeros((B, T), bool)
RESETS[2, 3] = True


@pytest.fixture
def rl():
    installed("torch")
    return installed("torchrl.modules")


def tensor(array):
    return installed("torch").tensor(np.asarray(array))


def module(rl, name="GRUModule", **options):
    """A module of torchrl that reads whole sequences."""
    carries = ["h", "c"][: 1 + (name == "LSTMModule")]
    keys = {"in_keys": ["x", *carries], "out_keys": ["y", *(("next", c) for c in carries)]}
    return getattr(rl, name)(D, H, default_recurrent_mode=True, **keys, **options)


def run(net, xs, resets):
    """The outputs of a module, and what it returns of the carry at every step [B, T, layers, H]."""
    rows = {"x": tensor(xs), "is_init": tensor(resets)[..., None]}
    result = net(installed("tensordict").TensorDict(rows, resets.shape))
    return result["y"], result["next", "h"]


def gradients(net, loss):
    """Whether a loss is NaN, and whether any gradient is."""
    loss.backward()
    return bool(loss.isnan()), any(bool(p.grad.isnan().any()) for p in net.parameters())


@TORCHRL.row("NaN at masked steps")
def test_nan_at_masked_steps(rl):
    net = rl.GRU(D, H)
    ys, _ = net(tensor(BAD), mask=tensor(VALID))
    assert gradients(net, (ys[2, :3] ** 2).sum()) == (False, True)
    assert peers.ours_is_inert()


@TORCHRL.row("outputs at masked steps")
def test_outputs_at_masked_steps(rl):
    ys, carry = rl.GRU(D, H)(tensor(XS), mask=tensor(VALID))
    assert bool((ys[2, 3:] == ys[2, 2]).all())
    assert bool((carry[0, 0] == 0).all())
    assert bool((peers.ours(XS, LENGTHS)[1][2, 3:] == 0).all())


@TORCHRL.row("NaN in a step before a reset")
def test_nan_in_a_step_before_a_reset(rl):
    net, bad = module(rl), XS.at[2, 1].set(jnp.nan)
    ys = run(net, bad, RESETS)[0][2, 3:]
    assert bool((ys == run(net, XS, RESETS)[0][2, 3:]).all())
    assert gradients(net, (ys**2).sum()) == (False, True)
    model = Ours()

    def loss(params, xs):
        ys = model(params, xs, resets=jnp.asarray(RESETS))[1][2, 3:]
        return jnp.sum(jnp.square(ys))

    value, grads = jax.value_and_grad(loss)(model.params, bad)
    assert float(value) == float(loss(model.params, XS))
    assert peers.isnan(grads)


@TORCHRL.row("the carry after every step")
def test_the_carry_after_every_step(rl):
    ys, carries = run(module(rl), XS, RESETS)
    last = np.zeros((B, T), bool)
    last[:, -1], last[2, 2] = True, True
    assert bool((carries[~last] == 0).all())
    assert bool((carries[last][:, 0] == ys[last]).all())
    model = Ours()
    ours = sc.trajectory(model.cell, model.params, XS, time_axis=1)
    np.testing.assert_allclose(ours, model(model.params, XS)[1], atol=1e-6)


@TORCHRL.row("two batch axes")
def test_two_batch_axes(rl):
    with pytest.raises(ValueError, match="3D"):
        rl.GRU(D, H)(tensor([XS, XS]))
    net = module(rl)
    both = run(net, np.stack([XS, XS]), np.stack([RESETS, RESETS]))[0]
    np.testing.assert_allclose(both[1].detach(), run(net, XS, RESETS)[0].detach(), atol=1e-6)
    assert peers.ours(jnp.stack([XS, XS]))[1].shape == (2, B, T, H)


@TORCHRL.row("`proj_size=`")
def test_projection(rl):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        rl.LSTM(D, H, proj_size=2)(tensor(XS))
    assert run(module(rl, "LSTMModule", proj_size=2), XS, RESETS)[0].shape == (B, T, 2)
    model = Ours(cell=functools.partial(sc.LSTM, proj_size=2))
    assert model(model.params, XS)[1].shape == (B, T, 2)


@TORCHRL.row("`bidirectional=True`")
def test_bidirectional(rl):
    with pytest.raises(NotImplementedError):
        rl.GRU(D, H, bidirectional=True)
    net = module(rl, bidirectional=True)
    ours = sc.Bidirectional(sc.GRU(H))
    params = ours.init(jax.random.key(0), D)

    def outputs(xs, resets):
        theirs = run(net, xs, resets)[0].detach().numpy()
        flags = jnp.asarray(resets)
        return theirs, sc.unroll(ours, params, jnp.asarray(xs), resets=flags, time_axis=1)[1]

    for whole, *parts in zip(
        outputs(XS, RESETS),
        outputs(XS[2:3, :3], RESETS[2:3, :3]),
        outputs(XS[2:3, 3:], RESETS[2:3, 3:]),
        strict=True,
    ):
        alone = np.concatenate([np.asarray(part[0]) for part in parts])
        np.testing.assert_allclose(np.asarray(whole[2]), alone, atol=1e-6)


def test_every_row_has_a_test():
    TORCHRL.check()
