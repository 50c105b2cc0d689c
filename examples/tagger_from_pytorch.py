"""A bidirectional tagger with weights from PyTorch, fine-tuned in JAX.

    python -m examples.tagger_from_pytorch

A PyTorch tagger (embedding, two bidirectional LSTM layers, linear) becomes one value of seqcells
that gives the same logits for ragged sentences. Then it is trained on, and its LSTM goes back.
Where PyTorch is not installed, arrays of the same names stand for its `state_dict`.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqcells as sc

WORDS, EMBEDDED, UNITS, TAGS = 100, 16, 32, 5
LSTM = sc.Stack((sc.Bidirectional(sc.LSTM(UNITS)), sc.Bidirectional(sc.LSTM(UNITS))))
NET = sc.Stack((sc.Embed(WORDS, EMBEDDED), LSTM, sc.Dense(TAGS)))
Arrays = dict[str, np.ndarray]


def from_torch(words: np.ndarray, lengths: np.ndarray) -> tuple[Arrays, np.ndarray]:
    """Return the weights of a PyTorch tagger, and its logits [T, B, TAGS], zero at padding."""
    import torch  # pyright: ignore[reportMissingImports] - not needed for the rest
    from torch.nn.utils import rnn  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    embed = torch.nn.Embedding(WORDS, EMBEDDED)
    lstm = torch.nn.LSTM(EMBEDDED, UNITS, num_layers=2, bidirectional=True)
    tags = torch.nn.Linear(2 * UNITS, TAGS)
    with torch.no_grad():
        packed = rnn.pack_padded_sequence(
            embed(torch.tensor(words)), torch.tensor(lengths), enforce_sorted=False
        )
        ys, _ = rnn.pad_packed_sequence(lstm(packed)[0], total_length=len(words))
        logits = tags(ys).numpy()
    net = torch.nn.ModuleDict({"embed": embed, "lstm": lstm, "tags": tags})
    valid = np.arange(len(words))[:, None] < lengths
    arrays = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    return arrays, np.where(valid[..., None], logits, 0)


def stand_in(rng: np.random.Generator) -> Arrays:
    """Return arrays of the names and shapes of that tagger's."""
    shapes = {"embed.weight": (WORDS, EMBEDDED)}
    for layer, size in enumerate((EMBEDDED, 2 * UNITS)):
        for end in (f"l{layer}", f"l{layer}_reverse"):
            shapes |= {f"lstm.weight_ih_{end}": (4 * UNITS, size)}
            shapes |= {f"lstm.weight_hh_{end}": (4 * UNITS, UNITS)}
            shapes |= {f"lstm.bias_{kind}_{end}": (4 * UNITS,) for kind in ("ih", "hh")}
    shapes |= {"tags.weight": (TAGS, 2 * UNITS), "tags.bias": (TAGS,)}
    return {name: rng.uniform(-0.2, 0.2, shape).astype("float32") for name, shape in shapes.items()}


def convert(arrays: Arrays) -> Any:
    """Return the parameters of `NET`: linear layers by hand, the LSTM by `interop`."""
    lstm = {name[5:]: a for name, a in arrays.items() if name.startswith("lstm.")}
    return (
        sc.EmbedParams(jnp.asarray(arrays["embed.weight"])),
        sc.interop.torch.load(lstm, LSTM),
        sc.DenseParams(jnp.asarray(arrays["tags.weight"].T), jnp.asarray(arrays["tags.bias"])),
    )


def loss(params: Any, words: jax.Array, lengths: jax.Array, tags: jax.Array) -> jax.Array:
    """Compute the cross-entropy of the tags of all words that are no padding."""
    _, logits = sc.unroll(NET, params, words, lengths=lengths)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, tags)
    return jnp.mean(losses, where=jnp.arange(len(words))[:, None] < lengths)


def main(steps: int = 100, seed: int = 0) -> tuple[float, list[float]]:
    """Convert and train; return how far the logits are from PyTorch's, and the losses."""
    rng, off = np.random.default_rng(seed), float("nan")
    words, lengths = rng.integers(0, WORDS, (12, 32)), rng.integers(1, 13, 32)
    tags = words % TAGS  # what is to be learned
    if importlib.util.find_spec("torch"):
        arrays, expected = from_torch(words, lengths)
        params = convert(arrays)
        _, logits = sc.unroll(NET, params, words, lengths=lengths)
        off = float(jnp.abs(logits - expected).max())
        print(f"logits differ from PyTorch's by at most {off:.0e}")
    else:
        print("PyTorch is not installed: arrays of the same names stand for its weights")
        params = convert(stand_in(rng))

    optimizer = optax.adam(1e-2)

    @jax.jit
    def update(params: Any, memory: optax.OptState):
        value, gradient = jax.value_and_grad(loss)(params, words, lengths, tags)
        updates, memory = optimizer.update(gradient, memory)
        return optax.apply_updates(params, updates), memory, value

    memory, losses = optimizer.init(params), []
    for _ in range(steps):
        params, memory, value = update(params, memory)
        losses.append(float(value))
    print(f"loss {losses[0]:.2f}, after {steps} updates {losses[-1]:.2f}")
    back = sc.interop.torch.dump(LSTM, params[1])
    print(f"{len(back)} arrays go back into the LSTM: {', '.join(list(back)[:2])}, ...")
    return off, losses


if __name__ == "__main__":
    main()
