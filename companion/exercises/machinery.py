"""What the checks of all sections share."""

import html

import torch


class Folded:
    """Text behind a click on a page, plain in a terminal."""

    def __init__(self, title: str, text: str):
        self.title, self.text = title, text

    def _repr_html_(self):
        return (
            f"<details><summary>{self.title}</summary><pre>{html.escape(self.text)}</pre></details>"
        )

    def __repr__(self):
        return f"{self.title}: click to open it in Jupyter, or print(solution(...).text)."


class NotAttempted(Exception):
    """The stub returned nothing."""


def answer(attempt, *arguments) -> torch.Tensor:
    """What the reader's function returns, as a tensor; NotAttempted for None or `...`."""
    try:
        value = attempt(*arguments)
    except NotImplementedError:
        raise NotAttempted from None
    if value is None or value is ...:
        raise NotAttempted
    return torch.as_tensor(value)


def close(value: torch.Tensor, wanted, tolerance: float = 1e-4) -> bool:
    wanted = torch.as_tensor(wanted)
    return value.shape == wanted.shape and torch.allclose(
        value.double(), wanted.double(), rtol=tolerance, atol=tolerance
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
