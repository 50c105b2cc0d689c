"""Every example in a small form: it runs, learns or agrees, and is one readable file."""

import inspect
import json
import threading
import urllib.error
import urllib.request
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from examples import (
    character_model,
    export_and_serve,
    flip_flop,
    forecast_lorenz,
    forecaster,
    online_learner,
    sweep_flax,
    tagger_from_pytorch,
    text_classifier,
    translator,
)

EXAMPLES = Path(translator.__file__).parent


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("[a-z]*.py")), ids=lambda file: file.name)
def test_an_example_is_a_short_file_that_says_how_to_run_it(file):
    text = file.read_text("utf-8")
    assert len(text.splitlines()) <= 150
    stem = file.stem if "__main__" in text else ""  # trackers has what another example uses
    assert f"python -m examples.{stem}" in text.split('"""')[1]


def test_a_number_is_spelled_and_a_batch_is_ragged():
    assert " ".join(translator.spell(70_315)) == "seventy thousand three hundred fifteen"
    digits, n, words, m = translator.batch(np.array([7, 99_999]))
    assert n.tolist() == [1, 5]
    assert m.tolist() == [2, 8]
    assert translator.text(words[:, 0]) == "seven"
    assert digits[:, 1].tolist() == [9] * 5


@pytest.mark.slow
def test_the_translator_learns_to_spell():
    assert translator.main(steps=30, rows=8) >= 0
    params = translator.init(jax.random.key(0))
    data = translator.batch(np.arange(8))
    memory, losses = translator.OPTIMIZER.init(params), []
    for _ in range(60):
        params, memory, value = translator.update(params, memory, *data)
        losses.append(float(value))
    assert losses[-1] < 0.2 * losses[0]


def test_teacher_forcing_and_translating_are_one_net():
    """Up to the end, both find the same words likeliest, given the same words before."""
    params = translator.init(jax.random.key(0))
    digits, n, _, _ = translator.batch(np.array([12, 345]))
    own = translator.translate(params, digits, n)
    before = jnp.concatenate([jnp.zeros_like(own[:1]), own[:-1]])
    carry = translator.read(params, digits, n)
    _, logits = sc.unroll(translator.DECODER, params["decoder"], before, carry)
    ended = jnp.cumsum(own == translator.END, axis=0) > (own == translator.END)  # before
    assert jnp.array_equal(jnp.where(ended, translator.END, logits.argmax(-1)), own)


def test_the_classifier_knows_which_brackets_are_balanced():
    assert text_classifier.balanced("(a[b]) ")
    assert not text_classifier.balanced("(a]")
    rng = np.random.default_rng(0)
    assert all(text_classifier.balanced(text_classifier.grow(rng, n)) for n in range(2, 30))
    assert text_classifier.main(steps=20, rows=16) > 0.3


@pytest.mark.slow
def test_the_forecaster_beats_the_last_value():
    ours, naive = forecaster.main(steps=40)
    assert np.isfinite(ours)
    assert ours < naive


@pytest.mark.slow
def test_the_flip_flop_has_a_stable_point_for_each_memory(tmp_path):
    points = flip_flop.main(steps=1000, out=tmp_path / "points.png")
    assert [int(sum(points.unstable == k)) for k in range(4)] == [8, 12, 6, 1]  # a cube
    assert (tmp_path / "points.png").exists()


@pytest.mark.slow
def test_the_net_becomes_chaotic(tmp_path):
    divergence, exponents = forecast_lorenz.main(steps=1500, out=tmp_path / "orbits.png")
    assert divergence < 1
    assert exponents[0] == pytest.approx(0.906, rel=0.25)
    assert (tmp_path / "orbits.png").exists()


@pytest.mark.slow
def test_the_character_model_streams():
    text = "the quick brown fox jumps over the lazy dog. " * 60
    windows = character_model.streams(np.arange(16 * 64 * 2 + 1))
    assert windows.shape == (2, 65, 16)
    assert (windows[1, 0] == windows[0, -1]).all()
    bits = character_model.main(text, epochs=4, units=32)
    assert bits[-1] < bits[0]


@pytest.mark.slow
def test_the_sweep_of_a_flax_model_resumes(tmp_path):
    first = sweep_flax.main(steps=4, seeds=1, out=tmp_path / "sweep")
    assert len(first.rows) == 16
    assert sweep_flax.main(steps=4, seeds=1, out=tmp_path / "sweep").rows == first.rows


@pytest.mark.slow
def test_the_tagger_has_the_weights_of_pytorch_and_learns():
    off, losses = tagger_from_pytorch.main(steps=15)
    assert not off > 1e-5  # NaN where PyTorch is not installed
    assert losses[-1] < 0.7 * losses[0]
    rng = np.random.default_rng(0)
    shapes = jax.tree.map(jnp.shape, tagger_from_pytorch.convert(tagger_from_pytorch.stand_in(rng)))
    own = jax.eval_shape(lambda: tagger_from_pytorch.NET.init(jax.random.key(0), ()))
    assert shapes == jax.tree.map(lambda a: a.shape, own)


def test_what_is_served_is_what_the_net_computes(tmp_path):
    net, params = export_and_serve.NET, export_and_serve.NET.init(jax.random.key(0), ())
    export_and_serve.export(params, tmp_path)
    with export_and_serve.Server(tmp_path, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def ask(body):
            request = f"http://localhost:{server.server_port}", json.dumps(body).encode()
            return json.load(urllib.request.urlopen(*request, timeout=60))

        sequences = [[1, 2, 3], [4]]
        got = ask({"sequences": sequences})["classes"]
        for one, classes in zip(sequences, got, strict=True):
            logits = sc.unroll(net, params, jnp.array(one))[1]
            assert classes == logits.argmax(-1).tolist()
        for wrong in ({"sequences": [[100]]}, {"sentences": []}):
            with pytest.raises(urllib.error.HTTPError, match="400"):
                ask(wrong)
        server.shutdown()


def test_examples_use_what_is_public():
    ours = (translator, text_classifier, forecaster, character_model, sweep_flax)
    for module in (*ours, flip_flop, forecast_lorenz):
        assert "seqcells._" not in inspect.getsource(module)


def test_the_online_learner_is_asked_for_what_it_read_before():
    data = online_learner.Data(seed=0, change=10)
    for step, lag in ((9, 3), (10, 6)):
        target, scored = data(None, jnp.int32(step))[1:3]
        np.testing.assert_array_equal(target, data(None, jnp.int32(step - lag)).x / 2 + 0.5)
        assert scored.all()
    assert not data(None, jnp.int32(2)).scored.any()


@pytest.mark.slow
def test_the_online_learner_learns_again_after_the_change(capsys):
    parts = online_learner.main(steps=20_000)
    assert "the answer now lies 6 steps back" in capsys.readouterr().out
    assert {len(losses) for losses in parts.values()} == {10}
    assert parts["RTRL"][-1] < 0.05 < 0.3 < parts["one step"][-1]
