"""The page as a reader sees it: JupyterLab in headless Chromium, run all, move a slider."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is on the page
    "apputils-extension/themes": {"theme": os.environ.get("COMPANION_THEME", "JupyterLab Light")},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed"),
]


# No clock decides here. These seconds are waited while nothing happens at all, then a test gives up.
PATIENCE = 600


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a copy of the notebooks; its address."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path / 'notebooks'}"]
    for name, choice in SETTINGS.items():
        path = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(choice))
    command += [f"--LabApp.user_settings_dir={tmp_path / 'settings'}"]
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    environment |= {"COMPANION_TRAINED": str(tmp_path / "trained")}  # committed weights only
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        if not listens(address, server):
            pytest.fail((tmp_path / "lab.log").read_text()[-2000:])
        yield address
    finally:
        server.terminate()
        server.wait(PATIENCE)


def listens(address, server):
    """Wait until JupyterLab answers. False if it has ended, or never does."""
    for _ in range(2 * PATIENCE):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address + "/api", timeout=PATIENCE)
            return True
        if server.poll() is not None:
            return False
        time.sleep(0.5)
    return False


FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--no-first-run"]
EVERY_KIND = """
import torch
from companion.data.corruption import CORRUPTIONS
from companion.metrics import DigitClassifier
from companion.models import Decoder, Encoder
from companion.sections import s31_2
from companion.show import panels
torch.manual_seed(0)
codes, images = 3 * torch.randn(500, 8), torch.rand(16, 1, 28, 28)
net = lambda x: x.roll(3, 3)
class Features(torch.nn.Module):
    encode = staticmethod(torch.relu)
    directions = staticmethod(lambda: torch.eye(128))
--
panels.code_sliders(lambda z: z.sigmoid().view(-1, 1, 2, 4), codes)
--
panels.latent_plane(lambda z: z.sigmoid().view(-1, 1, 1, 2).repeat(1, 1, 28, 14), codes[:, :2], torch.arange(500) % 10)
--
panels.family_slider({k: lambda x, k=k: x.roll(k, 3) for k in range(7)}, images, "latent_dim")
--
panels.frames({k: images.roll(k, 3) for k in range(9)}, "step")
--
s31_2.corruption_sliders(dict.fromkeys(CORRUPTIONS, net), CORRUPTIONS, images[:10])
--
panels.frames({k: {"image": images, "moved": images.roll(k, 3)} for k in range(5)}, "training step")
--
towards = lambda x, sigma: -sigma * x
s31_2.score_field(towards, towards, torch.randn(50, 2) / 3, (0.1, 1))
--
s31_2.feature_clamp(DigitClassifier().eval(), Features(), 1.0, {0: "zero", 1: "one"}, images, most=90)
"""
SLIDERS, PICTURES = ".companion-panel input", ".companion-panel canvas"
# Of each slider and each picture: what a reader at this width sees of it.
SEEN = """() => {
    const edge = document.querySelector('.jp-Notebook').getBoundingClientRect().right;
    const box = e => e.getBoundingClientRect();
    return {
        sliders: [...document.querySelectorAll('SLIDERS')].map(e => edge - box(e).right),
        pictures: [...document.querySelectorAll('PICTURES')].map(e => [
            edge - box(e).right, (box(e).width / box(e).height) / (e.width / e.height)
        ]),
    };
}""".replace("SLIDERS", SLIDERS).replace("PICTURES", PICTURES)
WIDTHS = (800, 1300, 1600)


# Of each cell: its prompt, its first line, and what it has printed, where a bar that moves is life.
CELLS = """() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')].map(cell => [
    cell.querySelector('.jp-InputPrompt').innerText,
    cell.querySelector('.cm-line')?.innerText ?? '',
    cell.querySelector('.jp-OutputArea').textContent,
])"""


def run_all(driver, address, width=1300):
    """A page of JupyterLab on which every cell has run."""
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * PATIENCE)
    page = browser.new_page(viewport={"width": width, "height": 1000})
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(f"{address}?reset")
    page.wait_for_selector(".jp-Notebook")
    page.get_by_text("| Idle").wait_for()  # the kernel listens
    page.get_by_text("Run", exact=True).first.click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.get_by_text("[*]:").first.wait_for(state="attached")
    wait_for_the_cells(page)  # the kernel hears sliders only then
    return page


def wait_for_the_cells(page):
    """Until no cell runs or waits, however long: as long as cells go on ending or printing."""
    before, still = None, 0
    while True:
        now = page.evaluate(CELLS)
        waiting = [line for prompt, line, _ in now if prompt == "[*]:"]
        if not waiting:
            break
        before, still = now, still + 1 if now == before else 0
        if still > 2 * PATIENCE:
            pytest.fail(f"nothing has happened for {PATIENCE} s in the cell {waiting[0]!r}")
        page.wait_for_timeout(500)
    skipped = [line for prompt, line, _ in now if prompt == "[ ]:"]
    assert not skipped, f"a cell failed, and so the next did not run: {skipped[0]!r}"


def test_every_kind_of_panel_is_seen_whole_at_three_widths_and_answers(lab, tmp_path):
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in EVERY_KIND.split("--")]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, tmp_path / "notebooks" / "panels.ipynb")
    with playwright.sync_playwright() as driver:
        page = run_all(driver, f"{lab}/lab/tree/panels.ipynb")
        page.wait_for_function(f"document.querySelectorAll('{PICTURES}[aria-label]').length == 8")
        seen_whole(page, sliders=9 + 2 + 1 + 1 + 1 + 1 + 1 + 2, folder=tmp_path)
        answers(page)
        page.context.browser.close()


@pytest.mark.skipif("COMPANION_PAGES" not in os.environ, reason="minutes a notebook: `make pages`")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:4])
def test_every_panel_of_every_notebook(path, lab):
    folder = Path(os.environ["COMPANION_PAGES"])
    with playwright.sync_playwright() as driver:
        page = run_all(driver, f"{lab}/lab/tree/{path.name}")
        assert page.locator(COMPLAINTS).count() == 0
        seen_whole(page, folder=folder, name=path.name[:4])
        answers(page)
        page.context.browser.close()


COMPLAINTS = "[data-mime-type='application/vnd.jupyter.stderr'] >> text=/Error|Warning/"


def seen_whole(page, sliders=None, folder=None, name="panels"):
    """Each handle and picture inside the visible page at three widths, pictures in their own shape."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1000})
        settle(page)
        for number in range(page.locator(PICTURES).count()):
            page.locator(PICTURES).nth(number).scroll_into_view_if_needed()
            page.screenshot(path=folder / f"{name}-{width}-{number}.png")
        seen = page.evaluate(SEEN)
        assert sliders is None or len(seen["sliders"]) == sliders
        assert min(seen["sliders"]) > 0, width
        for room, ratio in seen["pictures"]:
            assert room > 0 and abs(ratio - 1) < 0.02, (width, seen["pictures"])


def settle(page):
    """Until the page has found its places at a new width: two looks in a row see the same."""
    before = None
    for _ in range(2 * PATIENCE):
        now = page.evaluate(SEEN)
        if now == before:
            return
        before = now
        page.wait_for_timeout(500)


def answers(page):
    """Each slider by its keys, each menu, button and plane: picture or words change, focus is seen."""
    for kind, act in {
        "input": by_keys, "select": by_choice, "button": by_click, ".plane": by_click
    }.items():  # fmt: skip
        for number in range(page.locator(f".companion-panel {kind}").count()):
            control = page.locator(f".companion-panel {kind}").nth(number)
            panel = control.locator("xpath=ancestor::*[contains(@class, 'companion-panel')][1]")
            canvas = panel.locator("canvas").element_handle()
            before = canvas.evaluate("e => [e.toDataURL(), e.ariaLabel]")
            act(control, page)
            page.wait_for_function(
                "([e, [picture, words]]) => e.ariaLabel !== words", arg=[canvas, before]
            )
            if kind == "input":
                outline = "e => getComputedStyle(e).outlineStyle + getComputedStyle(e).outlineWidth"
                assert control.evaluate(outline) == "solid3px"


def by_choice(menu, page):
    menu.select_option(index=1)


def by_keys(handle, page):
    handle.focus()
    for key in [*["ArrowRight"] * 12, "ArrowLeft"]:
        page.keyboard.press(key)


def by_click(button, page):
    button.click()


def cut_after_the_first_panel(path):
    """Leave out what no slider of this page needs: nbval runs it all."""
    notebook = nbformat.read(path, as_version=4)
    panels = (
        number
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and "panels." in cell.source
    )
    del notebook.cells[next(panels, len(notebook.cells)) + 1 :]
    nbformat.write(notebook, path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:4])
def test_run_all_move_a_slider_and_the_picture_changes(path, lab, tmp_path):
    cut_after_the_first_panel(tmp_path / "notebooks" / path.name)
    with playwright.sync_playwright() as driver:
        page = run_all(driver, f"{lab}/lab/tree/{path.name}")
        slider = page.locator(SLIDERS).first
        slider.scroll_into_view_if_needed()
        picture = f"document.querySelector('{PICTURES}').toDataURL()"
        before, box = page.evaluate(picture), slider.bounding_box()
        share = slider.evaluate("e => (e.value - e.min) / (e.max - e.min)")
        start, height = box["x"] + 22 + share * (box["width"] - 44), box["y"] + box["height"] / 2
        page.mouse.move(start, height)  # a handle is 44 pixels wide
        page.mouse.down()
        page.mouse.move(
            start + (60 if share < 0.5 else -60), height, steps=8
        )  # from an end inwards
        page.mouse.up()
        page.wait_for_function(f"before => {picture} !== before", arg=before)
        page.screenshot(path=os.environ.get("COMPANION_SCREENSHOT", str(tmp_path / "page.png")))
        page.context.browser.close()
