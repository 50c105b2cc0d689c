"""`python -m seqcells` prints versions, devices, and the engines that can run here."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator

import jax

import seqcells as sc
from seqcells.engines import ENGINES, Engine, _machine

PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax")
EXTRAS = {  # {package: extra}; the command lines, which run only from a clone, are left out
    "safetensors": "interop",
    "matplotlib": "plot",
    "orbax-checkpoint": "sweep",
    "scikit-learn": "data",
}
CELLS: dict[str, sc.Cell] = {"GRU": sc.GRU(128), "LRU": sc.LRU(128)}
XS = jax.ShapeDtypeStruct((256, 32, 64), "float32")  # [T, B, D]


def main(arguments: list[str]) -> int:
    """Print the report; return the exit code."""
    if arguments:
        usage = f"seqcells: expected no arguments, got {' '.join(arguments)}"
        print(f"{usage}; to run studies: python -m experiments, from a clone", file=sys.stderr)
        return 2
    for name, text in describe():
        print(f"{name:18}{text}")
    return 0


def describe() -> Iterator[tuple[str, str]]:
    """Yield the rows of the report: (name, text)."""
    yield "seqcells", sc.__version__
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for name in PACKAGES:
        yield name, _version(name) or "not installed"
    for name, extra in EXTRAS.items():
        yield name, _version(name) or f'not installed; pip install "seqcells[{extra}]"'
    try:
        devices = jax.devices()
    except RuntimeError as error:
        yield "devices", f"none: {error}"
        return
    for device in devices:
        yield f"device {device.id}", f"{device.platform}, {device.device_kind}"
    if any(device.platform == "cpu" for device in devices):
        hint = "no; see docs/speed.md" if sys.platform == "linux" else "no"
        yield "huge pages", "yes" if _machine.huge_pages() else hint
    yield "engines", f"for a {' or an '.join(CELLS)}, float32[{','.join(map(str, XS.shape))}]"
    for engine in ENGINES:
        yield f"  {type(engine).__name__}", _runs(engine)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _runs(engine: Engine) -> str:
    """Return which cells an engine can run here and is selected for, or why it cannot run."""
    texts, reasons = [], []
    for name, cell in CELLS.items():
        try:
            sc.select_engine(cell, XS, engine=engine)
        except ValueError as error:
            reasons.append(str(error).rpartition(": ")[2].partition(";")[0])
            continue
        chosen = type(sc.select_engine(cell, XS)) is type(engine)
        texts.append(f"{name}{' (chosen)' * chosen}")
    return f"runs {', '.join(texts)}" if texts else f"cannot run here: {reasons[0]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
