"""What the parity tests of features and metrics share: the peers' networks with the weights that ours have."""

import copy
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the peers are only in the environment of `make parity`")

from lvm_lite.features import RELEASES, Inception, _download, _units
from peers import need

# A CPU build of torchvision from another source than torch's has no compiled operators; the peers need none of them.
_register = torch.library.register_fake
torch.library.register_fake = lambda op, *a, **k: (lambda f: f) if str(op).startswith("torchvision::") else _register(op, *a, **k)


@pytest.fixture(scope="session")
def torch_inception():
    "torch-fidelity's network with random weights, batch norms included, so that nothing depends on a download."
    import torch_fidelity.feature_extractor_inceptionv3 as module
    module.load_state_dict_from_url = lambda *a, **k: {}
    class Bare(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state, *a, **k): return super().load_state_dict(state, *a, **k) if state else None
    torch.manual_seed(0)
    peer = Bare("peer", ["64", "192", "768", "2048", "logits_unbiased"]).eval()
    with torch.no_grad():
        for name, p in (*peer.named_parameters(), *peer.named_buffers()):
            if "bn" not in name or "num" in name: continue
            if "var" in name: p.uniform_(0.5, 1.5)
            else: p.add_(0.1 * torch.randn_like(p))
    return peer


@pytest.fixture(scope="session")
def published_inception(tmp_path_factory):
    "The TorchScript archive that the weights in the cache were read from."
    need("inception")
    path = tmp_path_factory.mktemp("inception")
    try: return _download(RELEASES["inception"][1], path)
    except OSError as e: pytest.skip(f"{RELEASES['inception'][1].package} cannot be downloaded here: {e}")


@pytest.fixture(scope="session")
def torch_published(published_inception, torch_inception):
    "torch-fidelity's network with the published convolutions; its classifier, which they have none of, stays random."
    weights = dict(torch_inception.state_dict())
    with zipfile.ZipFile(published_inception) as z:
        root = z.namelist()[0].split("/")[0]
        for i, unit in enumerate(_units(Inception)):
            names = [f"{unit}.conv.weight", *(f"{unit}.bn.{k}" for k in ("bias", "running_mean", "running_var"))]
            for j, name in enumerate(names):
                weights[name] = torch.tensor(np.frombuffer(z.read(f"{root}/data/{4 * i + j}"), np.float32).reshape(weights[name].shape).copy())
            weights[f"{unit}.bn.weight"] = torch.ones_like(weights[f"{unit}.bn.weight"])
    peer = copy.deepcopy(torch_inception)
    peer.load_state_dict(weights)
    return peer
