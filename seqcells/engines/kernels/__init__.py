"""Engines whose loops over time are kernels of the device, one device a file."""

from seqcells.engines.kernels.cluster import CUDACluster as CUDACluster
from seqcells.engines.kernels.tpu import PallasTPU as PallasTPU
from seqcells.engines.kernels.triton import PallasTriton as PallasTriton
