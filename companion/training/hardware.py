"""Where training runs: the layout of weights and images there, and how it multiplies."""

import torch
from torch import nn

from companion.training.checks import TrainingError


def move(model: nn.Module, device: torch.device) -> nn.Module:
    """To the device, the kernels of convolutions channels-last as the images are."""
    model.to(device)
    for weight in model.parameters():
        if weight.ndim == 4:  # .to() sets the strides also where one channel leaves them open
            weight.data = weight.data.to(memory_format=torch.channels_last)
    return model


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Images with their channels innermost in memory, the layout that convolutions run fastest in."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to multiply in bfloat16. "auto": on a GPU, and on a CPU that has instructions for it.

    The CPU is asked what it has (AMX, AVX512-BF16), not timed: a busy machine would answer otherwise.
    On one with AVX2 alone, bfloat16 is six times slower than float32.
    """
    choices = {"float32": False, "bfloat16": True}
    if precision == "auto":
        has = (torch.cpu._is_amx_tile_supported, torch.cpu._is_avx512_bf16_supported)
        return device.type == "cuda" or (device.type == "cpu" and any(ask() for ask in has))
    if precision not in choices:
        raise TrainingError(f'precision="{precision}": choose "float32", "bfloat16" or "auto".')
    return choices[precision]


def machine(device: torch.device, world: int = 1) -> str:
    """The hardware in two or three words, for the history."""
    times = f"{world} × " if world > 1 else ""
    if device.type == "cuda":
        return times + torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{times}{threads} {device.type.upper()} thread{'s' * (threads > 1)}"
