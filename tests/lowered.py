"""The paper's training step, lowered in sixteen cases on eight pretended devices: `python tests/lowered.py` prints a hash of the programs
and their plans.

The budgets were compiled for TPUs that are not here, for hours. They hold as long as this hash is the one they were compiled under, whatever
else of the code changed."""
import itertools
import os
import sys
from dataclasses import replace
from functools import partial
from hashlib import sha256

os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from lvm_lite.loop import jit_step
from lvm_lite.mesh import ROWS, make_mesh
from lvm_lite.model import Compute, Llama
from lvm_lite.settings import MODELS, STAGES
from lvm_lite.train import _plan, train_state, train_step

MEMORY = 16e9  # bytes of a device that is planned for
compute = Compute("bfloat16", "stream", mlp_chunk=2048, attention="blockwise")


def lowered(size: str, stage: str, optimizer: str, mesh: dict) -> str:
    "The step as jax hands it to a compiler, and how its batch would be cut and computed."
    config, stage = MODELS[size], replace(STAGES[stage], optimizer=optimizer)
    devices = make_mesh(**mesh, devices=jax.devices())
    with jax.set_mesh(devices):
        state = jax.eval_shape(lambda: train_state(Llama(config, jax.random.key(0)), stage))
        batch = jax.ShapeDtypeStruct((16, stage.batch_size // 16, stage.context(config.tokens_per_image)), jnp.uint16,
                                     sharding=NamedSharding(devices, PartitionSpec(None, ROWS, None)))
        program = jit_step(partial(train_step, stage=stage, compute=compute)).lower(state, batch).as_text()
    parts, planned, _ = _plan(config, stage, dict(devices.shape), None, None, jax.devices()[0], MEMORY)
    return f"{program}\n{parts} {planned.keep}\n"


if __name__ == "__main__":
    cases = itertools.product(("300M", "3B"), ("pretrain", "finetune"), ("adamw", "adafactor"), (dict(data=1, fsdp=8), dict(data=2, fsdp=2, tensor=2)))
    print(f"jax {jax.__version__}", sha256("".join(lowered(*case) for case in cases).encode()).hexdigest()[:12])
