"""Tokenising by a loop, by two processes and by Ray gives the same bytes, and so does a run that is killed again and again.
`make proofs` does it with the whole sample corpus and 20 kills."""
import os, random, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
WHOLE = "LVM_LITE_WHOLE" in os.environ
SENTENCES, KILLS, SHARD = (600, 20, 8) if WHOLE else (16, 2, 1)

pytestmark = pytest.mark.xdist_group("tokenising")  # one process makes what all compare with


def make(path, data, **options):
    "The sample corpus, and beside it a folder with pictures of which one is damaged."
    from lvm_lite.pretokenize import Work, pretokenize, share
    from lvm_lite.sources import open_source
    from lvm_lite.world import World
    works = [*share(World("train", 32), SENTENCES), Work("photos", "colourisation", open_source("pictures", data, size=32, want=set()))]
    print("begun", flush=True)
    return pretokenize(path, works, "sample", shard_size=SHARD, **options)


def files(path):
    "Every file that counts, by name: its bytes."
    return {f.relative_to(path).as_posix(): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file() and not f.name.startswith(".tmp-")}


def start(path, data, **options):
    code = f"from tests.test_pretokenize import make; make({str(path)!r}, {str(data)!r}, **{options!r})"
    return subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for k, photo in enumerate(sorted((root / "data/world/photos").iterdir())): shutil.copy(photo, folder / f"{k:02}.jpg")
    (folder / "05.jpg").write_bytes(b"damaged")
    return folder


@pytest.fixture(scope="module")
def by_loop(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("loop") / "corpus"
    assert make(path, data) == 0
    found = files(path)
    assert b"05.jpg: not a whole picture" in found["photos/00000.json"] + found["manifest.json"]
    return found


@pytest.mark.processes
def test_two_processes(by_loop, data, tmp_path):
    ranks = [start(tmp_path, data, rank=i, ranks=2) for i in range(2)]
    assert [r.wait(600) for r in ranks] == [0, 0]
    assert files(tmp_path) == by_loop


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ray Data on Windows is beta")
def test_ray(by_loop, data, tmp_path):
    ray = pytest.importorskip("ray")
    for last in (False, False, True):  # on a busy machine its node may need more than the half minute that Ray gives it
        try: ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"); break
        except Exception as e:
            ray.shutdown()
            if last or "timed out during startup" not in str(e): raise
    try: assert make(tmp_path, data, encoders=1) == 0
    finally: ray.shutdown()
    assert files(tmp_path) == by_loop


def shards(path):
    "The shards that are whole: their two files as they lie on the disk."
    return {f: (f.stat().st_ino, f.stat().st_mtime_ns) for f in path.glob("*/[0-9]*") if f.with_suffix(".json").exists()}


@pytest.mark.processes
def test_killed(by_loop, data, tmp_path):
    "kill -9 at random moments, and again: what was whole is never touched again, and in the end all is as if nothing had happened."
    kills, halves, rng = 0, 0, random.Random(0)
    for corpus in range(KILLS):
        path, whole, ended = tmp_path / str(corpus), {}, None
        while ended != 0:
            process = start(path, data)
            assert process.stdout.readline() == "begun\n"
            if kills < KILLS or not halves:  # some shards later, and a moment more
                more = 2 * rng.randint(0 if halves else 1, 6)
                while process.poll() is None and len(shards(path)) < len(whole) + more: time.sleep(0.01)
                try: process.wait(rng.uniform(0, 0.5))
                except subprocess.TimeoutExpired: process.send_signal(signal.SIGKILL)
            ended = process.wait(600)
            assert ended in (0, -signal.SIGKILL)
            now = shards(path)
            assert {f: now[f] for f in whole} == whole, "a shard that was whole has been written again"
            whole, kills = now, kills + (ended != 0)
            halves += ended != 0 and 0 < len(whole) and not (path / "manifest.json").exists()
        assert files(path) == by_loop
        if kills >= KILLS and halves: break
    assert kills >= KILLS and halves
    print(f"killed {kills} times, {halves} of them with a part of the shards written, in {corpus + 1} corpora")


def test_killed_at_every_file_operation(tmp_path):
    "A process that writes a corpus dies at its n-th opening, renaming or making of a file, for every n; another begins again."
    code = """
import os, signal, sys
from pathlib import Path
import numpy as np
from lvm_lite.corpus import Corpus, CorpusWriter, verify

def write(path):
    writer = CorpusWriter(path, length=4, vocab_size=99, tokenizer="t")
    for source, shard in (("a", 0), ("a", 1), ("b", 0)):
        if not writer.records(source, shard): writer.write(source, shard, np.full((3, 4), shard + 7 * (source == "b")))
    writer.close()

def dies_at(n, path):
    count = 0
    def hook(event, args):
        nonlocal count
        if event in ("open", "os.rename", "os.mkdir", "os.remove") and str(path) in str(args[0]):
            count += 1
            if count == n: os.kill(os.getpid(), signal.SIGKILL)
    if not (child := os.fork()):
        sys.addaudithook(hook)
        write(path)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

root, n = Path(sys.argv[1]), 1
write(root / "wanted")
files = lambda path: {f.relative_to(path): f.read_bytes() for f in path.rglob("*") if f.is_file() and not f.name.startswith(".tmp-")}
while dies_at(n, root / str(n)):
    finished = (root / str(n) / "manifest.json").exists()
    if finished: assert files(root / str(n)) == files(root / "wanted"), n  # a manifest means that all is there
    write(root / str(n))
    assert files(root / str(n)) == files(root / "wanted"), n
    assert verify(root / str(n)) == [] and len(Corpus(root / str(n))) == 9
    n += 1
print(n - 1)
"""
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) > 20, out.stdout
