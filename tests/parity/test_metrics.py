"""The metrics against torch-fidelity, torchmetrics, cityscapesScripts and SciPy on the same features and masks. Run by `make parity`."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the peers are only in the environment of `make parity`")

from lvm_lite.features import Inception, _units, load_features
from lvm_lite.metrics import ConfusionMatrix, FeatureStats, frechet_distance, inception_score, kernel_distance, precision_recall
from peers import images_of, need


def features_of(n, d, seed, shift=0.0):
    "Correlated, skewed features, (n, d) float32, as ReLUs give them."
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1).normal(size=(d, d)) / d ** 0.5
    return np.maximum(rng.normal(shift, 1, (n, d)) @ mix, 0).astype(np.float32)


@pytest.mark.parametrize("n, d", [(500, 64), (300, 600)])
def test_fid(n, d):
    "Also with fewer samples than features, where torch-fidelity takes eigenvalues of a product of singular matrices."
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    a, b = features_of(n, d, 0), features_of(n + 7, d, 1, 0.2)
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(torch.tensor(x)) for x in (a, b)), False)["frechet_inception_distance"]
    ours = frechet_distance(*(FeatureStats.from_features(x) for x in (a, b)))
    print(f"FID {ours:.6f} and {theirs:.6f}", end="; ")
    assert abs(ours - theirs) < 1e-4 * theirs


def test_kid_precision_recall_and_is():
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric
    real, fake = features_of(700, 96, 0), features_of(700, 96, 1, 0.2)
    theirs = kid_features_to_metric(torch.tensor(fake), torch.tensor(real),
                                    kid_subsets=20, kid_subset_size=300, verbose=False)["kernel_inception_distance_mean"]
    ours = kernel_distance(real, fake, subsets=20, size=300).value
    print(f"KID {ours:.6f} and {theirs:.6f}", end="; ")
    assert abs(ours - theirs) < 1e-4 * abs(theirs)
    theirs = prc_features_to_metric(torch.tensor(fake), torch.tensor(real), verbose=False)
    precision, recall = precision_recall(real, fake)
    assert (precision.value, recall.value) == pytest.approx((theirs["precision"], theirs["recall"]), abs=2 / 700)  # float32 there: a tie may fall either way
    logits = np.random.default_rng(2).normal(0, 3, (1000, 1008)).astype(np.float32)
    theirs = isc_features_to_metric(torch.tensor(logits), splits=10, shuffle=True, rng_seed=2020)
    mean = theirs[0] if isinstance(theirs, tuple) else theirs["inception_score_mean"]
    assert inception_score(logits, seed=2020).value == pytest.approx(float(mean), rel=1e-4)


def test_pictures_to_scores(torch_published):
    "From the same pictures, each with its own copy of the published network."
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    sets = [images_of(24, 128, seed) for seed in (0, 1)]
    with torch.no_grad(): theirs = [torch_published(torch.tensor(x.transpose(0, 3, 1, 2)))[3] for x in sets]
    network = load_features("inception", batch=4)
    ours = [network(x) for x in sets]
    fid = fid_statistics_to_metric(*(fid_features_to_statistics(f) for f in theirs), False)["frechet_inception_distance"]
    assert frechet_distance(*(FeatureStats.from_features(f) for f in ours)) == pytest.approx(fid, rel=1e-4)
    kid = kid_features_to_metric(theirs[1], theirs[0], kid_subsets=10, kid_subset_size=20, verbose=False)["kernel_inception_distance_mean"]
    assert kernel_distance(ours[0], ours[1], subsets=10, size=20).value == pytest.approx(kid, rel=1e-4)


def test_torchmetrics_doctest(torch_published, monkeypatch):
    "FrechetInceptionDistance(feature=64) with seed 42: its pictures, its network with the published weights, its sums; 12.6388."
    import torchmetrics.image.fid as module
    torch.manual_seed(42)
    monkeypatch.setattr(sys.modules["torch_fidelity.feature_extractor_inceptionv3"], "load_state_dict_from_url", lambda *a, **k: torch_published.state_dict())
    fid = module.FrechetInceptionDistance(feature=64)
    one, two = torch.randint(0, 200, (100, 3, 299, 299), dtype=torch.uint8), torch.randint(100, 255, (100, 3, 299, 299), dtype=torch.uint8)
    network = load_features("inception", layer=64, batch=10)
    stats = [FeatureStats.from_features(network(x.numpy().transpose(0, 2, 3, 1))) for x in (one, two)]
    ours = frechet_distance(*stats)
    for x, real in ((one, True), (two, False)):
        for part in x.split(20): fid.update(part, real=real)
    print(f"FID {ours:.4f} and {float(fid.compute()):.4f}", end="; ")
    assert ours == pytest.approx(float(fid.compute()), rel=1e-4) and round(ours, 4) == 12.6388


def test_jaccard_index():
    from torchmetrics.classification import MulticlassJaccardIndex
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 6, (2, 8, 64, 64))
    truth[rng.random(truth.shape) < 0.1] = 255
    prediction[truth == 3] = 3
    for absent in (None, 4):  # a class in neither is left out
        if absent is not None: truth[truth == absent], prediction[prediction == absent] = 0, 1
        theirs = MulticlassJaccardIndex(6, average="macro", ignore_index=255)(torch.tensor(prediction), torch.tensor(truth))
        assert ConfusionMatrix(6).update(truth, prediction).miou() == pytest.approx(float(theirs), abs=1e-6)


def test_cityscapes_scripts():
    "Its scores from its own count of the same masks: ids outside its 19 classes in the truth do not count, in the prediction they are wrong."
    sys.modules.setdefault("pyquaternion", SimpleNamespace(Quaternion=None))  # only its 3-d boxes need it
    evaluation = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling",
                                     reason="cityscapesScripts is not installed: pip install --no-deps cityscapesscripts")
    from cityscapesscripts.helpers.labels import id2label, trainId2label
    rng, args = np.random.default_rng(0), evaluation.args
    ids = [k for k in id2label if k >= 0]
    truth, prediction = rng.choice(ids, (2, 200, 300))
    prediction[rng.random(prediction.shape) < 0.5] = truth[rng.random(prediction.shape) < 0.5][0]
    counts = evaluation.generateMatrix(args)
    np.add.at(counts, (truth, prediction), 1)
    args.evalLabels = [k for k in id2label if k >= 0]
    scores = {k: evaluation.getIouScoreForLabel(k, counts, args) for k in ids if not id2label[k].ignoreInEval}
    of = lambda a: np.vectorize(lambda k: 255 if id2label[k].ignoreInEval else id2label[k].trainId)(a)
    ours = ConfusionMatrix(19).update(of(truth), of(prediction))
    assert len(scores) == 19
    np.testing.assert_allclose(ours.iou(), [scores[trainId2label[k].id] for k in range(19)], atol=1e-12)


def test_the_doctests_pictures_without_torch():
    "lvm-lite selftest draws them with NumPy: torch's generator is the same, and building the network takes as many numbers from it as it has weights."
    torch.manual_seed(42)
    rng, numbers = np.random.RandomState(42), sum(int(np.prod(s)) for s in _units(Inception).values()) + 2048 * 1008 + 1008
    torch.empty(numbers).uniform_()
    rng.randint(0, 2 ** 32, numbers, dtype=np.uint32)
    want = torch.randint(100, 255, (1000,), dtype=torch.uint8).numpy()
    np.testing.assert_array_equal(rng.randint(0, 2 ** 32, 1000, dtype=np.uint32) % 155 + 100, want)


@pytest.mark.parametrize("frames, published", [(15, 133.908), (16, 152.902)])
def test_black_and_white_video(frames, published):
    "FVD of two constant clips. In float64 this network gives 133.90815 and 152.90182; float32 is within 1e-5 of it, by machine."
    need("i3d")
    f = load_features("i3d", batch=1)(np.stack([np.full((frames, 64, 64, 3), v, np.uint8) for v in (0, 255)])).astype(np.float64)
    print(f"FVD {((f[0] - f[1]) ** 2).sum():.4f} and {published}", end="; ")
    assert ((f[0] - f[1]) ** 2).sum() == pytest.approx(published, rel=1e-5)
