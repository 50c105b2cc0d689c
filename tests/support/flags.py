"""Flags of XLA for programs that compile for longer than they run; `-m tests.support.flags`."""

from importlib import metadata

COMPILE_FAST = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
    # jax 0.12 does not have this flag
    + " --xla_cpu_use_fusion_emitters=false"
    * metadata.version("jaxlib").startswith("0.10.")
)

if __name__ == "__main__":
    print(COMPILE_FAST)
