"""Usage and perplexity where they are known, and a codec's bits."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from companion import metrics
from companion.models import LibraryQuantiser


def test_usage_and_perplexity_of_known_frequencies():
    assert metrics.codebook_use(torch.arange(8), 8) == pytest.approx(
        {"usage, %": 100, "perplexity": 8}
    )
    half = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]])
    assert metrics.codebook_use(half, 16) == pytest.approx({"usage, %": 12.5, "perplexity": 2})
    uneven = torch.tensor([3] * 9 + [5])
    entropy = -0.9 * torch.tensor(0.9).log() - 0.1 * torch.tensor(0.1).log()
    assert metrics.codebook_use(uneven, 8)["perplexity"] == pytest.approx(entropy.exp().item())


@pytest.mark.parametrize("token", [-1, 8])
def test_a_token_that_the_codebook_does_not_have(token):
    with pytest.raises(ValueError, match="its numbers are 0 to 7"):
        metrics.codebook_use(torch.tensor([0, token]), 8)


def test_webp_counts_its_bytes_and_errs_less_at_a_higher_quality():
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(4, 1, 4, 4), 28, mode="bilinear")
    low, high = metrics.webp(smooth, 10), metrics.webp(smooth, 95)
    assert low[0] < high[0] and low[1] > high[1] > 0
    file = io.BytesIO()
    pixels = (smooth[0, 0] * 255).round().byte().numpy()
    Image.fromarray(pixels).convert("RGB").save(file, "webp", quality=10, method=6)
    assert metrics.webp(smooth[:1], 10)[0] == 8 * len(file.getvalue())
    assert metrics.webp(smooth.repeat(1, 3, 1, 1), 50)[1] > 0


def test_lossless_files_come_back_as_they_were_and_are_counted():
    noise = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    flat = torch.full((2, 3, 64, 64), 0.5)
    for kind in ("PNG", "WebP"):
        assert metrics.lossless_bits(noise.byte(), kind) > 8  # noise does not shrink
        assert metrics.lossless_bits(flat, kind) < 0.2
    pixels, file = noise[0].byte().movedim(0, -1).numpy(), io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", lossless=True, method=6)
    assert metrics.lossless_bits(noise[:1].byte(), "WebP") == 8 * len(file.getvalue()) / 768
    assert np.array_equal(np.asarray(Image.open(file)), pixels)


def test_rounding_keeps_the_ends_of_each_axis_and_errs_by_half_a_step():
    codes = torch.rand(500, 3) * torch.tensor([1.0, 10.0, 0.1])
    low, high = codes.amin(0), codes.amax(0)
    found = metrics.rounded(codes, 3)
    assert all(len(found[:, axis].unique()) == 8 for axis in range(3))
    assert torch.allclose(found.amin(0), low) and torch.allclose(found.amax(0), high)
    assert ((found - codes).abs() <= (high - low) / 7 / 2 * 1.001).all()


def test_the_envelope_leaves_out_what_a_cheaper_point_beats():
    points = [(3, 0.5), (1, 2.0), (2, 2.5), (4, 0.6), (2, 1.0)]
    assert metrics.lower_envelope(points) == [(1, 2.0), (2, 1.0), (3, 0.5)]


def test_errors_of_rounded_codes_fall_with_the_bits():
    images = torch.rand(300, 1, 2, 2)
    found = metrics.rounded_errors(images.flatten(1), lambda codes: codes, images, bits=(2, 5, 8))
    assert [bits for bits, _ in found] == [8, 20, 32]
    for bits, error in found:  # uniform numbers: a twelfth of the squared step
        assert error == pytest.approx((1 / (2 ** (bits // 4) - 1)) ** 2 / 12, rel=0.15)


def test_several_numbers_of_one_place_are_the_digits_of_one_token():
    class Theirs(torch.nn.Module):
        def forward(self, z):
            digits = torch.stack(
                [torch.arange(49) % 8, torch.full((49,), 2), torch.full((49,), 3)], 1
            )
            return 2 * z, digits.expand(len(z), 49, 3), torch.tensor([0.5, 0.25])

    quantiser, z = LibraryQuantiser(Theirs(), 512), torch.rand(2, 4, 7, 7)
    out, tokens, loss = quantiser(z)
    assert torch.equal(out, 2 * z)
    assert torch.equal(tokens[1], (torch.arange(49) % 8 + 2 * 8 + 3 * 64).view(7, 7))
    assert loss.tolist() == [0.75 * 4 * 49] * 2


def test_the_librarys_quantisers_are_spoken_to_as_ours():
    library = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    z = torch.randn(3, 16, 7, 7)
    residual = library.ResidualVQ(dim=16, codebook_size=8, num_quantizers=3).eval()
    plain = library.VectorQuantize(dim=16, codebook_size=32).eval()
    for theirs, size in ((residual, 512), (plain, 32)):
        out, tokens, loss = LibraryQuantiser(theirs, size)(z)
        assert out.shape == z.shape and tokens.shape == (3, 7, 7) and loss.shape == (3,)
        assert tokens.min() >= 0 and tokens.max() < size
    codes = plain.codebook
    assert torch.allclose(out, codes[tokens].movedim(-1, 1), atol=1e-6)
