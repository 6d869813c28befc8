"What the parity tests of model, generation and checkpoints share: transformers' Llama with random weights."

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {64: (192, 3), 96: (192, 2), 100: (300, 3), 128: (256, 2)}  # head dim -> width, heads
VOCABULARY = dict(vocab_size=612, codebook_size=512, tokens_per_image=64)


def peer_of(head_dim, context=512, seed=0, spread=0.05):
    "Three layers, so that their order is seen, and norms away from 1."
    width, heads = SHAPES[head_dim]
    torch.manual_seed(seed)
    config = LlamaConfig(hidden_size=width, intermediate_size=2 * width + 8, num_hidden_layers=3, num_attention_heads=heads, max_position_embeddings=context,
                         rms_norm_eps=1e-6, tie_word_embeddings=False, initializer_range=spread,
                         bos_token_id=None, eos_token_id=None, pad_token_id=None, **VOCABULARY)
    peer = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, p in peer.named_parameters():
            if "norm" in name: p.add_(0.2 * torch.randn_like(p))
    return peer
