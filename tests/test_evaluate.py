"What the evaluation's notebooks cannot show: a run that is killed, Table 4 on trees of the real layouts, batches and devices, memory, and every bad input."
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from lvm_lite.evaluate import PROTOCOLS, evaluate, mask_measure, measures_of, open_protocol, question
from lvm_lite.features import Features, Inception, NETWORKS, load_features, read_network, weights_path
from lvm_lite.files import write_safetensors
from lvm_lite.metrics import ConfusionMatrix, FeatureStats, check_palette, frechet_distance, frechet_score, precision_recall, video_inception_score
from lvm_lite.model import Llama
from lvm_lite.settings import MODELS
from lvm_lite.tasks import ADE20K_USUAL, PALETTES, TABLE4, TASKS, annotated, draw_pair
from lvm_lite.tokenizer import load_tokenizer
from tests.trees import H, W, film, jpg, png, put, shade

root = Path(__file__).resolve().parent.parent


class Stub:
    "In a feature network's place: 48 means of blocks of pixels."
    layer, resize, digest = 48, "none", "stub"
    def __init__(self, name): self.name, self.protocol = name, f"{NETWORKS[name].title} replaced by means"
    def __call__(self, x):
        x = np.asarray(x, np.float32).reshape(len(x), -1, *x.shape[-3:]).mean(1)
        return x.reshape(len(x), 4, x.shape[1] // 4, 4, x.shape[2] // 4, 3).mean((2, 4)).reshape(len(x), -1)
    def logits(self, features): return features[:, :10]


STUBS = {name: Stub(name) for name in NETWORKS}


@pytest.fixture(scope="module")
def pair(): return Llama(MODELS["sample-xs"], jax.random.key(0)), load_tokenizer("sample")


# --- Table 4 on trees of the real layouts ---

def ucf101(at):
    for split, groups in (("train", (1, 2, 3)), ("test", (4, 5))):
        names = [f"Archery/v_Archery_g{k:02}_c01.avi" for k in groups]
        for k, name in zip(groups, names): film(at / "UCF-101" / name, k)
        put(at / f"ucfTrainTestlist/{split}list01.txt", "".join(f"{n} 1\n" for n in names))


def ssv2(at):
    for k in range(4): film(at / f"20bn-something-something-v2/{k}.webm", k)
    for split, ids in (("train", "01"), ("validation", "23")): put(at / f"labels/{split}.json", json.dumps([dict(id=k) for k in ids]))


def kinetics600(at):
    for k in range(2): film(at / f"val/riding/v{k}_000003_000013.mp4", k)
    put(at / "val.csv", "label,youtube_id,time_start,time_end,split\n" + "".join(f"riding,{v},3,13,val\n" for v in ("v0", "v1", "gone")))


def imagenet(at):
    for split in ("train", "val"):
        for k in range(3): jpg(at / f"{split}/n01440764/{k}.JPEG", k)
        for k in range(3): png(at / f"drawn/{split}/n01440764/{k}.png", np.full((H, W), 7 * k, np.uint8))


def ade20k(at):
    for split in ("training", "validation"):
        for k in range(3):
            jpg(at / f"images/{split}/{k}.jpg", k)
            classes = np.full((H, W), 150, np.uint8)
            classes[:k + 4], classes[-2:] = k + 1, 0
            png(at / f"annotations/{split}/{k}.png", classes)


def cityscapes(at):
    for split in ("train", "val"):
        for k in range(3):
            ids = np.full((H, W), 7, np.uint8)
            ids[:4], ids[8:12] = 3, 26
            name = f"{split}/aachen/aachen_{k:06}_000019"
            png(at / f"leftImg8bit/{name}_leftImg8bit.png", shade(k))
            png(at / f"gtFine/{name}_gtFine_labelIds.png", ids)
            png(at / f"gtFine/{name}_gtFine_instanceIds.png", ids.astype(np.uint16))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    at = tmp_path_factory.mktemp("data")
    for make in (ucf101, ssv2, kinetics600, imagenet, ade20k, cityscapes): make(at / make.__name__)
    return at


def test_views_of_one_name_are_told_apart(tmp_path, pair):
    "A folder is of what was shown and of the truth, not of a view's name."
    def ask(level):
        shaded = annotated(lambda images: np.full_like(images, level))
        protocol = replace(PROTOCOLS["sample-depth"], task=replace(TASKS["depth"], input=shaded))
        return evaluate(protocol, None, pair[1], out=tmp_path, samples=2, progress=False)
    ask(0), ask(0)
    with pytest.raises(ValueError, match="samples of another evaluation"): ask(200)


@pytest.mark.filterwarnings("ignore:F[IV]D of")
@pytest.mark.parametrize("protocol, row", list(zip(PROTOCOLS, TABLE4)), ids=list(PROTOCOLS)[:8])
def test_table_4(protocol, row, data, pair):
    "Each row's own metrics, all of them, from the files of its data set."
    more = dict(condition="mask", annotations=data / "imagenet/drawn") if protocol == "imagenet-synthesis" else {}
    result = evaluate(protocol, *pair, data, samples=2, networks=STUBS, batch_size=2, **more)
    assert tuple(s.metric for s in result.scores) == row.metrics
    assert all(np.isfinite(s.value) and s.samples == 2 for s in result.scores), result
    assert f"2 of Table 4's {row.samples}" in result.protocol
    distances = [s for s in result.scores if s.metric in ("FID", "FVD")]
    assert all(s.oracle is not None and (s.floor is not None or protocol == "kinetics600-frames") for s in distances)
    if protocol == "kinetics600-frames": assert "floor not known" in str(result)  # its training split is not here
    if "mIoU" in row.metrics: assert 0 <= result["mIoU"].oracle <= 1 and "class-agnostic mask IoU" in str(result) and "mIoU after the best shift" in str(result)
    if "FVD" in row.metrics: assert "16 frames" in str(result["FVD"]) and "11 frames" in str(result["FVD of 11 frames"])


@pytest.mark.parametrize("protocol, classes", [("ade20k-segmentation", 150), ("cityscapes-segmentation", 19)])
def test_masks_are_read_as_they_are_drawn(protocol, classes, data):
    "The truth, handed in as the answer, has mIoU 1 in the data set's own colours, and what it ignores is not counted."
    p = PROTOCOLS[protocol]
    queries, training, _ = open_protocol(p, data, 32)
    shown = np.stack(draw_pair(p.task, training[0], 0))
    questions = [question(p, queries, i, shown) for i in range(2)]
    truth, ids = np.stack([q.truth for q in questions]), np.stack([q.classes for q in questions])
    kept = mask_measure(PALETTES[queries.palette][1:], 1, 1).keep(dict(oracle=truth), ids)
    assert (kept["oracle counts"].shape == (classes, classes + 1)
            and np.trace(kept["oracle counts"]) == kept["oracle counts"].sum() == (ids != 255).sum() < ids.size)


@pytest.mark.filterwarnings("ignore:F[IV]D of")
def test_conditions(data, pair):
    "ImageNet from edges and depth: Canny's own, folders, and a function."
    def night(images): return images // 8
    for options in (dict(condition="edge"), dict(condition="edge", annotations=data / "imagenet/drawn"),
                    dict(condition="depth", annotations=data / "imagenet/drawn"), dict(condition="depth", annotator=night)):
        assert np.isfinite(evaluate("imagenet-synthesis", *pair, data, samples=2, networks=STUBS, batch_size=2, **options)["FID"].value)


def test_a_score_of_fewer_is_asked_for(data, pair):
    with pytest.raises(ValueError, match=r"kinetics600-frames has 31593 samples, but kinetics600 has 2 here "
                                         r"\(1 are listed and not here, the first: gone_000003_000013.*ask for it with samples=2"):
        evaluate("kinetics600-frames", *pair, data, networks=STUBS)


@pytest.mark.filterwarnings("ignore:F[IV]D of")
def test_the_pair_is_kept(data, pair, tmp_path):
    "The same pair for every query; and a run goes on where the training data is not."
    first = evaluate("cityscapes-segmentation", *pair, data, tmp_path / "run", samples=2, networks=STUBS, batch_size=2)
    (tmp_path / "data/cityscapes").mkdir(parents=True)
    for part in ("leftImg8bit", "gtFine"): (tmp_path / f"data/cityscapes/{part}").mkdir()
    for part in ("leftImg8bit", "gtFine"): (tmp_path / f"data/cityscapes/{part}/val").symlink_to(data / f"cityscapes/{part}/val")
    (tmp_path / "run/samples/00000.safetensors").unlink()
    again = evaluate("cityscapes-segmentation", *pair, tmp_path / "data", tmp_path / "run", samples=2, networks=STUBS, batch_size=2)
    assert again["mIoU"].value == first["mIoU"].value
    with pytest.raises(FileNotFoundError, match="is asked with a pair from training"):
        evaluate("cityscapes-segmentation", *pair, tmp_path / "data", tmp_path / "none", samples=2, networks=STUBS)
    assert not (tmp_path / "none/protocol.json").exists(), "what was refused has taken the folder"
    (tmp_path / "data/cityscapes/leftImg8bit/val").unlink()
    shutil.copytree(data / "cityscapes/leftImg8bit/val", tmp_path / "data/cityscapes/leftImg8bit/val")
    first_picture = min((tmp_path / "data/cityscapes/leftImg8bit/val").rglob("*.png"))
    png(first_picture, np.full((H, W, 3), 7, np.uint8))
    with pytest.raises(ValueError, match=r"holds samples of another evaluation .first_question: \w+ there, \w+ here; names_and_first_item: "):
        evaluate("cityscapes-segmentation", *pair, tmp_path / "data", tmp_path / "run", samples=2, networks=STUBS, batch_size=2)
    (tmp_path / "run/pair.safetensors").unlink()
    with pytest.raises(ValueError, match="holds samples of another evaluation"):
        evaluate(replace(PROTOCOLS["cityscapes-segmentation"], seed=7), *pair, data, tmp_path / "run", samples=2, networks=STUBS, batch_size=2)
    assert not (tmp_path / "run/pair.safetensors").exists(), "a folder of another evaluation was given this one's pair"


# --- killed in the middle ---

SCRIPT = """
import sys, jax
from lvm_lite.evaluate import evaluate
from lvm_lite.model import Llama
from lvm_lite.settings import MODELS
from lvm_lite.tokenizer import load_tokenizer
from tests.test_evaluate import STUBS
evaluate("sample-segmentation", Llama(MODELS["sample-xxs"], jax.random.key(0)), load_tokenizer("sample"),
         out=sys.argv[1], samples=160, networks=STUBS, batch_size=16)
"""


@pytest.mark.processes
def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_numbers(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(root), "XLA_FLAGS": ""}  # optimised: it draws for longer than it compiles
    run = lambda out: subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    process, done = run(tmp_path / "killed"), lambda: sorted((tmp_path / "killed/samples").glob("0*.safetensors"))
    for _ in range(30_000):  # ten minutes, for a busy machine
        if len(done()) >= 2 or process.poll() is not None: break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    before = {f.name: f.stat().st_mtime_ns for f in done()}
    assert 2 <= len(before) < 5 and not (tmp_path / "killed/scores.json").exists()
    runs = [run(tmp_path / name) for name in ("killed", "whole")]
    for process in runs: assert process.wait() == 0, process.stderr.read()
    assert {f.name: f.stat().st_mtime_ns for f in done() if f.name in before} == before, "a finished shard was made again"
    scores = [json.loads((tmp_path / name / "scores.json").read_text()) for name in ("killed", "whole")]
    assert scores[0] == scores[1] and scores[0]["scores"][0]["samples"] == 160


# --- the same pictures, however they are cut ---

def pictures(n):
    rng = np.random.default_rng(0)
    return (np.kron(rng.integers(0, 200, (n, 4, 4, 3)), np.ones((1, 8, 8, 1))) + rng.integers(0, 56, (n, 32, 32, 3))).astype(np.uint8)


def test_batches_devices_and_halves():
    "FID of the same 12 and 12 pictures, fewer than features: to 1e-6 at one padded batch, to 1e-5 at others."
    rng = np.random.default_rng(0)
    network, x = Inception(lambda *shape: jax.numpy.asarray(rng.standard_normal(shape, np.float32) * (2 / np.prod(shape[:-1])) ** 0.5)), pictures(24)
    def fid(devices, batch, size, cut=None):
        f = Features("inception", network, layer=64, batch=batch, devices=jax.devices()[:devices])
        def stats(x):
            of = lambda x: FeatureStats.from_batches(f(x[i:i + size]) for i in range(0, len(x), size))
            return of(x) if cut is None else of(x[:cut]) + of(x[cut:])
        return frechet_distance(stats(x[:12]), stats(255 - x[12:]))
    assert len(jax.devices()) == 8
    want, found = fid(1, 8, 32), {}
    for name, case, tolerance in (("calls of 1", (1, 8, 1), 1e-6), ("calls of 7", (1, 8, 7), 1e-6),
                                  ("batches of 1", (1, 1, 32), 1e-5), ("batches of 7", (1, 7, 32), 1e-5), ("batches of 32", (1, 32, 32), 1e-5),
                                  ("8 devices", (8, 8, 32), 1e-5), ("8 devices, calls of 7", (8, 8, 7), 1e-5),
                                  ("two halves", (1, 8, 32, 6), 1e-6), ("unequal parts", (1, 8, 32, 3), 1e-6)):
        found[name] = abs(fid(*case) - want) / want
        assert found[name] < tolerance, f"{name}: {found[name]:.1e}"
    print({k: f"{v:.0e}" for k, v in found.items()})


MEMORY = """
import resource, sys
import numpy as np
from lvm_lite.metrics import FeatureStats, frechet_distance
mix = np.random.default_rng(0).normal(size=(768, 512)).astype(np.float32) / 768
def batches(n, seed):
    rng = np.random.default_rng(seed)
    for _ in range(0, n, 100): yield rng.integers(0, 256, (100, 768), np.uint8).astype(np.float32) @ mix
a, b = (FeatureStats.from_batches(batches(int(sys.argv[1]), s)) for s in (0, 1))
assert frechet_distance(a, b) > 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_is_flat():
    "From a thousand pictures to fifty thousand, 512 features each, which would be 100 MB a set: within 32 MB."
    small, large = (float(subprocess.run([sys.executable, "-c", MEMORY, str(n)],
                                         capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(root)}).stdout)
                    for n in (1000, 50_000))
    print(f"{small:.0f} MB and {large:.0f} MB")
    assert large < small + 32


# --- bad input: one clear error each ---

def features(axes=4): return Features("inception" if axes == 4 else "i3d", None, devices=jax.devices()[:1])


@pytest.mark.parametrize("what, says", [
    (lambda tmp: features()(np.full((2, 8, 8, 3), 200.0)),
     r"float pictures reach from 200 to 200, but \[0, 1\] is wanted: divide them by 255, or round them and pass uint8"),
    (lambda tmp: features()(np.full((2, 8, 8, 3), np.nan)), "pictures hold NaN or infinity"),
    (lambda tmp: features(5)(np.zeros((2, 8, 8, 8, 3), np.uint8)), "I3D-Kinetics-400 takes clips of at least 9 frames, not 8"),
    (lambda tmp: FeatureStats.from_features([[np.nan, 0]]), "features hold NaN or infinity"),
    (lambda tmp: frechet_score(*[FeatureStats.from_features(np.zeros((1, 4)))] * 2), "FID needs at least 2 samples of each kind, not 1 real and 1 generated"),
    (lambda tmp: evaluate("sample-synthesis", None, load_tokenizer("sample"), samples=1), "a score needs at least 2 samples, not 1"),
    (lambda tmp: precision_recall(np.zeros((5, 2)), np.zeros((6, 2))), "compare sets of one size, not 5 real with 6 generated samples"),
    (lambda tmp: video_inception_score(np.zeros((100, 101)), "magvit"), "takes 4 x 10000 samples, and there are 100"),
    (lambda tmp: check_palette(ADE20K_USUAL, "ade20k-usual"), r"not injective: classes 7 and 49 are both \(140, 140, 140\)"),
    (lambda tmp: measures_of(PROTOCOLS["ade20k-segmentation"], STUBS, palette="ade20k-usual"), "not injective"),
    (lambda tmp: ConfusionMatrix(19).update(np.array([33]), np.array([0])), "truth holds id 33; the table has 0 to 18 and 255 to ignore"),
    (lambda tmp: read_network("i3d", other_weights(tmp)), "does not hold the weights of I3D-Kinetics-400"),
])
def test_bad_input(what, says, tmp_path):
    with pytest.raises(ValueError, match=says): what(tmp_path)


def other_weights(folder):
    write_safetensors(folder / "w.safetensors", {"Conv2d_1a_3x3.weight": np.zeros((3, 3, 3, 32), np.float32)})
    return folder / "w.safetensors"


def test_fewer_samples_than_features_is_a_warning_with_the_floor():
    a, b, c = (FeatureStats.from_features(np.random.default_rng(s).normal(size=(20, 64))) for s in range(3))
    with pytest.warns(UserWarning, match=r"FID of 20 samples with 64 features is far above its value at infinite N; its floor here, real against real, is \d"):
        score = frechet_score(a, b, floor=frechet_distance(a, c))
    assert "fewer samples (20) than features (64)" in str(score)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_score(*(FeatureStats.from_features(np.random.default_rng(s).normal(size=(70, 64))) for s in range(2)))


# --- the published networks, where they are ---

@pytest.mark.skipif(not weights_path("i3d").exists(), reason="lvm-lite weights fetch i3d")
def test_black_against_white():
    network = load_features("i3d", batch=1, devices=jax.devices()[:1])
    for frames, want in ((15, 133.908), (16, 152.902)):
        f = network(np.stack([np.full((frames, 32, 32, 3), v, np.uint8) for v in (0, 255)])).astype(np.float64)
        assert ((f[0] - f[1]) ** 2).sum() == pytest.approx(want, rel=2e-5)


EVALUATION = """
import resource, sys, tempfile
from lvm_lite.evaluate import evaluate
from lvm_lite.tokenizer import load_tokenizer
evaluate("sample-segmentation", None, load_tokenizer("sample"), samples=int(sys.argv[1]), networks=dict(inception="not needed"),
         out=tempfile.mkdtemp(), progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_memory_of_an_evaluation_is_flat():
    "Samples, pictures and measures of ten times as many samples: within 32 MB."
    small, large = (float(subprocess.run([sys.executable, "-c", EVALUATION, str(n)],
                                         capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(root), "XLA_FLAGS": ""}).stdout)
                    for n in (320, 3200))
    print(f"{small:.0f} MB and {large:.0f} MB")
    assert abs(large - small) < 32
