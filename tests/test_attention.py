"Blockwise attention against plain attention over a grid of lengths, chunks and head dims: forward and every gradient."
import jax
import jax.numpy as jnp
import pytest

from lvm_lite.attention import blockwise_attention, plain_attention

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
