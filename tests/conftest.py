import matplotlib
import pytest
import torch

matplotlib.use("Agg")
from companion import checkpoints, data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty `data/` of its own for a test: nothing of the checkout is read or written."""
    monkeypatch.setattr(data, "DATA", tmp_path / "data")
    monkeypatch.setattr(checkpoints, "TRAINED", tmp_path / "data" / "trained")
    monkeypatch.setattr(checkpoints, "COMMITTED", tmp_path / "data" / "checkpoints")
    monkeypatch.delenv("COMPANION_DATA", raising=False)
    monkeypatch.delenv("COMPANION_RETRAIN", raising=False)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def images():
    """Three hundred small random images."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (300, 1, 28, 28), generator=generator, dtype=torch.uint8)
