"""Model directories exchanged with transformers, and the official 7B's exact shapes within their own memory. Run by `make parity`;
the 7B by `make parity-7b`."""

import json
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the peers are only in the environment of `make parity`")
import jax
import jax.numpy as jnp
from transformers import LlamaForCausalLM

from llamas import SHAPES, peer_of
from lvm_lite.checkpoints import load_model, save_model
from lvm_lite.model import Llama
from lvm_lite.settings import MODELS, ModelConfig

TOKENS = np.random.default_rng(0).integers(0, 512, (2, 200))


def logits_of(peer):
    "In float32; a model that was cast there from 16 bits would keep rotary angles of 16 bits, so its weights go into a fresh one."
    fresh = LlamaForCausalLM(peer.config).float().eval()
    fresh.load_state_dict(peer.state_dict())
    with torch.no_grad(): return fresh(torch.tensor(TOKENS)).logits.numpy()


def close(ours, theirs, tolerance=1e-4):
    error = np.abs(np.asarray(ours) - theirs).max()
    print(f"logits up to {np.abs(theirs).max():.1f} differ by {error:.1e}", end="; ")
    assert error < tolerance


@pytest.mark.parametrize("head_dim", SHAPES)
@pytest.mark.parametrize("shard_bytes", [5e9, 5e5], ids=["one file", "shards"])
def test_transformers_reads_what_save_model_wrote(head_dim, shard_bytes, tmp_path):
    width, heads = SHAPES[head_dim]
    ours = Llama(ModelConfig(width, 2 * width + 8, heads, 3, vocab_size=612, codebook_size=512, tokens_per_image=64, context=512), jax.random.key(head_dim))
    ours = jax.tree.map(lambda w: w + 0.1 * jax.random.normal(jax.random.key(w.size), w.shape), ours)  # norms away from 1, every array from its initial values
    save_model(ours, tmp_path / "m", shard_bytes=shard_bytes)
    peer = LlamaForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    assert sum(p.numel() for p in peer.parameters()) == sum(x.size for x in jax.tree.leaves(ours))
    assert (tmp_path / "m" / "model.safetensors.index.json").exists() == (shard_bytes < 1e9)
    close(ours(jnp.asarray(TOKENS)), logits_of(peer))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shards", ["5GB", "400KB"])
def test_what_transformers_wrote(dtype, shards, tmp_path):
    "The weights bit by bit, in 16 bits and in float32, and the logits of the float32 that they become."
    peer = peer_of(64).to(dtype)
    peer.save_pretrained(tmp_path, max_shard_size=shards)
    ours = load_model(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 or shards == "5GB"
    head = peer.lm_head.weight.detach().float().numpy().T
    assert (np.asarray(ours.head[...]) == head).all()
    half = load_model(tmp_path, str(dtype).removeprefix("torch."))
    assert half.head.dtype == str(dtype).removeprefix("torch.") and (np.asarray(half.head[...]).astype(np.float32) == head).all()
    close(ours(jnp.asarray(TOKENS)), logits_of(peer))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pickles(dtype, tmp_path):
    "`pytorch_model.bin`, and its shards with an index, as older releases wrote them."
    peer = peer_of(96).to(dtype)
    state = peer.state_dict()
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    for name in ("one", "two"): (tmp_path / name / "config.json").write_text(peer.config.to_json_string(use_diff=False))
    torch.save(state, tmp_path / "one" / "pytorch_model.bin")
    halves = [dict(list(state.items())[i::2]) for i in (0, 1)]
    for i, half in enumerate(halves): torch.save(half, tmp_path / "two" / f"pytorch_model-{i}.bin")
    (tmp_path / "two" / "pytorch_model.bin.index.json").write_text(
        json.dumps(dict(weight_map={k: f"pytorch_model-{i}.bin" for i, half in enumerate(halves) for k in half})))
    for name in ("one", "two"): close(load_model(tmp_path / name)(jnp.asarray(TOKENS)), logits_of(peer))


def test_bfloat16_of_ours(tmp_path):
    ours = Llama(MODELS["sample-xs"], jax.random.key(0))
    save_model(ours, tmp_path / "m", ml_dtypes.bfloat16)
    peer = LlamaForCausalLM.from_pretrained(tmp_path / "m")
    assert peer.dtype == torch.bfloat16
    close(load_model(tmp_path / "m")(jnp.asarray(TOKENS)), logits_of(peer))


LOAD = """
import sys, threading, time

def anonymous(): # bytes of this process that are no pages of files
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

from lvm_lite.checkpoints import load_model
import jax
jax.devices()
before, peak, done = anonymous(), 0, False

def watch():
    global peak
    while not done: peak = max(peak, anonymous()); time.sleep(0.005)

thread = threading.Thread(target=watch); thread.start()
start = time.perf_counter()
model = load_model(sys.argv[1], "bfloat16")
jax.block_until_ready(model)
done = True; thread.join()
size = sum(x.nbytes for x in jax.tree.leaves(model))
print(f"{size / 1e9:.2f} GB of weights in {time.perf_counter() - start:.0f} s, at most {peak / 1e9:.2f} GB of anonymous memory, {before / 1e9:.2f} GB of it before: {peak / size:.3f} x")
assert peak < 1.15 * size, "a second copy was made"
"""


def write_random(directory, config):
    "Three shards of random bf16 weights, as large as LVM's (4.99, 4.92 and 3.17 GB)."
    from lvm_lite.checkpoints import _shapes, config_to_json
    from lvm_lite.files import write_safetensors
    from lvm_lite.model import abstract_model
    shapes, rng, parts, sizes = _shapes(abstract_model(config)), np.random.default_rng(0), [[], [], []], [0.0] * 3
    total = sum(int(np.prod(s)) for s in shapes.values())
    for name, shape in shapes.items():
        i = next(i for i, share in enumerate((0.3815, 0.3762, 1)) if sizes[i] + np.prod(shape) < share * total)
        parts[i].append(name); sizes[i] += np.prod(shape)
    noise = (0.02 * rng.standard_normal(1 << 20, np.float32)).astype(ml_dtypes.bfloat16)
    for i, names in enumerate(parts):
        write_safetensors(directory / f"model-{i + 1:05d}-of-00003.safetensors", {n: np.resize(noise, shapes[n]) for n in names}, {"format": "pt"})
    index = dict(metadata=dict(total_size=2 * total), weight_map={n: f"model-{i + 1:05d}-of-00003.safetensors" for i, names in enumerate(parts) for n in names})
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {k: v for k, v in config_to_json(config, "bfloat16").items() if k not in ("codebook_size", "tokens_per_image")}  # as LVM's
    (directory / "config.json").write_text(json.dumps(config))


def load_alone(directory):
    done = subprocess.run([sys.executable, "-c", LOAD, str(directory)], capture_output=True, text=True, env=os.environ | dict(JAX_PLATFORMS="cpu"))
    print(done.stdout.strip(), end="; ")
    assert done.returncode == 0, done.stdout + done.stderr


def test_memory_of_loading(tmp_path):
    "The 300M, against which the interpreter and the compiler count for much: what the load adds is what is compared there."
    write_random(tmp_path, MODELS["300M"])
    done = subprocess.run([sys.executable, "-c", LOAD.replace("assert peak < 1.15", "assert peak - before < 1.3"), str(tmp_path)],
                          capture_output=True, text=True, env=os.environ | dict(JAX_PLATFORMS="cpu"))
    print(done.stdout.strip(), end="; ")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif("LVM_7B" not in os.environ, reason="13 GB of disk and 15 of memory: make parity-7b")
def test_7b(tmp_path):
    "The official checkpoint's exact shapes: 6,544,199,680 parameters in three shards."
    write_random(tmp_path, MODELS["7B"])
    load_alone(tmp_path)
