"""The first code cell of every guide, its last line and its Colab badge, from one place: `python tests/guides.py` writes them, and
tests/test_guides.py compares.

The badge and the address that a bare Colab installs from are there as soon as pyproject.toml names the repository's home:
[project.urls] Repository = "https://github.com/OWNER/NAME"."""
import json
import tomllib
from pathlib import Path

root = Path(__file__).resolve().parent.parent
HOME = tomllib.loads((root / "pyproject.toml").read_text())["project"].get("urls", {}).get("Repository", "")
HEAD = f'''home = "{HOME}"  # the repository's address, once it has one
import importlib.util, resource, subprocess, sys, time
from importlib.metadata import version

begun = time.perf_counter()
if importlib.util.find_spec("lvm_lite") is None:  # a bare Colab; jax is asked for in the version that is there, so that pip leaves it alone
    if not home: raise RuntimeError("lvm_lite is not installed here: in a checkout run `make`, and open this notebook with the kernel in .venv")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"lvm-lite[data] @ git+{{home}}", f"jax=={{version('jax')}}"], check=True)'''
TAIL = ('print(f"this run: {(time.perf_counter() - begun) / 60:.1f} minutes, '
        '{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB of memory at most")')


def badge(name: str) -> str: # -> "" while the repository has no home
    return ("\n\n[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
            f"(https://colab.research.google.com/github/{HOME.removeprefix('https://github.com/')}/blob/main/nbs/guides/{name}.ipynb)"
            if HOME else "")


def with_head(path: Path) -> str: # -> the notebook's text
    "A guide with the head that every guide has."
    notebook = json.loads(path.read_text(encoding="utf-8"))
    first, *others = notebook["cells"]
    title = "".join(first["source"]).split("\n\n[![Open in Colab]")[0] + badge(path.stem)
    first["source"] = title.splitlines(keepends=True)
    for cell in others:
        if cell["cell_type"] == "code" and "".join(cell["source"]).startswith("home = "): cell["source"] = HEAD.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path in sorted((root / "nbs/guides").glob("*.ipynb")): path.write_text(with_head(path), encoding="utf-8")
