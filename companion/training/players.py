"""Who moves which parameters, and how: one optimiser for each player of a model."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from companion.training.checks import check_model

MEDIAN_OF = 100  # the gradient norms that a step's own is compared with
FEWEST = 20  # norms, before one can be called too long


@dataclass
class Player:
    """What one player trains, and how; a value of the dict that a model's `players()` returns."""

    parameters: Iterable[nn.Parameter]
    lr: float | None = None  # the top of its schedule; None: the rate that `fit` is given
    betas: tuple[float, float] = (0.9, 0.99)  # Adam's
    steps: int = 1  # on each batch, each with noise of its own


def players_of(model: nn.Module) -> dict[str, Player]:
    """{method: player}: {"loss": all parameters} if the model names none."""
    named = model.players() if hasattr(model, "players") else {"loss": model.parameters()}
    players = {
        name: player if isinstance(player, Player) else Player(player)
        for name, player in named.items()
    }
    for player in players.values():
        player.parameters = list(player.parameters)
    check_model(model, {name: player.parameters for name, player in players.items()})
    return players


class Turn:
    """One player's optimiser; where asked for, its average of the weights and the steps it skips."""

    def __init__(self, name, player, *, lr, weight_decay, average, skip):
        self.name, self.steps, self.average, self.skip = name, player.steps, average, skip
        self.parameters = [p for p in player.parameters if p.requires_grad]
        self.top = lr if player.lr is None else player.lr
        device = self.parameters[0].device
        on_gpu = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            self.parameters, torch.tensor(self.top, device=device) if on_gpu else self.top,
            betas=player.betas, weight_decay=weight_decay, fused=True, capturable=on_gpu,
        )  # fmt: skip
        self.averages = [p.detach().clone() for p in self.parameters] if average else []
        self.norms = torch.full((MEDIAN_OF,), math.nan, device=device)
        self.left_out = []  # of the steps on this batch: 1. each that was, 0. each that was not

    def set_rate(self, share: float) -> None:
        """The learning rate, as a share of its top."""
        for group in self.optimiser.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(share * self.top)  # a recorded step reads it from its place
            else:
                group["lr"] = share * self.top

    def move(self, loss: torch.Tensor) -> None:
        """One step down the loss, unless its gradient says not to."""
        self.optimiser.zero_grad()
        loss.backward()
        if not (self.average or self.skip):
            self.optimiser.step()
            return
        skipped = self.too_long()
        self.left_out.append(skipped)
        self.optimiser.found_inf = skipped  # where it is 1 the fused step changes nothing
        self.optimiser.step()
        if self.average:
            share = (1 - self.average) * (1 - skipped)  # a step left out moves no average
            now = torch._foreach_mul([p.detach() for p in self.parameters], share)
            torch._foreach_mul_(self.averages, 1 - share)
            torch._foreach_add_(self.averages, now)

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
