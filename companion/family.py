"""Several models of one kind trained at once: their weights stacked, one pass for all.

`fit(Family([VAE(beta) for beta in betas]), data, ...)` is the same loop; on a GPU eight small models
cost little more than one, because one kernel works on all of them.
"""

import copy

from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from companion.training import Losses


class Family(nn.Module):
    """Models of the same layers, trained on the same batches with the same noise.

    Numbers in which the members differ (a β, say) must be buffers, so that they stack:
    `self.register_buffer("beta", torch.tensor(beta))`. Each member's loss reaches only its own
    weights, so each ends where it would end alone, to float tolerance.
    """

    def __init__(self, members: list[nn.Module]):
        super().__init__()
        shapes = [{name: v.shape for name, v in m.state_dict().items()} for m in members]
        if not members or any(shape != shapes[0] for shape in shapes):
            raise ValueError("Family: the members must be of one kind, with weights of one shape.")
        weights, buffers = stack_module_state(members)  # each (K, ...)
        self.names = list(weights), list(buffers)
        self.weights = nn.ParameterList(weights[name] for name in self.names[0])
        for number, name in enumerate(self.names[1]):
            self.register_buffer(f"buffer{number}", buffers[name])
        self.pattern = [copy.deepcopy(members[0])]  # in a list: its own weights are not ours

    def stacked(self) -> tuple[dict, dict]:
        buffers = [getattr(self, f"buffer{number}") for number in range(len(self.names[1]))]
        weights = zip(self.names[0], self.weights, strict=True)
        return dict(weights), dict(zip(self.names[1], buffers, strict=True))

    def loss(self, *x):
        """The sum of the members' losses, and each member's terms: {"loss", "loss 0", "kl 0", ...}."""
        losses, (weights, buffers) = Losses(self.pattern[0]), self.stacked()

        def one(weights, buffers):
            return functional_call(losses, prefixed(weights | buffers), ("loss", *x))

        terms = vmap(one, randomness="same")(weights, buffers)  # each (K,)
        each = {f"{name} {k}": v for name, term in terms.items() for k, v in enumerate(term)}
        return {"loss": terms["loss"].sum()} | each

    def members(self) -> list[nn.Module]:
        """The members as models of their own, with the weights as they are now."""
        weights, buffers = self.stacked()
        models = []
        for k in range(len(self.weights[0])):
            model = copy.deepcopy(self.pattern[0])
            state = {name: value[k].detach() for name, value in (weights | buffers).items()}
            model.load_state_dict(state)
            models.append(model.to(self.weights[0].device).eval())
        return models


def prefixed(state: dict) -> dict:
    return {f"model.{name}": value for name, value in state.items()}
