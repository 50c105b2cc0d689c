"""Each row on pararnn in docs/peers.md: what it does, and what seqcells does instead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support.peers import Table, installed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

PARARNN = Table("pararnn")
CELL = sc.GRU(8)
PARAMS = CELL.init(jax.random.key(0), 4)
XS = jax.random.normal(jax.random.key(1), (200, 2, 4))


@pytest.fixture
def pararnn():
    installed("torch").manual_seed(0)
    return installed("pararnn")


@pytest.fixture
def cell(pararnn):
    return pararnn.ParaGRU(4, 8)


def tensor(array):
    return installed("torch").tensor(np.asarray(array).swapaxes(0, 1))


@PARARNN.row("too few iterations allowed")
def test_too_few_iterations(pararnn, cell):
    for param in cell.parameters():
        param.data *= 8
    stats, config = pararnn.NewtonStats(), pararnn.NewtonConfig(max_iters=2)
    found = pararnn.newton_apply(cell, tensor(XS), config, stats=stats)
    exact = pararnn.solvers.sequential_apply(cell, tensor(XS))
    assert 1e-3 < stats.max_residual < 1
    assert float((found - exact).abs().max()) > 1e-3
    large = jax.tree.map(lambda a: 2 * a, PARAMS)
    _, ys, report = sc.newton(CELL, large, XS, max_iters=2)
    assert not report.converged.any()
    np.testing.assert_allclose(ys, sc.unroll(CELL, large, XS)[1], atol=1e-6)


@PARARNN.row("NaN in one sequence of a batch")
def test_nan_in_one_sequence(pararnn, cell):
    bad = XS.at[100, 0].set(jnp.nan)
    with pytest.raises(pararnn.NewtonDivergenceError):
        pararnn.newton_apply(cell, tensor(bad))
    _, ys, report = sc.newton(CELL, PARAMS, bad)
    assert report.converged.tolist() == [False, True]
    assert np.isfinite(ys[:, 1]).all()


@PARARNN.row("second derivatives")
def test_second_derivatives(pararnn, cell):
    torch, xs = installed("torch"), tensor(XS[:6]).requires_grad_()

    def twice(apply):
        (first,) = torch.autograd.grad(apply(cell, xs).sum(), xs, create_graph=True)
        return torch.autograd.grad(first.square().sum(), xs)[0]

    exact = twice(pararnn.solvers.sequential_apply)
    assert float((twice(pararnn.newton_apply) - exact).abs().max() / exact.abs().max()) > 0.1

    def ours(run):
        total = lambda xs: jnp.sum(run(CELL, PARAMS, xs)[1])  # noqa: E731
        return jax.grad(lambda xs: jnp.sum(jnp.square(jax.grad(total)(xs))))(XS[:6])

    np.testing.assert_allclose(ours(sc.newton), ours(sc.unroll), atol=1e-5)


@PARARNN.row("forward-mode derivative, `vmap`")
def test_transformations(pararnn, cell):
    func, xs = installed("torch").func, tensor(XS[:6])
    apply = lambda xs: pararnn.newton_apply(cell, xs)  # noqa: E731
    with pytest.raises(RuntimeError):
        func.jvp(apply, (xs,), (xs,))
    with pytest.raises(RuntimeError):
        func.vmap(apply)(xs[None])
    ours = lambda xs: sc.newton(CELL, PARAMS, xs)[1]  # noqa: E731
    assert jnp.isfinite(jax.jvp(ours, (XS[:6],), (XS[:6],))[1]).all()
    np.testing.assert_allclose(jax.vmap(ours)(XS[None, :6])[0], ours(XS[:6]), atol=1e-6)


@PARARNN.row("no batch axis, or two")
@pytest.mark.parametrize("axes", [0, 2])
def test_batch_axes(pararnn, cell, axes):
    xs = XS[:6, 0] if axes == 0 else XS[:6, None]
    with pytest.raises(ValueError, match="unpack"):
        pararnn.newton_apply(cell, installed("torch").tensor(np.asarray(xs)))
    assert sc.newton(CELL, PARAMS, xs)[1].shape == (*xs.shape[:-1], 8)


def test_every_row_has_a_test():
    PARARNN.check()
