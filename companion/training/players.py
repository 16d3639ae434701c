"""Who moves which parameters, and how: one optimiser for each player of a model."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.adamw import adamw

from companion.training.checks import TrainingError, check_model

MEDIAN_OF = 100  # the gradient norms that a step's own is compared with
FEWEST = 20  # norms, before one can be called too long


@dataclass
class Player:
    """What one player trains, and how; a value of the dict that a model's `players()` returns."""

    parameters: Iterable[nn.Parameter]
    lr: float | None = None  # the top of its schedule; None: the rate that `fit` is given
    betas: tuple[float, float] = (0.9, 0.99)  # Adam's
    steps: int = 1  # on each batch, each with noise of its own


def players_of(model: nn.Module, parts: int = 1) -> dict[str, Player]:
    """{method: player}: {"loss": all parameters} if the model names none. parts: of a batch."""
    named = model.players() if hasattr(model, "players") else {"loss": model.parameters()}
    players = {
        name: player if isinstance(player, Player) else Player(player)
        for name, player in named.items()
    }
    for player in players.values():
        player.parameters = list(player.parameters)
    check_model(model, {name: player.parameters for name, player in players.items()}, parts)
    return players


class Turn:
    """One player's AdamW (Loshchilov and Hutter 2019); where asked for, the running average of the
    weights and the steps that are left out.

    The function, not the class torch.optim.AdamW, does the same step: the class brings torch's
    compiler along, seconds of every start, and keeps in dicts what is two lists here.
    """

    def __init__(self, name, player, lr, weight_decay, average, skip):
        self.name, self.steps, self.average, self.skip = name, player.steps, average, skip
        self.betas, self.weight_decay = player.betas, weight_decay
        self.parameters = [p for p in player.parameters if p.requires_grad]
        self.top = lr if player.lr is None else player.lr
        device = self.parameters[0].device
        self.on_gpu = device.type == "cuda"
        # On a GPU a tensor: a recorded step reads the rate from its place.
        self.rate = torch.tensor(self.top, device=device) if self.on_gpu else self.top
        self.first, self.second = ([torch.zeros_like(p) for p in self.parameters] for _ in "mv")
        self.counts = [torch.zeros((), device=device) for _ in self.parameters]  # steps taken
        self.averages = [p.detach().clone() for p in self.parameters] if average else []
        self.norms = torch.full((MEDIAN_OF,), math.nan, device=device)
        self.left_out = []  # of the steps on this batch: 1. each that was, 0. each that was not

    def state(self) -> list[torch.Tensor]:
        """All that changes from step to step, beside the parameters."""
        return [*self.first, *self.second, *self.counts, *self.averages, self.norms]

    def load(self, state: list[torch.Tensor]) -> None:
        """Take over another's `state`."""
        for mine, value in zip(self.state(), state, strict=True):
            mine.copy_(value)

    def set_rate(self, share: float) -> None:
        """The learning rate, as a share of its top."""
        if self.on_gpu:
            self.rate.fill_(share * self.top)
        else:
            self.rate = share * self.top

    def move(self, loss: torch.Tensor) -> None:
        """One step down the loss, unless its gradient says not to."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        reached = [k for k, p in enumerate(self.parameters) if p.grad is not None]
        if not reached:
            raise TrainingError(
                f"{self.name}(x) reaches no parameter of its own model: it must read them from "
                "`self`, for a copy of the model is asked too."
            )
        skipped = self.too_long() if self.average or self.skip else None
        with torch.no_grad():
            self.step(reached, skipped)
            if skipped is not None:
                self.left_out.append(skipped)
            if self.average:
                share = (1 - self.average) * (1 - skipped)  # a step left out moves no average
                now = torch._foreach_mul([p.detach() for p in self.parameters], share)
                torch._foreach_mul_(self.averages, 1 - share)
                torch._foreach_add_(self.averages, now)

    def step(self, reached: list[int], skipped: torch.Tensor | None) -> None:
        """AdamW on the parameters that the loss has reached; none moves where `skipped` is 1."""
        some = lambda values: [values[k] for k in reached]
        adamw(
            some(self.parameters), [self.parameters[k].grad for k in reached],
            some(self.first), some(self.second), [], some(self.counts),
            fused=True, capturable=self.on_gpu, found_inf=skipped, amsgrad=False, maximize=False,
            beta1=self.betas[0], beta2=self.betas[1], lr=self.rate, eps=1e-8,
            weight_decay=self.weight_decay,
        )  # fmt: skip

    def too_long(self) -> torch.Tensor:
        """1. where the gradient is not finite, or `skip` times longer than the median of late; else 0."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients).float()
        usual = (self.skip or math.inf) * self.norms.nanmedian()
        known = self.norms.isfinite().sum() >= FEWEST
        long = ~norm.isfinite() | ((norm > usual) & known)
        newest = torch.where(norm.isfinite(), norm, math.nan)
        self.norms.copy_(torch.cat([self.norms[1:], newest[None]]))
        return long.float()

    @torch.no_grad()
    def settle(self) -> None:
        """At the end: the parameters take the values of their averages."""
        for parameter, average in zip(self.parameters, self.averages, strict=False):
            parameter.copy_(average)

    def row(self, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The terms as the history names them: another player's "loss" goes under its name."""
        if self.left_out:
            terms = terms | {"skipped": torch.stack(self.left_out).mean()}
            self.left_out = []
        names = (
            {"loss": self.name, "skipped": f"{self.name} skipped"} if self.name != "loss" else {}
        )
        return {names.get(name, name): term.detach().float() for name, term in terms.items()}
