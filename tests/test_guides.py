"The guides: one head for all, links that lead somewhere, and the scripts that they explain."
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from guides import HEAD, TAIL, with_head

root = Path(__file__).resolve().parent.parent
guides = sorted((root / "nbs/guides").glob("*.ipynb"))
POD = root / "scripts/tpu_pod.sh"
SLICE = ["--name", "lvm", "--zone", "europe-west4-a", "--type", "v3-256"]


def cells(path, kind): return ["".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


# --- what every guide begins with ---

@pytest.mark.parametrize("path", guides, ids=lambda p: p.stem)
def test_guide_says_what_it_needs_and_installs_nothing_twice(path):
    assert path.read_text(encoding="utf-8") == with_head(path), f"{path.name} has another head than tests/guides.py: run python tests/guides.py"
    assert HEAD in cells(path, "code") and cells(path, "code")[-1].endswith(TAIL), f"{path.name} lacks the first or the last line of tests/guides.py"
    assert re.search(r"^Needs.*(minute|second).*(GB|MB)", "\n".join(cells(path, "markdown")), re.M), (
        f"{path.name} does not say how long it takes and how much memory (Needs: …)")
    assert any("outputs" in c and c["outputs"] for c in json.loads(path.read_text(encoding="utf-8"))["cells"]), (
        f"{path.name} was committed without having been run")


# --- links ---

def slug(heading): # as MyST and GitHub make them
    return re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading).strip().lower()).replace(" ", "-")


def headings(path):
    text = "\n".join(cells(path, "markdown")) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    return {slug(h) for h in re.findall(r"^#{1,6} (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)}


@pytest.mark.parametrize("path", guides, ids=lambda p: p.stem)
def test_links_of_guides_resolve(path):
    for target in re.findall(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)", "\n".join(cells(path, "markdown"))):
        if re.match(r"[a-z]+:", target): continue
        file, _, heading = target.partition("#")
        to = (path.parent / file).resolve() if file else path
        assert to.exists(), f"{path.name} links to {target}, which is not here"
        assert not heading or heading in headings(to), f"{path.name} links to {target}; {to.name} has no such heading"


# --- the pod's script ---

def pod(*arguments, **environment):
    return subprocess.run([POD, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def test_dry_run_prints_the_commands_in_order_and_quoted():
    asked = ["train", "finetune", "--profile", "my paper", "--mesh", "data=8,fsdp=32", "--root", "it's $HOME; rm"]
    done = pod("--dry-run", *SLICE, "--spot", "--project", "mine",
               "--mount", "mountpoint -q lvm-lite/runs || sudo mount -t nfs 10.0.0.2:/runs lvm-lite/runs", "--", *asked)
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    verbs = [" ".join(words[:5]) if words[0] == "gcloud" else " ".join(words[:2]) for words in lines]
    ssh = "gcloud compute tpus tpu-vm ssh"
    assert verbs == ["gcloud compute tpus queued-resources create", "git archive", "gcloud compute tpus tpu-vm scp",
                     ssh, ssh, ssh, "gcloud compute tpus queued-resources delete"]
    create, *_, run, delete = lines
    assert {"--spot", "v3-256", "lvm"} <= set(create) and create[create.index("--node-id") + 1] == "lvm" and "--force" in delete
    for words in lines:
        if words[0] == "gcloud": assert words[words.index("--zone") + 1] == "europe-west4-a" and words[words.index("--project") + 1] == "mine"
        if words[3:5] in (["tpu-vm", "ssh"], ["tpu-vm", "scp"]): assert "--worker=all" in words
    # What arrives at a worker is the user's words, one by one, through two shells.
    words = shlex.split(run[-1])
    assert words[:5] == ["cd", "lvm-lite", "&&", "flock", ".lock"] and words[-len(asked) - 1:] == [".venv/bin/lvm-lite", *asked]
    assert "-c constraints.txt" in lines[3][-1] and lines[4][-1].startswith("mountpoint")


FAKE = """#!/usr/bin/env bash
echo "$*" >> "$POD/calls"
case "$*" in
  *describe*) said=$(head -n 1 "$POD/states"); sed -i 1d "$POD/states"
    case $said in "") echo "ERROR: NOT_FOUND: no such request" >&2; exit 1 ;; OFFLINE) echo "ERROR: no route to host" >&2; exit 1 ;; esac
    echo "$said" ;;
  *"queued-resources create"*) exit "$(cat "$POD/create" 2>/dev/null || echo 0)" ;;
  *.venv/bin/lvm-lite*) code=$(head -n 1 "$POD/codes"); sed -i 1d "$POD/codes"; exit "$code" ;;
esac
"""


@pytest.fixture
def cloud(tmp_path):
    "A gcloud that answers from lists, and notes what it was asked: (states of the request, exit codes of the command) -> result and calls."
    (tmp_path / "gcloud").write_text(FAKE)
    (tmp_path / "gcloud").chmod(0o755)
    def ask(states, codes, *arguments, create=0):
        (tmp_path / "states").write_text("".join(f"{s}\n" for s in states))
        (tmp_path / "codes").write_text("".join(f"{c}\n" for c in codes))
        (tmp_path / "create").write_text(str(create))
        done = pod(*SLICE, "--poll", "0", *arguments, "--", "train", "pretrain",
                   PATH=f"{tmp_path}:{os.environ['PATH']}", POD=str(tmp_path), TMPDIR=str(tmp_path))
        calls = (tmp_path / "calls").read_text().splitlines()
        kinds = [next(k for k in ("describe", "create", "delete", "scp", "lvm-lite train", "ssh") if k in c) for c in calls]
        return done, [k for k in kinds if k != "describe"]
    return ask


RUN = ["scp", "ssh", "lvm-lite train"]  # the code, the environment, the command


def test_pod_waits_in_the_queue_runs_and_gives_back(cloud):
    done, calls = cloud(["", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE", "ACTIVE"], [0])
    assert done.returncode == 0, done.stderr
    assert calls == ["create", *RUN, "delete"]


def test_pod_asks_again_after_a_preemption(cloud):
    # Taken away in the middle; and once more just as a run, told to stop, had saved and ended well.
    done, calls = cloud(["ACTIVE", "SUSPENDING", "SUSPENDED", "", "ACTIVE", "SUSPENDED", "SUSPENDED", "", "ACTIVE", "ACTIVE"], [255, 0, 0], "--keep")
    assert done.returncode == 0, done.stderr
    assert calls == [*RUN, "delete", "create", *RUN, "delete", "create", *RUN]
    assert done.stderr.count("taken away") == 2


def test_pod_takes_no_answer_for_no_preemption(cloud):
    done, calls = cloud(["OFFLINE", "OFFLINE", "ACTIVE", "OFFLINE", "ACTIVE"], [0])
    assert done.returncode == 0 and calls == [*RUN, "delete"], done.stderr
    assert done.stderr.count("state is not known: ERROR: no route to host") == 3


def test_pod_gives_up_on_a_command_that_fails(cloud):
    done, calls = cloud(["ACTIVE"] * 6, [2, 2, 2])
    assert done.returncode == 1 and "failed 3 times in a row" in done.stderr
    assert calls == RUN * 3, "the slice is left to be looked at"


def test_pod_gives_up_on_a_request_that_is_refused(cloud):
    done, calls = cloud([""] * 5, [], create=1)
    assert done.returncode == 2 and "refused 3 times" in done.stderr and calls == ["create"] * 3


@pytest.mark.parametrize("arguments, said", [(["--name", "a"], "--zone is missing"),
                                             (SLICE, "say after --"),
                                             ([*SLICE, "--tpye", "v4-8"], "unknown argument --tpye"),
                                             ([*SLICE, "--poll"], "--poll wants a value")])
def test_pod_refuses(arguments, said):
    done = pod("--dry-run", *arguments)
    assert done.returncode == 2 and said in done.stderr and not done.stdout


def test_scripts_are_shell_and_executable():
    for path in sorted((root / "scripts").iterdir()):
        assert path.stat().st_mode & stat.S_IXUSR and subprocess.run(["bash", "-n", path]).returncode == 0, path.name


# --- the Slurm job ---

def test_slurm_job_runs_on_every_task_and_comes_back(tmp_path):
    # as Slurm's own: srun kills its tasks when it gets a SIGTERM, scancel --signal passes one to the tasks
    tools = {"srun": '#!/usr/bin/env bash\nprintf "%s\\n" "$@" >> $LOG\n[[ $MODE == short ]] && exit 3\ntask & echo $! > $LOG.task\n'
                     'trap "echo killed >> $LOG; kill -KILL $(cat $LOG.task)" TERM\nwait $!\n',
             "task": '#!/usr/bin/env bash\ntrap "echo told >> $LOG; exit 0" TERM\necho running >> $LOG\nfor i in {1..200}; do sleep 0.05; done\n',
             "scancel": '#!/usr/bin/env bash\n[[ "$*" == "--signal=TERM 7" ]] && kill -TERM $(cat $LOG.task)\n',
             "scontrol": '#!/usr/bin/env bash\necho "scontrol $*" >> $LOG\n'}
    for name, text in tools.items(): (tmp_path / name).write_text(text); (tmp_path / name).chmod(0o755)
    def job(mode):
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / mode), "MODE": mode,
               "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(tmp_path)}
        return subprocess.Popen(["bash", root / "scripts/train.sbatch", "train", "finetune", "--profile", "a b"], env=env)
    assert job("short").wait(20) == 3
    assert (tmp_path / "short").read_text().splitlines()[-3:] == ["finetune", "--profile", "a b"]
    running = job("long")
    while not (tmp_path / "long").exists() or "running" not in (tmp_path / "long").read_text(): assert running.poll() is None
    running.terminate()
    assert running.wait(20) == 0
    assert (tmp_path / "long").read_text().splitlines()[-2:] == ["told", "scontrol requeue 7"]
