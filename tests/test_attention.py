"Blockwise attention against plain attention over a grid of lengths, chunks and head dims: forward and every gradient."
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from lvm_lite.attention import attention, blockwise_attention, plain_attention
from lvm_lite.model import Compute, Llama, mean_loss
from lvm_lite.settings import ModelConfig

CHUNKS = [(256, 256), (128, 48), (48, 100)]  # queries, keys: larger than keys, smaller, and dividing nothing


def gradients(attend, qkv, weights):
    out, back = jax.vjp(attend, *qkv)
    return (out, *back(weights))


@pytest.mark.slow
@pytest.mark.parametrize("head_dim", [64, 96, 100, 128])
@pytest.mark.parametrize("length", [1, 5, 256, 1000, 4096])
def test_grid(length, head_dim):
    *qkv, weights = (jax.random.normal(k, (1, length, 2, head_dim)) for k in jax.random.split(jax.random.key(length * head_dim), 4))
    exact = jax.jit(lambda *a: gradients(plain_attention, a[:3], a[3]))(*qkv, weights)
    for query_chunk, key_chunk in CHUNKS:
        ours = jax.jit(lambda *a: gradients(lambda *x: blockwise_attention(*x, query_chunk, key_chunk), a[:3], a[3]))(*qkv, weights)
        for what, a, b in zip(("output", "d query", "d key", "d value"), ours, exact):
            # a single token's softmax is one: its queries and keys have no gradient, and what is left is rounding
            error = float(jnp.linalg.norm(a - b) / jnp.maximum(jnp.linalg.norm(b), 1e-3 * jnp.linalg.norm(weights)))
            assert error < 1e-5, f"{what} is {error:.1e} apart with chunks {query_chunk} and {key_chunk}"


@pytest.mark.parametrize("keep, forward", [("stream", 2), ("attention", 1), ("products", 1)])
def test_cudnns_kernel_runs_once_where_attention_is_kept(keep, forward, monkeypatch):
    "Traced as for a GPU that is not here: JAX gives its kernel's outputs no name, so that the policy has to know the kernel."
    from jax._src.cudnn import fused_attention_stablehlo as cudnn
    for check in ("check_cudnn_version", "check_compute_capability"): monkeypatch.setattr(cudnn, check, lambda *_: 91000)
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu", device_kind="a GPU")])
    config = ModelConfig(64, 128, 2, 2, vocab_size=50, codebook_size=40, tokens_per_image=16, context=128)
    loss = lambda model: mean_loss(model, jnp.zeros((1, 128), jnp.int32), Compute("bfloat16", keep, attention="cudnn"))
    assert str(jax.make_jaxpr(jax.grad(loss))(Llama(config, jax.random.key(0)))).count("= dot_product_attention_fwd_wrapper[") == forward


def test_the_kernel_of_tpus_is_refused_on_a_gpu(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu", device_kind="a GPU")])
    x = jnp.zeros((1, 128, 2, 8))
    with pytest.raises(ValueError, match="'splash' is for TPUs"): attention(x, x, x, backend="splash")
