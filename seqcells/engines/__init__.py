"""Engines, one per file; `ENGINES` lists them in order of preference."""

from seqcells._flags import Flags as Flags
from seqcells._flags import guard as guard
from seqcells._trees import select as select
from seqcells._trees import silence as silence
from seqcells.engines._engine import Engine as Engine
from seqcells.engines._engine import Plan as Plan
from seqcells.engines.associative import AssociativeScan as AssociativeScan
from seqcells.engines.chunkwise import Chunkwise as Chunkwise
from seqcells.engines.deferred import Deferred as Deferred
from seqcells.engines.kernels import CUDACluster as CUDACluster
from seqcells.engines.kernels import PallasTPU as PallasTPU
from seqcells.engines.kernels import PallasTriton as PallasTriton
from seqcells.engines.newton import Newton as Newton
from seqcells.engines.newton import NewtonReport as NewtonReport
from seqcells.engines.options import gpu_compiler_options as gpu_compiler_options
from seqcells.engines.scan import Scan as Scan
from seqcells.engines.truncated import Truncated as Truncated

ENGINES: tuple[Engine, ...] = (
    AssociativeScan(),
    Chunkwise(),
    PallasTriton(),
    CUDACluster(),
    PallasTPU(),
    Deferred(),
    Scan(checkpoint="auto"),
)  # the last one runs every cell
