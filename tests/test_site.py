"""Panels on a page without a kernel, in headless Chromium and from a file: films and programs."""

import base64
import gzip
import itertools
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from test_page import CHROMIUM, FLAGS

from companion import show, site
from companion.data.corruption import CORRUPTIONS
from companion.metrics import DigitClassifier
from companion.models import Decoder
from companion.sections import s31_2, s31_4, s31_6
from companion.show import page as pages
from companion.show import panels
from companion.show.panel import Choice, Panel, Slider

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed"),
]
SCRIPTS = "".join(
    (Path(show.__file__).parent / name).read_text() for name in ("panel.js", "page.js")
)


class Features(torch.nn.Module):
    """A dictionary whose features are the 128 activations themselves."""

    encode = staticmethod(torch.relu)
    directions = staticmethod(lambda: torch.eye(128))


@pytest.fixture(scope="module")
def kinds():
    """A panel of every kind, with untrained networks."""
    torch.manual_seed(0)
    codes, images = 3 * torch.randn(500, 8), torch.rand(16, 1, 28, 28)
    nets = [Decoder(8), Decoder(2), Decoder(8, size=64, channels=3)]
    book, decoder = torch.randn(64, 16), s31_6.decoder(16)
    read = DigitClassifier().eval()
    with torch.no_grad():
        read.head.weight *= 20
    return {
        "codes": panels.code_sliders(lambda z: (20 * nets[0](z)).sigmoid(), codes),
        "colours": panels.code_sliders(lambda z: nets[2](z).sigmoid(), codes, axes=3),
        "plane": panels.latent_plane(
            lambda z: (20 * nets[1](z)).sigmoid(), codes[:, :2], torch.arange(500) % 10
        ),
        "tokens": s31_6.token_sliders(
            lambda t: decoder(book[t].movedim(-1, 1)), torch.randint(64, (7, 7)), 64
        ),
        "feature": s31_2.feature_clamp(read, Features(), 1.0, {3: "three", 1: "one"}, images),
        "family": panels.family_slider({k: lambda x, k=k: x.roll(k, 3) for k in range(5)}, images, "M"),
        "rows": panels.frames({k: {"a": images, "b": images.roll(k, 3)} for k in range(5)}, "step"),
        "corruption": s31_2.corruption_sliders(
            dict.fromkeys(CORRUPTIONS, torch.nn.Identity()), CORRUPTIONS, images[:4]
        ),
        "factors": s31_4.true_factors(lambda v: v.sum() / 120 * torch.ones(1, 1, 8, 8), {"a": 3, "b": 40}),
        "bars": panels.over_time(torch.rand(5, 4), "nats"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def address(kinds, tmp_path_factory):
    """A page with all of them, as a file."""
    folder = tmp_path_factory.mktemp("page")
    os.environ |= {"COMPANION_SITE": str(folder / "panels"), "COMPANION_PAGE": "test"}
    try:
        stills = [panel._repr_mimebundle_()["text/html"] for panel in kinds.values()]
    finally:
        del os.environ["COMPANION_SITE"], os.environ["COMPANION_PAGE"]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>t</title><link rel="icon" href="data:,">'
    (folder / "index.html").write_text(
        f'<!doctype html><html lang="en"><head>{head}</head><body><main>{"".join(stills)}</main>'
        f"<script>{SCRIPTS}</script></body></html>"
    )
    return f"file://{folder / 'index.html'}"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Open a page; whatever it complains of, or asks another host for, fails the test."""
    faults, contexts = [], []

    def open_page(address, width=1300, **how):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **how))
        page = contexts[-1].new_page()
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        home = address.rsplit("/", 1)[0]
        foreign = lambda url: url.startswith("http") and not url.startswith(home)
        page.on("request", lambda it: faults.append(it.url) if foreign(it.url) else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def alive(page, count):
    """Scroll until each panel of the page lives."""
    page.wait_for_function("""() => {
        const still = document.querySelector('[data-panel]');
        still?.scrollIntoView();
        return !still && [...document.querySelectorAll('.companion-panel canvas')].every(e => e.ariaLabel);
    }""")
    assert page.locator(".companion-panel").count() == count


def given(folder, panel):
    """What a panel's file gives the page."""
    assert pages.written(panel, folder, "one") is None
    return (folder / "one.js").read_text().split(",", 1)[1].rsplit(")", 1)[0]


def words_of(panel):
    return panel.locator("canvas").get_attribute("aria-label")


def changes(panel, act):
    """What `act` does to the panel is seen in the words for its picture."""
    before, canvas = words_of(panel), panel.locator("canvas").element_handle()
    act()
    panel.page.wait_for_function("([e, words]) => e.ariaLabel !== words", arg=[canvas, before])


@pytest.mark.parametrize("width", [390, 800, 1300])
def test_every_control_of_every_panel_moves_by_key_drag_and_tap(opened, address, kinds, width):
    page = opened(address, width, has_touch=width == 390)
    alive(page, len(kinds))
    all_move(page, touch=width == 390)


@pytest.mark.skipif(
    "COMPANION_PAGES" not in os.environ, reason="after `make site`, minutes: `make pages`"
)
@pytest.mark.parametrize("width", [390, 800, 1300])
@pytest.mark.parametrize("section", ["31.1", "31.2", "31.3", "31.4", "31.5", "31.6"])
def test_every_panel_of_the_site_moves(opened, section, width):
    (path,) = site.SITE.glob(f"{section}_*.html")
    page = opened(f"file://{path}", width, has_touch=width == 390)
    alive(page, page.locator("[data-panel]").count())
    assert barriers(page) == []
    all_move(page, touch=width == 390)


def barriers(page):
    """What axe finds against WCAG 2.1 at levels A and AA."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "preload": False}
    return [fault["id"] for fault in axe.run(page, options=rules).response["violations"]]


def test_axe_finds_no_barrier_and_finds_one_that_is_there(opened, address, kinds):
    page = opened(address)
    alive(page, len(kinds))
    assert barriers(page) == []
    page.locator(".companion-panel label").first.evaluate("e => e.remove()")
    assert barriers(page) == ["label"]


def all_move(page, touch):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for panel in page.locator(".companion-panel").all():
        for slider in panel.locator("input").all():
            moves(panel, slider, page, touch)
        for menu in panel.locator("select").all():
            changes(panel, partial(menu.select_option, index=1))
        for button in panel.locator("button").all():
            changes(panel, button.click)
        for plane in panel.locator(".plane").all():
            box = plane.bounding_box()
            at = box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.2
            changes(panel, partial(page.mouse.click, *at))
            right = plane.locator(".mark").evaluate("e => e.style.left")
            assert float(right.rstrip("%")) == pytest.approx(80, abs=1)


def moves(panel, slider, page, touch):
    """A slider answers an arrow key, then a finger's tap or the mouse that drags its handle."""
    slider.scroll_into_view_if_needed()
    slider.focus()
    at_its_start = slider.evaluate("e => e.value === e.min")
    changes(panel, partial(page.keyboard.press, "ArrowRight" if at_its_start else "ArrowLeft"))
    box = slider.bounding_box()
    assert box["height"] >= (44 if touch else 28)
    share = slider.evaluate("e => (e.value - e.min) / (e.max - e.min)")
    x, y = box["x"] + box["width"] * (0.1 if share > 0.5 else 0.9), box["y"] + box["height"] / 2

    def drag():
        page.mouse.move(
            box["x"] + 22 + share * (box["width"] - 44), y
        )  # a handle is 44 pixels wide
        page.mouse.down()
        page.mouse.move(x, y, steps=4)
        page.mouse.up()

    changes(panel, partial(page.touchscreen.tap, x, y) if touch else drag)


PROGRAMS = ("codes", "colours", "plane", "tokens", "feature")


TEXT = "const text = ({buffer}) => btoa(new Uint8Array(buffer).reduce((s, b) => s + String.fromCharCode(b), ''));"
RUN = (
    "v => {"
    + TEXT
    + "const [x, ...n] = answer.run(v); return [text(x.data), n.map(y => y.data[0])]; }"
)
SHOW = (
    "async v => {"
    + TEXT
    + """
    const {picture, box: [x, y, w, h], readout} = await answer(v);
    const canvas = Object.assign(document.createElement('canvas'), {width: w, height: h});
    const pen = canvas.getContext('2d');
    pen.drawImage(picture, x, y, w, h, 0, 0, w, h);
    return [text(pen.getImageData(0, 0, w, h).data), w, readout];
}"""
)


def load(page, kind, text):
    page.evaluate(
        f"text => {{ own = JSON.parse(text); answer = {kind}(own, own.about.controls) }}", text
    )


def numbers_of(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def some_places(panel, draw):
    """A random place for each control, as the page counts them."""
    places = {}
    for control in panel.about()["controls"]:
        low, high = control["low"], control["high"]
        place = low + torch.rand((), generator=draw).item() * (high - low)
        places[control["name"]] = round(place) if control["step"] == 1 else place
    return places


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_computes_what_pytorch_computes(opened, address, kinds, name, tmp_path):
    """At a hundred states, with the constants as they travel: large ones in half precision."""
    page, panel = opened(address), kinds[name]
    load(page, "companionProgram", given(tmp_path, panel))
    graph = pages.traced(panel)
    for one in [*graph.parameters(), *graph.buffers(), *vars(graph).values()]:
        if isinstance(one, torch.Tensor) and one.numel() > pages.SMALL and one.is_floating_point():
            one.data = one.data.half().float()
    draw = torch.Generator().manual_seed(0)
    for _ in range(100):
        places = some_places(panel, draw)
        with torch.no_grad():
            values = [torch.tensor(panel.controls[key].at(place)) for key, place in places.items()]
            picture, *numbers = graph(*values)
        image, found = page.evaluate(RUN, places)
        off = np.abs(numbers_of(image, np.float32) - picture.flatten().numpy()).max()
        assert off <= 1e-5
        assert found == pytest.approx([float(number) for number in numbers], abs=1e-3)


@pytest.mark.parametrize("name", ["corruption", "factors", "rows", "bars"])
def test_every_state_of_a_film_is_its_picture(opened, address, kinds, name, tmp_path):
    """To the last grey level."""
    page, panel = opened(address), kinds[name]
    load(page, "companionFilm", given(tmp_path, panel))
    for state in itertools.product(*map(pages.stops, panel.coarse.values())):
        values = dict(zip(panel.coarse, state, strict=True))
        picture, words = panel.draw(**values)
        places = {key: panel.coarse[key].place(value) for key, value in values.items()}
        pixels, width, said = page.evaluate(SHOW, places)
        seen = numbers_of(pixels, np.uint8).reshape(-1, width, 4)[..., :3]
        wanted = np.broadcast_to(picture.reshape(*picture.shape[:2], -1), seen.shape)
        assert np.array_equal(seen, wanted) and said == words


def test_a_page_shows_what_the_kernel_shows_at_the_start(opened, address, kinds):
    page = opened(address)
    alive(page, len(kinds))
    for number, panel in enumerate(kinds.values()):
        words = " ".join(words_of(page.locator(".companion-panel").nth(number)).split())
        assert words == panel.alt().strip() or panel.coarse != panel.controls


def test_a_file_server_serves_them_as_well(opened, address, kinds):
    folder = Path(address.removeprefix("file://")).parent
    answer = partial(SimpleHTTPRequestHandler, directory=folder)
    answer.func.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = opened(f"http://127.0.0.1:{server.server_port}/index.html")
        alive(page, len(kinds))
        server.shutdown()


def test_without_javascript_the_picture_and_its_words_stay(browser, address, kinds):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    stills = page.locator(".companion-still img")
    assert stills.count() == len(kinds)
    assert [one.get_attribute("alt") for one in stills.all()] == [
        one.alt() for one in kinds.values()
    ]
    context.close()


def sorted_picture(level):
    return (level * torch.ones(1, 8, 8)).sort().values, level


@pytest.mark.parametrize(
    "panel, why",
    [
        (Panel(sorted_picture, {"level": Slider("a", 0, 1)}, readout="{:.0f}"), "operation sort"),
        (
            Panel(lambda level: (torch.ones(1, 8, 8) * level.item(), level), {"level": Slider("a", 0, 1)}, readout="{:.0f}"),
            "cannot be traced",
        ),
        (Panel(lambda level: (np.zeros((8, 8), np.uint8), ""), {"level": Slider("a", 0, 1)}), "no program"),
        (
            Panel(lambda size: (np.zeros((8, size), np.uint8), ""), {"size": Choice("a", {"1": 8, "2": 9})}),
            "2 sizes",
        ),
    ],
)  # fmt: skip
def test_a_panel_that_cannot_live_on_a_page_keeps_its_picture_and_says_why(
    panel, why, tmp_path, monkeypatch
):
    monkeypatch.setenv("COMPANION_SITE", str(tmp_path)), monkeypatch.setenv("COMPANION_PAGE", "x")
    still = panel._repr_mimebundle_()["text/html"]
    assert why in still and "Alive in the notebook only" in still and "data-panel" not in still
    assert not list(tmp_path.iterdir())


def test_a_notebook_becomes_a_page_without_bars_and_with_words_for_its_figures():
    figure = nbformat.v4.new_output("display_data", {"image/png": ""}, metadata={"alt": "it falls"})
    bar = nbformat.v4.new_output("display_data", {site.WIDGET: {}, "text/plain": "0%"})
    warning = nbformat.v4.new_output("stream", name="stderr", text="a bar")
    cell = nbformat.v4.new_code_cell("", outputs=[bar, figure, warning])
    done = site.paged(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# a"), cell]), "stand-ins"
    )
    assert [one.source for one in done.cells] == ["# a", "**stand-ins**", ""]
    assert done.cells[2].outputs == [figure]
    assert done.cells[2].metadata["mystnb"] == {"image": {"alt": "it falls"}}


def test_the_scripts_are_small():
    assert len(gzip.compress(SCRIPTS.encode())) <= 15_000
    assert len(SCRIPTS.splitlines()) <= 600
