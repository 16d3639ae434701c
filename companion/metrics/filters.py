"""Classical image restoration from scikit-image and SciPy, each filter with its setting chosen by data."""

from collections.abc import Callable

import torch

from companion.metrics.reconstruction import decibels

FILTERS = {  # the settings to choose from
    "Gaussian blur": (0, 0.5, 0.75, 1, 1.5, 2, 3),  # σ in pixels
    "median": (3, 5, 7, 9),  # the side of the window
    "total variation": (0.1, 0.2, 0.4, 0.7, 1, 1.5, 2.5),  # the weight of the variation
    "non-local means": (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5),  # h, how unlike patches may be
}


def functions() -> dict[str, Callable]:
    """What each filter does to one picture (H, W) at one setting. SciPy is slow to import: on call."""
    from scipy.ndimage import gaussian_filter, median_filter
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    return {
        "Gaussian blur": gaussian_filter,
        "median": median_filter,
        "total variation": denoise_tv_chambolle,
        "non-local means": lambda x, h: denoise_nl_means(x, patch_size=5, patch_distance=6, h=h),
    }


def filtered(images: torch.Tensor, kind: str, setting: float) -> torch.Tensor:
    """Grey images (N, 1, H, W), one by one through a filter of `FILTERS` at one setting."""
    restore = functions()[kind]
    pictures = [restore(x, setting) for x in images[:, 0].cpu().double().numpy()]
    return torch.stack([torch.from_numpy(x) for x in pictures])[:, None].to(images)


def tuned(kind: str, noisy: torch.Tensor, clean: torch.Tensor) -> Callable:
    """The filter at the setting that restores these examples (N, 1, H, W) best, by PSNR.

    What it returns is scaled and shifted too, by least squares on the examples, because corruption
    changes the mean and the contrast. The chosen `setting` is an attribute of the function.
    """
    tried = []
    for setting in FILTERS[kind]:
        output = filtered(noisy, kind, setting)
        gain = ((output - output.mean()) * clean).mean() / output.var(correction=0)
        offset = clean.mean() - gain * output.mean()
        quality = decibels(gain * output + offset, clean).mean().item()
        tried.append((quality, setting, gain, offset))
    _, setting, gain, offset = max(tried)

    def restore(images):
        return gain * filtered(images, kind, setting) + offset

    restore.setting = setting
    return restore


def restored(
    corrupt: Callable, clean: torch.Tensor, noisy: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What each of `FILTERS` makes of `noisy`, tuned on `clean` examples that are corrupted alike.

    Images (N, 1, H, W), float.
    """
    examples = corrupt(clean)
    return {kind: tuned(kind, examples, clean)(noisy) for kind in FILTERS}
