"README.md is nbs/index.ipynb as Markdown: `python tests/readme.py` writes it, a test compares it."
import json
import re
from pathlib import Path

root = Path(__file__).resolve().parent.parent
header = "<!-- Made from nbs/index.ipynb by `make readme`; edit the notebook. -->\n"


def relink(text: str) -> str:
    "Links are relative to nbs/ in the notebook and to the root in the README."
    def target(m):
        path = m[2]
        if re.match(r"[a-z]+:|#", path): return m[0]
        return m[1] + (path[3:] if path.startswith("../") else "nbs/" + path) + m[3]
    return re.sub(r"(\]\(|<img src=\")([^)\"]+)(\)|\")", target, text)


def readme() -> str:
    "The README: Markdown cells as they are, code cells fenced with their text output; `#| hide` cells are left out."
    parts = [header]
    for cell in json.loads((root / "nbs/index.ipynb").read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown": parts.append(relink(source) + "\n")
        elif cell["cell_type"] == "code" and not source.startswith("#| hide"):
            parts.append(f"```python\n{source}\n```\n")
            for output in cell["outputs"]:
                text = output.get("text") or output.get("data", {}).get("text/plain", [])
                if text: parts.append(f"```\n{''.join(text).rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (root / "README.md").write_text(readme(), encoding="utf-8")
