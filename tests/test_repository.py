"What holds for the repository as a whole: notebooks are the single source, the wheel is complete, the lists agree."
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

sys.path.insert(0, str(Path(__file__).parent))
from readme import readme, with_maps

pytestmark = pytest.mark.xdist_group("repository")  # one process: the copy and the wheel are made once
root = Path(__file__).resolve().parent.parent
project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
notebooks = sorted(p for p in (root / "nbs").rglob("*.ipynb") if not any(x.startswith((".", "_")) for x in p.relative_to(root).parts))
numbered = sorted((root / "nbs").glob("[0-9]*.ipynb"))
LAB = ["jupyter", "jupyter_core", "jupyterlab", "notebook", "nbformat", "nbclient", "nbconvert", "ipykernel", "IPython", "ipywidgets",
       "nbdev", "execnb", "papermill", "doit", "datasets", "pytest"]  # what an installed wheel must do without


def run(*command, **kwargs):
    "Run a command and show its output if it fails."
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def code(path):
    "The code cells of a notebook."
    return ["".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]


@cache
def module_of(path):
    "The module that a notebook exports, or None."
    found = re.findall(r"^#\|\s*default_exp (\w+)", "\n".join(code(path)), re.M)
    return found[0] if found else None


def tracked():
    "The files that git knows, those about to be added included."
    return [root / p for p in run("git", "ls-files", "-co", "--exclude-standard", cwd=root).splitlines() if (root / p).is_file()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A copy of the checkout, for commands that write."
    target = tmp_path_factory.mktemp("copy")
    for path in tracked():
        to = target / path.relative_to(root)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)
    return target


# --- notebooks are the single source ---

def test_export_leaves_no_diff(copy):
    env = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
    run(sys.executable, "-c", "from nbdev.doclinks import nbdev_export; nbdev_export()", cwd=copy, env=env)
    for path in sorted((copy / "lvm_lite").rglob("*.py")):
        assert path.read_text() == (root / path.relative_to(copy)).read_text(), (
            f"{path.name} is not what its notebook exports: edit the notebook and run `make export`")


def test_clean_is_a_no_op(copy):
    run(sys.executable, "-c", "from nbdev.clean import nbdev_clean; nbdev_clean()", cwd=copy)
    changed = [str(p.relative_to(root)) for p in notebooks if (copy / p.relative_to(root)).read_text() != p.read_text()]
    assert not changed, f"not clean: {', '.join(changed)}; run `make clean`"


def too_long(text, width=160):
    "The numbers of lines over `width`, but for those in a text of several lines."
    text = re.sub(r"^(\s*)[%!]", r"\1# ", text, flags=re.M)  # a magic is no Python
    texts = {line for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value
             for line in range(node.lineno, node.end_lineno + 1)}
    return [i for i, line in enumerate(text.split("\n"), 1) if len(line) > width and i not in texts]


def test_no_line_of_code_is_too_long():
    assert too_long("x = 1\n" + "y" * 161 + "\nz = '''\n" + "w" * 200 + "'''\n") == [2]
    found = [f"{p.relative_to(root)}, cell {i}, line {n}" for p in notebooks for i, cell in enumerate(code(p)) for n in too_long(cell)]
    found += [f"{p.relative_to(root)}, line {n}" for p in (root / "tests").rglob("*.py") for n in too_long(p.read_text(encoding="utf-8"))]
    assert not found, f"over 160 characters: {'; '.join(found)}"


def test_no_name_is_missing_or_unused(tmp_path):
    for path in notebooks: (tmp_path / f"{path.parent.name}_{path.stem}.py").write_text("\n\n".join(code(path)), encoding="utf-8")
    found = subprocess.run([sys.executable, "-m", "pyflakes", "lvm_lite", "tests", tmp_path], cwd=root, capture_output=True, text=True)
    assert not (found.returncode or found.stdout or found.stderr), found.stdout + found.stderr


def test_every_module_has_a_notebook_and_every_notebook_a_module():
    exported = {module_of(p): p.name for p in numbered}
    assert None not in exported, f"{exported.get(None)} has no `#| default_exp`"
    modules = {p.stem for p in (root / "lvm_lite").glob("*.py")} - {"_modidx"}
    assert set(exported) == modules
    for module, name in exported.items():
        assert module == "__init__" or name[3:-6] == module, f"{name} exports {module}"


def test_imports_go_to_lower_numbers():
    number = {module_of(p): int(p.name[:2]) for p in numbered}
    assert len(set(number.values())) == len(number), "two notebooks have one number"
    for path in numbered:
        for cell in code(path):
            try: tree = ast.parse(cell)
            except SyntaxError: continue  # a cell with a magic
            for node in ast.walk(tree):
                names = []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module] if node.module != "lvm_lite" else [f"lvm_lite.{a.name}" for a in node.names]
                if isinstance(node, ast.Import):
                    names = [a.name for a in node.names]
                for name in names:
                    module = name.split(".")[1] if name.startswith("lvm_lite.") else None
                    # imports inside the command's functions may look anywhere below the command itself, as everybody's
                    assert module not in number or number[module] <= int(path.name[:2]), f"{path.name} imports {module}, which comes later"


@pytest.mark.parametrize("path", notebooks, ids=lambda p: str(p.relative_to(root / "nbs")))
def test_notebook_is_fit_to_read(path):
    assert path.stat().st_size < 600_000, f"{path.name} has {path.stat().st_size} bytes; make its outputs smaller"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook["cells"]
    assert "widgets" not in notebook["metadata"] or path.parent.name == "guides", "execution left the state of its widgets; remove it from the metadata"
    assert re.match(r"# .+\n+> .+", "".join(cells[0]["source"])), "the first cell is a title and a `> ` line saying what the reader can do after it"
    assert len(cells) <= 80, f"{len(cells)} cells; split the notebook"
    assert not any(o["output_type"] == "error" for c in cells for o in c.get("outputs", [])), "an output is an error"
    untold = 0  # cells of exported functions since the last that shows or tests
    for source in ("".join(c["source"]) for c in cells if c["cell_type"] == "code"):
        exported = source.startswith("#|")
        untold = untold + bool(re.search(r"^(def|class) ", source, re.M)) if exported else 0
        assert untold <= 2, f"{untold} cells define, and none shows what they do, up to: {source[:80]}"


@pytest.mark.parametrize("path", sorted((root / "nbs/paper").glob("*.ipynb")), ids=lambda p: p.stem)
def test_paper_notebook_has_its_parameters(path):
    from lvm_lite.reproduce import STEPS, notebook_parameters
    assert "profile" in notebook_parameters(path)
    assert f"paper/{path.stem}" in [s.notebook for s in STEPS], f"no step of the runner makes {path.stem}"


def test_notebooks_of_papermill_show_what_is_committed():
    "Their outputs would age apart from figures/: they keep none, and each figure is shown where it is drawn."
    shown = []
    for path in notebooks:
        if path.parent.name not in ("paper", "train", "bench"): continue
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert not any(c.get("outputs") for c in cells), f"{path.name} holds outputs: clear them"
        shown += re.findall(r"!\[\w+\]\(../../figures/(\w+)\.png\)", "".join(line for c in cells if c["cell_type"] == "markdown" for line in c["source"]))
    assert sorted(shown) == sorted(p.stem for p in (root / "figures").glob("*.png"))


def test_readme_is_the_index():
    cells = json.loads((root / "nbs/index.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all("".join(c["source"]) == with_maps("".join(c["source"])) for c in cells if c["cell_type"] == "markdown"), (
        "the tables of nbs/index.ipynb are out of date: run `make readme`")
    assert (root / "README.md").read_text(encoding="utf-8") == readme(), "README.md is not nbs/index.ipynb: run `make readme`"


def test_readme_and_documents_link_to_files():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", (root / name).read_text(encoding="utf-8")):
            assert re.match(r"[a-z]+:", target) or (root / target).exists(), f"{name} links to {target}, which is not here"


def test_no_machine_is_named():
    # Paths of somebody's machine have no business here; the pattern is written so that it does not find itself.
    pattern = re.compile(r"(?<![\w.])/(?:work|root|Users|home/\w+)/[\w.]|file" + r":///|\blocalhost:\d")
    for path in tracked():
        if path.suffix in (".png", ".pdf", ".jpg", ".npz", ".safetensors", ".gz") or path == Path(__file__): continue
        try: text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError: continue
        assert not (m := pattern.search(text)), f"{path.relative_to(root)} names a machine's path: {text[max(0, m.start() - 40):m.end() + 40]!r}"


# --- the lists agree ---

def pins():
    lines = (root / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines), "constraints.txt holds exact versions and nothing else: no hosts, no options"
    return {canonicalize_name(n): v for n, v in (line.split("==") for line in lines)}


def wanted():
    "The requirements of .[lab,dev], those of the extras that dev names among them."
    extras = project["optional-dependencies"]
    found = [Requirement(r) for r in project["dependencies"] + extras["lab"] + extras["dev"]]
    return [r for r in found if r.name != "lvm-lite"] + [Requirement(r) for own in found if own.name == "lvm-lite" for e in own.extras for r in extras[e]]


def test_constraints_cover_every_dependency():
    pinned = pins()
    for r in wanted():
        name = canonicalize_name(r.name)
        assert name in pinned, f"{r.name} is not in constraints.txt: run `make constraints`"
        assert r.specifier.contains(pinned[name], prereleases=True), f"{r} does not allow the {pinned[name]} of constraints.txt"


def test_environment_for_conda_is_the_same():
    environment = yaml.safe_load((root / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert [re.split("[=<> ]", d)[0] for d in conda] == ["python", "pip"], "versions stand in constraints.txt alone"
    assert Requirement(conda[0].replace("=", "==", 1)).specifier.contains("3.11") and project["requires-python"] == ">=3.11"
    assert pip == {"pip": ["-c constraints.txt", "-e .[lab,dev]"]}, "pip reads these lines as a requirements file: one option a line"
    # The packages that the environment promises, each under the name that it is imported by.
    promised = ["jupyterlab", "jax", "flax", "optax", "matplotlib", "ipywidgets", "papermill", "nbdev", "datasets"]
    assert {canonicalize_name(n) for n in promised} <= {canonicalize_name(r.name) for r in wanted()}
    run(sys.executable, "-c", "import " + ", ".join(promised))


def test_conda_lines_are_understood_by_pip(tmp_path):
    from pip._internal.network.session import PipSession
    from pip._internal.req import parse_requirements
    lines = yaml.safe_load((root / "environment.yml").read_text())["dependencies"][-1]["pip"]
    (tmp_path / "pip.txt").write_text("\n".join(lines))
    (tmp_path / "constraints.txt").write_text((root / "constraints.txt").read_text())
    parsed = list(parse_requirements(str(tmp_path / "pip.txt"), session=PipSession()))
    assert sum(r.constraint for r in parsed) == len(pins())
    assert [(r.requirement, r.is_editable) for r in parsed if not r.constraint] == [(".[lab,dev]", True)]


def test_settings_hold_profiles_and_nothing_of_nbdev():
    text = (root / "settings.ini").read_text()
    assert text.startswith("#") and "nbdev" in text.split("\n\n")[0], "the first comment says why nbdev's keys are elsewhere"
    assert not re.search(r"^(nbs_path|lib_path|lib_name|version)\s*=", text, re.M)


# --- the wheel ---

@pytest.fixture(scope="module")
def wheel(copy, tmp_path_factory):
    "The built wheel, installed alone into a folder: (archive, folder)."
    out, target = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), cwd=copy)
    archive, = out.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(archive))
    return archive, target


def in_wheel(wheel, tmp_path, script):
    "Run a script where only the wheel and its plain dependencies can be imported, outside any checkout."
    block = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {LAB!r}: raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by the test)", name=name)
sys.meta_path.insert(0, Block())
"""
    env = {**os.environ, "PYTHONPATH": str(wheel[1])}
    start = time.time()
    return run(sys.executable, "-c", block + script, cwd=tmp_path, env=env), time.time() - start


def test_wheel_holds_every_module_and_the_data_and_no_more(wheel):
    names = zipfile.ZipFile(wheel[0]).namelist()
    modules = {f"lvm_lite/{p.name}" for p in (root / "lvm_lite").glob("*.py")}
    data = {f"lvm_lite/data/{p.relative_to(root / 'data')}" for p in tracked() if p.is_relative_to(root / "data")}
    assert modules | data == {n for n in names if ".dist-info/" not in n}


def test_wheel_works_outside_the_checkout(wheel, tmp_path):
    out, seconds = in_wheel(wheel, tmp_path, "import lvm_lite as lvm; print(lvm.__file__); print(lvm.MODELS)")
    assert out.startswith(str(wheel[1])) and "hidden_dim=3200" in out
    assert seconds < 3, f"`import lvm_lite as lvm; print(lvm.MODELS)` took {seconds:.1f} s"
    out, _ = in_wheel(wheel, tmp_path, "import lvm_lite as lvm; print(lvm.load_profile('sample').model)")
    assert out.strip() in __import__("lvm_lite").MODELS


def test_wheel_imports_every_module_without_the_lab(wheel, tmp_path):
    modules = sorted(p.stem for p in (root / "lvm_lite").glob("[!_]*.py"))
    in_wheel(wheel, tmp_path, f"import importlib\nfor m in {modules!r}: importlib.import_module('lvm_lite.' + m)")


def test_wheel_says_what_reproduction_needs(wheel, tmp_path):
    out, _ = in_wheel(wheel, tmp_path, "from lvm_lite.cli import main; import sys; sys.stderr = sys.stdout; print(main(['reproduce']))")
    assert "reproduce needs a checkout" in out and out.strip().endswith("2")


def test_front_door_opens():
    import lvm_lite as lvm
    assert set(lvm.__all__) <= set(dir(lvm))
    for name in lvm.__all__: assert getattr(lvm, name) is not None


def test_version_is_said_once():
    import lvm_lite as lvm
    assert yaml.safe_load((root / "CITATION.cff").read_text())["version"] == lvm.__version__
    assert f"## {lvm.__version__}" in (root / "CHANGELOG.md").read_text()


def test_public_names_say_what_they_are():
    for path in sorted((root / "lvm_lite").glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = {name for node in tree.body
                  if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
                  for name in ast.literal_eval(node.value)}
        for node in tree.body:
            if getattr(node, "name", None) not in public: continue
            parts = [node, *(m for m in getattr(node, "body", ())
                             if isinstance(node, ast.ClassDef) and isinstance(m, ast.FunctionDef) and not m.name.startswith("_"))]
            for part in parts:
                text = ast.get_docstring(part)
                assert text, f"{path.name}: {part.name} has no docstring"
                raises = isinstance(part, ast.FunctionDef) and any(isinstance(n, ast.Raise) and n.exc for n in ast.walk(part))
                assert not raises or re.search("Error|[Rr]aise", text) or path.name == "cli.py", f"{path.name}: {part.name} raises, and does not say what"
