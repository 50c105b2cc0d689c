"""Engines whose loops over time are device kernels, one engine per file."""

from seqcells.engines.kernels.cluster import CUDACluster as CUDACluster
from seqcells.engines.kernels.tpu import PallasTPU as PallasTPU
from seqcells.engines.kernels.triton import PallasTriton as PallasTriton
