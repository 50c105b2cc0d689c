"""Sessions in fresh environments; `.ci/run` runs `lint` and `docs` from here."""

from pathlib import Path

import nox

SPELLED = ("seqcells", "experiments", "examples", "benchmarks", "scripts")

nox.options.sessions = ["tests", "lint"]
nox.options.default_venv_backend = "venv"


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run every test with XLA's optimisations, which tests/conftest.py turns off elsewhere."""
    session.install("-e", ".[exp,test]")
    session.run("python", "-m", "pytest", *session.posargs, env={"XLA_FLAGS": ""})


@nox.session(python=["3.11", "3.12"])
def laws(session: nox.Session) -> None:
    """Every law on every cell with every engine, and the table of them."""
    session.install("-e", ".[exp,test]")
    session.run("python", "-m", "pytest", "--laws", "-q", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Make small mistakes in the library, and count those that the tests see."""
    session.install("-e", ".[exp,sweep,test]")
    session.run("python", "-m", "scripts.mutants", *session.posargs)


@nox.session(python=["3.11", "3.12"])
def switches(session: nox.Session) -> None:
    """The laws under each switch of JAX that users turn, one after the other."""
    session.install("-e", ".[exp,test]")
    names = ("x64", "strict", "rank", "remat3", "nans", "leaks", "eager", "keys")
    for name in (*names, "automatic", "explicit"):
        session.run("python", "-m", "pytest", "--switch", name, "-q", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and the direction of imports."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("pyright")
    session.run("lint-imports")
    session.run("python", "scripts/draw_architecture.py", "--check")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages in docs/_build/html; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "--quiet", "-W", "-b", "html", "docs", "docs/_build/html")


@nox.session
def links(session: nox.Session) -> None:
    """Follow every link of the pages, which needs a network; and look for misspelled words."""
    session.install("-e", ".[docs]", "codespell")
    session.run("codespell", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs", *SPELLED)
    session.run("sphinx-build", "--quiet", "-b", "linkcheck", "docs", "docs/_build/links")


@nox.session
def coverage(session: nox.Session) -> None:
    session.install("-e", ".[exp,test]")
    session.run("python", "-m", "pytest", "--cov", "--cov-report=term-missing:skip-covered")


@nox.session
def browser(session: nox.Session) -> None:
    """Every report in Chromium, which must be there; what was seen is left in tests/artefacts."""
    session.install("-e", ".[exp,test]", "selenium")
    session.run("python", "-m", "pytest", "-m", "browser", "-n", "0", *session.posargs)


@nox.session(python=["3.11", "3.12"])
def gpu_aot(session: nox.Session) -> None:
    """Compile every engine for an H200, on any machine: installs 4.4 GB of jax[cuda13]."""
    session.install("-e", ".[cuda,test]")
    env = {"XLA_FLAGS": "--xla_gpu_autotune_level=0", "JAX_PLATFORMS": "cpu"}
    session.run(
        "python", "-m", "pytest", "-m", "gpu_aot", "tests/engines", *session.posargs, env=env
    )


@nox.session(python=["3.11", "3.12"])
def tpu_aot(session: nox.Session) -> None:
    """Compile the kernels for a TPU v5e, on any machine."""
    session.install("-e", ".[test]", "libtpu")
    env = {"JAX_PLATFORMS": "cpu"}
    session.run(
        "python",
        "-m",
        "pytest",
        "-m",
        "tpu_aot",
        "-n",
        "0",
        "tests/engines",
        *session.posargs,
        env=env,
    )


@nox.session
def horizon(session: nox.Session) -> None:
    """The whole study: about two and a half minutes on two cores."""
    session.install("-e", ".[exp]")
    session.run("python", "-m", "experiments", "run", "horizon", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Every cell and shape beside every peer, on one core; the machine should be idle."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks", "peers", *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13"])
def package(session: nox.Session) -> None:
    """Build the wheel and the sdist, check both, install the wheel elsewhere and import it."""
    session.install("build", "twine")
    out = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", out, silent=True)
    session.run("twine", "check", "--strict", *(str(path) for path in Path(out).glob("seqcells-*")))
    session.install("--force-reinstall", *(str(path) for path in Path(out).glob("*.whl")))
    session.chdir(out)  # away from the clone, which Python would import
    session.run("python", "-m", "seqcells")
    code = "import seqcells as sc; assert all(getattr(sc, name) is not None for name in sc.__all__)"
    session.run("python", "-W", "error", "-c", code)
