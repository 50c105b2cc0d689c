"""What the bits of a result depend on besides its configuration: versions, processor, devices."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import tempfile
from importlib import metadata
from pathlib import Path

import jax

import seqcells
from seqcells._types import Json
from seqcells.engines import _machine
from seqcells.sweep._files import write_whole
from seqcells.sweep._lines import MACHINE, read_json

FILE = "machine.json"  # of the first process that trained in a folder


class OtherMachineError(ValueError):
    """The bits of this worker would differ from those in the folder."""


@functools.cache
def here() -> Json:
    """Describe this process, as JSON."""
    device = jax.local_devices()[0]
    about = {
        "seqcells": seqcells.__version__,
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "devices": jax.local_device_count(),
        "processor": f"{device.platform} {device.device_kind}",
    }
    if device.platform == "cpu":
        about |= {
            "processor": _machine.cpuinfo("model name") or platform.machine(),
            "second-level cache": _machine.level_2(),
            "huge pages or kept blocks": _machine.maps_cheaply(),
        }
    return about


def check(out: Path) -> None:
    """Raise unless this process is of the kind of the first one that trained in `out`.

    Raises:
        OtherMachineError: it is not.
    """
    now, before = here(), first(out)
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differing:
        shown = "; ".join(f"{n}: {before.get(n)} there, {now.get(n)} here" for n in differing)
        raise OtherMachineError(
            f"executor: expected workers like the first process in {out}, got process "
            f"{os.getpid()} on {platform.node()}, whose bits would differ ({shown}); give it the "
            "same, take it away, or use another folder"
        )


def first(out: Path) -> Json:
    """Return the description of the first process, which is this one if there is none yet."""
    path = out / FILE
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=out, prefix=f".{FILE}.") as folder:
            write_whole(mine := Path(folder) / FILE, json.dumps(here(), indent=1))
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(mine, path)
    return read_json(path, MACHINE) or here()
