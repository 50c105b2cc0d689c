"""Export a net to StableHLO and to ONNX, and serve it over HTTP.

    python -m examples.export_and_serve --out runs/served --port 8000
    curl -d '{"sequences": [[1, 2, 3], [4]]}' http://localhost:8000

`export` writes two files for any number of sequences of any length: a program for `jax.export`,
whose weights lie beside it, and an ONNX file for runtimes without JAX. `Server` reads the program
alone: the code of the net is not needed. It needs the extras export, interop and onnx.
"""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

import seqcells as sc

SYMBOLS, CLASSES = 100, 3
NET = sc.Stack((sc.Embed(SYMBOLS, 16), sc.Bidirectional(sc.GRU(32)), sc.Dense(CLASSES)))


def run(params: Any, symbols: jax.Array, lengths: jax.Array) -> jax.Array:
    """Return the probabilities of the classes of each symbol, [T, B, CLASSES]."""
    _, logits = sc.unroll(NET, params, symbols, lengths=lengths)
    return jax.nn.softmax(logits)


def export(params: Any, out: Path) -> None:
    """Write net.stablehlo, net.safetensors and net.onnx."""
    import onnx

    out.mkdir(parents=True, exist_ok=True)
    t, b = jax_export.symbolic_shape("t, b")
    shapes = jax.ShapeDtypeStruct((t, b), "int32"), jax.ShapeDtypeStruct((b,), "int32")
    program = jax_export.export(jax.jit(run), platforms=("cpu", "cuda"))(params, *shapes)
    (out / "net.stablehlo").write_bytes(program.serialize())
    sc.interop.save(out / "net.safetensors", NET, params)
    onnx.save(sc.interop.onnx.model(NET, params, (), lengths=True), out / "net.onnx")
    sizes = ", ".join(
        f"{file.name} {file.stat().st_size:,} bytes" for file in sorted(out.iterdir())
    )
    print(f"{out}: {sizes}")


class Server(ThreadingHTTPServer):
    """Answers {"sequences": [[symbol, ...], ...]} by the classes of each symbol."""

    def __init__(self, folder: Path, port: int):
        super().__init__(("localhost", port), Handler)
        program = jax_export.deserialize(bytearray((folder / "net.stablehlo").read_bytes()))
        _, params = sc.interop.load(folder / "net.safetensors")
        self.compiled = jax.jit(lambda symbols, lengths: program.call(params, symbols, lengths))

    def answer(self, sequences: list[list[int]]) -> list[list[int]]:
        """Run the program on ragged sequences, padded to powers of two: few shapes are compiled."""
        lengths = [len(one) for one in sequences]
        steps, rows = (1 << (n - 1).bit_length() for n in (max(lengths), len(lengths)))
        symbols, n = np.zeros((steps, rows), "int32"), np.zeros(rows, "int32")
        for row, one in enumerate(sequences):
            symbols[: len(one), row], n[row] = one, len(one)
        classes = np.asarray(jnp.argmax(self.compiled(symbols, n), axis=-1))
        return [classes[:length, row].tolist() for row, length in enumerate(lengths)]


class Handler(BaseHTTPRequestHandler):
    """Reads a request and writes the answer, or what is wrong with the request."""

    def do_POST(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            sequences = json.loads(body)["sequences"]
            if not all(0 <= symbol < SYMBOLS for one in sequences for symbol in one):
                raise ValueError(f"symbols: expected 0 to {SYMBOLS - 1}")
            assert isinstance(self.server, Server)
            status, result = 200, {"classes": self.server.answer(sequences)}
        except (KeyError, TypeError, ValueError) as error:
            status, result = 400, {"error": f"{type(error).__name__}: {error}"}
        data = json.dumps(result).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main(out: Path, port: int) -> None:
    """Export a net with its first weights, then serve it until Ctrl-C."""
    export(NET.init(jax.random.key(0), input_size=()), out)
    with Server(out, port) as server:
        print(f"http://localhost:{server.server_port}; stop it with Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/served"), help="folder of the files")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    arguments = parser.parse_args()
    main(arguments.out, arguments.port)
