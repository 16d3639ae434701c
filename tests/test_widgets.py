import io
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chi2

from companion.data import tile
from companion.data.corruption import CORRUPTIONS
from companion.metrics import Gaussian
from companion.models import Decoder, Encoder
from companion.show import panels, pixels, widgets
from companion.show.panel import Choice, Panel, Slider


@pytest.fixture
def codes():
    return torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [2.0, 0.5]
    )


@pytest.fixture
def labels():
    return torch.arange(500) % 10


def shown(panel):
    return np.asarray(Image.open(io.BytesIO(panel.image())))


class Counted:
    """A network that counts how often it is asked."""

    def __init__(self, net):
        self.net, self.calls = net, 0

    def __call__(self, x):
        self.calls += 1
        return self.net(x)


def work_of_moves(panel, name, counted, monkeypatch, moves=20):
    """Calls of the network a move; a figure made or a file opened by a move is an error."""
    control = panel.controls[name]
    before = counted.calls
    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.__init__", lambda *_, **__: 1 / 0)
        patch.setattr("builtins.open", lambda *_, **__: 1 / 0)
        for value in np.linspace(control.low, control.high, moves + 1)[1:]:
            panel.set(**{name: float(value)})
            panel.image()
    return (counted.calls - before) / moves


@pytest.mark.parametrize("size", [28, 64])
def test_a_move_calls_the_decoder_once_and_makes_no_figure(codes, labels, size, monkeypatch):
    decoder = Counted(Decoder(2, size=size))
    sliders = panels.code_sliders(decoder, codes)
    assert work_of_moves(sliders, "axis0", decoder, monkeypatch) == 1
    plane = panels.latent_plane(decoder, codes, labels)
    assert work_of_moves(plane, "x", decoder, monkeypatch) == 1


def test_a_slider_moves_the_picture_as_the_decoder_does(codes):
    torch.manual_seed(0)
    net = Decoder(2)
    decoder = lambda z: (20 * net(z)).sigmoid()
    panel = panels.code_sliders(decoder, codes)
    before = shown(panel)
    panel.set(axis0=2.0, axis1=-1.0)
    after = shown(panel)
    assert not np.array_equal(before, after)
    code = codes.mean(0) + torch.tensor([2.0, -1.0]) * codes.std(0)
    with torch.no_grad():
        wanted = tile(decoder(code[None])[None])
    zoom = len(after) // 28
    assert np.array_equal(after[::zoom, ::zoom], wanted)


def test_a_code_slider_counts_in_standard_deviations():
    """A decoder that shows the code itself, in grey levels."""
    codes = 0.4 + 0.05 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    panel = panels.code_sliders(lambda z: z.view(-1, 1, 1, 2), codes)
    for sigmas in (-3.0, 0.0, 1.5):
        panel.set(axis0=sigmas, axis1=0.0)
        wanted = codes.mean(0) + torch.tensor([sigmas, 0.0]) * codes.std(0)
        levels = shown(panel)[0, [0, -1]].astype(float)
        assert levels == pytest.approx(255 * wanted.numpy(), abs=0.6)
    panel.press("test image")  # the sliders stand where the code is
    values = torch.tensor([panel.values[name] for name in ("axis0", "axis1")])
    code = (codes.mean(0) + values * codes.std(0)).numpy()
    assert np.abs(codes.numpy() - code).max(1).min() < 0.01
    assert shown(panel)[0, [0, -1]].astype(float) == pytest.approx(255 * code, abs=1.5)


def test_axes_are_ordered_by_effect_and_labelled_with_it():
    codes = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    codes = (codes - codes.mean(0)) / codes.std(0)
    scale = torch.tensor([0.1, 3.0, 1.0])

    def decoder(z):
        return (z * scale).view(-1, 1, 1, 3)

    panel = panels.code_sliders(decoder, codes, axes=2)
    assert [name for name in panel.controls if name.startswith("axis")] == ["axis1", "axis2"]
    assert panel.controls["axis1"].label == "axis 2 (90%)"


def test_buttons_draw_show_and_interpolate(codes):
    panel = panels.code_sliders(lambda z: z.sigmoid().view(-1, 1, 1, 2), codes)
    pictures = [panel.image()]
    for name in ("prior sample", "test image"):
        panel.press(name)
        pictures.append(panel.image())
    panel.press("another B")
    panel.set(towards=1.0)
    pictures.append(panel.image())
    assert len(set(pictures)) == 4


def test_setting_many_controls_redraws_once(codes):
    panel = panels.code_sliders(Decoder(2), codes)
    calls, draw = [], panel.draw
    panel.draw = lambda **values: calls.append(1) or draw(**values)
    panel.press("prior sample")
    assert len(calls) == 1


def test_the_readout_is_the_tail_of_the_prior(codes):
    prior = Gaussian.standard(5)
    code = torch.tensor([1.0, -2.0, 0.3, 0.0, 1.0])
    assert prior.rarer(code) == pytest.approx(
        100 * chi2.sf(code.square().sum().item(), 5), rel=1e-4
    )
    fitted = Gaussian.fitted(codes)
    draws = fitted.sample(20_000, torch.Generator().manual_seed(0))
    assert torch.allclose(draws.T.cov(), codes.T.cov(), atol=0.1)
    rarities = [fitted.rarer(z) for z in codes]
    assert 45 < statistics.mean(rarities) < 55  # uniform where the codes are Gaussian


def test_the_plane_marks_where_you_stand(codes, labels):
    panel = panels.latent_plane(Decoder(2), codes, labels)
    panel.set(x=0.0, y=0.0)
    middle = shown(panel)
    panel.set(x=panel.controls["x"].high)
    right = shown(panel)

    def cross(picture):
        red = (picture == [255, 0, 0]).all(-1)
        return np.argwhere(red).mean(0)

    assert cross(right)[1] > cross(middle)[1] + 50 and cross(right)[0] == cross(middle)[0]


def test_a_one_axis_code_works():
    codes = torch.randn(100, 1)
    panels.code_sliders(Decoder(1), codes).press("prior sample")


def test_a_family_slider_shows_each_models_copy():
    images = torch.full((3, 1, 4, 4), 255, dtype=torch.uint8)
    panel = panels.family_slider({1: lambda x: 0.2 * x, 2: lambda x: x}, images, "width")
    assert "0.64" in panel.readout
    panel.set(setting=2)
    assert panel.readout == "squared error 0.0000 per pixel" and (panel.picture == 255).all()


def test_colour_and_large_codes_draw():
    decoder, encoder = Decoder(16, size=64, channels=3), Encoder(16, size=64, channels=3)
    codes = encoder(torch.rand(50, 3, 64, 64)).detach()
    assert shown(panels.code_sliders(decoder, codes)).shape[2] == 3


def test_without_a_kernel_the_page_shows_words(codes):
    bundle = panels.code_sliders(Decoder(2), codes)._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["text/plain"].startswith("[Sliders over the code")
    assert "application/vnd.jupyter.widget-view+json" in data


def test_frames_show_the_pictures_made_beforehand():
    pictures = {f"σ = {k}": torch.rand(6, 1, 5, 5) for k in range(3)}
    panel = panels.frames(pictures, "noise left", columns=3)
    panel.set(setting="σ = 2")
    wanted = tile(pictures["σ = 2"].unflatten(0, (2, 3)))
    zoom = len(shown(panel)) // len(wanted)
    assert np.array_equal(shown(panel)[::zoom, ::zoom], wanted)


def test_a_corruption_slider_corrupts_by_its_own_strength_alone():
    denoisers = {name: torch.nn.Identity() for name in CORRUPTIONS}
    images = torch.full((4, 1, 28, 28), 128, dtype=torch.uint8)
    panel = panels.corruption_sliders(denoisers, CORRUPTIONS, images)
    panel.set(**{name: 0.0 for name in CORRUPTIONS})
    rows = [row[:28, :115] for row in np.split(panel.picture[:202], range(29, 200, 29))]
    assert all(np.array_equal(row, rows[0]) for row in rows)
    panel.set(masking=1.0)
    rows = [row[:28, :115] for row in np.split(panel.picture[:202], range(29, 200, 29))]
    changed = [not np.array_equal(row, rows[0]) for row in rows]
    assert changed == [False, False, False, True, True, False, False]
    assert rows[3].max() == 255 and (rows[3] == 0).mean() > 0.95  # the white gaps are not masked
    assert "masking: 6.0 dB" in panel.readout  # -10 log10 of (128/255)²
    panel.set(masking=0.0, Gaussian=0.5)
    first = panel.picture
    panel.set(Gaussian=0.5)
    assert np.array_equal(panel.picture, first)  # the noise stays while a slider does


def test_a_score_field_draws_both_fields_and_says_how_well_they_agree():
    points = torch.zeros(3, 2)
    towards = lambda x, sigma: -x
    panel = panels.score_field(towards, towards, points, (0.1, 1.0))
    assert "mean cosine 1.000" in panel.readout
    left, right = np.split(panel.picture, 2, axis=1)
    assert np.array_equal(left, right)
    panel.set(sigma=0.1)
    fewer = (panel.picture < 255).mean()
    panel.set(sigma=0.6)
    assert (panel.picture < 255).mean() > 3 * fewer  # wider noise, more places
    turned = panels.score_field(
        lambda x, s: -x @ torch.tensor([[0.0, 1], [-1, 0]]), towards, points, (0.1, 1)
    )
    assert "mean cosine 0.000" in turned.readout or "mean cosine -0.000" in turned.readout


class Words(torch.nn.Module):
    """A dictionary of four activations: its features are the axes."""

    def encode(self, x):
        return x.relu()

    def directions(self):
        return torch.eye(4)


class Reader(torch.nn.Module):
    """A classifier whose activations are four pixels, and logits 0 to 3 these activations."""

    def features(self, x):
        return x[:, 0, 0, :4]

    def head(self, h):
        return torch.nn.functional.pad(h, (0, 6))


def test_a_clamped_feature_moves_its_logit_by_what_it_lacks():
    images = torch.zeros(2, 1, 28, 28)
    images[0, 0, 0, 1], images[1, 0, 0, 2] = 0.5, 1.0
    panel = panels.feature_clamp(Reader(), Words(), 0.1, {3: "three", 1: "one"}, images, most=90)
    panel.set(feature=3, value=0.0, image=0)
    assert panel.readout.startswith("read as 1") and ", now as 1" in panel.readout
    panel.set(value=60.0)  # 60 × 0.1 = 6 on activation 3, beside 0.5 on activation 1
    chance = np.exp(6) / (np.exp(6) + np.exp(0.5) + 8)
    assert panel.readout.endswith(f"now as 3 ({chance:.0%})")
    blue = (shown(panel)[:, -pixels.BAR :] == (0, 114, 178)).all(-1)
    columns = blue[:, 3 * (pixels.BAR // 10) : 4 * (pixels.BAR // 10)]
    assert columns.sum() > 2 * blue.sum() / 3  # the tallest blue bar is the digit's
    panel.set(image=1)
    assert panel.readout.startswith("read as 2")
    panel.set(feature=1, value=5.0, image=0)  # held where it is: 5 × 0.1 is the pixel's 0.5
    before, after = panel.readout.removeprefix("read as ").split(", now as ")
    assert before == after


def test_a_move_of_the_other_panels_calls_each_network_once(monkeypatch):
    denoisers = {name: Counted(torch.nn.Identity()) for name in CORRUPTIONS}
    images = torch.rand(8, 1, 28, 28)
    corrupted = panels.corruption_sliders(denoisers, CORRUPTIONS, images)
    assert work_of_moves(corrupted, "masking", denoisers["masking"], monkeypatch) == 1
    assert denoisers["Gaussian"].calls == 1  # when the panel was made: what no slider moves is kept
    reader = SimpleNamespace(features=Reader().features, head=Counted(Reader().head))
    clamp = panels.feature_clamp(reader, Words(), 1.0, {0: "zero"}, images)
    assert work_of_moves(clamp, "value", reader.head, monkeypatch) == 1
    model = Counted(torch.nn.Identity())
    family = panels.family_slider({k: model for k in range(5)}, images, "width")
    before = model.calls
    for k in range(1, 5):
        family.set(setting=k)
    assert model.calls - before == 4


def flat(draw_level):
    """A panel of one picture, all of the slider's grey level."""
    return Panel(
        lambda level, kind: (np.full((8, 8), level, np.uint8), f"{kind} {level}"),
        {"level": Slider("grey", 0, 255, draw_level, step=1), "kind": Choice("kind", {"a": 1, "b": 2})},
        {"black": lambda: {"level": 0}},
        "A grey square.",
        rows=("upper", "lower"),
    )  # fmt: skip


def test_a_panel_needs_no_widget():
    """What a page without a kernel will use; `test_training` imports it where there is no ipywidgets."""
    panel = flat(100)
    panel.set(level=7)
    assert (panel.picture == 7).all() and panel.readout == "1 7"


def test_the_words_for_a_picture_change_with_it():
    panel = flat(100)
    assert panel.alt() == "A grey square. Rows: upper, lower. grey 100, kind a. 1 100"
    panel.set(kind=2)
    assert panel.alt().endswith("grey 100, kind b. 2 100")


def test_a_page_follows_its_panel_and_the_panel_its_page():
    panel = flat(100)
    page = widgets.page_of(panel)
    ((picture, column),) = [box.children for box in page.children if hasattr(box, "children")]
    level, kind, pressed, readout = column.children
    level.value = 30
    assert panel.values["level"] == 30 and readout.value == "1 30"
    kind.value = 2
    assert picture.tooltip == panel.alt() and picture.value == panel.image()
    calls, draw = [], panel.draw
    panel.draw = lambda **values: calls.append(values) or draw(**values)
    pressed.children[0].click()
    assert level.value == 0 and calls == [{"level": 0, "kind": 2}]  # once, though a control moved


def test_rows_are_named_beside_the_picture():
    picture = np.zeros((10, 20), np.uint8)
    bare, named = (
        Image.open(io.BytesIO(pixels.png(picture, 200, rows))) for rows in ((), ("a", "b"))
    )
    assert named.height == bare.height and named.width > bare.width
    margin = np.asarray(named)[:, : named.width - bare.width]
    upper, lower = np.split(margin < 128, 2)
    assert upper.any() and lower.any()  # a letter in each half
    assert not np.asarray(named)[:, -bare.width :].any()


def test_wide_pictures_are_not_enlarged_past_the_page():
    assert Image.open(io.BytesIO(pixels.png(np.zeros((28, 290), np.uint8)))).width <= 900


def test_moments_of_training_have_named_rows():
    film = {
        k: {"image": torch.zeros(3, 1, 4, 4), "made": torch.full((3, 1, 4, 4), k / 2)}
        for k in range(3)
    }
    panel = panels.moments(film)
    panel.set(setting=2)
    assert (
        panel.rows == ("image", "made") and panel.picture[0, 0] == 0 and panel.picture[5, 0] == 255
    )
    assert "training step 2" in panel.alt()


def test_true_factors_are_rendered_as_the_sliders_stand():
    panel = panels.true_factors(
        lambda f: f.float().view(1, 1, 1, 3) / 10, {"a": 4, "b": 11, "c": 5}
    )
    panel.set(a=3, b=10, c=0)
    assert panel.picture.tolist() == [[round(255 * 0.3), 255, 0]]
    assert "b 10" in panel.alt() and panel.controls["b"].high == 10


def test_a_traversal_moves_the_axis_of_that_rank_alone():
    models = {
        1.0: (levels_of, torch.tensor([0.1, 2.0, 0.5])),
        4.0: (levels_of, torch.tensor([3.0, 0, 0])),
    }
    panel = panels.family_traversals(models, "β", steps=3)
    assert "axis 2: 2.00 nats" in panel.readout
    assert panel.picture[0].tolist()[:3] == [128, 0, 128] and panel.picture[0].tolist()[-3:] == [
        128,
        255,
        128,
    ]
    panel.set(rank=3)
    assert "axis 1: 0.10 nats" in panel.readout
    panel.set(setting=4.0, rank=1)
    assert "axis 1: 3.00 nats" in panel.readout and panel.picture[0, 0] == 0


def levels_of(z):
    """A decoder that shows the code: 0 is grey, -3 black, 3 white."""
    return (0.5 + z / 6).view(-1, 1, 1, 3)


def test_bars_over_time_grow_with_their_axis():
    levels = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 4.0]])
    panel = panels.over_time(levels, "nats")
    heights = lambda: (panel.picture == (0, 114, 178)).all(-1).sum(0)
    last = heights()
    assert last[14] == pytest.approx(last[42] / 2, abs=2) and last[42] > 190
    panel.set(part=50)
    assert heights()[14] == pytest.approx(last[14] / 2, abs=2) and heights()[42] <= 1
    assert panel.readout.startswith("1.00 nats in all")


def test_a_token_slider_edits_that_token_with_one_call():
    tokens = torch.arange(4).view(2, 2)
    decode = Counted(lambda grid: (grid[:, None] / 8).repeat_interleave(4, -1))
    panel = panels.token_sliders(decode, tokens, 8)
    calls = decode.calls
    panel.set(row=0, column=1, value=7)
    assert decode.calls == calls + 1
    assert panel.readout == "token 1 → 7: 25% of the pixels change"
    before, after, change = np.split(panel.picture[:, :26], [9, 18], 1)
    assert after[0, 4] == round(255 * 7 / 8) and before[0, 4] == round(255 / 8)
    assert change[0, 4] == round(255 * 6 / 8) and change[1, 4] == 0
    assert tokens.tolist() == [[0, 1], [2, 3]]


def test_two_levels_are_mixed_by_one_decoder_call_a_move():
    calls = []

    def decode(top, bottom):  # the top is the left half, the bottom the right
        calls.append(len(top))
        halves = [part.float().repeat_interleave(4, 1)[:, None] / 8 for part in (top, bottom)]
        return torch.cat(halves, 3)

    top, bottom = torch.tensor([[[1]], [[2]], [[3]]]), torch.tensor([[[4, 4]], [[5, 5]], [[6, 6]]])
    panel = panels.swapped_levels(decode, top, bottom)
    calls.clear()
    panel.set(first=2, second=0)
    assert calls == [1]
    copy, mixed, other = (panel.picture[0, at : at + 3] / 255 * 8 for at in (0, 4, 8))
    seen = np.array([copy, mixed, other])
    assert seen == pytest.approx(np.array([[3, 6, 6], [3, 4, 4], [1, 4, 4]]), abs=0.05)
    assert "differs by 0.20 from the top's image and 0.14 from the bottom's" in panel.readout


def test_fixed_levels_are_redrawn_with_the_same_noise_until_asked_for_other():
    calls = []

    def redraw(fixed):
        calls.append(fixed)
        return torch.rand(3, 1, 4, 4) / (1 + fixed)

    panel = panels.fixed_levels(redraw, torch.ones(1, 4, 4), 2)
    calls.clear()
    panel.set(fixed=0)
    first = panel.picture
    panel.set(fixed=2)
    assert calls == [0, 2]  # one pass a move
    assert (first[:4, :4] == 255).all()  # the image stands before its redraws
    assert panel.picture[:, 5:].mean() < first[:, 5:].mean()
    panel.set(fixed=0)
    assert np.array_equal(panel.picture, first)
    panel.press("other noise")
    assert not np.array_equal(panel.picture, first)
    assert "a pixel varies by" in panel.readout


def test_a_level_has_its_own_temperature_and_the_others_theirs():
    asked = []

    def generate(warm):
        asked.append(warm)
        return torch.rand(2, 1, 4, 4)

    panel = panels.level_temperatures(generate, 3)
    before, asked[:] = panel.picture, []
    panel.set(level=2, own=0.5, rest=1.5)
    assert asked == [[1.5, 0.5, 1.5]]
    assert np.array_equal(panel.picture, before)  # the same noise at every move


def test_the_inside_of_the_quantiser_lights_the_nearest_code():
    codes = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    vectors = codes[[7, 8, 9, 31]].T.view(3, 2, 2) + 0.01
    panel = panels.nearest_code(torch.rand(1, 8, 8), vectors, codes)
    panel.set(row=1, column=1)
    assert panel.readout.startswith("nearest is code 31, at 0.02")
    chart = panel.picture[:, -8 * 7 :]
    lit = np.argwhere((chart == (213, 94, 0)).all(-1)) // 7
    assert {tuple(place) for place in lit.tolist()} == {(31 // 8, 31 % 8)}


def test_cells_of_the_plane_belong_to_their_nearest_code():
    codes = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    points = 2 * torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) - 1
    picture = pixels.plane_cells(codes, points, 60)
    left, right = picture[:, 5:20].reshape(-1, 3), picture[:, 40:55].reshape(-1, 3)
    most = [np.unique(side, axis=0, return_counts=True) for side in (left, right)]
    colours = [tuple(values[counts.argmax()]) for values, counts in most]
    assert colours[0] != colours[1]
    panel = panels.codebook_plane({2: codes, 1: codes[:1], 4: codes.repeat(2, 1)}, points)
    assert panel.readout.startswith("1 codes, squared error")
    panel.set(size=4)
    assert panel.readout.startswith("4 codes")
