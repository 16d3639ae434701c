import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from skimage.metrics import peak_signal_noise_ratio
from sklearn.decomposition import PCA as LibraryPCA

from companion import metrics


@pytest.fixture
def pictures():
    return torch.rand(250, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def test_over_runs_on_every_image_in_order(pictures):
    sizes = []

    def count(x):
        sizes.append(len(x))
        return x.flatten(1)[:, :3]

    result = metrics.over(count, pictures, batch=100)
    assert sizes == [100, 100, 50] and torch.equal(result, pictures.flatten(1)[:, :3])


def test_mse_is_numpys_over_the_whole_set(pictures):
    wanted = np.mean((0.7 * pictures.numpy() - pictures.numpy()) ** 2)
    assert metrics.mse(lambda x: 0.7 * x, pictures, batch=100) == pytest.approx(wanted, rel=1e-5)


def test_mse_reads_bytes_as_zero_to_one():
    images = torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)
    assert metrics.mse(lambda x: x - 0.5, images) == 0.25


def test_psnr_is_scikit_images(pictures):
    noisy = (pictures * 0.9 + 0.02).numpy()
    wanted = np.mean([
        peak_signal_noise_ratio(a, b, data_range=1)
        for a, b in zip(pictures.numpy(), noisy, strict=True)
    ])  # fmt: skip
    assert metrics.psnr(lambda x: x * 0.9 + 0.02, pictures) == pytest.approx(wanted, rel=1e-5)


def test_pca_is_scikit_learns(pictures):
    ours, library = metrics.PCA(pictures), LibraryPCA(7).fit(pictures.flatten(1).double())
    assert np.allclose(ours.variance[:7] * 250 / 249, library.explained_variance_)
    copies = library.inverse_transform(library.transform(pictures.flatten(1).double()))
    assert np.allclose(ours.reconstruct(pictures, 7).flatten(1), copies, atol=1e-5)


def test_the_variance_pca_discards_is_its_training_error(pictures):
    pca = metrics.PCA(pictures)
    error = metrics.mse(lambda x: pca.reconstruct(x, 5), pictures)
    assert error == pytest.approx(pca.variance[5:].sum().item() / 36, rel=1e-4)


def test_pca_of_more_images_than_one_part_holds():
    images = torch.rand(12_500, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    wanted = torch.linalg.eigvalsh(images.flatten(1).double().T.cov(correction=0)).flip(0)
    assert torch.allclose(metrics.PCA(images).variance, wanted)


def test_principal_angles_are_scipys():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 3, 9, generator=generator, dtype=torch.float64)
    wanted = np.rad2deg(subspace_angles(a.T.numpy(), b.T.numpy()))[::-1]
    assert np.allclose(metrics.principal_angles(a, b), wanted)
    mixed = torch.randn(3, 3, generator=generator, dtype=torch.float64) @ a
    assert metrics.principal_angles(a, mixed).max() < 1e-6  # the same plane, other axes


def test_small_angles_are_exact():
    a = torch.eye(4, dtype=torch.float64)[:1]
    b = torch.tensor([[1.0, 1e-9, 0, 0]], dtype=torch.float64)
    assert metrics.principal_angles(a, b).item() == pytest.approx(np.rad2deg(1e-9), rel=1e-6)


def test_a_linear_probe_reads_what_is_linear_and_not_what_is_not():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(600, 2, generator=generator)
    linear, crossed = (codes.sum(1) > 0).long(), (codes.prod(1) > 0).long()
    for labels, low, high in ((linear, 97, 100), (crossed, 30, 70)):
        score = metrics.linear_probe(codes[:400], labels[:400], codes[400:], labels[400:])
        assert low <= score <= high


def test_readable_share_counts_confident_readings():
    images = torch.zeros(4, 1, 2, 2)
    images[:, 0, 0, 0] = torch.tensor([0.0, 0.2, 0.9, 1.0])

    def judge(x):  # confidence grows with the first pixel
        return torch.cat([20 * x[:, 0, 0, :1], torch.zeros(len(x), 9)], 1)

    assert metrics.readable_share(judge, images) == 50


def test_jitter_keeps_the_ink_and_moves_it():
    x = torch.zeros(64, 1, 28, 28)
    x[:, :, 10:18, 12:16] = 1
    torch.manual_seed(0)
    y = metrics.jitter(x)
    assert y.shape == x.shape and not torch.equal(x, y)
    ratio = y.sum((1, 2, 3)) / 32
    assert ratio.min() > 0.8 and ratio.max() < 1.25
