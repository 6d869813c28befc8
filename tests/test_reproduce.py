"What the runner's notebook cannot show about itself: an interrupted run, the command, and the figures that lie in figures/."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lvm_lite.figures import read_figure

root = Path(__file__).resolve().parent.parent


def write_notebook(path, *cells):
    "A paper notebook of a profile and these cells."
    first = new_code_cell('profile = "sample"', metadata=dict(tags=["parameters"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[first, *map(new_code_cell, cells)],
                                metadata=dict(kernelspec=dict(name="python3", language="python", display_name="python3"))), path)


script = """
import signal, sys
from pathlib import Path
from lvm_lite.reproduce import Step, reproduce
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, as these tests may be, is started with it ignored
steps = [Step("quick", "", notebook="paper/quick", outputs=("figures/quick.txt",)),
         Step("slow", "", notebook="paper/slow", inputs=("quick",), outputs=("figures/slow.txt",))]
results = reproduce("sample", root=Path(sys.argv[1]), steps=steps)
print({name: r[0] for name, r in results.items()})
"""


@pytest.mark.processes
def test_interruption_keeps_what_was_done_and_leaves_no_half(tmp_path):
    (tmp_path / "settings.ini").write_text("[sample]\n")
    write_notebook(tmp_path / "nbs/paper/quick.ipynb", 'open("figures/quick.txt", "w").write("done")')
    write_notebook(tmp_path / "nbs/paper/slow.ipynb", """
from lvm_lite.files import atomic_write
import os, time
with atomic_write("figures/slow.txt") as path:
    path.write_text("half")
    open("runs/pid", "w").write(str(os.getpid()))
    time.sleep(float(os.environ["NAP"]))""")
    run = lambda nap: subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env={**os.environ, "NAP": nap}, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True, start_new_session=True)
    process = run("600")
    pid = tmp_path / "runs/pid"
    for _ in range(600):
        if pid.exists() and pid.read_text(): break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
    process.communicate(timeout=60)
    assert process.returncode != 0
    for _ in range(100):  # the kernel is gone too
        if not Path(f"/proc/{pid.read_text()}").exists(): break
        time.sleep(0.1)
    else: pytest.fail("the kernel still runs")
    assert [p.name for p in (tmp_path / "figures").iterdir() if p.is_file()] == ["quick.txt"]
    out, _ = run("0").communicate(timeout=120)
    assert "{'quick': 'unchanged', 'slow': 'made'}" in out, out


def test_nothing_is_parsed_while_steps_run(tmp_path, monkeypatch):
    "Python 3.11 gives wrong answers where two threads parse, and a step's thread imports what it likes."
    from lvm_lite import reproduce as runner
    (tmp_path / "settings.ini").write_text("[sample]\n")
    for name in "ab": write_notebook(tmp_path / f"nbs/paper/{name}.ipynb", "from lvm_lite import figures")
    steps = [runner.Step(name, "", notebook=f"paper/{name}", outputs=(f"figures/{name}.txt",)) for name in "ab"]
    monkeypatch.setattr(runner, "_run_notebook", lambda step, profile, parameters, root: (root / step.outputs[0]).write_text("done"))
    run = runner._run_tasks
    def watched(*arguments):
        with monkeypatch.context() as m:
            for parse in ("parse", "literal_eval"): m.setattr(f"ast.{parse}", lambda *_, **__: pytest.fail("parsed while steps run"))
            return run(*arguments)
    monkeypatch.setattr(runner, "_run_tasks", watched)
    assert {name: state for name, (state, *_) in runner.reproduce("sample", root=tmp_path, steps=steps, jobs=2).items()} == dict(a="made", b="made")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_cannot_be_read_fails_its_step_alone(tmp_path, jobs):
    from lvm_lite.reproduce import Step, reproduce
    (tmp_path / "settings.ini").write_text("[sample]\n")
    for name in ("torn", "after", "whole"): write_notebook(tmp_path / f"nbs/paper/{name}.ipynb", f'open("figures/{name}.txt", "w").write("done")')
    torn, after, whole = (Step(name, "", notebook=f"paper/{name}", outputs=(f"figures/{name}.txt",), inputs=inputs, reads=reads)
                          for name, inputs, reads in (("torn", (), ("/proc/self/mem",)), ("after", ("torn",), ()), ("whole", (), ())))
    results = reproduce("sample", root=tmp_path, steps=[torn, after, whole], jobs=jobs)
    assert {name: r[0] for name, r in results.items()} == dict(torn="failed", after="not run", whole="made")
    assert results["torn"][2].startswith("OSError: "), results["torn"]
    assert not (tmp_path / "figures/torn.txt").exists()


def test_every_figure_has_its_provenance():
    found = sorted((root / "figures").glob("*.json"))
    assert found, "figures/ holds no figure"
    for path in found:
        assert read_figure(path)["name"] == path.stem
    assert {p.stem for p in (root / "figures").glob("*.png")} == {p.stem for p in found}, "a picture without its numbers"


def test_tables_hold_the_papers_numbers():
    sizes = json.loads((root / "figures/table1.json").read_text())["numbers"]
    assert {k: sizes[k]["parameters"] for k in ("300M", "600M", "1B", "3B", "7B")} == {
        "300M": 290_968_576, "600M": 648_396_288, "1B": 1_147_119_616, "3B": 3_274_742_400, "7B": 6_544_199_680}
    stages = json.loads((root / "figures/table2.json").read_text())["numbers"]["paper"]
    assert [stages[s]["tokens_per_step"] for s in ("pretrain", "finetune")] == [2_097_152, 2_097_152]
    assert [round(stages[s]["tokens"] / 1e9, 1) for s in ("pretrain", "finetune")] == [262.4, 32.8]
    rows = json.loads((root / "figures/table3.json").read_text())["numbers"]
    assert (len(rows["table"]), rows["kinds"]) == (40, dict(random=1, natural=14, generative=13, discriminative=12))
    assert json.loads((root / "figures/table3_sheet.json").read_text())["numbers"]["rows"] == 40
    measured = json.loads((root / "figures/table4.json").read_text())["numbers"]["rows"]
    assert [row["samples"] for row in measured] == [3783, 24777, 31593, 50000, 2000, 500, 2000, 500]


def test_command_answers_in_one_line():
    run = lambda *args: subprocess.run([sys.executable, "-c", "from lvm_lite.cli import main; import sys; sys.exit(main())", *args],
                                       cwd=root, capture_output=True, text=True)
    wrong = run("reproduce", "--profile", "smaple")
    assert (wrong.returncode, wrong.stderr) == (2, "lvm-lite reproduce: unknown profile 'smaple'; known: sample, shipped, shipped-small, paper\n")
    assert run("reproduce", "--list").returncode == 0


@pytest.fixture
def corpus(tmp_path):
    "The folder that a step makes, and a run of the step: `does` to the folder, from the reads `code`."
    from lvm_lite.reproduce import Step, _begun, _Plan
    (tmp_path / "settings.ini").write_text("[mine]\n")
    step, folder = Step("corpus", "", function="a.b", outputs=("runs/mine/corpus",)), tmp_path / "runs/mine/corpus"
    def run(code, does=lambda: None, force=False):
        with _begun(_Plan([step], "mine", tmp_path, {}), step, dict(code=code), force): does()
    return folder, run


def written(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(name)


def failing(*names, by=RuntimeError):
    "Writes files, and raises."
    def does(folder):
        for name in names: written(folder, name)
        raise by
    return does


def test_an_interrupted_step_goes_on_from_what_it_began_with_alone(corpus):
    folder, run = corpus
    for by in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(by): run("1", lambda: failing("half", by=by)(folder))
        run("1", lambda: written(folder, "whole"))
        assert sorted(p.name for p in folder.iterdir()) == ["half", "whole"]
        run("2", lambda: written(folder, "other"))
        assert [p.name for p in folder.iterdir()] == ["other"]
        run("2", force=True)
        assert not folder.exists()


def test_what_no_reproduction_began_is_never_removed(corpus):
    folder, run = corpus
    written(folder, "tokenized")
    for code in "12": run(code); run(code, force=True)
    assert (folder / "tokenized").exists(), "lvm-lite tokenize made it"


@pytest.mark.parametrize("killed", [False, True])
def test_what_was_made_after_an_attempt_without_output_is_never_removed(corpus, killed):
    folder, run = corpus
    note = folder.parent / ".corpus.json"
    kept = []
    with pytest.raises(RuntimeError): run("1", lambda: (kept.append(note.read_text()), failing()(folder)))
    assert not note.exists(), "it claims what is not there"
    if killed: note.write_text(*kept)  # nobody took it away
    written(folder, "trained for days")
    for code, force in (("2", False), ("1", True)):
        if killed:
            with pytest.raises(RuntimeError, match="runs/mine/corpus: begun from something else, .* "
                                                   "remove it to have it made anew, or runs/mine/.corpus.json to go on"):
                run(code, force=force)
        else: run(code, force=force)
    assert (folder / "trained for days").exists()


def test_what_somebody_went_on_with_is_never_removed(corpus):
    folder, run = corpus
    with pytest.raises(RuntimeError): run("1", lambda: failing("half")(folder))
    written(folder, "trained for days")  # by lvm-lite train, in the same folder
    run("1", lambda: written(folder, "whole"))
    with pytest.raises(RuntimeError, match="not as a reproduction left it"): run("2")
    assert sorted(p.name for p in folder.iterdir()) == ["half", "trained for days", "whole"]
