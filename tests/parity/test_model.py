"""The model against transformers' LlamaForCausalLM with the same random weights: logits and every gradient. Run by `make parity`."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the peers are only in the environment of `make parity`")
import jax
import jax.numpy as jnp

from llamas import SHAPES, peer_of
from lvm_lite.checkpoints import _is_matrix, _places, load_model
from lvm_lite.model import Compute, mean_loss


@pytest.fixture(scope="module", params=SHAPES, ids=lambda d: f"head dim {d}")
def pair(request, tmp_path_factory):
    "transformers' model, and ours from the directory that it wrote."
    peer, directory = peer_of(request.param), tmp_path_factory.mktemp("peer")
    peer.save_pretrained(directory)
    return peer, load_model(directory), np.random.default_rng(1).integers(0, 512, (2, 300))


def relative(ours, theirs): return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def test_logits(pair):
    peer, ours, tokens = pair
    with torch.no_grad(): theirs = peer(torch.tensor(tokens)).logits.numpy()
    error = np.abs(np.asarray(ours(jnp.asarray(tokens))) - theirs).max()
    print(f"logits up to {np.abs(theirs).max():.1f} differ by {error:.1e}", end="; ")
    assert error < 1e-4


@pytest.mark.parametrize("compute", [Compute(), Compute(keep="attention", query_chunk=64, key_chunk=100, mlp_chunk=128, loss_chunk=96)],
                         ids=["whole", "in chunks"])
def test_loss_and_every_gradient(pair, compute):
    peer, ours, tokens = pair
    peer.zero_grad()
    loss = peer(torch.tensor(tokens), labels=torch.tensor(tokens)).loss
    loss.backward()
    mine, gradients = jax.jit(jax.value_and_grad(lambda m: mean_loss(m, jnp.asarray(tokens), compute)))(ours)
    assert abs(float(mine) - loss.item()) < 1e-5 * loss.item()
    theirs, errors = dict(peer.named_parameters()), {}
    assert set(theirs) == set(_places(gradients))
    for name, (module, attribute, layer) in _places(gradients).items():
        g = getattr(module, attribute)[...]
        g = np.asarray(g if layer is None else g[layer])
        errors[name] = relative(g.T if _is_matrix(name) else g, theirs[name].grad.numpy())
    worst = max(errors, key=errors.get)
    print(f"{len(errors)} gradients, the worst {worst} by {errors[worst]:.1e}", end="; ")
    assert errors[worst] < 1e-5
