"""The tokenizer against diffusers' VQModel with the same random weights. Run by `make parity`, in an environment of its own."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the peers are only in the environment of `make parity`")
from diffusers import VQModel  # noqa: E402

from lvm_lite.files import read_torch, read_weights
from lvm_lite.tokenizer import SCHEMES, VQGANConfig, config_to_json, load_tokenizer, save_tokenizer, state_dict, tokenizer_hash

CONFIGS = {
    "LVM": VQGANConfig(),
    # widths, vector lengths, depths and groups that differ from one another, so that nothing fits by chance
    "odd": VQGANConfig(channels=24, channel_mult=(1, 3, 2), num_res_blocks=1, z_channels=20, embed_dim=12, codebook_size=100, resolution=48, norm_groups=8),
    "sample": VQGANConfig(16, (1, 3, 6), 1, 32, 32, 1024, 32, 8),
}


def peer_of(config, seed=0):
    "diffusers' model of the same shape, its codebook drawn from N(0, 0.1) and its norms and biases away from their plain beginnings."
    torch.manual_seed(seed)
    peer = VQModel(**{k: v for k, v in config_to_json(config, "diffusers").items() if k != "_class_name"}).eval()
    with torch.no_grad():
        peer.quantize.embedding.weight.normal_(0, 0.1)
        for name, p in peer.named_parameters():
            if "norm" in name: p.add_(0.1 * torch.randn_like(p))
    return peer


def images_of(config, n=2):
    "Smooth colours with noise on them, so that all scales are met; (n, H, W, 3) float32 in [0, 1]."
    rng, size = np.random.default_rng(1), config.resolution
    coarse = torch.nn.functional.interpolate(torch.tensor(rng.random((n, 3, 4, 4), np.float32)), size=size, mode="bilinear")
    return (0.8 * coarse.numpy().transpose(0, 2, 3, 1) + 0.2 * rng.random((n, size, size, 3), np.float32)).astype(np.float32)


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request, tmp_path_factory):
    config = CONFIGS[request.param]
    directory = tmp_path_factory.mktemp("peer")
    peer = peer_of(config)
    peer.save_pretrained(directory)
    return config, peer, load_tokenizer(directory), directory


def test_config_is_read_as_written(pair):
    config, peer, ours, _ = pair
    assert ours.config == config
    assert sum(p.numel() for p in peer.parameters()) == sum(a.size for a in state_dict(ours).values())


def test_codes_and_pictures(pair):
    config, peer, ours, _ = pair
    x = images_of(config)
    with torch.no_grad():
        latent = peer.encode(torch.tensor(x.transpose(0, 3, 1, 2))).latents
        theirs = peer.quantize(latent)[2][2].reshape(len(x), -1).numpy()
        shape = (len(x), config.grid, config.grid, config.embed_dim)
        picture = peer.decode(torch.tensor(theirs), force_not_quantize=True, shape=shape).sample.clamp(0, 1).numpy().transpose(0, 2, 3, 1)
    codes = ours.encode(x)
    print(f"{config.resolution} px: {len(np.unique(theirs))} different codes in {theirs.size}, {100 * (codes == theirs).mean():.2f} % equal; "
          f"pictures differ by {np.abs(ours.decode(theirs) - picture).max():.1e}")
    assert len(np.unique(theirs)) > 10
    np.testing.assert_array_equal(codes, theirs)
    np.testing.assert_allclose(ours.decode(theirs), picture, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_round_trip_is_bit_equal(pair, scheme, tmp_path):
    config, peer, ours, _ = pair
    save_tokenizer(ours, tmp_path / "t", scheme)
    again = load_tokenizer(tmp_path / "t")
    assert tokenizer_hash(again) == tokenizer_hash(ours)
    if scheme == "diffusers":
        theirs = VQModel.from_pretrained(tmp_path / "t")
        for k, v in peer.state_dict().items(): assert torch.equal(theirs.state_dict()[k], v), k


@pytest.mark.parametrize("legacy", [False, True])
def test_published_pickle(pair, legacy, tmp_path):
    "`pytorch_model.bin` beside open-muse's config.json, in both of torch's file formats."
    config, _, ours, _ = pair
    weights = {k: torch.tensor(v) for k, v in state_dict(ours).items()}
    torch.save(weights, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    (tmp_path / "config.json").write_text(json.dumps(config_to_json(config)))
    assert tokenizer_hash(load_tokenizer(tmp_path)) == tokenizer_hash(ours)


def test_torch_files_with_everything(tmp_path):
    "Views, shared storages, parameters, half floats and integers, as training leaves them."
    big = torch.randn(10, 10)
    tensors = dict(view=big[2:5, 1:9:2], other=big.T, bf16=torch.randn(3, 4).bfloat16(), half=torch.randn(2).half(),
                   parameter=torch.nn.Parameter(torch.randn(2)), scalar=torch.tensor(3), empty=torch.zeros(0, 3), flag=torch.tensor([True, False]))
    for legacy in (False, True):
        path = tmp_path / "t.pt"
        torch.save(dict(state_dict=tensors, epoch=3), path, _use_new_zipfile_serialization=not legacy)
        read = read_weights(path)
        assert read_torch(path)["epoch"] == 3
        for k, v in tensors.items():
            np.testing.assert_array_equal(np.asarray(read[k], np.float64), v.detach().double().numpy())


def test_foreign_global_is_refused_by_name(tmp_path):
    import fractions
    torch.save(dict(x=torch.zeros(2), y=fractions.Fraction(1, 2)), tmp_path / "t.pt")
    with pytest.raises(Exception, match="fractions.Fraction"): read_torch(tmp_path / "t.pt")


def test_bfloat16_network_is_near(pair):
    config, _, ours, directory = pair
    if config.resolution > 100: pytest.skip("small ones say it")
    import jax.numpy as jnp
    half = load_tokenizer(directory, dtype=jnp.bfloat16)
    codes = ours.encode(images_of(config))
    assert np.abs(half.decode(codes) - ours.decode(codes)).mean() < 0.02
