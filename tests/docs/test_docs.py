"""What the documentation says runs, and everything public is documented."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import seqcells as sc
from seqcells import (
    debug,
    diagnostics,
    distributed,
    initializers,
    interop,
    linen,
    nnx,
    probes,
    remedies,
    train,
)

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SKIPPED = {"_build", "gallery"}  # what is built, and the studies' own reports
PAGES = [ROOT / "README.md"] + [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if not SKIPPED & set(page.relative_to(DOCS).parts)
    and "file_format: mystnb" not in page.read_text("utf-8")  # run where they are built
]
FRAMEWORKS_OF_PEERS = ("torch", "keras", "haiku", "equinox")
MODULES = ["seqcells", *(m.name for m in pkgutil.walk_packages(sc.__path__, "seqcells."))]
WITH_EXAMPLES = ["cells.gru", "cells.rnn", "_unroll", "_summary", "nnx", "train"]
WITH_EXAMPLES += [f"diagnostics._{name}" for name in ("float64", "gates", "jacobian", "lag")]
WITH_EXAMPLES += [f"diagnostics._{name}" for name in ("layers", "memory", "singular", "snr")]
WITH_EXAMPLES += ["probes.character_lm"]
WITH_EXAMPLES += [
    "_mean_field",
    "_newton",
    "diagnostics._lyapunov",
    "diagnostics._newton",
    "remedies",
]
WITH_EXAMPLES += ["interop.file", "interop.flashrnn", "interop.onnx", "interop.torch"]
WITH_EXAMPLES += ["interop.speechbrain"]


def blocks(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)


SLOW = {"diagnostics._layers", "remedies", "diagnostics._float64", "_mean_field", "layers.stack"}
SLOW |= {"_layer", "diagnostics._lag", "diagnostics._gates", "debug", "linen"}
SLOW |= {"_stream", "online.rtrl", "online.snap", "online.uoro", "online.forward_mode", "online.md"}
SLOW |= {"extending.md", "measure.md", "own-cell.md", "probes.md", "sweeps.md"}
# Docstrings of models, which stand on their page; pages of models, layers and cells, whose
# docstrings run, and of peers: tests/interop has those.
SLOW |= {f"models._{name}" for name in ("hawk", "lru", "mamba")} | {"interop.mamba"}
SLOW |= {f"{page}.md" for page in ("hawk", "lru", "mamba", "s5", "xlstm", "layers", "linear")}
SLOW |= {f"{page}.md" for page in ("matrix", "convolutional", "agents")}
SLOW |= {f"{page}.md" for page in ("pytorch", "keras", "equinox", "haiku", "interop")}


def some(names, short=str):
    """Names to run over, of which those in SLOW are left to nox."""
    return [pytest.param(n, marks=[pytest.mark.slow] * (short(n) in SLOW)) for n in names]


@pytest.mark.parametrize("name", some(MODULES, lambda name: name.removeprefix("seqcells.")))
def test_the_examples_of_a_module_run_and_show_what_they_say(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    if name.removeprefix("seqcells.") in WITH_EXAMPLES:
        assert result.attempted > 0


@pytest.mark.parametrize(
    "page",
    some(PAGES, lambda page: page.name),
    ids=[str(page.relative_to(ROOT)) for page in PAGES],
)
def test_the_python_of_a_page_runs_and_its_comments_are_true(page, monkeypatch):
    """A block that ends in `expression  # (3, 100)` claims that this is the value."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    namespace = {"__name__": page.stem}
    for name in FRAMEWORKS_OF_PEERS:
        if re.search(rf"^import {name}\b", "".join(blocks(page)), re.M):
            pytest.importorskip(name)
    for i, code in enumerate(blocks(page)):
        exec(compile(code, f"{page.name}, block {i}", "exec"), namespace)
        claim = re.fullmatch(r"(\S.*?)\s+# (\(.*\)|[\d.]+|True)", code.rstrip().splitlines()[-1])
        if claim:
            assert eval(claim[1], namespace) == ast.literal_eval(claim[2])


MAPS = [ROOT / "docs" / "architecture.md", ROOT / "docs" / "extending.md", ROOT / "CONTRIBUTING.md"]
PATHS = r"`((?:\w[\w.-]*/)+[\w.-]*)`"  # a folder or a file in one of the folders


@pytest.mark.parametrize("page", MAPS, ids=[page.name for page in MAPS])
def test_the_paths_and_names_of_a_map_are_there(page):
    """A row "`cells/gru.py`: `init`" claims that the file defines this name."""
    text = page.read_text("utf-8")
    assert [path for path in re.findall(PATHS, text) if not (ROOT / path).exists()] == []
    for path, names in re.findall(PATHS + r": ((?:`\w+`(?:, )?)+)", text):
        for name in re.findall(r"\w+", names):
            assert re.search(
                rf"^\s*(def |class )?{name}\b", (ROOT / path).read_text("utf-8"), re.M
            ), name


def test_the_map_shows_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    top = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    files = [Path(line) for line in top.stdout.splitlines()]
    folders = {f"{file.parent}/" for file in files if len(file.parts) == 3} - {"tests/support/"}
    folders = {folder for folder in folders if not folder.startswith("tests/")}
    assert [folder for folder in sorted(folders) if folder not in text] == []


def test_the_readme_shows_code():
    assert blocks(ROOT / "README.md")


@pytest.mark.parametrize(
    ("page", "net", "size"),
    [
        (ROOT / "README.md", sc.GRU(64), 1),
        (DOCS / "start" / "first-net.md", sc.Stack((sc.GRU(32), sc.Dense(1))), 2),
    ],
    ids=["readme", "first-net"],
)
def test_a_page_prints_the_summary_that_it_shows(page, net, size):
    shown = [text for text in blocks(page, "text") if "Total parameters" in text]
    assert shown == [sc.summary(net, input_size=size) + "\n"]


def public(module):
    """The classes and functions that a module defines for others, by name."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"]
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for name in names
        if callable(getattr(module, name))
        and getattr(getattr(module, name), "__module__", "").startswith(module.__name__)
    }


def methods(cls):
    """The public methods that a class adds to those that it inherits a description of."""
    return {
        name: member
        for name, member in vars(cls).items()
        if name[0] != "_" and (inspect.isfunction(member) or isinstance(member, property))
    }


FRAMEWORKS = ("torch", "keras", "linen", "nnx", "haiku", "equinox", "onnx")
FRAMEWORKS += ("flashrnn", "recurrentgemma", "speechbrain")
OPEN = [sc, debug, diagnostics, diagnostics.plot, initializers, interop, linen, nnx, probes]
OPEN += [distributed, remedies, train]
OPEN += [getattr(interop, name) for name in FRAMEWORKS]
DOCUMENTED = {name: value for module in OPEN for name, value in public(module).items()}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_name_and_method_is_documented(name):
    value = DOCUMENTED[name]
    assert inspect.getdoc(value)
    own = value.__doc__ or ""
    assert not own.startswith(f"{value.__name__}(")  # what dataclasses and NamedTuples make up
    if inspect.isclass(value):
        for method, function in methods(value).items():
            assert inspect.getdoc(function), method


def test_every_public_name_is_on_the_page_of_the_library():
    """By its name, or with all that its module imports."""
    page = "".join(one.read_text("utf-8") for one in (DOCS / "api").glob("*.md"))
    words = set(re.findall(r"\w+", page))
    whole = re.findall(r"automodule:: (.*)\n   :members:\n   :imported-members:", page)
    words |= {name for module in whole for name in vars(importlib.import_module(module))}
    assert [name for name in DOCUMENTED if name.rsplit(".", 1)[1] not in words] == []


def test_all_names_what_is_there():
    assert sc.__all__ == sorted(set(sc.__all__), key=sc.__all__.index)
    for name in sc.__all__:
        assert getattr(sc, name) is not None
    assert set(dir(sc)) >= set(sc.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sc.nonsense


def test_every_module_has_a_docstring():
    assert [name for name in MODULES if not importlib.import_module(name).__doc__] == []


def test_the_core_imports_jax_alone_and_the_rest_what_it_needs():
    code = """
import sys, seqcells as sc
def brought(*more):
    return [name for name in ("flax", "optax", "chex", *more) if name in sys.modules]
sc.diagnostics, sc.initializers, sc.summary(sc.GRU(2), 1)
print(brought("matplotlib", "seqcells.distributed"))
sc.interop.torch, sc.interop.linen
print(brought() + [name for name in ("safetensors", "torch") if name in sys.modules])
sc.train, sc.probes, sc.remedies
print("flax" in brought(), "optax" in brought())
sc.nnx, sc.linen
print("flax" in brought())
"""
    assert python(code).split("\n") == ["[]", "[]", "False True", "True"]


def python(code):
    run = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(
        run, capture_output=True, encoding="utf-8", check=True, cwd=ROOT
    ).stdout.strip()
