"What the parity tests of features and metrics share."

import numpy as np
import pytest
import torch

from lvm_lite.features import NETWORKS, weights_path


def need(name):
    "Skips without the published weights."
    if not weights_path(name).exists(): pytest.skip(f"the weights of {NETWORKS[name].title} are not on this machine: lvm-lite weights fetch {name}")


def images_of(n=6, size=256, seed=0):
    "Smooth colours with noise on them, (n, size, size, 3) uint8."
    rng = np.random.default_rng(seed)
    coarse = torch.nn.functional.interpolate(torch.tensor(rng.random((n, 3, 5, 5), np.float32)),
                                             size=(size, size), mode="bilinear").numpy().transpose(0, 2, 3, 1)
    return (255 * (0.7 * coarse + 0.3 * rng.random((n, size, size, 3)))).astype(np.uint8)


def close(ours, theirs, tolerance=1e-4):
    error = np.linalg.norm(ours - theirs, axis=-1) / np.linalg.norm(theirs, axis=-1)
    print(f"relative difference {error.max():.1e}", end="; ")
    assert ours.shape == theirs.shape and error.max() < tolerance
