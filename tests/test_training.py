"Training as several meshes and processes do it, and as it survives being killed, told to stop, and left without room."
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from lvm_lite.checkpoints import save_model
from lvm_lite.corpus import Corpus, CorpusWriter
from lvm_lite.files import weights_hash
from lvm_lite.loop import read_log
from lvm_lite.model import Llama
from lvm_lite.settings import STAGES, load_profile
from lvm_lite.tokenizer import load_tokenizer, tokenizer_hash
from lvm_lite.train import run_stage, train
from training import CONFIG, run, write_corpus

here = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus")
    write_corpus(path)
    return path


@pytest.fixture(scope="module")
def alone(corpus):
    "The losses of ten steps on one device."
    return losses(run(None, corpus, 10, dict(data=1)))


def losses(log): return np.array([line["loss"] for line in log])


def start(folder, corpus, mesh, steps=10, nap=0.0, devices=8, **env):
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return subprocess.Popen([sys.executable, here / "training.py", str(folder or ""), str(corpus), str(steps), json.dumps(mesh), str(nap)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "XLA_FLAGS": flags, **env})


def ended(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    return np.array(json.loads(out.splitlines()[-1]))


def wait_for(condition, process, seconds=120):
    for _ in range(int(seconds * 50)):
        if condition() or process.poll() is not None: break
        time.sleep(0.02)
    if not condition():
        pytest.fail(f"{process.args} never got there: {process.communicate(timeout=5)[1][-2000:] if process.poll() is not None else 'it still runs'}")


@pytest.mark.parametrize("mesh", [dict(data=2, fsdp=4), dict(data=8), dict(data=2, fsdp=2, tensor=2), dict(data=2, seq=2, tensor=2)],
                         ids=lambda m: " x ".join(f"{k} {v}" for k, v in m.items()))
def test_ten_steps_are_the_same_on_any_mesh(mesh, corpus, alone):
    assert np.allclose(losses(run(None, corpus, 10, mesh, accumulation=1)), alone, rtol=1e-5)


def test_parts_change_nothing(corpus, alone):
    assert np.allclose(losses(run(None, corpus, 10, dict(data=2, fsdp=2), accumulation=4)), alone, rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["muon", "adafactor"])
def test_other_optimizers_are_the_same_on_a_mesh(optimizer, corpus):
    one, eight = (losses(run(None, corpus, 5, mesh, optimizer=optimizer)) for mesh in (dict(data=1), dict(data=2, fsdp=2, tensor=2)))
    assert np.allclose(one, eight, rtol=1e-5) and one[-1] < one[0]


def two(folder, corpus, **options):
    "Two processes of four devices each."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    return [start(folder, corpus, dict(data=2, fsdp=4), devices=4,
                  LVM_COORDINATOR=f"127.0.0.1:{port}", LVM_PROCESSES="2", LVM_PROCESS=str(i), **options)
            for i in range(2)]


@pytest.mark.processes
@pytest.mark.xdist_group("processes")
def test_a_single_process_stops_when_told_to(corpus, tmp_path):
    process = start(tmp_path, corpus, dict(data=1), nap=0.4)
    wait_for(lambda: len(read_log(tmp_path)) >= 2, process)
    process.send_signal(signal.SIGTERM)
    assert 2 <= len(ended(process)) < 10
    assert len(losses(run(tmp_path, corpus, 10, dict(data=1)))) == 10


@pytest.mark.processes
@pytest.mark.xdist_group("processes")
def test_two_processes_train_as_one(corpus, alone):
    for losses in map(ended, two(None, corpus)): assert np.allclose(losses, alone, rtol=1e-5)


@pytest.mark.processes
@pytest.mark.xdist_group("processes")
def test_two_processes_stop_together(corpus, alone, tmp_path):
    "Process 0 alone is told to stop, both end after the same step, and one process goes on, on another mesh."
    pair = two(tmp_path, corpus, nap=0.4)
    wait_for(lambda: len(read_log(tmp_path)) >= 2, pair[0])
    pair[0].send_signal(signal.SIGTERM)
    first, second = map(ended, pair)
    assert np.array_equal(first, second) and 2 <= len(first) < 10
    assert np.allclose(first, alone[:len(first)], rtol=1e-5)
    whole = losses(run(tmp_path, corpus, 10, dict(data=1)))
    assert np.array_equal(whole[:len(first)], first) and np.allclose(whole, alone, rtol=1e-5)


@pytest.mark.processes
@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_goes_on_to_the_same_numbers(kills, corpus, tmp_path):
    "SIGKILL at random steps; once, in the middle, another mesh takes over."
    draw, mesh, steps = random.Random(0), dict(data=2, fsdp=2), 4 + 8 * kills
    reference = ended(start(None, corpus, mesh, steps))
    for strike in range(kills):
        process = start(tmp_path, corpus, mesh, steps, nap=0.05)
        done = len(read_log(tmp_path))
        target = min(done + draw.randint(1, 2), steps - 1)
        wait_for(lambda: len(read_log(tmp_path)) >= target, process)
        time.sleep(draw.random() * 0.1)
        assert process.poll() is None and len(read_log(tmp_path)) < steps, "the run was over before it could be killed"
        process.kill(); process.communicate()
    same = ended(start(tmp_path, corpus, mesh, steps))
    assert np.array_equal(same, reference), "the losses are not bit-equal"
    other = tmp_path / "other"
    process = start(other, corpus, mesh, steps, nap=0.2)
    wait_for(lambda: len(read_log(other)) >= 2, process)
    process.kill(); process.communicate()
    assert np.allclose(ended(start(other, corpus, dict(data=1, fsdp=4), steps)), reference, rtol=1e-5)


full_disk = """
import resource, sys
import numpy as np, jax.numpy as jnp
from pathlib import Path
from lvm_lite.loop import fit

folder, limits = Path(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)
def state(): return dict(step=jnp.int32(0), w=jnp.asarray(np.random.default_rng(0).normal(size=10**6), jnp.float32))
def step(s, x): return dict(step=s["step"] + 1, w=s["w"] * 0.99 + x), dict(loss=s["w"].std())
def batch(n, full):
    if n == 15 and full:
        import time
        while not (folder / "checkpoints/10").exists(): time.sleep(0.05)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # no file may grow: what a full disk does
    return np.float32(0)
try: fit(step, state(), lambda n: batch(n, True), 60, folder, save_every=10)
except OSError as e: print(str(e).replace(str(folder), "RUN"))
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
print(fit(step, state(), lambda n: batch(n, False), 60, folder, save_every=10)[0]["step"])
"""


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    out = subprocess.run([sys.executable, "-c", full_disk, str(tmp_path)], env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    message, steps = out.stdout.splitlines()
    assert (message.startswith("training: step 20 could not be saved: ")
            and "File too large" in message
            and message.endswith("last good checkpoint: step 10 in RUN")), out.stdout + out.stderr[-2000:]
    assert steps == "60"


def test_the_command_says_what_a_step_needs_before_it_begins():
    run = lambda *options: subprocess.run([sys.executable, "-c", "from lvm_lite.cli import main; import sys; sys.exit(main())",
                                           "train", "finetune", "--dry-run", *options],
                                          cwd=here.parent,
                                          env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
                                          capture_output=True, text=True)
    out = run()
    assert out.returncode == 0 and "process 0 of 1" in out.stdout and "sample-xs finetune on cpu:1" in out.stdout, out.stdout + out.stderr
    out = run("--mesh", "data=8")
    assert (out.returncode, out.stderr) == (2, "lvm-lite train: the batch of 4 is not divisible by 8: the mesh has data 8\n"), out.stderr


def test_another_mixture_is_not_gone_on_with(tmp_path):
    writer = CorpusWriter(tmp_path / "corpus", length=128, vocab_size=50)
    for name in "ab": writer.write(name, 0, np.random.default_rng(0).integers(0, 40, (8, 128)))
    writer.close()
    stage = replace(STAGES["finetune"], steps=1, batch_size=2)
    go_on = lambda **weights: train(Llama(CONFIG, jax.random.key(0)), Corpus(tmp_path / "corpus", weights), stage, tmp_path / "run")
    go_on(a=1.0, b=1.0); go_on(a=1.0, b=1.0)
    with pytest.raises(ValueError, match="mixture.b: .*1.0.* there, .*3.0.* here"): go_on(a=1.0, b=3.0)


def test_a_stage_that_was_begun_from_other_weights_is_not_gone_on_with(tmp_path, monkeypatch):
    p = replace(load_profile("sample"), model="sample-xxs", stages=(replace(STAGES["finetune"], steps=2, batch_size=2, warmup_steps=0),))
    monkeypatch.setattr("lvm_lite.train.load_profile", lambda name: p)
    with pytest.raises(FileNotFoundError, match="no corpus was finished here; this makes it, or says what does: python -c"):
        run_stage("sample", "finetune", root=tmp_path)
    for name in ("corpus", "heldout"):
        writer = CorpusWriter(tmp_path / "sample" / name, 1024, 1124, tokenizer_hash(load_tokenizer("sample")))
        writer.write("edges", 0, np.random.default_rng(0).integers(0, 1024, (4, 1024)))
        writer.close()
    for seed in "01": save_model(Llama(p.config, jax.random.key(int(seed))), tmp_path / seed)
    go_on = lambda start: run_stage("sample", "finetune", tmp_path / start, tmp_path, evaluate_every=0)
    go_on("0")
    (tmp_path / "sample/finetune/log.jsonl").unlink()
    go_on("0")
    with pytest.raises(ValueError, match="start: .* there, .* here"): go_on("1")
    assert json.loads((tmp_path / "sample/finetune/model/training.json").read_text())["start"] == weights_hash(tmp_path / "0")


@pytest.mark.processes
def test_the_budgets_are_of_this_step():
    "Hours of compiling hold as long as the step that was compiled is the one of today."
    cases = json.loads((here.parent / "figures/budgets.json").read_text())["numbers"]["cases"]
    recorded, = {c["program"] for c in cases.values()}
    if f"jax {jax.__version__} " not in recorded:
        pytest.skip(f"the budgets were compiled from {recorded}; jax {jax.__version__} may write the same step otherwise")
    assert subprocess.run([sys.executable, here / "lowered.py"], capture_output=True, text=True, check=True).stdout.strip() == recorded, (
        "the training step is another: make budgets compiles it anew, in hours")
