import os
import tempfile

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

# Before the package is imported: what a reader has trained is neither used nor touched by a test.
_trained = tempfile.TemporaryDirectory(prefix="companion-tests-")
os.environ["COMPANION_TRAINED"] = _trained.name
matplotlib.use("Agg")
from companion.data import files  # noqa: E402
from companion.training import kept  # noqa: E402


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty `data/` of its own for a test: nothing of the checkout is read or written."""
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    monkeypatch.setattr(kept, "TRAINED", tmp_path / "data" / "trained")
    monkeypatch.setattr(kept, "COMMITTED", tmp_path / "data" / "checkpoints")
    monkeypatch.delenv("COMPANION_DATA", raising=False)
    for asked in ("COMPANION_RETRAIN", "COMPANION_ACCEPT"):
        monkeypatch.delenv(asked, raising=False)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def images():
    """Three hundred small random images."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (300, 1, 28, 28), generator=generator, dtype=torch.uint8)


@pytest.fixture
def figures(monkeypatch):
    """The figures that a call has shown."""
    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.append(plt.gcf()))
    yield drawn
    plt.close("all")
