"""Run the rules of braintrace, and write their gradients to tests/goldens/online.npz.

    python -m scripts.make_online_goldens

Needs braintrace (pip install braintrace==0.2.6), in an environment of its own. Its MiniGRU is

    z_t = sigmoid(W_z [x_t; h_{t-1}] + b_z)
    h_t = (1 - z_t) * h_{t-1} + z_t * (W_x x_t + b_x)

and the loss is the sum over t of h_t times weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

T, D, H = 6, 2, 3
PATH = Path(__file__).parents[1] / "tests" / "goldens" / "online.npz"


def problem() -> dict[str, np.ndarray]:
    """Draw inputs, weights of the loss, and parameters."""
    rng = np.random.default_rng(0)
    sizes = {"xs": (T, D), "dys": (T, H), "w_z": (D + H, H), "b_z": (H,), "w_x": (D, H)}
    sizes["b_x"] = (H,)
    return {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def gradients(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the gradient that each rule sums over time, by "rule.parameter"."""
    import braintrace  # pyright: ignore[reportMissingImports]

    rules = {
        "eprop": (braintrace.D_RTRL, {}),
        "snap": (braintrace.SnAp, {"n": 1}),
        "rtrl": (braintrace.SnAp, {"n": H}),
    }
    out = {}
    for name, (rule, options) in rules.items():
        model = braintrace.nn.MiniGRU(D, H)
        for layer, letter in ((model.W_z, "z"), (model.W_x, "x")):
            weight, bias = (jnp.array(given[f"{kind}_{letter}"]) for kind in "wb")
            layer.weight.value = {"weight": weight, "bias": bias}
        learner = braintrace.compile(model, rule, jnp.zeros(D), **options)

        def loss(x: jax.Array, dy: jax.Array, learner=learner) -> jax.Array:
            return jnp.sum(learner(x) * dy)

        grads = learner.etrace_grad(jnp.array(given["xs"]), jnp.array(given["dys"]), step_fn=loss)
        for (layer, _), leaves in grads.items():
            letter = layer[-1]  # of W_x or W_z; the gradient is that of the mean over time
            out[f"{name}.w_{letter}"] = T * np.asarray(leaves["weight"])
            out[f"{name}.b_{letter}"] = T * np.asarray(leaves["bias"])
    return out


def main() -> None:
    """Write the file."""
    given = problem()
    arrays: dict[str, Any] = {**given, **gradients(given)}
    np.savez(PATH, **arrays)


if __name__ == "__main__":
    main()
