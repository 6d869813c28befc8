"""The site, made by `make docs` from the notebooks as they stand: `sphinx-build -W -c docs . _site/html` (MyST-NB puts its copies beside that folder)."""
import json
import re
from pathlib import Path

from fastcore.docments import docments

root = Path(__file__).resolve().parent.parent
project, author = "LVM-Lite", "The LVM-Lite maintainers"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_external_toc"]
external_toc_path = "docs/_toc.yml"
include_patterns = ["nbs/**.ipynb", "docs/api.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/LICENSES.md"]
exclude_patterns = ["**/.ipynb_checkpoints", ".venv*", "_site", "runs", "figures/runs"]

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a notebook may begin a section after code, at any level

html_theme = "sphinx_book_theme"
html_title = "LVM-Lite"
html_theme_options = dict(show_navbar_depth=1, home_page_in_toc=True, use_download_button=False, navbar_persistent=[])
autodoc_member_order = "bysource"
autodoc_typehints = "none"
add_module_names = False


def literal(text: str) -> str:
    "Docstrings are plain text with `code`; reStructuredText would read stars and bars in them."
    parts = re.split(r"`([^`]+)`", text)
    return "".join(f"``{p}``" if i % 2 else re.sub(r"([*|_\\])", r"\\\1", p) for i, p in enumerate(parts))


def parameters(app, what, name, obj, options, lines):
    "Each parameter's comment, where the function keeps it, as a line of the page."
    lines[:] = [literal(line) for line in lines]
    if what not in ("function", "method", "class"): return
    try: found = docments(obj, full=True, returns=True)
    except (TypeError, ValueError, OSError): return
    said = [(k, v["docment"]) for k, v in found.items() if v.get("docment")]
    if said: lines += ["", *(f":{'returns' if k == 'return' else f'param {k}'}: {literal(' '.join(text.split()))}" for k, text in said), ""]


def write_api():
    "A page with every module's public names, in the notebooks' order."
    out = ["# The package", "", "Made from the docstrings of `lvm_lite`; the notebooks explain and show.", ""]
    for notebook in sorted(root.glob("nbs/[0-9]*.ipynb")):
        module = notebook.stem[3:]
        if module == "front_door": continue
        out += [f"## lvm_lite.{module}", "", f"[{notebook.stem}](../nbs/{notebook.name}) explains it.", "",
                "```{eval-rst}", f".. automodule:: lvm_lite.{module}", "   :members:", "```", ""]
    text = "\n".join(out)
    page = root / "docs/api.md"
    if not page.exists() or page.read_text() != text: page.write_text(text)


def for_readers(app, docname, source):
    "A notebook without nbdev's directives and the cells that hold nothing else or are hidden."
    if not docname.startswith("nbs/"): return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code": cell["source"] = [] if "#| hide\n" in cell["source"] else [line for line in cell["source"] if not line.startswith("#|")]
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["source"]]
    source[0] = json.dumps(notebook)


def setup(app):
    write_api()
    app.connect("source-read", for_readers)
    app.connect("autodoc-process-docstring", parameters)
