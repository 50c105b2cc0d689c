"""Settings of the whole suite, and those that a test file asks for with `usefixtures`."""

import os

# LLVM's optimiser is not what is tested and takes a third of the time: jax is imported after this.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import chex
import jax
import pytest


@pytest.fixture
def x64():
    """Compute in float64: laws are then exact to rounding."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict():
    """Forbid silent promotion of dtypes, as a careful user of the core does."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(autouse=True)
def _fresh_trace_counter():
    """Count traces anew: chex counts by the text of a function, over all tests of a process."""
    chex.clear_trace_counter()
