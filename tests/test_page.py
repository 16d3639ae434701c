"""The page as a reader sees it: JupyterLab in headless Chromium, run all, move a slider."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is on the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed"),
]


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
        for _ in range(120):
            try:
                urllib.request.urlopen(address + "/api", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail((tmp_path / "lab.log").read_text()[-2000:])
        yield address
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:4])
def test_run_all_move_a_slider_and_the_picture_changes(path, lab, tmp_path):
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--no-first-run"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.goto(f"{lab}/lab/tree/{path.name}?reset")
        page.wait_for_selector(".jp-Notebook", timeout=60_000)
        page.get_by_text("| Idle").wait_for(timeout=60_000)  # the kernel listens
        page.get_by_text("Run", exact=True).first.click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.get_by_text("[*]:").first.wait_for(state="attached", timeout=60_000)
        page.wait_for_function(  # until every cell has run: the kernel hears sliders only then
            "![...document.querySelectorAll('.jp-InputPrompt')].some(p => p.innerText == '[*]:')",
            timeout=300_000,
        )
        handle = page.locator(".noUi-handle").first
        handle.scroll_into_view_if_needed()
        picture = page.locator("img.widget-image").first
        before = picture.get_attribute("src")
        box = handle.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + 60, box["y"] + box["height"] / 2, steps=8)
        page.mouse.up()
        page.wait_for_function(
            "before => document.querySelector('img.widget-image').src !== before",
            arg=before,
            timeout=60_000,
        )
        page.screenshot(path=os.environ.get("COMPANION_SCREENSHOT", str(tmp_path / "page.png")))
        browser.close()
