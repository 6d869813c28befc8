"""README.md is nbs/index.ipynb as Markdown: `python tests/readme.py` writes it, a test compares it.

The index's tables are filled in first: those of notebooks from the title and subtitle of each, that of results from figures/results.json and
results_scale.json."""
import json
import re
from pathlib import Path
from statistics import mean

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


def with_maps(text: str) -> str:
    "A cell's text with the rows of its tables of notebooks made anew."
    def first(path):
        source = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        title, _, rest = source.partition("\n")
        return title.lstrip("# ").strip(), " ".join(rest.strip().partition("\n\n")[0].lstrip("> ").split())
    def table(head, pattern, column):
        nonlocal text
        found = sorted((root / "nbs").glob(pattern))
        rows = "".join(f"| [{p.stem}]({p.relative_to(root / 'nbs').as_posix()}) | {first(p)[column]} |\n" for p in found)
        text = re.sub(rf"(\| {head} \|\n\|---\|---\|\n)(\|.*\n|MAP\n)*", lambda m: m[1] + rows, text)
    table(r"notebook \| what it gives", "[0-9]*.ipynb", 1)
    table(r"paper notebook \| what it draws", "paper/*.ipynb", 0)
    table(r"training notebook \| what it shows", "train/*.ipynb", 1)
    table(r"benchmark \| what it measures", "bench/*.ipynb", 1)
    table(r"guide \| what you can do after it", "guides/*.ipynb", 1)
    return re.sub(r"(\| measured \|.*\n\|[-|]+\n)(\|.*\n|MAP\n)*", lambda m: m[1] + results(), text)


def results() -> str:
    "The rows of the table of results."
    numbers = json.loads((root / "figures/results.json").read_text(encoding="utf-8"))["numbers"]
    scores = {who: {(task, s["metric"]): s for task, found in run.items() for s in found} for who, run in numbers["scores"].items()}
    def row(title, task, metric, unit=""):
        own, cool = (scores[who][task, metric] for who in ("shipped", "shipped, T = 0.6"))
        copied, blank = (scores["shipped"].get((task, f"{metric} of {who}"), {}).get("value") for who in ("the query handed back", "one colour throughout"))
        digits = 1 if unit else 2
        return (f"| {title} | "
                + " | ".join("-" if v is None else f"{v:.{digits}f}{unit}"
                             for v in (own["value"], cool["value"], own["oracle"], copied, blank)) + " |\n")
    def right(who, which=0): return f"{mean(shares[which] for shares in numbers['right_kind'][who].values()):.1%}"
    return "".join([f"| answers of the right kind, six tasks | {right('shipped')} | {right('shipped, T = 0.6')} | {right('shipped', 1)} | - | - |\n",
                    row("segmentation by colour, plain ground, foreground IoU", "segmentation, plain", "foreground IoU"),
                    row("segmentation by colour, plain ground, mIoU", "segmentation, plain", "mIoU"),
                    row("segmentation by colour, foreground IoU", "segmentation", "foreground IoU"),
                    row("segmentation by colour, mIoU", "segmentation", "mIoU"),
                    row("segmentation by kind of thing, mIoU", "segmentation, semantic", "mIoU"),
                    *(row(f"{task}, PSNR", task, "PSNR", " dB") for task in ("inpainting", "colourisation", "edges", "depth")),
                    row("edges, F-measure", "edges", "edge F-measure"),
                    frames()])


def frames() -> str:
    "The row of video, which is measured at full counts alone."
    rows = json.loads((root / "figures/results_scale.json").read_text(encoding="utf-8"))["numbers"]["rows"]
    own = next(r for r in rows if (r["model"], r["name"], r["metric"]) == ("shipped", "sample-frames", "FVD"))
    copied, through = (next(r["value"] for r in rows if r["name"] == "sample-frames" and r["metric"] == f"FVD of the last frame repeated{how}")
                       for how in ("", ", through the tokenizer"))
    def show(value): return "-" if value is None else f"{value:.0f}"  # without I3D there is none
    return ("| sixteen frames, the first five given, FVD (lower is better; copied: the last of the five) | "
            f"{show(own['value'])} | - | {show(own['oracle'])} | {show(copied)}; through the tokenizer {show(through)} | - |\n")


def update_index():
    "Fill the index's tables; the notebook is rewritten only if that changed something."
    path = root / "nbs/index.ipynb"
    old = path.read_text(encoding="utf-8")
    notebook = json.loads(old)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown": cell["source"] = with_maps("".join(cell["source"])).splitlines(keepends=True)
    new = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if new != old: path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    update_index()
    (root / "README.md").write_text(readme(), encoding="utf-8")
