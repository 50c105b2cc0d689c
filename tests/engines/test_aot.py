"""Programs compiled for an H200 and for a TPU v5e, on any machine.

`nox -s gpu_aot` and `nox -s tpu_aot` install the compilers.
"""

import contextlib
import functools
import importlib.util
import os
import re
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import seqcells as sc
from seqcells.engines import _platform
from seqcells.engines.deferred.schedule import DEVICE_BYTES
from seqcells.engines.kernels import _nvidia

# What XLA needs to know of an H200.
TARGET = Path(__file__).parents[1] / "support" / "targets" / "h200.txtpb"
SPILLED = 64  # bytes stored and loaded: eight registers once, not an array
STEPS, BATCH, INPUTS, UNROLL = 100, 19, 32, 8
FLAGS = ("lengths", "resets")


def missing(name):
    return importlib.util.find_spec(name) is None


def tpu():
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-1"}
    os.environ |= {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
    return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")


def gpu():
    text = TARGET.read_text("utf-8")
    return topologies.get_topology_desc(platform="cuda", topology="1x1x1", target_config=text)


def shaped(tree, sharding):
    """The shapes of arrays that lie on devices."""

    def one(a):
        return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)

    return jax.tree.map(one, tree)


class Compiler:
    """Compiles for a device that is described."""

    def __init__(self, platform, describe, monkeypatch):
        self.sharding = SingleDeviceSharding(describe().devices[0])
        monkeypatch.setattr(_platform, "platform", lambda xs: platform)

    def compile(self, cell, engine, *, graded, flags=(), steps=STEPS, many=False, options=None):
        def init(key):
            return cell.init(key, INPUTS)

        keys = jax.random.split(jax.random.key(0), 5)
        params = jax.eval_shape(jax.vmap(init), keys) if many else jax.eval_shape(init, keys[0])
        xs = jax.ShapeDtypeStruct((steps, BATCH, INPUTS), cell.dtype or "float32")
        given = {
            "lengths": jax.ShapeDtypeStruct((BATCH,), "int32"),
            "resets": jax.ShapeDtypeStruct((steps, BATCH), "bool"),
        }
        given = {name: given[name] for name in flags}

        def run(params, xs, given):
            arguments = given | {"reverse": bool(flags)}
            return sc.unroll(cell, params, xs, engine=engine, **arguments)[1]

        def loss(params, xs, given):
            return jnp.sum(jnp.sin(run(params, xs, given).astype(jnp.float32)))

        function = jax.grad(loss, (0, 1)) if graded else run
        function = jax.vmap(function, (0, None, None)) if many else function
        args = shaped((params, xs, given), self.sharding)
        return jax.jit(function, compiler_options=options).lower(*args).compile()


@pytest.fixture
def h200(monkeypatch):
    if missing("jax_cuda13_plugin"):
        pytest.skip("needs jax[cuda13]")
    with contextlib.suppress(ImportError):  # jax 0.12 asks the device that is not there
        from jax._src.pallas.triton import gpu_info

        known = gpu_info.get_gpu_info_from_version(gpu_info.GpuVersion.H200)
        monkeypatch.setattr(gpu_info, "get_gpu_info", lambda: known)
    return Compiler("gpu", gpu, monkeypatch)


@pytest.fixture
def v5e(monkeypatch):
    if missing("libtpu"):
        pytest.skip("needs libtpu")
    return Compiler("tpu", tpu, monkeypatch)


def computations(text):
    """The instructions of each computation of a program."""
    result, name = {}, None
    for line in text.splitlines():
        head = re.match(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if head:
            name = head[1]
            result[name] = []
        elif name and " = " in line:
            result[name].append(line.strip())
    return result


KINDS = "fusion|custom-call|copy|dot|dynamic-slice|dynamic-update-slice"
LAUNCHED = re.compile(rf" = \S.*? ({KINDS})\(")


def loops(text):
    """For each loop, how often it turns and how many kernels a turn launches."""
    parts, result = computations(text), []
    for line in (line for lines in parts.values() for line in lines):
        body = re.search(r" while\(.*body=%?([\w.\-]+)", line)
        if body:
            turns = int(re.search(r"known_trip_count\D*(\d+)", line)[1])
            result.append((turns, sum(bool(LAUNCHED.search(one)) for one in parts[body[1]])))
    return result


aot_gpu = pytest.mark.gpu_aot
aot_tpu = pytest.mark.tpu_aot
over_gradients = pytest.mark.parametrize("graded", [False, True], ids=["forward", "gradient"])


@aot_gpu
@over_gradients
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_turn_of_the_lean_scan_launches_less_than_three_kernels_a_step(h200, dtype, graded):
    compiled = functools.partial(h200.compile, sc.GRU(128, dtype=dtype), graded=graded)
    lean, plain = (loops(compiled(engine).as_text()) for engine in (sc.Deferred(), sc.Scan()))
    assert [turns for turns, _ in lean] == [STEPS // UNROLL] * (1 + graded)
    assert [turns for turns, _ in plain] == [STEPS] * (1 + graded)
    for (_, few), (_, many) in zip(lean, plain, strict=True):
        assert few / UNROLL <= 2.5 < 0.7 * many  # 4 to 15: newer compilers fuse more


@aot_gpu
@over_gradients
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_with_the_options_the_whole_program_is_one_graph(h200, tmp_path, dtype, graded):
    dumped = {"xla_dump_to": str(tmp_path), "xla_dump_hlo_as_text": True}
    for options, graph in (({}, False), (sc.gpu_compiler_options(), True)):
        for old in tmp_path.iterdir():
            old.unlink()
        cell = sc.GRU(128, dtype=dtype)
        h200.compile(cell, sc.Deferred(), graded=graded, options=dumped | options)
        (path,) = tmp_path.glob("*thunk_sequence_after_thunk_passes.txt")
        outermost = re.findall(r"^\d+: (\w+)", path.read_text("utf-8"), re.MULTILINE)
        assert (outermost == ["kCommandBuffer"]) == graph


CELLS = {
    "gru-64-tf32": (sc.GRU(64), "tf32"),
    "gru-64-tf32x3": (sc.GRU(64), "tf32x3"),
    "gru-64-float32": (sc.GRU(64), "float32"),
    "gru-64-bfloat16": (sc.GRU(64, dtype="bfloat16"), None),
    "gru-128-tf32": (sc.GRU(128), "tf32"),
    "gru-100-bfloat16": (sc.GRU(100, dtype="bfloat16"), None),
    "rnn-128-tf32": (sc.RNN(128), "tf32"),
    "rnn-192-bfloat16": (sc.RNN(192, dtype="bfloat16"), None),
    "lstm-64-tf32": (sc.LSTM(64), "tf32"),
    "lstm-64-tf32x3": (sc.LSTM(64), "tf32x3"),
    "lstm-128-bfloat16": (sc.LSTM(128, dtype="bfloat16"), None),
    "mgu-100-tf32": (sc.MGU(100, reset_after=True), "tf32"),
}


def assembly(folder):
    """The file of each of our kernels, by name."""
    files = {path: path.read_text("utf-8") for path in folder.glob("*.ptx")}
    if not files and jax.__version_info__ >= (0, 11):
        pytest.skip("this jax leaves no PTX of a program that is compiled ahead of time")
    named = {path: re.search(r"\.entry (seqcells_\w+)\(", text) for path, text in files.items()}
    result = {name[1]: path for path, name in named.items() if name}
    assert set(result) == {"seqcells_forward", "seqcells_backward"}
    return result


def spilled(path, architecture="sm_90a"):
    """The bytes of registers that a kernel stores and loads again."""
    root = Path(importlib.util.find_spec("nvidia").submodule_search_locations[0])
    command = [root / "cu13" / "bin" / "ptxas", "-v", f"-arch={architecture}", path]
    command += ["-o", os.devnull]
    log = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stderr
    return sum(map(int, re.findall(r"(\d+) bytes spill", log)))


@aot_gpu
@pytest.mark.parametrize("flags", [(), FLAGS], ids=["plain", "flags"])
@pytest.mark.parametrize("name", CELLS)
def test_a_kernel_each_way_is_compiled_and_stays_in_registers(h200, tmp_path, name, flags):
    cell, precision = CELLS[name]
    options = {"graded": True, "flags": flags, "options": {"xla_dump_to": str(tmp_path)}}
    text = h200.compile(cell, sc.PallasTriton(precision), **options).as_text()
    assert text.count('custom_call_target="__gpu$xla.gpu.triton"') == 2
    assert not loops(text)
    result = {name: spilled(path) for name, path in assembly(tmp_path).items()}
    assert {name: count for name, count in result.items() if count > SPILLED} == {}


CLUSTER_CELLS = {  # the largest of each, and those that all registers hold
    "gru-64": sc.GRU(64, dtype="bfloat16"),
    "gru-256": sc.GRU(256, dtype="bfloat16"),
    "gru-512": sc.GRU(512, dtype="bfloat16"),
    "lstm-384": sc.LSTM(384, dtype="bfloat16"),
    "mgu-640": sc.MGU(640, reset_after=True, dtype="bfloat16"),
    "rnn-512": sc.RNN(512, dtype="bfloat16"),
    "rnn-896": sc.RNN(896, dtype="bfloat16"),
}


@pytest.fixture
def written(monkeypatch):
    """The PTX of each kernel that is launched."""
    result, compile_ptx = {}, _nvidia.compile_ptx

    def noted(source):
        ptx = compile_ptx(source)
        result[re.search(r"\.entry (seqcells_\w+)\(", ptx)[1]] = ptx
        return ptx

    monkeypatch.setattr(_nvidia, "compile_ptx", noted)
    return result


@aot_gpu
@pytest.mark.parametrize("flags", [(), FLAGS], ids=["plain", "flags"])
@pytest.mark.parametrize("name", CLUSTER_CELLS)
def test_a_cluster_each_way_is_compiled_and_stays_in_registers(
    h200, tmp_path, written, name, flags
):
    compiled = h200.compile(CLUSTER_CELLS[name], sc.CUDACluster(), graded=True, flags=flags)
    text = compiled.as_text()
    assert text.count('custom_call_target="__gpu$xla.gpu.ptx"') == len(written) == 2
    assert not loops(text)
    path = tmp_path / "kernel.ptx"
    for ptx in written.values():
        path.write_text(ptx, encoding="utf-8")
        for architecture in ("sm_90", "sm_100", "sm_120"):  # Hopper, and both that came after
            assert spilled(path, architecture) <= SPILLED


@aot_gpu
@pytest.mark.usefixtures("x64")
def test_a_cluster_is_compiled_for_one_step_whatever_jax_computes_in(h200):
    cell = sc.GRU(64, dtype="float32")
    compiled = h200.compile(cell, sc.CUDACluster("bfloat16"), graded=True, flags=FLAGS, steps=1)
    assert compiled.as_text().count('custom_call_target="__gpu$xla.gpu.ptx"') == 2


@aot_gpu
@pytest.mark.parametrize("engine", [sc.Deferred(), sc.PallasTriton()], ids=["lean", "kernel"])
def test_memory_of_many_steps_is_that_of_the_outputs_and_of_a_window(h200, engine):
    steps, size = 100_000, 64
    compiled = h200.compile(sc.GRU(size), engine, graded=True, steps=steps)
    outputs = steps * BATCH * size * 4  # the carries, and their cotangents
    assert compiled.memory_analysis().temp_size_in_bytes <= 2 * outputs + 3 * DEVICE_BYTES


@aot_gpu
@pytest.mark.parametrize("precision", ["bfloat16", "tf32", "tf32x3", "float32"])
def test_products_are_multiplied_as_the_precision_says(h200, tmp_path, precision):
    options = {"xla_dump_to": str(tmp_path)}
    h200.compile(sc.GRU(64), sc.PallasTriton(precision), graded=True, options=options)
    for path in assembly(tmp_path).values():
        result = set(re.findall(r"mma\S*\.(bf16|tf32)\.", path.read_text("utf-8")))
        assert result == {"bfloat16": {"bf16"}, "float32": set()}.get(precision, {"tf32"})


@aot_gpu
@pytest.mark.parametrize(
    ("engine", "target"),
    [(sc.PallasTriton(), "triton"), (sc.CUDACluster("bfloat16"), "ptx")],
    ids=["triton", "cluster"],
)
def test_many_weights_take_one_kernel_each_way(h200, engine, target):
    compiled = h200.compile(sc.GRU(64), engine, graded=True, many=True)
    assert compiled.as_text().count(f'custom_call_target="__gpu$xla.gpu.{target}"') == 2


SHARDED = {"triton": sc.PallasTriton(), "cluster": sc.CUDACluster("bfloat16")}


def sharded(devices, cell, engine):
    """A gradient whose batch is cut over devices by a checked shard_map."""
    mesh = Mesh(np.array(devices), ("devices",))
    batch = P(None, "devices")

    def graded(params, xs, lengths):
        def loss(params, xs):
            _, ys = sc.unroll(cell, params, xs, lengths=lengths, engine=engine)
            return jax.lax.psum(jnp.sum(ys), "devices")

        return jax.grad(loss, (0, 1))(params, xs)

    specs = (P(), batch, P("devices"))
    function = jax.shard_map(graded, mesh=mesh, in_specs=specs, out_specs=specs[:2])
    params = jax.eval_shape(lambda key: cell.init(key, INPUTS), jax.random.key(0))
    rows = 16 * len(devices)
    xs = jax.ShapeDtypeStruct((STEPS, rows, INPUTS), "float32")
    lengths = jax.ShapeDtypeStruct((rows,), "int32")
    placed = [NamedSharding(mesh, spec) for spec in specs]
    args = map(shaped, (params, xs, lengths), placed)
    return jax.jit(function).lower(*args).compile().as_text()


@aot_gpu
@pytest.mark.parametrize("name", SHARDED)
@pytest.mark.usefixtures("h200")
def test_kernels_run_within_a_checked_shard_map(name):
    text = sharded(gpu().devices, sc.GRU(64), SHARDED[name])
    assert len(re.findall(r'custom_call_target="__gpu\$xla\.gpu\.(triton|ptx)"', text)) == 2


TPU_CELLS = {
    "gru-64-float32": (sc.GRU(64), "float32"),
    "gru-512-float32": (sc.GRU(512), "float32"),
    "gru-1000-bfloat16": (sc.GRU(1000), "bfloat16"),
    "gru-128-carry-in-float32": (sc.GRU(128, dtype="bfloat16"), None),
    "rnn-64": (sc.RNN(64), None),
    "lstm-768-bfloat16": (sc.LSTM(768), "bfloat16"),
    "mgu-100": (sc.MGU(100, reset_after=True), None),
}


@aot_tpu
@pytest.mark.parametrize("flags", [(), FLAGS], ids=["plain", "flags"])
@pytest.mark.parametrize("name", TPU_CELLS)
def test_a_kernel_each_way_is_compiled_for_a_tpu(v5e, name, flags):
    cell, precision = TPU_CELLS[name]
    text = v5e.compile(cell, sc.PallasTPU(precision), graded=True, flags=flags).as_text()
    assert text.count('custom_call_target="tpu_custom_call"') == 2


@aot_tpu
@pytest.mark.usefixtures("x64")
def test_a_kernel_for_a_tpu_counts_in_int32_whatever_jax_computes_in(v5e):
    compiled = v5e.compile(sc.GRU(64, dtype="float32"), sc.PallasTPU(), graded=True, flags=FLAGS)
    assert compiled.as_text().count('custom_call_target="tpu_custom_call"') == 2


@aot_tpu
def test_many_weights_take_one_kernel_each_way_of_a_tpu(v5e):
    compiled = v5e.compile(sc.GRU(64), sc.PallasTPU(), graded=True, many=True)
    assert compiled.as_text().count('custom_call_target="tpu_custom_call"') == 2


@aot_tpu
@pytest.mark.usefixtures("v5e")
def test_a_kernel_of_a_tpu_runs_within_a_checked_shard_map_of_four():
    text = sharded(tpu().devices, sc.GRU(64), sc.PallasTPU())
    assert text.count('custom_call_target="tpu_custom_call"') == 2
    assert len(re.findall(r" all-reduce(-start)?\(", text)) == 1  # of the gradients of all weights
