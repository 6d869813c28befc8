"""A reader's way through the playground, in JupyterLab and Chromium: open the guide, run it, choose, click, slide, stop, upload. `make browser` runs it;
LVM_LITE_SCREENSHOT=FILE keeps the picture."""
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow
root = Path(__file__).resolve().parents[2]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser test drives Chromium by playwright: pip install 'lvm-lite[browser]'")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not program: pytest.skip("there is no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "The address of any notebook (`{name}`) in a JupyterLab that knows nothing of its user's settings, and its folder, where the guide lies."
    pytest.importorskip("jupyterlab", reason="there is no JupyterLab here: pip install 'lvm-lite[lab]'")
    home = tmp_path_factory.mktemp("lab")
    (home / "notebooks").mkdir()
    shutil.copy(root / "nbs/guides/playground.ipynb", home / "notebooks")
    # JupyterLab asks whether to fetch news, and sometimes which kernel to start: not here
    for name, text in (("apputils-extension/notification", '{"fetchNews": "false"}'), ("notebook-extension/tracker", '{"autoStartDefaultKernel": true}')):
        path = home / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(8)
    own = ({f"JUPYTER_{what}_DIR": str(home / what.lower()) for what in ("CONFIG", "DATA", "RUNTIME")}
           | {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces")})
    env = os.environ | own | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    env.pop("XLA_FLAGS", None)  # as a reader's kernel has it
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
                               "--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={token}",
                               f"--ServerApp.root_dir={home / 'notebooks'}",
                               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
                              env=env, stdout=open(home / "log", "w"), stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert server.poll() is None, (home / "log").read_text()[-3000:]
            try: urllib.request.urlopen(f"{address}/api?token={token}", timeout=5); break
            except OSError: time.sleep(0.5)
        yield f"{address}/lab/workspaces/{{name}}/tree/{{name}}.ipynb?token={token}", home / "notebooks"
    finally:
        server.terminate()
        server.wait(20)


def run_notebook(browser, address, name):
    """The page of a notebook all of whose cells were told to run, and its first box of widgets.
    Its workspace is its own, or JupyterLab opens the notebooks of earlier pages again."""
    page = browser.new_page(viewport=dict(width=1280, height=960))
    page.set_default_timeout(300_000)  # on a busy machine compiling takes minutes
    page.goto(address.format(name=name))
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").first.wait_for()
    page.locator(".lm-MenuBar-itemLabel").get_by_text("Run", exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text("Run All Cells", exact=True).click()
    return page, page.locator(".jp-OutputArea-output .widget-vbox").first


def test_playground(browser, lab):
    address, folder = lab
    page, box = run_notebook(browser, address, "playground")
    said, picture, button = box.locator(".widget-label").last, box.locator("img"), lambda text: box.get_by_role("button", name=text)
    hears = lambda text: page.wait_for_function("([at, text]) => [...document.querySelectorAll(at)].some(x => x.textContent.includes(text))",
                                                arg=[".widget-vbox .widget-label", text])

    def changes(act):
        "Whether what is shown is another picture after `act`."
        source = picture.get_attribute("src")
        act()
        page.wait_for_function("([source]) => document.querySelector('.widget-vbox img').src != source", arg=[source])

    page.locator(".jp-Notebook").get_by_text("a prompt has 1 to 7 pairs, not 9").last.wait_for()  # the last cell has run
    picture.wait_for()
    hears("ready")
    # choose a task, slide to two pairs
    changes(lambda: box.locator("select").select_option("colourisation"))
    handle = box.locator(".noUi-handle").first
    changes(lambda: (handle.focus(), handle.press("ArrowLeft")))
    assert box.locator(".widget-readout").first.inner_text() == "2"
    # generate: the picture fills in, and is scored
    changes(button("Generate").click)
    hears("tokens in")
    assert "PSNR" in said.inner_text()
    if os.environ.get("LVM_LITE_SCREENSHOT"): box.screenshot(path=os.environ["LVM_LITE_SCREENSHOT"])
    changes(lambda: button("Save PNG").click() or button("Generate").click())
    hears("tokens in")
    assert list((folder / "playground").glob("colourisation*pairs-2*.png"))
    # a film takes longer: a second click is answered, and Stop is heard
    changes(lambda: box.locator("select").select_option("video"))
    button("Generate").click()
    hears("of 704 tokens")
    button("Generate").click()
    hears("still generating")
    button("Stop").click()
    hears("stopped after")
    # what is no picture is refused in words
    box.locator("select").select_option("my own pictures")
    hears("upload pictures first")
    with page.expect_file_chooser() as chooser: box.get_by_role("button", name="pictures").click()
    chooser.value.set_files([dict(name=f"{i}.txt", mimeType="text/plain", buffer=b"no picture") for i in range(3)])
    hears("0.txt is no picture that can be read")


def test_training_is_watched(browser, lab):
    "A log that grows while a cell runs: the line is said, the curve and the sheet of samples are redrawn."
    address, folder = lab
    log = folder / "run/log.jsonl"
    (folder / "run/samples").mkdir(parents=True)
    line = lambda step: json.dumps(dict(step=step, loss=5 / step**0.5, tokens_per_second=1000.0, seconds=1.0, seconds_left=float(60 - step))) + "\n"
    log.write_text("".join(map(line, range(10, 40, 10))))
    Image.fromarray(np.full((8, 32, 3), 200, np.uint8)).save(folder / "run/samples/000030.png")
    cell = nbformat.v4.new_code_cell("import time\nfrom lvm_lite.playground import watch\n"
                                     "with watch('run', every=0.5, live=True):\n    while True: time.sleep(1)")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=dict(kernelspec=dict(name="python3", display_name="Python 3 (ipykernel)"))),
                   folder / "watch.ipynb")
    page, box = run_notebook(browser, address, "watch")
    box.get_by_text("step 30").wait_for()
    curve = box.locator("img").first
    page.wait_for_function("() => [...document.querySelectorAll('.widget-vbox img')].every(x => x.naturalWidth > 50)")
    before = curve.get_attribute("src")
    with open(log, "a") as f: f.write(line(40))
    box.get_by_text("step 40").wait_for()
    page.wait_for_function("([source]) => document.querySelector('.widget-vbox img').src != source", arg=[before])
    if os.environ.get("LVM_LITE_SCREENSHOT"): box.screenshot(path=Path(os.environ["LVM_LITE_SCREENSHOT"]).with_name("watch.png"))
