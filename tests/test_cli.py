"Every verb's help shows an example that runs as printed; results are JSON where it is asked for; the shell's completion is a script that the shell accepts."
import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from lvm_lite.checkpoints import save_model
from lvm_lite.cli import VERBS, main
from lvm_lite.corpus import CorpusWriter
from lvm_lite.model import Llama
from lvm_lite.settings import MODELS

EXAMPLES = {name: re.search(r"example: lvm-lite (.+)", f.__doc__)[1].strip() for name, (f, _) in VERBS.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A folder as the examples expect it: pictures, a data set, a corpus and a model where a run leaves them."
    place = tmp_path_factory.mktemp("place")
    for name, colour in (("cat", "red"), ("cat-mask", "white"), ("dog", "blue")): Image.new("RGB", (40, 30), colour).save(place / f"{name}.png")
    for side, light in (("low", 40), ("high", 200)):
        (folder := place / "data-sets/lol/our485" / side).mkdir(parents=True)
        for k in range(8): Image.fromarray(np.full((32, 32, 3), light + k, np.uint8)).save(folder / f"{k}.png")
    writer = CorpusWriter(place / "runs/sample/corpus", length=4, vocab_size=9)
    writer.write("edges", 0, [[1, 2, 3, 4]])
    writer.close()
    save_model(Llama(MODELS["sample-xs"], jax.random.key(0)), place / "runs/sample/finetune/model")
    return place


def run(place, line, monkeypatch):
    "Exit code, standard output and standard error of a line, typed in `place`, on a machine that has fetched no weights."
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    if line.startswith("train "):  # it joins the other processes of a job, if there are any, before JAX does anything
        done = subprocess.run([sys.executable, "-c", "from lvm_lite.cli import main; import sys; sys.exit(main(sys.argv[1:]))", *shlex.split(line)],
                              cwd=place, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: code = main(shlex.split(line))
        except SystemExit as e: code = e.code
    return code, out.getvalue(), err.getvalue()


def left_in(place): return sorted(p for p in place.rglob("*") if "cache" not in p.relative_to(place).parts)


def test_every_verb_shows_an_example_of_itself():
    assert all(line.split()[0] == name for name, line in EXAMPLES.items())


@pytest.mark.parametrize("verb", EXAMPLES)
def test_example_runs_as_printed(verb, place, monkeypatch):
    # a run's own checkpoints take a training
    if verb == "export": shutil.copytree(place / "runs/sample/finetune/model", place / "runs/sample/finetune", dirs_exist_ok=True)
    line, before = EXAMPLES[verb], left_in(place)
    code, out, err = run(place, line, monkeypatch)
    assert code == 0, out + err
    assert out.strip() and "Traceback" not in err
    assert "--dry-run" not in line or left_in(place) == before


@pytest.mark.parametrize("line", ["reproduce --list --json", "reproduce table1 --dry-run --json",
                                  "verify runs/sample/corpus --json",
                                  "weights list --json", "weights fetch c3d --dry-run --json",
                                  "evaluate --list --json", "evaluate sample-depth --model none --samples 32 --dry-run --json",
                                  "evaluate sample-depth --model none --samples 4 --out runs/four --json",
                                  "budget sample-xs finetune --topology cpu:1 --accumulation 512 --json", "train pretrain --dry-run --json",
                                  "generate cat.png cat-mask.png dog.png --fit crop --dry-run --json",
                                  "generate cat.png cat-mask.png dog.png --fit crop --out runs/dog --json",
                                  "export sample-small --out runs/exported --json",
                                  "tokenize --list --json", "tokenize --own colourisation=pictures:data-sets/lol --dry-run --json",
                                  "tokenize --own colourisation=pictures:data-sets/lol --out runs/own-json --json"])
def test_json_is_all_that_is_printed(line, place, monkeypatch):
    code, out, err = run(place, line, monkeypatch)
    assert code == 0, err
    json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_dry_run_leaves_nothing(place, monkeypatch):  # those of other verbs are their examples
    before = left_in(place)
    assert run(place, "generate cat.png cat-mask.png dog.png --fit crop --dry-run", monkeypatch)[0] == 0
    assert left_in(place) == before


def test_own_folders_become_a_corpus(place, monkeypatch):
    code, out, err = run(place,
                         "tokenize --own colourisation=pictures:data-sets/lol --own inpainting=pictures:data-sets/lol/our485/low --out runs/own", monkeypatch)
    assert code == 0 and "colourisation: 10 sentences" in out and "inpainting: 5 sentences" in out and (place / "runs/own/manifest.json").exists(), out + err
    assert "write TASK=KIND:FOLDER" in run(place, "tokenize --own segmentation=mine", monkeypatch)[2]


def test_a_dry_run_counts_what_a_run_without_a_model_made(place, monkeypatch):
    line = "evaluate sample-depth --model none --samples 4 --out runs/none --json"
    assert json.loads(run(place, f"{line} --dry-run", monkeypatch)[1])["made"] == 0
    assert run(place, line, monkeypatch)[0] == 0
    assert json.loads(run(place, f"{line} --dry-run", monkeypatch)[1])["made"] == 1


def test_a_reader_that_stops_is_no_error():
    said = subprocess.Popen([sys.executable, "-c", "from lvm_lite.cli import main; raise SystemExit(main(['tokenize', '--list']))"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said.stdout.close()  # as `| head` does
    assert said.stderr.read() == b"" and said.wait() == 1


def test_exit_codes(place, monkeypatch):
    assert run(place, "verify nowhere", monkeypatch)[0] == 2 and run(place, "generate", monkeypatch)[0] == 2 and run(place, "fly", monkeypatch)[0] == 2
    assert "exit codes: 0 done; 1" in run(place, "--help", monkeypatch)[1]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script(shell, place, monkeypatch):
    if not shutil.which(shell): pytest.skip(f"there is no {shell} here")
    code, script = run(place, f"completion {shell}", monkeypatch)[:2]
    assert code == 0 and script
    assert not subprocess.run([shell, "-n"], input=script, capture_output=True, text=True).stderr
