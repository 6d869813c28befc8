"""Greedy decoding against transformers' generate, token by token, from a directory that transformers wrote. Run by `make parity`."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the peers are only in the environment of `make parity`")
import jax

from llamas import SHAPES, VOCABULARY, peer_of
from lvm_lite.checkpoints import load_model
from lvm_lite.generation import generate, serve

NEW, TIE = 512, 1e-4  # tokens; logits of the two programs differ by less than this (test_model)
codes_only = torch.tensor([-float("inf") if i >= VOCABULARY["codebook_size"] else 0.0 for i in range(VOCABULARY["vocab_size"])])


def theirs(peer, prompt, n):
    "The reference's greedy tokens, special ids suppressed as in LVM's script, and the gap between its two best logits at each."
    with torch.no_grad():
        out = peer.generate(torch.tensor(prompt), max_new_tokens=n, min_new_tokens=n, do_sample=False, use_cache=True,
                            output_logits=True, return_dict_in_generate=True,
                            suppress_tokens=list(range(VOCABULARY["codebook_size"], VOCABULARY["vocab_size"])))
    best = torch.stack([logits + codes_only for logits in out.logits], 1).topk(2).values
    return out.sequences[:, prompt.shape[1]:].numpy(), (best[..., 0] - best[..., 1]).numpy()


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("head_dim", SHAPES)
def test_greedy_equals_transformers(head_dim, batch, tmp_path):
    peer = peer_of(head_dim, context=1024, spread=0.2)
    peer.save_pretrained(tmp_path)
    ours = serve(load_model(tmp_path))
    prompt = np.random.default_rng(head_dim).integers(0, VOCABULARY["codebook_size"], (batch, 128))
    reference, gaps = theirs(peer, prompt, NEW)
    ties, equal = [], 0
    for row in range(batch):  # all at once first; where a tie fell the other way, on from the reference's choice
        at = 0
        while at < NEW:
            text = np.concatenate([prompt[row], reference[row, :at]])
            source = prompt if at == 0 else text[None]
            mine = np.asarray(generate(ours, source, NEW - at, key=jax.random.key(0), top_k=1, whole_frames=False))[row if at == 0 else 0]
            differ = np.flatnonzero(mine != reference[row, at:])
            equal += len(mine) if not differ.size else differ[0]
            if not differ.size: break
            at += differ[0] + 1
            ties.append((row, at - 1, float(gaps[row, at - 1])))
            assert gaps[row, at - 1] < TIE, (
                f"row {row}, token {at - 1}: {mine[differ[0]]}, not {reference[row, at - 1]}, though its two best logits lie {gaps[row, at - 1]:.1e} apart")
    print(f"head dim {head_dim}, batch {batch}: {equal} of {batch * NEW} tokens equal, {len(np.unique(reference))} different codes, "
          f"closest two logits {gaps.min():.1e}, near-ties that fell the other way: {ties}")
    assert equal + len(ties) == batch * NEW and len(np.unique(reference)) > 30
