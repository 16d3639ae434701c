"""What notebook 31.4 alone uses: five scores of disentanglement, the parts of the KL, what a code is worth.

The scores take codes (N, M) and factors (N, F), whole numbers from 0. Each is 1 for a code that names
every factor on an axis of its own, in theory; what an oracle reaches on dSprites is less (the notebook
measures it). Protocols as in Locatello et al. 2019, the votes taken from the N items given. All are
deterministic for one seed. ValueError for a code of one axis, too few items, or codes that are not
finite.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageDraw

from companion.data import tile
from companion.metrics import gaussian_log_weights, one_draw_each, traversal
from companion.show.panel import Choice, Panel, Slider
from companion.show.pixels import FONT, palette
from companion.show.plotting import COLOURS, strip

BINS = 20  # of a histogram
VOTE, INACTIVE = 64, 0.05  # images a vote; σ below which an axis has no vote


def reference_codes(factors: torch.Tensor, seed: int = 1, turns: int = 5) -> dict:
    """Codes (N, 2F) whose scores are known, for factors (N, F).

    "oracle": the standardised factors beside as many axes of noise; "shared": the first two factors on
    one axis, each value of the pair a place of its own; "noise": noise alone; "rotated 1" and so on:
    the oracle turned by `turns` random orthogonal matrices.
    """
    draw, known = torch.Generator().manual_seed(seed), factors.cpu().double()
    noise = torch.randn(known.shape, generator=draw).double()
    pair = known[:, :1] * (known[:, 1].max() + 1) + known[:, 1:2]  # (N, 1)
    named = {"oracle": known, "shared": torch.cat([pair, known[:, 2:], noise[:, :1].roll(1, 0)], 1)}
    codes = {name: torch.cat([(c - c.mean(0)) / c.std(0), noise], 1) for name, c in named.items()}
    codes["noise"] = torch.randn(codes["oracle"].shape, generator=draw)
    for k in range(turns):
        codes[f"rotated {k + 1}"] = codes["oracle"] @ random_turn(2 * known.shape[1], draw)
    return codes


def random_turn(size: int, draw: torch.Generator) -> torch.Tensor:
    """A random orthogonal matrix (size, size), float64."""
    return torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64)).Q


def quarter_turn(size: int, seed: int = 0) -> torch.Tensor:
    """A random orthogonal K (size, size), float64, with K² = -I: it turns every code by 90 degrees.

    cos t I + sin t K then turns every code by t: `size` / 2 planes of random directions at once.
    ValueError for an odd `size`, which leaves an axis without a partner.
    """
    if size % 2:
        raise ValueError(f"{size} axes: planes of two are turned, so give an even number of axes.")
    turn = random_turn(size, torch.Generator().manual_seed(seed))
    pair = torch.tensor([[0.0, -1], [1, 0]], dtype=torch.float64)
    return turn @ torch.block_diag(*size // 2 * [pair]) @ turn.T


def information_shares(
    codes: torch.Tensor, factors: torch.Tensor, bins: int = BINS
) -> torch.Tensor:
    """I(z_j; v_k) / H(v_k), each axis in `bins` equal bins from its least to its largest value: (M, F)."""
    codes, factors = as_pairs(codes, factors)
    low, high = codes.min(0).values, codes.max(0).values
    places = ((codes - low) / (high - low).clamp(min=1e-12) * bins).long().clamp(max=bins - 1)
    shares = torch.zeros(codes.shape[1], factors.shape[1], dtype=torch.float64)
    for k, factor in enumerate(factors.T):
        count = int(factor.max()) + 1
        entropy = entropy_of(factor.bincount(minlength=count))
        for j, place in enumerate(places.T):
            joint = (place * count + factor).bincount(minlength=bins * count).view(bins, count)
            gained = entropy_of(joint.sum(1)) + entropy - entropy_of(joint.flatten())
            shares[j, k] = gained / entropy.clamp(min=1e-12)
    return shares


def mig(codes: torch.Tensor, factors: torch.Tensor, bins: int = BINS) -> float:
    """Mutual information gap: the best axis less the second best, mean over factors (Chen et al. 2018, eq. 6)."""
    best = information_shares(codes, factors, bins).sort(0, descending=True).values
    return (best[0] - best[1]).mean().item()


def beta_vae_score(codes, factors, votes: int = 10_000, seed: int = 0) -> float:
    """Which factor do 64 pairs share? Accuracy of logistic regression on their mean |z - z'|.

    Higgins et al. 2017; `votes` to train on, half as many to test.
    """
    from sklearn.linear_model import LogisticRegression  # scikit-learn is slow to import

    codes, factors = as_pairs(codes, factors)
    draw, points, shared = torch.Generator().manual_seed(seed), [], []
    for k, factor in enumerate(factors.T):
        count = -(-3 * votes // (2 * factors.shape[1]))
        first = torch.randint(len(codes), (count, VOTE), generator=draw)
        second = like(factor, factor[first], draw)
        points.append((codes[first] - codes[second]).abs().mean(1))  # (count, M)
        shared.append(torch.full((count,), k))
    order = torch.randperm(count * factors.shape[1], generator=draw)
    points, shared = (torch.cat(part)[order].numpy() for part in (points, shared))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "did not converge": its accuracy is what counts
        model = LogisticRegression(max_iter=300).fit(points[:votes], shared[:votes])
    return float(model.score(points[votes:], shared[votes:]))


def factor_vae_score(codes, factors, votes: int = 10_000, seed: int = 0) -> float:
    """Of 64 items that agree in one factor, which axis varies least? How surely it names the factor.

    Kim and Mnih 2018: a vote is the axis whose variance, over that of all items, is least; each axis
    stands for the factor that most of its votes came from. Axes with σ below .05 have no vote; where
    none has, the score is that of a guess.
    """
    codes, factors = as_pairs(codes, factors)
    spread, count = codes.std(0), factors.shape[1]
    axes = (spread >= INACTIVE).nonzero()[:, 0]
    if not len(axes):
        return 1 / count
    draw, table = torch.Generator().manual_seed(seed), torch.zeros(2, len(axes), count)
    for k, factor in enumerate(factors.T):
        for part, many in enumerate((votes, votes // 2)):
            value = factor[torch.randint(len(codes), (many // count, 1), generator=draw)]
            items = like(factor, value.expand(-1, VOTE), draw)  # (votes, 64)
            local = codes[items][:, :, axes].var(1) / spread[axes].square()
            table[part, :, k] = local.argmin(1).bincount(minlength=len(axes)).float()
    named = table[0].argmax(1, keepdim=True)  # (axes, 1) learned on the first part
    return (table[1].gather(1, named).sum() / table[1].sum()).item()


def dci(codes, factors, train: int = 10_000, seed: int = 0, trees: int = 10) -> tuple:
    """Disentanglement, completeness, informativeness: two numbers and (F,) (Eastwood and Williams 2018).

    D, how few factors each axis matters for: 1 less the entropy of an axis's importances over the
    factors, weighted by its share of all. C, how few axes matter for each factor: the same over the
    axes. I: each factor's accuracy on up to 5,000 other items. Importances and accuracies are those of
    a random forest for each factor, as in the paper; boosted trees, which the large comparison took,
    need minutes a model.
    """
    from sklearn.ensemble import RandomForestClassifier

    codes, factors = as_pairs(codes, factors)
    train = min(train, 2 * len(codes) // 3)
    columns, right, test = [], [], slice(train, train + 5000)
    for factor in factors.T:
        leaf = max(1, min(20, train // 100))  # the fewest items of a leaf
        forest = RandomForestClassifier(
            trees, max_features=None, min_samples_leaf=leaf, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "more classes than half the items", of a few items
            forest.fit(codes[:train].numpy(), factor[:train].numpy())
        columns.append(forest.feature_importances_)
        right.append(forest.score(codes[test].numpy(), factor[test].numpy()))
    importance = torch.from_numpy(np.stack(columns, 1)) + 1e-12  # (M, F)

    def single(share):  # (K, L), each row adding up to 1 -> 1 less its entropy, (K,)
        return 1 + (share * share.log()).sum(1) / np.log(share.shape[1])

    by_axis = single(importance / importance.sum(1, keepdim=True))
    by_factor = single(importance.T / importance.sum(0)[:, None])
    weights = importance.sum(1) / importance.sum()
    return (by_axis * weights).sum().item(), by_factor.mean().item(), torch.tensor(right)


def sap(codes, factors, train: int = 10_000) -> float:
    """Separated attribute predictability: best less second best axis, mean over factors (Kumar et al. 2018).

    Of an axis alone: the test accuracy of a linear classifier with balanced classes.
    """
    from sklearn.svm import LinearSVC

    codes, factors = as_pairs(codes, factors)
    train = min(train, 2 * len(codes) // 3)
    right = torch.zeros(codes.shape[1], factors.shape[1])
    for j, k in np.ndindex(*right.shape):
        axis, values = codes[:, j : j + 1].numpy(), factors[:, k].numpy()
        if axis.std() < 1e-6 or len(set(values[:train])) < 2:
            continue  # a constant axis tells nothing
        model = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(axis[:train], values[:train])
        right[j, k] = model.score(axis[train : train + 5000], values[train : train + 5000])
    best = right.sort(0, descending=True).values
    return (best[0] - best[1]).mean().item()


def scores_of(codes: torch.Tensor, factors: torch.Tensor) -> dict:
    """All five, with as many votes as the papers where the items are enough for them.

    Of DCI also C, "completeness", and I, "read": the accuracy of each factor, (F,).
    """
    votes = min(10_000, 10 * len(codes))
    single, complete, right = dci(codes, factors)
    return {
        "β-VAE": beta_vae_score(codes, factors, votes),
        "FactorVAE": factor_vae_score(codes, factors, votes),
        "MIG": mig(codes[:10_000], factors[:10_000]),
        "DCI": single,
        "SAP": sap(codes, factors),
        "completeness": complete,
        "read": right.tolist(),
    }


def explained_share(grid: torch.Tensor) -> tuple[float, float]:
    """How much of the variance of scores (settings, seeds) the settings explain: η² and ω².

    η² is the share in this sample, which noise alone raises; ω² takes off what noise would give
    (Hays 1963), so that it is 0 or less on the mean where the settings do nothing.
    """
    grid = grid.double()
    settings, seeds = grid.shape
    between = seeds * grid.mean(1).var(correction=0) * settings
    total = (grid.var(correction=0) * grid.numel()).clamp(min=1e-12)
    noise = (total - between) / (grid.numel() - settings)  # the mean square within a setting
    return (between / total).item(), ((between - (settings - 1) * noise) / (total + noise)).item()


def as_pairs(codes: torch.Tensor, factors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes in float64 and factors, on the CPU."""
    if codes.ndim != 2 or codes.shape[1] < 2:
        raise ValueError("these scores compare axes: they need codes (N, M) of two axes or more.")
    if len(codes) != len(factors) or len(codes) < BINS:
        raise ValueError(f"{len(codes)} codes, {len(factors)} factors: as many, at least {BINS}.")
    if not codes.isfinite().all():
        raise ValueError("some codes are not finite: look for the step at which training diverged.")
    return codes.detach().cpu().double(), factors.cpu()


def entropy_of(counts: torch.Tensor) -> torch.Tensor:
    """The entropy of a histogram, in nats."""
    shares = counts.double() / counts.sum()
    return -torch.special.xlogy(shares, shares).sum()


def like(factor: torch.Tensor, values: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """For each of `values`, of any shape, a random item whose `factor` (N,) has it."""
    order, counts = factor.argsort(stable=True), factor.bincount()
    start = counts.cumsum(0) - counts  # of each value's items in `order`
    dice = torch.rand(values.shape, generator=draw, dtype=torch.float64)
    return order[start[values] + (dice * counts[values]).long()]


@torch.no_grad()
def kl_parts(means: torch.Tensor, log_vars: torch.Tensor, draws: int = 1000, seed: int = 0) -> dict:
    """The mean KL to N(0, I) in three parts, in nats, under Gaussian posteriors (N, M) of N images.

    "mutual information" of image and code, "total correlation" KL(q(z) ‖ Π q(z_j)) of its axes, and
    "dimension-wise KL" Σ KL(q(z_j) ‖ N(0, 1)) (Chen et al. 2018, eq. 2). q(z) is the exact mixture of
    all N posteriors, so that no information exceeds log N; z is drawn once from each of the first
    `draws`. The parts add up to those draws' KL.
    """
    means, log_vars, noise, z = one_draw_each(means, log_vars, seed)
    means, precisions, scales = means.T.float(), (-log_vars).exp().T.float(), log_vars.T.float()
    own = -(noise.square() + log_vars).sum(1) / 2  # (N,) log densities, their constant left out
    joint, single = [], []
    for code in z[:draws].float():
        each = -((code[:, None] - means).square() * precisions + scales) / 2  # (M, N)
        joint.append(each.sum(0).logsumexp(0))
        single.append(each.logsumexp(1))
    joint = torch.stack(joint).double() - math.log(len(z))  # (draws,) log q(z)
    single = torch.stack(single).double() - math.log(len(z))  # (draws, M) log q(z_j)
    parts = {
        "mutual information": own[:draws] - joint,
        "total correlation": joint - single.sum(1),
        "dimension-wise KL": (single + z[:draws].square() / 2).sum(1),
    }
    return {name: part.mean() for name, part in parts.items()}


@torch.no_grad()
def code_value(model, x: torch.Tensor, counts: tuple = (1, 16, 100)) -> torch.Tensor:
    """What a code is worth, in nats an image: (len(counts) + 2, B).

    -log p(x) from above by each of `counts` importance weights (one: -ELBO), averaged over as many
    groups of so many as the draws of the largest count hold; -log p(x | z) with a code of the image's
    own; the same with the code of the image beside it, which misleads a decoder that reads its code.
    model has `posterior(x)`, means and log variances (B, M) each, and `nll(x, z)` (B,).
    """
    draws = [
        gaussian_log_weights(partial(model.nll, some), *model.posterior(some), max(counts))
        for some in x.split(100)
    ]
    weights, bounds = torch.cat(draws, 1).double(), []  # (K, B)
    for count in counts:
        groups = weights[: len(weights) // count * count].unflatten(0, (-1, count))
        bounds.append(math.log(count) - groups.logsumexp(1).mean(0))
    mean, log_var = model.posterior(x)
    z = mean + (log_var / 2).exp() * torch.randn_like(mean)
    return torch.stack([*bounds, model.nll(x, z), model.nll(x, z.roll(1, 0))])


@torch.no_grad()
def sample_pixels(logits_of: Callable, dice: torch.Tensor) -> torch.Tensor:
    """Black-and-white images drawn pixel by pixel, row by row: one pass of the decoder for each.

    logits_of: images so far (B, 1, H, W) -> logits of the same shape, each a function of the pixels
    before it. dice: uniform numbers of that shape, on the device; with the same dice two samples
    differ only where their probabilities do.
    """
    x = torch.zeros_like(dice)
    for row in range(x.shape[-2]):
        for column in range(x.shape[-1]):
            chance = logits_of(x)[..., row, column].sigmoid()  # (B, 1)
            x[..., row, column] = (dice[..., row, column] < chance).float()
    return x


@torch.no_grad()
def prior_traversals(decode: Callable, kl: torch.Tensor, count: int = 4, title="") -> None:
    """The `count` axes with the most nats `kl` (M,), a row each, from -3 to 3, the others at 0."""
    rows = {}
    for axis in kl.argsort(descending=True)[:count].tolist():
        rows[f"axis {axis + 1}, {kl[axis]:.1f} nats"] = decode(traversal(axis, 0 * kl))
    strip(rows, title=title, height=0.7)


def known_factors(render: Callable, sizes: dict[str, int], steps: int = 6, title: str = "") -> None:
    """One known factor {name: number of values} changes in each row, the others at their middle.

    render: values (B, F) int64 -> images (B, C, H, W).
    """
    rows = {}
    for place, (name, size) in enumerate(sizes.items()):
        values = torch.tensor([size // 2 for size in sizes.values()]).repeat(steps, 1)  # (steps, F)
        values[:, place] = torch.linspace(0, size - 1, steps).long()
        rows[name] = render(values)
    strip(rows, title=title)


def true_factors(render: Callable, sizes: dict[str, int], text: str = "") -> Panel:
    """A slider for each known factor {name: number of values}; `render`: values (1, F) -> (1, C, H, W)."""
    draw = lambda **values: (tile(render(torch.tensor([list(values.values())]))[None]), "")
    controls = {name: Slider(name, 0, size - 1, size // 2, step=1) for name, size in sizes.items()}
    # a factor's ends and middle, of forty angles eight
    few = lambda size: range(0, size, 5) if size >= 40 else sorted({0, size // 2, size - 1})
    coarse = {name: Choice(name, {str(k): k for k in few(size)}) for name, size in sizes.items()}
    return Panel(draw, controls, text=text or "A slider for each true factor.", coarse=coarse)


def family_traversals(models: dict, label: str, steps: int = 9) -> Panel:
    """One axis of one model of a family from -3 to 3: {setting: (decode, KL of each axis (M,))}.

    The second slider goes over the axes, the one with the most nats first; the others stay at 0.
    """
    orders = {setting: kl.argsort(descending=True) for setting, (_, kl) in models.items()}
    count = len(next(iter(orders.values())))

    @torch.no_grad()
    def draw(setting, rank):
        decode, kl = models[setting]
        axis = orders[setting][rank - 1].item()
        codes = traversal(axis, 0 * kl, steps=steps)
        return tile(decode(codes)[None]), f"axis {axis + 1}: {kl[axis]:.2f} nats"

    controls = {
        "setting": Choice(label, {str(setting): setting for setting in models}),
        "rank": Slider("axis, by its KL", 1, count, 1, step=1),
    }
    return Panel(draw, controls, text=f"A slider over {label}, and one over the latent axes.")


def heat_map(shares: torch.Tensor, rows: list[str], columns: list[str]) -> Image.Image:
    """Shares (M, F) from 0 to 1 as a grid of shades with their % in it, rows and columns named."""
    left, wide, high = 128, 80, 22  # pixels
    page = Image.new("RGB", (left + wide * len(columns), high * (len(rows) + 1)), "white")
    pen, blue = ImageDraw.Draw(page), palette(COLOURS)[0]
    for k, name in enumerate(columns):
        pen.text((left + (k + 0.5) * wide, high / 2), name, "black", FONT, anchor="mm")
    for j, name in enumerate(rows):
        top = high * (j + 1)
        pen.text((left - 6, top + high / 2), name, "black", FONT, anchor="rm")
        for k, share in enumerate(shares[j].clamp(0, 1).tolist()):
            shade = tuple(np.round(255 - share * (255.0 - blue)).astype(int).tolist())
            pen.rectangle((left + k * wide, top, left + (k + 1) * wide - 3, top + high - 3), shade)
            ink, at = "white" if share > 0.7 else "black", (left + (k + 0.5) * wide, top + high / 2)
            pen.text(at, f"{100 * share:.0f}", ink, FONT, anchor="mm")
    return page.convert("RGBA")  # shown as PNG alone


def axis_maps(found: dict, label: str, columns: list[str]) -> Panel:
    """A slider over codes: what each axis of a code knows of each factor.

    found: {setting: (shares (M, F) from 0 to 1, a name for each axis, words of the readout)}.
    ValueError for a code of one axis, which has no other to differ from or to be turned to.
    """
    if min(len(shares) for shares, *_ in found.values()) < 2:
        raise ValueError("a code of one axis cannot be turned or compared: give two axes or more.")

    def draw(setting):
        shares, rows, words = found[setting]
        return np.array(heat_map(shares, rows, columns).convert("RGB")), words

    control = {"setting": Choice(label, {str(setting): setting for setting in found})}
    text = f"A slider over {label}: what each axis knows of each factor, in % of its entropy."
    return Panel(draw, control, text=text)
