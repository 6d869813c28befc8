"""The feature networks against torch-fidelity's, cd-fvd's, clean-fid's and pytorch-fid's with the same weights. Run by `make parity`."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the peers are only in the environment of `make parity`")

from lvm_lite.features import C3D, NETWORKS, Inception, _units, load_features, read_network, resized, weights_path
from peers import close, images_of, need


# --- Inception ---

def test_inception_with_random_weights(torch_inception, tmp_path):
    torch.save(torch_inception.state_dict(), tmp_path / "peer.pth")
    x = images_of(4, 200)
    with torch.no_grad(): theirs = [t.numpy() for t in torch_inception(torch.tensor(x.transpose(0, 3, 1, 2)))]
    for layer, want in zip((64, 192, 768, 2048), theirs):
        ours = load_features("inception", tmp_path / "peer.pth", layer=layer, batch=4)
        close(ours(x), want)
    close(ours.logits(theirs[3]), theirs[4], 1e-5)


def test_torchscript_is_read_as_torch_reads_it(published_inception):
    "All 376 tensors of the archive, by torch's own reader; and the network as it is run by torch, at its own input size."
    module = torch.jit.load(published_inception).eval()
    tensors = [t.numpy() for t in (*module.parameters(), *module.buffers())]
    assert sorted(t.shape for t in tensors if t.ndim == 4) == sorted((s[-1], s[-2], *s[:-2]) for s in _units(Inception).values())
    x = images_of(4, 299)
    with torch.no_grad(): theirs = module((torch.tensor(x.transpose(0, 3, 1, 2)).float() - 128) / 128).numpy()
    for mode in ("tf1", "clean"): close(load_features("inception", published_inception, resize=mode, batch=4)(x), theirs)  # 299 pixels stay as they are
    close(load_features("inception", batch=4)(x), theirs)


@pytest.mark.parametrize("size", [32, 256, 500])
def test_torch_fidelity(torch_published, size):
    "The default: TensorFlow 1's resize of uint8, whatever the size."
    x = images_of(4, size)
    with torch.no_grad(): theirs = [t.numpy() for t in torch_published(torch.tensor(x.transpose(0, 3, 1, 2)))]
    close(load_features("inception", batch=4)(x), theirs[3])
    close(load_features("inception", batch=4, layer=64)(x), theirs[0])


@pytest.mark.parametrize("size", [64, 256, 400])
def test_clean_fid(published_inception, size):
    from cleanfid.resize import build_resizer
    x, resize = images_of(3, size), build_resizer("clean")
    want = np.stack([resize(a) for a in x])
    assert np.abs(np.asarray(resized(x.astype(np.float32), 299, "clean")) - want).max() < 2e-3
    module = torch.jit.load(published_inception).eval()
    with torch.no_grad(): theirs = module((torch.tensor(want.transpose(0, 3, 1, 2)) - 128) / 128).numpy()
    close(load_features("inception", resize="clean", batch=4)(x), theirs)


def test_pytorch_fid(torch_published):
    "Its way from pixels to the network's input: half-pixel bilinear, then 2 x - 1."
    x = images_of(3, 256)
    y = 2 * torch.nn.functional.interpolate(torch.tensor(x.transpose(0, 3, 1, 2)).float() / 255, size=(299, 299), mode="bilinear", align_corners=False) - 1
    with torch.no_grad():
        for name, layer in torch_published.named_children():
            if re.match("fc|AvgPool", name): break
            y = layer(y)
    close(load_features("inception", resize="pytorch", batch=4)(x), y.mean((2, 3)).numpy())


# --- I3D ---

@pytest.fixture(scope="session")
def torch_i3d():
    "cd-fvd's network with random weights and TensorFlow's epsilon."
    module = pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d", reason="cd-fvd is not installed: pip install --no-deps cd-fvd")
    torch.manual_seed(0)
    peer = module.InceptionI3d(400, in_channels=3).eval()
    with torch.no_grad():
        for m in peer.modules():
            if isinstance(m, torch.nn.BatchNorm3d):
                m.eps = 1e-3
                m.running_var.uniform_(0.5, 1.5)
                for p in (m.weight, m.bias, m.running_mean): p.add_(0.1 * torch.randn_like(p))
    return peer


def tf1_clips(x):
    "(B, T, H, W, 3) uint8 -> (B, 3, T, 224, 224) in [-1, 1], by torch-fidelity's own TensorFlow 1 resize."
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x as tf1
    flat = torch.tensor(x.reshape(-1, *x.shape[2:]).transpose(0, 3, 1, 2)).float()
    y = tf1(flat, size=(224, 224), align_corners=False) / 127.5 - 1
    return y.reshape(*x.shape[:2], 3, 224, 224).transpose(1, 2)


def clips_of(frames, n=2, size=64): return np.stack([images_of(frames, size, seed) for seed in range(n)])


@pytest.mark.parametrize("frames", [9, 16])
def test_i3d(torch_i3d, frames, tmp_path):
    x = clips_of(frames, 1)
    torch.save(torch_i3d.state_dict(), tmp_path / "peer.pt")
    with torch.no_grad(): theirs = torch_i3d(tf1_clips(x)).numpy()
    close(load_features("i3d", tmp_path / "peer.pt", batch=1)(x), theirs.reshape(1, 400))


def test_i3d_published(torch_i3d):
    "The published weights in cd-fvd's network; with its own epsilon the logits would be off by about a quarter of a per cent."
    need("i3d")
    ours, weights = load_features("i3d", batch=1), read_network("i3d", weights_path("i3d"))
    peer, units = torch_i3d, _units(NETWORKS["i3d"].module)
    state = {}
    for unit in units:  # folded as they are in the cache: a batch norm that does nothing
        state[f"{unit}.conv3d.weight"] = torch.tensor(np.moveaxis(weights[f"{unit}.weight"], (-1, -2), (0, 1)).copy())
        if unit == "logits":
            state["logits.conv3d.bias"] = torch.tensor(weights["logits.bias"])
        else:
            state |= {f"{unit}.bn.weight": torch.full((len(weights[f"{unit}.bias"]),), (1 + 1e-3) ** 0.5),
                      f"{unit}.bn.bias": torch.tensor(weights[f"{unit}.bias"]),
                      f"{unit}.bn.running_mean": torch.zeros(len(weights[f"{unit}.bias"])),
                      f"{unit}.bn.running_var": torch.ones(len(weights[f"{unit}.bias"]))}
    peer.load_state_dict(state, strict=False)
    x = clips_of(9, 1, 128)
    with torch.no_grad(): theirs = peer(tf1_clips(x)).numpy()
    close(ours(x), theirs.reshape(1, 400))


# --- C3D ---

class TorchC3D(torch.nn.Module):
    "The network as TGANv2's and Caffe's files describe it."
    def __init__(self):
        super().__init__()
        for unit, shape in _units(C3D).items():
            setattr(self, unit, torch.nn.Conv3d(shape[-2], shape[-1], 3, padding=1) if unit[:4] == "conv" else torch.nn.Linear(shape[-2], shape[-1]))
        self.fc8 = torch.nn.Linear(4096, 101)

    def forward(self, x):
        pool, relu = torch.nn.MaxPool3d(2), torch.relu
        x = torch.nn.MaxPool3d((1, 2, 2))(relu(self.conv1a(x)))
        x = pool(relu(self.conv2a(x)))
        x = pool(relu(self.conv3b(relu(self.conv3a(x)))))
        x = pool(relu(self.conv4b(relu(self.conv4a(x)))))
        x = relu(self.conv5b(relu(self.conv5a(x))))
        x = torch.nn.MaxPool3d(2, ceil_mode=True)(x)
        x = relu(self.fc7(relu(self.fc6(x.flatten(1)))))
        return x, self.fc8(x)


def test_c3d(tmp_path):
    torch.manual_seed(0)
    peer = TorchC3D().eval()
    mean = np.random.default_rng(0).uniform(80, 120, (3, 16, 128, 171)).astype(np.float32)
    np.savez(tmp_path / "conv3d_deepnetA_ucf.npz",
             **{re.sub(r"\.(.).*$", lambda m: "/" + {"w": "W"}.get(m[1], m[1]), k): v.numpy() for k, v in peer.state_dict().items()})
    np.savez(tmp_path / "mean2.npz", mean=mean)
    ours = load_features("c3d", tmp_path / "conv3d_deepnetA_ucf.npz", batch=2)
    x = clips_of(16)
    y = torch.tensor(x.reshape(-1, *x.shape[2:])[..., ::-1].transpose(0, 3, 1, 2).copy()).float()
    y = torch.nn.functional.interpolate(y, size=(112, 112), mode="bilinear", align_corners=True).reshape(2, 16, 3, 112, 112).transpose(1, 2)
    with torch.no_grad(): features, logits = (t.numpy() for t in peer(y - torch.tensor(mean[:, :, 8:120, 8:120])))
    close(ours(x), features)
    close(ours.logits(features), logits, 1e-5)


# --- the published networks, however their pictures are cut ---

@pytest.mark.parametrize("name, shape, sizes", [("inception", (24, 64, 64, 3), (1, 7, 32)), ("i3d", (8, 10, 32, 32, 3), (1, 3, 8))])
def test_batches_devices_and_halves_of_the_published_networks(name, shape, sizes):
    "The distance of two sets far smaller than the features are many: to 1e-5 in batches of any size and on eight devices, to 1e-6 in two halves."
    import jax
    from lvm_lite.metrics import FeatureStats, frechet_distance
    need(name)
    a = images_of(int(np.prod(shape[:-3])), shape[-2]).reshape(shape)
    b = 255 - a[:, ..., ::-1, :, :]
    def distance(batch, devices=1, cut=None):
        f = load_features(name, batch=batch, devices=jax.devices()[:devices])
        stats = lambda x: (FeatureStats.from_batches([f(x)])
                           if cut is None else FeatureStats.from_batches([f(x[:cut])]) + FeatureStats.from_batches([f(x[cut:])]))
        return frechet_distance(stats(a), stats(b))
    want = distance(8)
    found = ({f"batches of {n}": abs(distance(n) / want - 1) for n in sizes if n != 8}
             | {"8 devices": abs(distance(8, devices=8) / want - 1),
                "two halves": abs(distance(8, cut=shape[0] // 2) / want - 1)})
    print(name, f"{want:.6g}", {k: f"{v:.0e}" for k, v in found.items()})
    assert max(found.values()) < 1e-5 and found["two halves"] < 1e-6
