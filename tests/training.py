"""A short training run, as a program of its own: python training.py RUN CORPUS STEPS '{"data": 2}'.
The tests kill it, tell it to stop, and run it twice at once."""
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from lvm_lite.corpus import Corpus, CorpusWriter
from lvm_lite.mesh import init, make_mesh
from lvm_lite.model import Llama
from lvm_lite.settings import STAGES, ModelConfig
from lvm_lite.train import train

CONFIG = ModelConfig(32, 64, 4, 2, vocab_size=50, codebook_size=40, tokens_per_image=8, context=128)


def write_corpus(path):
    writer = CorpusWriter(path, length=128, vocab_size=50)
    writer.write("random", 0, np.random.default_rng(0).integers(0, 40, (64, 128)))
    writer.close()


def run(directory, corpus, steps, mesh, nap=0.0, optimizer="adamw", **options):
    "The log of a run of `steps` on a mesh with these axes, a checkpoint at each step; `nap` seconds a step give a test time to strike."
    stage = replace(STAGES["finetune"], steps=steps, batch_size=16, base_learning_rate=3e-3, final_learning_rate=3e-4, optimizer=optimizer)
    devices = jax.devices()[:int(np.prod(list(mesh.values())))]
    with jax.set_mesh(make_mesh(**mesh, devices=devices)):
        data = Corpus(corpus)
        read = data.batch
        def batch(step, *args):
            if args[0] > 1: time.sleep(nap)
            return read(step, *args)
        data.batch = batch
        return train(Llama(CONFIG, jax.random.key(0)), data, stage, directory, log_every=1, save_every=1, **options)[1]


if __name__ == "__main__":
    folder, corpus, steps, mesh, *nap = sys.argv[1:]
    print(init(), flush=True)
    log = run(Path(folder) if folder else None, corpus, int(steps), json.loads(mesh), *map(float, nap))
    print(json.dumps([line["loss"] for line in log]), flush=True)
