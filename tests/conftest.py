"""Settings of the whole suite, and those that a test file asks for with `usefixtures`.

`pytest --laws` tries every law on every cell with every engine, and prints the table of results.
"""

import contextlib
import gc
import itertools
import os
from pathlib import Path

from tests.support.flags import COMPILE_FAST

# XLA's optimisations take 40 % of the suite's time and are not what it tests. `nox -s tests` leaves
# them on (XLA_FLAGS=""). This stands before the import of jax, which reads the flags once.
os.environ.setdefault("XLA_FLAGS", COMPILE_FAST)

import chex
import jax
import pytest

from tests.support.switches import MESHES, REFUSED, switched

gc.set_threshold(200_000, 20, 20)  # JAX makes many objects that stay, and walking them takes time


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
def _switched(request):
    """Turn the switch of the command line."""
    name = request.config.getoption("switch")
    with switched(name) if name else contextlib.nullcontext():
        yield


_tests_since_clearing = itertools.count(1)


@pytest.fixture(autouse=True)
def _few_programs():
    """Forget compiled programs now and then: each maps memory, and a process may have 65,530."""
    if next(_tests_since_clearing) % 100 == 0 and _mapped() > 16_000:
        jax.clear_caches()


def _mapped():
    """How many parts of memory are mapped, where Linux says so; elsewhere too many."""
    maps = Path("/proc/self/maps")
    return len(maps.read_bytes().splitlines()) if maps.exists() else 65_530


@pytest.fixture(autouse=True)
def _fresh_trace_counter():
    """Count traces anew: chex counts by the text of a function, over all tests of a process."""
    chex.clear_trace_counter()


def pytest_addoption(parser):
    parser.addoption(
        "--laws", action="store_true", help="run each law on every cell with every engine, alone"
    )
    parser.addoption("--switch", help="run the laws alone, under a switch of JAX by its name")


def pytest_configure(config):
    if config.getoption("switch") in MESHES:
        jax.config.update("jax_num_cpu_devices", 2)
    config.addinivalue_line("markers", "over(table): runs on the rows of a table of support.laws")
    config.addinivalue_line("markers", "laws(name): a column of the table of laws")
    config.addinivalue_line("markers", "slow: what CI leaves to nox")
    config.addinivalue_line("markers", "browser: opens pages in Chromium, where there is one")
    config.addinivalue_line("markers", "device: needs a GPU or a TPU")
    config.addinivalue_line("markers", "gpu_aot: compiles for an H200, where there is jax[cuda13]")
    config.addinivalue_line("markers", "tpu_aot: compiles for a TPU v5e, where there is libtpu")


def pytest_generate_tests(metafunc):
    """Run a test that is marked with a table of cells, or of cells and engines, on its rows."""
    from tests.support.laws import tables

    for mark in metafunc.definition.iter_markers("over"):
        rows = tables(every=metafunc.config.getoption("laws"))[mark.args[0]]
        names = [name for name in ("case", "engine") if name in metafunc.fixturenames]
        metafunc.parametrize(names, rows)


def pytest_collection_modifyitems(config, items):
    """With `--laws`, keep the laws alone; note in each report which cell of their table it is."""
    from tests.support.laws import CASES, ENGINES

    if config.getoption("laws") or config.getoption("switch"):
        others = [item for item in items if item.get_closest_marker("laws") is None]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.get_closest_marker("laws")]
    cells = {id(case): name for name, case in CASES.items()}
    engines = {id(engine): name for name, engine in ENGINES.items()}
    for item in items:
        law, given = item.get_closest_marker("laws"), getattr(item, "callspec", None)
        if law is not None and given is not None and "case" in given.params:
            row = cells[id(given.params["case"])]
            way = engines[id(given.params.get("engine", ENGINES["scan"]))]
            item.user_properties.append(("law", (row, way, law.args[0])))
            reason = REFUSED.get(config.getoption("switch"), {}).get(way)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("laws"):
        terminalreporter.section("laws")
        terminalreporter.write_line(_table(terminalreporter.stats))


def _table(stats):
    """A row a cell and engine, a column a law: how many tests hold, or that one does not."""
    held, laws = {}, []
    for outcome in ("passed", "failed"):
        for report in stats.get(outcome, []):
            for row, way, law in (value for name, value in report.user_properties if name == "law"):
                laws.append(law)
                held.setdefault((row, way), {}).setdefault(law, []).append(outcome)
    laws = sorted(set(laws), key=laws.index)
    lines = [f"{'cell':24}{'engine':12}" + "".join(f"{law:>10}" for law in laws)]
    for (row, way), found in sorted(held.items()):
        marks = [_mark(found.get(law, [])) for law in laws]
        lines.append(f"{row:24}{way:12}" + "".join(f"{mark:>10}" for mark in marks))
    return "\n".join(lines)


def _mark(outcomes):
    if not outcomes:
        return "."
    return "FAILED" if "failed" in outcomes else str(len(outcomes))
