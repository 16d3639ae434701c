from types import SimpleNamespace

import pytest
import torch
from torch import nn

from companion.models import Decoder, Encoder
from companion.training import TrainingError, family, fit, fit_each, fit_or_load
from companion.training.family import Family


class VAE(nn.Module):
    def __init__(self, beta):
        super().__init__()
        self.encoder, self.decoder = Encoder(6, width=4), Decoder(3, width=4)
        self.register_buffer("beta", torch.tensor(beta))

    def loss(self, x):
        mean, log_var = self.encoder(x).chunk(2, -1)
        z = mean + (log_var / 2).exp() * torch.randn_like(mean)
        recon = (self.decoder(z) - x).square().flatten(1).sum(1).mean()
        kl = (mean**2 + log_var.exp() - log_var - 1).sum(-1).mean() / 2
        return {"loss": recon + self.beta * kl, "kl": kl}


def members(betas):
    models = []
    for beta in betas:
        torch.manual_seed(int(10 * beta))
        models.append(VAE(beta))
    return models


def test_a_family_ends_where_its_members_end_alone(images):
    settings = dict(epochs=3, batch=50, precision="float32", bar=False)
    betas = (0.5, 1.0, 4.0)
    alone = members(betas)
    histories = [fit(model, images, **settings) for model in alone]
    family = Family(members(betas))
    history = fit(family, images, **settings)
    for k, (one, model) in enumerate(zip(alone, family.unstack(), strict=True)):
        assert model.beta == betas[k]
        assert history.terms[f"kl {k}"] == pytest.approx(histories[k].terms["kl"], rel=1e-3)
        for name, value in one.state_dict().items():
            assert torch.allclose(value, model.state_dict()[name], atol=2e-4), name


def test_members_do_not_feel_each_other(images):
    settings = dict(epochs=1, batch=50, precision="float32", bar=False)
    first, second = Family(members((1.0, 2.0))), Family(members((1.0, 9.0)))
    fit(first, images, **settings)
    fit(second, images, **settings)
    a, b = first.unstack(), second.unstack()
    assert torch.allclose(a[0].encoder[0].weight, b[0].encoder[0].weight, atol=1e-5)
    assert not torch.allclose(a[1].encoder[0].weight, b[1].encoder[0].weight, atol=1e-5)


def test_members_of_two_kinds_are_refused():
    with pytest.raises(TrainingError, match="of one kind"):
        Family([nn.Linear(2, 3), nn.Linear(3, 3)])


class Warm(VAE):
    def __init__(self, beta):
        super().__init__(beta)
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    def loss(self, x):
        terms = super().loss(x)
        return terms | {"loss": terms["loss"] - (1 - self.progress) * self.beta * terms["kl"]}


def warm(betas):
    models = {}
    for beta in betas:
        torch.manual_seed(int(10 * beta))
        models[f"beta-{beta}"] = Warm(beta)
    return models


@pytest.mark.parametrize("stacked", [False, True], ids=["one after the other", "stacked"])
def test_one_call_trains_a_family_with_a_schedule(images, monkeypatch, stacked):
    """Stacked is what a GPU does; here the CPU is made to."""
    settings = dict(epochs=2, batch=50, precision="float32", bar=False)
    alone = warm((0.5, 4.0))
    wanted = {name: fit(model, images, **settings) for name, model in alone.items()}
    if stacked:
        gpu = SimpleNamespace(device=torch.device("cuda"))
        monkeypatch.setattr(family, "training_parts", lambda *_: [gpu])
    models = warm((0.5, 4.0))
    histories = family.fit_family(models, images, **settings)
    for name, model in models.items():
        assert list(histories[name].terms) == ["loss", "kl"] and not model.training
        assert histories[name].terms["kl"] == pytest.approx(wanted[name].terms["kl"], rel=1e-3)
        for key, value in alone[name].state_dict().items():
            assert torch.allclose(value, model.state_dict()[key], atol=2e-4), key


def test_an_interrupted_family_keeps_those_that_are_finished(images):
    class Stops(VAE):
        def loss(self, x):
            if self.beta == 4.0:
                raise KeyboardInterrupt
            return super().loss(x)

    models = {beta: Stops(beta) for beta in (1.0, 4.0, 8.0)}
    histories = family.fit_family(models, images, epochs=1, batch=50, bar=False)
    assert list(histories) == [1.0, 4.0]
    assert not histories[1.0].interrupted and histories[4.0].interrupted


def test_each_of_several_is_the_model_that_it_would_be_alone(images, folder):
    settings = dict(epochs=1, batch=50, bar=False)
    found = fit_each("t/vae {}", VAE, (0.5, 2.0), images, seed=3, **settings)
    torch.manual_seed(3)
    alone, _ = fit_or_load("t/alone", VAE(2.0), images, **settings)
    assert list(found) == [0.5, 2.0]
    for name, value in alone.state_dict().items():
        assert torch.equal(found[2.0].state_dict()[name], value)


def test_spaces_of_a_key_are_hyphens_in_the_files_name(images, folder, tmp_path):
    fit_each(
        "t/{}", lambda key: VAE(1.0), ["salt and pepper"], images, epochs=1, batch=50, bar=False
    )
    assert [
        path.name.split(".")[0] for path in (tmp_path / "data" / "trained" / "t").glob("*.json")
    ] == ["salt-and-pepper"]
