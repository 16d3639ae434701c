"""What a reader sees: claims, tables, static pictures, and panels with their sliders."""

import base64
import io
import json
import statistics
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chi2
from shared import Counted, shown, work_of_moves

from companion.data import tile
from companion.metrics import SOURCES, Gaussian, plane_of
from companion.models import Decoder, Encoder
from companion.show import (
    ClaimError,
    claim,
    claims,
    holes_table,
    jupyter,
    maps,
    panels,
    paper_table,
    pixels,
    plotting,
    table,
)
from companion.show.panel import Choice, Panel, Slider
from companion.training import History


def test_a_claim_that_holds_prints_value_and_bound(capsys):
    claim("angle", 0.4213, below=1, unit="degrees")
    claim("share", 61.9, above=60, unit="%")
    claim("rounding", 3e-8, below=1e-5, digits=0)
    assert capsys.readouterr().out.splitlines() == [
        "✓ angle: 0.42 degrees (below 1)",
        "✓ share: 62 % (above 60)",
        "✓ rounding (below 1e-05)",
    ]


@pytest.mark.parametrize(
    "value, bound", [(1.0, {"below": 1}), (59, {"above": 60}), (float("nan"), {"below": 1})]
)
def test_a_claim_that_fails_stops_the_notebook(value, bound):
    with pytest.raises(ClaimError, match="does not hold: x"):
        claim("x", value, **bound)


def test_a_claim_needs_one_bound():
    with pytest.raises(ValueError, match="one bound"):
        claim("x", 1.0)


def test_claims_with_one_bound_are_all_printed_before_those_that_fail_are_named(capsys):
    claims({"gain": 2.34, "more": torch.tensor(3.0)}, above=2, unit="dB")
    assert capsys.readouterr().out == "✓ gain: 2.3 dB (above 2)\n✓ more: 3 dB (above 2)\n"
    found = {"a": 1.0, "b": 0.5, "c": float("nan"), "d": 0.25}
    words = r"^does not hold: a: 1 is not below 1 %; c: nan is not below 1 %$"
    with pytest.raises(ClaimError, match=words):
        claims(found, below=1, unit="%", digits=1)
    assert capsys.readouterr().out == "✓ b: 0.5 % (below 1)\n✓ d: 0.2 % (below 1)\n"
    claims(found, below=1, when=False)
    said = capsys.readouterr().out.splitlines()
    assert [line.startswith("not claimed here: ") for line in said] == [True, False, True, False]
    for bounds in ({}, {"above": 0, "below": 2}):
        with pytest.raises(ValueError, match="one bound"):
            claims(found, **bounds)


def test_a_table_prints_few_digits_and_keeps_words():
    rows = {1: {"error": 0.04651, "n": 3}, ("L1", 0.1): {"error": torch.tensor(2.0), "n": None}}
    shown = table(rows=rows, head="latent dimensions", digits={"error": 3})
    assert shown.columns.name == "latent dimensions" and list(shown.index) == [1, "L1 0.1"]
    assert shown["error"].tolist() == ["0.047", "2.000"] and shown["n"].tolist() == ["3", "—"]
    by_column = table({"x": {"a": 1.26}, "y": {"a": 2.0, "b": "none"}}, digits=1)
    assert by_column.loc["a"].tolist() == ["1.3", "2.0"]
    assert by_column.loc["b"].tolist() == ["—", "none"]
    assert "id=" not in shown.to_html()  # two runs give the same HTML


def test_an_aim_has_a_column_of_its_own():
    rows = ("a", "b", "86.8", "≤ 89", "87.1"), ("c", "d", "—", "≤ 82", "83.0")
    assert list(paper_table(*rows).columns) == ["protocol", "paper", "aim", "here"]
    assert paper_table(*rows).loc["c", "paper"] == "—"


def test_the_paper_table_cuts_no_text_short():
    protocol = "MNIST binarised anew at every epoch from the grey level, K = 5000, " * 3
    shown = paper_table(("-log p", protocol, "86.76", "87.1"))
    assert protocol.strip() in repr(shown) and shown.loc["-log p", "here"] == "87.1"


def test_a_claim_that_is_not_made_here_says_so_and_stops_nothing(capsys):
    claim("error", 3.0, below=2, when=False)
    claim("error", 1.0, below=2, when=False)
    assert capsys.readouterr().out.splitlines() == [
        "not claimed here: error: 3 is not below 2",
        "✓ error: 1 (below 2)",
    ]


def test_the_table_names_each_source_and_takes_the_mean_over_seeds():
    scores = torch.stack([torch.zeros(3, 4), 2 * torch.ones(3, 4)])
    frame = holes_table({"2 dimensions:": scores}, "two seeds")
    assert list(frame.index) == [f"2 dimensions: {source}" for source in SOURCES]
    assert set(frame["density"]) == {"1.00"} and set(frame["Fréchet distance"]) == {"1"}


# Static pictures.


def test_names_that_would_hide_each_other_move_apart_and_others_stay():
    places = np.array([[0.0, 0.0], [0.01, 0.0], [3.0, 3.0]])
    room = np.array([0.5, 0.2])
    moved = plotting.pushed_apart(places, room)
    distance = np.linalg.norm((moved[0] - moved[1]) / room)
    assert distance > 0.99 and np.array_equal(moved[2], places[2])
    assert np.allclose(moved[:2].mean(0), places[:2].mean(0))


def levels(z):
    """A decoder whose picture is the code in grey levels: (B, 2) -> (B, 1, 1, 2)."""
    return z.view(-1, 1, 1, 2)


def pixels_of(axis):
    return np.asarray(axis.images[0].get_array())


def test_a_grid_of_codes_has_axis_one_rightwards_and_axis_two_upwards():
    across, up = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.2, 0.8])
    grid = plane_of(across, up).view(2, 3, 2)  # as its picture has them, row by row
    assert torch.equal(grid[..., 0], across.expand(2, 3))
    assert torch.equal(grid[..., 1], torch.tensor([[0.8] * 3, [0.2] * 3]))


def test_traversals_move_one_axis_from_minus_to_plus_three_sigma(figures):
    codes = 0.5 + 0.1 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    plotting.traversals(lambda z: levels(z) * torch.tensor([1.0, 0.5]), codes, count=2, steps=3)
    upper, lower = figures[0].axes[:2]
    assert upper.get_ylabel().startswith("axis 1 (7") and lower.get_ylabel().startswith("axis 2 (2")
    (mean, spread), row = (codes.mean(0)[0], codes.std(0)[0]), pixels_of(upper)[0, ::3]
    assert row == pytest.approx(255 * np.array([mean - 3 * spread, mean, mean + 3 * spread]), abs=1)
    assert len(set(pixels_of(upper)[0, 1::3])) == 1  # the other axis stays


def test_texts_stand_under_their_pictures(figures):
    plotting.strip({"row": torch.rand(3, 1, 8, 8)}, under={"row": ["", "1 dB", "2 dB"]})
    axis = figures[0].axes[0]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["", "1 dB", "2 dB"]


@pytest.mark.parametrize("count", [3, 12, 30])
def test_no_figure_is_wider_than_the_page(figures, count):
    plotting.strip({"a long name of a row": torch.rand(count, 1, 28, 28)}, columns=range(count))
    assert figures[0].get_size_inches()[0] <= plotting.WIDE + 0.01


@pytest.mark.parametrize("count", [7, 14, 40])
def test_labels_below_a_curve_do_not_touch(figures, count):
    x = [f"{k / 7:.2f}" for k in range(count)]
    plotting.curves(x, {"a": list(range(count))}, "noise", "error")
    figures[0].canvas.draw()
    labels = [label for label in figures[0].axes[0].get_xticklabels() if label.get_text()]
    boxes = [label.get_window_extent() for label in labels]
    assert len(labels) >= 7
    assert all(a.x1 + 2 < b.x0 for a, b in pairwise(boxes))


def test_small_multiples_name_each_bar_once_and_its_value(figures):
    plotting.bars({"KL, nats": {"a": 2.04, "b": 0.5}, "error": {"b": 3, "a": 1}}, "found")
    first, second = figures[0].axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in first.texts] == ["2.0", "0.5"]
    assert [text.get_text() for text in second.texts] == ["1.0", "3.0"]  # by name, not by order
    assert first.get_xlabel() == "KL, nats" and first.yaxis_inverted()


def test_a_frontier_draws_every_line(figures):
    plotting.frontier({str(k): ([1, 2], [k, k + 1]) for k in range(7)}, "bits", "error")
    assert len(figures[0].axes[0].lines) == 7


def test_a_history_shows_each_step_and_each_term_in_its_own_panel(figures):
    past = History({"loss": [3.0, 1.0], "kl": [0.1, 0.2]}, 1.0, "here", False)
    past.steps = {"loss": [4.0, 2.0, 1.0, 1.0], "kl": [0.1, 0.1, 0.2, 0.2]}
    plotting.history(past, "nats an image", "it falls")
    left, right = figures[0].axes
    assert (left.get_title(), right.get_title()) == ("loss", "kl")
    steps, epochs = left.lines
    assert steps.get_ydata().tolist() == [4, 2, 1, 1] and steps.get_xdata().tolist() == [1, 2, 3, 4]
    assert epochs.get_ydata().tolist() == [3, 1] and epochs.get_xdata().tolist() == [1.5, 3.5]
    plotting.history(History({"loss": [3.0, 1.0]}, 1.0, "here", False))  # from a file: epochs only
    assert figures[1].axes[0].lines[1].get_xdata().tolist() == [1, 2]


def test_lines_of_several_seeds_are_their_mean_with_their_range(figures):
    plotting.curves((1, 2), {"a": [[1.0, 2.0], [3.0, 6.0]], "b": [0.0, 1.0]}, "x", "y")
    axis = figures[0].axes[0]
    assert axis.lines[0].get_ydata().tolist() == [2, 4]
    heights = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1, 6)
    assert [text.get_text() for text in axis.texts] == ["a", "b"]


def test_weights_are_blue_below_zero_red_above_and_white_between(figures):
    row = torch.tensor([[-2.0, 0.0, 1.0]]).view(1, 1, 1, 3)
    plotting.strip({"w": torch.cat([row, 10 * row])}, signed=True)
    image = figures[0].axes[0].images[0]
    assert image.get_cmap().name == "RdBu_r"
    levels = np.asarray(image.get_array())[0]
    assert levels[[0, 1, 2]].tolist() == pytest.approx([0, 127.5, 191], abs=1)
    assert levels[3] == pytest.approx(127.5, abs=1)  # the gap is no weight
    assert levels[4:7].tolist() == levels[:3].tolist()  # each on a scale of its own


def test_a_map_encloses_its_middle_and_decodes_what_lies_there(figures):
    codes = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    labels, spread = torch.arange(2000) % 10, 0.1 * torch.ones(2000, 2)
    asked = []

    def decode(z):
        asked.append(z)
        return z.new_zeros(len(z), 1, 2, 2)

    maps.latent_map(codes, labels, decode, "title", prior=True, spread=spread, kept=0.5, side=4)
    whole, middle, plane = figures[0].axes
    low, high = codes.quantile(0.25, 0), codes.quantile(0.75, 0)
    assert middle.get_xlim() == pytest.approx((low[0].item(), high[0].item()))
    ends = [low[0].item(), high[0].item(), low[1].item(), high[1].item()]
    assert list(plane.images[0].get_extent()) == pytest.approx(ends)
    assert asked[0][0].tolist() == pytest.approx([low[0].item(), high[1].item()])  # top left
    kinds = [type(patch).__name__ for patch in whole.patches]
    assert kinds == ["Rectangle", "Circle", "Circle"]
    ellipses = [patch for patch in middle.patches if type(patch).__name__ == "Ellipse"]
    assert len(ellipses) == 80 and ellipses[0].width == pytest.approx(0.2)


def test_strays_of_a_class_get_no_name_on_a_map(figures):
    codes, labels = (
        torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)),
        torch.zeros(1000),
    )
    labels[:5], labels[500:] = 1, 2
    maps.latent_map(codes, labels.long(), lambda z: z.new_zeros(len(z), 1, 2, 2))
    assert sorted(text.get_text() for text in figures[0].axes[0].texts) == ["0", "2"]


def test_a_film_becomes_a_map_and_a_plane_for_each_moment(figures):
    codes = torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(0))
    planes = torch.linspace(0, 1, 3).view(3, 1, 1, 1, 1).expand(3, 9, 1, 4, 4)
    formed = {"codes": codes, "planes": planes}
    pictures = maps.film((0, 5, 10), formed, torch.arange(50) % 10)
    assert list(pictures) == [0, 5, 10]
    for (dots, plane), grey in zip(pictures.values(), (0, 128, 255), strict=True):
        assert dots.shape == plane.shape == (12, 12, 3) and (plane == grey).all()
        assert (dots != 255).any()
    maps.film_strip(pictures, (0, 10), "it forms")
    assert [axis.get_title() for axis in figures[0].axes[:2]] == ["step 0", "step 10"]
    panel = panels.film(pictures)
    assert panel.values == {"step": 10}  # it opens at the end
    panel.set(step=0)
    assert panel.picture.shape == (12, 32, 3) and (panel.picture[:, 20:] == 0).all()


def test_a_film_on_one_scale_has_the_circle_of_two_standard_deviations(figures):
    codes = torch.tensor([[[0.0, 0.0], [3.0, 3.0]], [[0.0, 0.0], [0.1, 0.1]]])
    formed = {"codes": codes, "planes": torch.zeros(2, 9, 1, 28, 28)}
    pictures = maps.film((0, 5), formed, torch.tensor([1, 2]), reach=4)
    for dots, plane in pictures.values():
        middle = len(dots) // 2
        at = round(middle + 2 * middle / 4)  # two units to the right of the middle
        assert (plane[middle, at - 1 : at + 2] == 255).any() and (plane[middle, middle] == 0).all()
        assert (dots[middle, at - 1 : at + 2] == 0).all(-1).any()
        assert (
            dots[middle - 1 : middle + 2, middle - 1 : middle + 2] != 255
        ).any()  # the code at 0
    far, near = (dots for dots, _ in pictures.values())
    corner = slice(2, 18)  # 3 of 4 units up and to the right lies there, in one of them only
    assert (far[corner, -18:-2] != 255).any() and (near[corner, -18:-2] == 255).all()
    maps.film_strip(pictures, (0, 5), under={0: "rate 1"})
    assert figures[0].axes[2].get_xlabel() == "rate 1"
    assert "training step 5; rate 2" in panels.film(pictures, under={0: "", 5: "rate 2"}).readout


# Panels.


@pytest.fixture
def codes():
    return torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [2.0, 0.5]
    )


@pytest.fixture
def labels():
    return torch.arange(500) % 10


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
    wanted = 100 * chi2.sf(code.square().sum().item(), 5)
    assert prior.rarer(code).item() == pytest.approx(wanted, rel=1e-4)
    fitted = Gaussian.fitted(codes)
    draws = fitted.sample(20_000, torch.Generator().manual_seed(0))
    assert torch.allclose(draws.T.cov(), codes.T.cov(), atol=0.1)
    rarities = [fitted.rarer(z).item() for z in codes]
    assert 45 < statistics.mean(rarities) < 55  # uniform where the codes are Gaussian


def test_the_plane_marks_where_you_stand(codes, labels):
    panel = panels.latent_plane(Decoder(2), codes, labels)
    panel.set(x=0.0, y=0.0)
    middle = shown(panel)[:, :224]
    assert np.array_equal(shown(panel)[:, -224:, 0], pixels.enlarged(panel.picture))
    panel.set(x=panel.controls["x"].high)
    right = shown(panel)[:, :224]

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
    assert image_of(base64.b64decode(data["image/png"])).size == (224, 224)
    assert bundle[1]["image/png"]["alt"].startswith("Sliders over the code")


def test_frames_show_the_pictures_made_beforehand():
    pictures = {f"σ = {k}": torch.rand(6, 1, 5, 5) for k in range(3)}
    panel = panels.frames(pictures, "noise left", columns=3)
    panel.set(setting="σ = 2")
    wanted = tile(pictures["σ = 2"].unflatten(0, (2, 3)))
    zoom = len(shown(panel)) // len(wanted)
    assert np.array_equal(shown(panel)[::zoom, ::zoom], wanted)


def test_another_model_of_a_family_is_called_once():
    images, model = torch.rand(8, 1, 28, 28), Counted(torch.nn.Identity())
    family = panels.family_slider({k: model for k in range(5)}, images, "width")
    before = model.calls
    for k in range(1, 5):
        family.set(setting=k)
    assert model.calls - before == 4


class Reply:
    """What some libraries return: an object that has the picture."""

    def __init__(self, sample):
        self.sample = sample


GREY = lambda z: z[:, :1].sigmoid()[..., None, None] * torch.ones(1, 1, 6, 6)


@pytest.mark.parametrize(
    "decoder",
    [
        lambda z: GREY(z).flatten(1),
        lambda z: (GREY(z), z),
        lambda z: Reply(GREY(z)),
        lambda z: 2 * GREY(z) - 1,
        lambda z: 255 * GREY(z),
        lambda z: GREY(z).double(),
    ],
)
def test_a_readers_decoder_is_taken_as_it_is_meant(codes, decoder):
    codes = codes * 4  # far enough that -1 and 255 are seen
    for build in (panels.code_sliders, lambda *a: panels.latent_plane(*a, torch.arange(500) % 26)):
        panel, plain = build(decoder, codes.double().numpy()), build(GREY, codes)
        assert np.array_equal(panel.picture, plain.picture) and panel.picture.shape == (6, 6)


def test_a_decoder_that_returns_no_picture_is_named(codes):
    with pytest.raises(ValueError, match=r"images \(B, 1 or 3, H, W\).*\(100, 5\)"):
        panels.code_sliders(lambda z: torch.ones(len(z), 5), codes)
    with pytest.raises(ValueError, match="100% of it no numbers"):
        panels.latent_plane(lambda z: GREY(z) / 0 - GREY(z) / 0, codes, torch.arange(500))


def test_a_decoder_draws_in_evaluation_mode_and_is_left_as_it_was(codes):
    net = torch.nn.Sequential(Decoder(2), torch.nn.BatchNorm2d(1), torch.nn.Dropout(0.5)).train()
    panel = panels.code_sliders(net, codes)
    first = panel.picture
    panel.set(towards=1.0)
    panel.set(towards=0.0)
    assert np.array_equal(panel.picture, first)
    assert net.training and net[1].num_batches_tracked == 0


def test_codes_without_spread_are_drawn_or_named():
    draw = torch.Generator().manual_seed(0)
    dead = torch.cat([torch.randn(50, 2, generator=draw), torch.full((50, 1), 2.0)], 1)
    panel = panels.code_sliders(lambda z: z.sigmoid().view(-1, 1, 1, 3), dead)
    panel.set(axis2=3.0)
    assert panel.picture[0, 2] == round(255 / (1 + np.exp(-2))) and "nan" not in panel.readout
    shared = torch.randn(300, 1, generator=draw) + 1e-3 * torch.randn(300, 1024, generator=draw)
    assert "nan" not in panels.code_sliders(lambda z: z[:, :9].view(-1, 1, 3, 3), shared).readout
    for codes in (torch.ones(9, 2), torch.ones(1, 2)):
        with pytest.raises(ValueError, match="two codes or more that differ"):
            panels.code_sliders(lambda z: z.view(-1, 1, 1, 2), codes)


@pytest.mark.parametrize("shape", [(20, 28), (7, 30)])
def test_pictures_of_any_shape_are_shown(codes, shape):
    decoder = lambda z: z[:, :1].sigmoid()[..., None, None] * torch.ones(1, 1, *shape)
    assert panels.code_sliders(decoder, codes).picture.shape == shape
    panel = panels.latent_plane(decoder, codes, torch.arange(500) % 10)
    assert panel.picture.shape == shape and shown(panel).ndim == 3


def test_labels_of_any_kind_have_colours():
    at = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    colours = lambda labels: [
        tuple(pixels.map_picture(at, labels, at[0], at[2], 3)[2 - k, k]) for k in range(3)
    ]
    first, second, *_ = map(tuple, pixels.palette(plotting.COLOURS))
    assert colours(torch.tensor([0, 1, -1])) == [first, second, (204, 204, 204)]
    assert colours(torch.tensor([[0], [1], [0]])) == [first, second, first]
    assert colours(["cat", "dog", "cat"]) == [first, second, first]
    assert colours(np.array([1, 10, 1]))[0] == first
    letters = colours([chr(97 + k) for k in range(26)][:3])
    assert len(set(letters)) == 3


def flat(draw_level):
    """A panel of one picture, all of the slider's grey level."""
    return Panel(
        lambda level, kind: (np.full((8, 8), level, np.uint8), f"{kind} {level}"),
        {"level": Slider("grey", 0, 255, draw_level, step=1), "kind": Choice("kind", {"a": 1, "b": 2})},
        {"dark": [{"level": 0}, {"level": 9}]},
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


def test_the_kernel_answers_a_page_with_a_picture_a_readout_and_where_the_controls_stand():
    panel, told = flat(100), []
    page = jupyter.page_of(panel)
    page.send = lambda content, buffers: told.append((content, np.asarray(image_of(buffers[0]))))
    page._handle_custom_msg({"values": {"level": 30, "kind": 1}}, [])
    assert panel.values == {"level": 30, "kind": 2}  # a choice travels as its number
    ((content, picture),) = told
    assert content == {"values": {"level": 30, "kind": 1}, "readout": "2 30"}
    assert np.array_equal(picture, panel.picture)
    panel.set(level=7)  # by code: the page follows
    assert told[-1][0]["values"] == {"level": 7, "kind": 1}


def image_of(png):
    return Image.open(io.BytesIO(png))


def test_a_button_has_its_moves_one_after_the_other():
    panel = flat(100)
    levels = [panel.press("dark") or panel.values["level"] for _ in range(3)]
    assert levels == [0, 9, 0]
    about = panel.about()
    assert about["buttons"] == {"dark": [{"level": 0}, {"level": 9}]}
    level, kind = about["controls"]
    assert (level["low"], level["high"], level["step"], level["value"]) == (0, 255, 1, 0)
    assert kind["words"] == ["a", "b"] and kind["value"] == 0
    json.dumps(about)


def test_a_slider_in_steps_gives_whole_numbers_where_its_steps_are_whole():
    assert Slider("a", 0, 9, step=3).at(6.0) == 6 and type(Slider("a", 0, 9, step=1).at(6.0)) is int
    assert Slider("a", 0, 2, step=0.25).at(0.75) == 0.75 and Slider("a", 0, 2).at(0.1) == 0.1


def test_rows_are_named_beside_the_picture():
    picture = np.zeros((10, 20), np.uint8)
    bare, named = (
        Image.open(io.BytesIO(Panel(lambda: (picture, ""), {}, height=200, rows=rows).image()))
        for rows in ((), ("a", "b"))
    )
    assert named.height == bare.height and named.width > bare.width
    margin = np.asarray(named)[:, : named.width - bare.width]
    upper, lower = np.split(margin < 128, 2)
    assert upper.any() and lower.any()  # a letter in each half
    assert not np.asarray(named)[:, -bare.width :].any()


def test_wide_pictures_are_not_enlarged_past_the_page():
    assert pixels.enlarged(np.zeros((28, 290), np.uint8)).shape[1] <= 900


def test_frames_have_named_rows():
    film = {
        k: {"image": torch.zeros(3, 1, 4, 4), "made": torch.full((3, 1, 4, 4), k / 2)}
        for k in range(3)
    }
    panel = panels.frames(film, "training step")
    panel.set(setting=2)
    assert (
        panel.rows == ("image", "made") and panel.picture[0, 0] == 0 and panel.picture[5, 0] == 255
    )
    assert "training step 2" in panel.alt()


def test_bars_over_time_grow_with_their_axis():
    levels = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 4.0]])
    panel = panels.over_time(levels, "nats")
    heights = lambda: (panel.picture == (0, 114, 178)).all(-1).sum(0)
    last = heights()
    assert last[14] == pytest.approx(last[42] / 2, abs=2) and last[42] > 190
    panel.set(part=50)
    assert heights()[14] == pytest.approx(last[14] / 2, abs=2) and heights()[42] <= 1
    assert panel.readout.startswith("1.00 nats in all")
