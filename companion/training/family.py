"""Several models of one kind, such as a β-VAE at eight values of β, trained by one call."""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import nn

from companion.training.checkpoints import fit_or_load, keep, load, marks_of, source_of
from companion.training.checks import TrainingError, training_parts
from companion.training.history import History
from companion.training.loop import fit
from companion.training.parallel import Losses
from companion.training.schedule import is_clock


def fit_each(
    name: str, build: Callable, keys: Iterable, data, seed: int = 0, **settings
) -> dict[object, nn.Module]:
    """`fit_or_load` of `build(key)` for each key, all from one seed: {key: the trained model}.

    name: with a place for the key, "31.1/autoencoder-{}"; spaces in a key become hyphens. settings:
    as in `fit`.
    """
    models = {}
    for key in keys:
        torch.manual_seed(seed)
        place = name.format(str(key).replace(" ", "-"))
        models[key], _ = fit_or_load(place, build(key), data, **settings)
    return models


def fit_family(models: dict[str, nn.Module], data, **settings) -> dict[str, History]:
    """Train {name: model} in place on the same batches with the same noise: {name: history}.

    On a GPU their weights are stacked and one pass serves all (`Family`): eight small models cost
    little more than one. On a CPU stacking gains nothing, and one is trained after the other; each
    ends where it would end alone, and an interrupted run keeps those that are finished.
    settings: as in `fit`. Raises TrainingError as `fit` does.
    """
    if training_parts(data, 1, settings.get("labels", False))[0].device.type != "cuda":
        histories = {}
        for name, model in models.items():
            histories[name] = fit(model, data, **settings)
            if histories[name].interrupted:
                break
        return histories
    family = Family(list(models.values()))
    history = fit(family, data, **settings)
    family.unstack()
    return {name: history_of(history, member) for member, name in enumerate(models)}


def fit_family_or_load(
    models: dict[str, nn.Module], data, **settings
) -> tuple[dict[str, nn.Module], dict[str, History]]:
    """`fit_or_load` for {checkpoint's name: model}: what no checkpoint fits is trained as a family.

    Each member has a checkpoint of its own, so that a value added to the family trains that one alone.
    """
    marks, histories = marks_of(data, settings), {}
    for name, model in models.items():
        history, why = load(name, model, data, marks)
        if history is None:
            print(f"{name}: to be trained on {source_of(data)} ({why})")
        else:
            histories[name] = history
    if histories:
        print(f"loaded, trained on {source_of(data)}: {', '.join(histories)}")
    missing = {name: model for name, model in models.items() if name not in histories}
    for name, history in (fit_family(missing, data, **settings) if missing else {}).items():
        keep(name, models[name], data, marks, history)
        histories[name] = history
    return models, histories


def history_of(history: History, member: int) -> History:
    """One member's share of a stacked run: "kl 3" of the family is "kl" of its fourth."""
    ends = f" {member}"
    terms = {k.removesuffix(ends): v for k, v in history.terms.items() if k.endswith(ends)}
    return History(terms, history.seconds, history.machine, history.interrupted)


class Family(nn.Module):
    """Models of the same layers, stacked: one kernel works on all of them.

    Numbers in which the members differ (a β, say) must be buffers, so that they stack:
    `self.register_buffer("beta", torch.tensor(beta), persistent=False)`. Each member's loss reaches
    only its own weights, so each ends where it would end alone, to float tolerance. The loss must be
    one that `torch.func.vmap` can map: no batch statistics, no value read back to Python.
    """

    def __init__(self, members: list[nn.Module]):
        super().__init__()
        from torch.func import stack_module_state  # brings torch's compiler along: only where used

        shapes = [{name: v.shape for name, v in m.state_dict().items()} for m in members]
        if not members or any(shape != shapes[0] for shape in shapes):
            raise TrainingError("Family: members must be of one kind, with weights of one shape.")
        weights, buffers = stack_module_state(members)  # each (K, ...)
        self.names = list(weights), [name for name in buffers if not is_clock(name)]
        self.clocks = [name for name in buffers if is_clock(name)]
        self.weights = nn.ParameterList(weights[name] for name in self.names[0])
        for number, name in enumerate(self.names[1]):
            self.register_buffer(f"buffer{number}", buffers[name])
        self.register_buffer("progress", torch.zeros(()), persistent=False)  # one clock for all
        self.originals = [members]  # in a list: their weights are not ours
        self.pattern = [copy.deepcopy(members[0])]

    def stacked(self) -> tuple[dict, dict]:
        buffers = [getattr(self, f"buffer{number}") for number in range(len(self.names[1]))]
        weights = zip(self.names[0], self.weights, strict=True)
        return dict(weights), dict(zip(self.names[1], buffers, strict=True))

    def loss(self, *x):
        """The sum of the members' losses, and each member's terms: {"loss", "loss 0", "kl 0", ...}."""
        from torch.func import functional_call, vmap

        losses, (weights, buffers) = Losses(self.pattern[0]), self.stacked()
        clocks = dict.fromkeys(self.clocks, self.progress)

        def one(weights, buffers):
            state = {f"model.{name}": v for name, v in (weights | buffers | clocks).items()}
            return functional_call(losses, state, ("loss", *x))

        terms = vmap(one, randomness="same")(weights, buffers)  # each (K,)
        each = {f"{name} {k}": v for name, term in terms.items() for k, v in enumerate(term)}
        return {"loss": terms["loss"].sum()} | each

    @torch.no_grad()
    def unstack(self) -> list[nn.Module]:
        """Give the members the weights that were trained; the members, ready to be used."""
        weights, buffers = self.stacked()
        for k, member in enumerate(self.originals[0]):
            own = dict(member.named_parameters()) | dict(member.named_buffers())
            for name, value in (weights | buffers).items():
                own[name].copy_(value[k])
            member.to(self.weights[0].device).eval()
        return self.originals[0]
