"""Handwritten-looking digits drawn from randomised pen strokes: data that need no download.

Each digit has a few ways of being written. A way is a list of strokes, a stroke a list of points in
the unit square (x to the right, y down) that a smooth curve passes through. Every image moves the
points, slants, turns, stretches and thickens the curve, and is fitted as MNIST fits its digits: in a
20×20 box, the centre of the ink in the middle of a 28×28 image.
"""

import torch

# fmt: off
WAYS = {
    0: [[[(.55, 0), (.2, .15), (.05, .5), (.2, .87), (.5, 1), (.82, .85), (.95, .5), (.8, .13), (.5, .01)]],
        [[(.7, .05), (.4, .02), (.1, .3), (.05, .65), (.3, .97), (.65, .9), (.9, .55), (.85, .2), (.55, .0), (.45, .1)]]],
    1: [[[(.5, 0), (.5, .5), (.5, 1)]],
        [[(.52, 0), (.5, .5), (.48, 1)]],
        [[(.35, .22), (.52, 0)], [(.52, 0), (.5, .5), (.5, 1)]],
        [[(.3, .25), (.52, 0)], [(.52, 0), (.5, .5), (.5, 1)], [(.25, 1), (.5, .98), (.78, 1)]]],
    2: [[[(.1, .25), (.3, .03), (.65, .02), (.8, .25), (.6, .58), (.35, .82), (.1, .98)], [(.1, .98), (.5, .95), (.95, .96)]],
        [[(.12, .2), (.4, .0), (.72, .12), (.7, .4), (.45, .7), (.18, .95), (.03, .88), (.2, .72), (.5, .84), (.95, .95)]],
        [[(.2, .12), (.5, .0), (.75, .15), (.68, .45), (.4, .75), (.1, .97)], [(.1, .97), (.35, .85), (.65, .95), (.98, .9)]]],
    3: [[[(.12, .14), (.42, .0), (.78, .1), (.75, .36), (.38, .47)], [(.38, .47), (.8, .55), (.88, .82), (.5, 1), (.08, .88)]],
        [[(.12, .05), (.5, .04), (.85, .03)], [(.85, .03), (.45, .42)], [(.45, .42), (.82, .52), (.86, .82), (.5, 1), (.1, .9)]],
        [[(.15, .1), (.5, .0), (.78, .15), (.65, .4), (.4, .48), (.7, .52), (.85, .75), (.6, .97), (.1, .95)]]],
    4: [[[(.2, .05), (.12, .3), (.1, .52)], [(.1, .52), (.5, .52), (.92, .48)], [(.78, .0), (.72, .5), (.66, 1)]],
        [[(.18, .08), (.1, .35), (.2, .52), (.5, .52), (.8, .42)], [(.85, .0), (.78, .45), (.72, 1)]],
        [[(.62, .0), (.3, .35), (.05, .65)], [(.05, .65), (.5, .64), (.95, .62)], [(.66, .05), (.62, .5), (.6, 1)]],
        [[(.15, .02), (.15, .45)], [(.15, .45), (.5, .48), (.82, .44)], [(.8, .05), (.8, .5), (.8, 1)]]],
    5: [[[(.88, .02), (.55, .03), (.25, .05)], [(.25, .05), (.2, .25), (.17, .44)], [(.17, .44), (.5, .38), (.85, .55), (.8, .85), (.45, 1), (.08, .92)]],
        [[(.95, .0), (.6, .05), (.35, .12), (.25, .35), (.5, .45), (.72, .65), (.62, .9), (.3, 1), (.05, .92)]],
        [[(.3, .05), (.25, .25), (.22, .42)], [(.22, .42), (.55, .42), (.78, .65), (.6, .93), (.1, .98)], [(.3, .05), (.6, .04), (.95, .0)]]],
    6: [[[(.75, .02), (.42, .2), (.15, .52), (.12, .82), (.42, 1), (.8, .88), (.82, .64), (.5, .52), (.18, .7)]],
        [[(.45, .0), (.22, .35), (.1, .7), (.3, .98), (.7, .93), (.78, .68), (.5, .58), (.2, .75)]],
        [[(.62, .0), (.35, .3), (.18, .65), (.25, .93), (.5, .98), (.68, .8), (.55, .65), (.25, .82)]]],
    7: [[[(.08, .06), (.5, .05), (.9, .03)], [(.9, .03), (.62, .42), (.42, 1)]],
        [[(.08, .1), (.4, .06), (.75, .02), (.85, .12), (.65, .5), (.5, 1)]],
        [[(.1, .2), (.12, .06)], [(.12, .06), (.5, .06), (.88, .02)], [(.88, .02), (.68, .5), (.6, 1)]],
        [[(.08, .06), (.5, .05), (.9, .03)], [(.9, .03), (.62, .42), (.42, 1)], [(.35, .52), (.85, .48)]]],
    8: [[[(.78, .15), (.5, .0), (.22, .13), (.25, .34), (.5, .48), (.78, .68), (.74, .92), (.48, 1), (.2, .9), (.22, .68), (.5, .48), (.74, .32), (.78, .12)]],
        [[(.5, .47), (.25, .3), (.35, .05), (.65, .03), (.75, .25), (.5, .47)], [(.5, .47), (.2, .7), (.3, .97), (.68, .97), (.8, .72), (.5, .47)]],
        [[(.85, .08), (.5, .02), (.25, .2), (.45, .45), (.65, .7), (.5, .97), (.25, .85), (.4, .55), (.7, .3), (.88, .1)]]],
    9: [[[(.82, .18), (.5, .02), (.18, .18), (.2, .42), (.5, .48), (.78, .3), (.84, .1)], [(.84, .1), (.78, .5), (.68, 1)]],
        [[(.8, .15), (.45, .02), (.18, .25), (.35, .47), (.7, .35), (.82, .12), (.78, .5), (.6, .9), (.2, .95)]],
        [[(.75, .12), (.4, .05), (.2, .28), (.42, .42), (.72, .25)], [(.75, .1), (.72, .5), (.68, 1)]],
        [[(.7, .2), (.5, .05), (.25, .2), (.4, .4), (.68, .28), (.72, .12), (.55, .55), (.35, 1)]]],
}
# fmt: on
PER_SEGMENT = 8  # points drawn between two control points


def curve(points: torch.Tensor) -> torch.Tensor:
    """Catmull–Rom spline through `points` (n, P, 2): (n, (P-1)·PER_SEGMENT + 1, 2)."""
    first, last = 2 * points[:, :1] - points[:, 1:2], 2 * points[:, -1:] - points[:, -2:-1]
    p = torch.cat([first, points, last], 1)  # (n, P+2, 2)
    a, b, c, d = (p[:, i : p.shape[1] - 3 + i, None] for i in range(4))  # (n, P-1, 1, 2)
    t = torch.arange(PER_SEGMENT).view(1, 1, -1, 1) / PER_SEGMENT
    path = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return torch.cat([path.flatten(1, 2), points[:, -1:]], 1)


def draw(way: list, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` images of one way of writing a digit: (count, 1, 28, 28) uint8."""

    def normal(*shape, scale):
        return torch.randn(*shape, generator=generator) * scale

    def uniform(low, high):
        return low + (high - low) * torch.rand(count, generator=generator)

    # One warp for the whole digit moves joined strokes together; a smaller one bends each stroke.
    bend = normal(count, 4, 2, scale=0.06)
    pen = []
    for stroke in way:
        p = torch.tensor(stroke).expand(count, -1, -1) + normal(count, len(stroke), 2, scale=0.03)
        u, v = p[..., :1], p[..., 1:]
        waves = torch.stack([(torch.pi * w).sin() for w in (u, v, 2 * u, 2 * v)], 2)  # (n, P, 4, 1)
        pen.append(curve(p + (waves * bend[:, None]).sum(2)))
    pen = torch.cat(pen, 1) - 0.5  # (count, points, 2)

    x, y = pen.unbind(-1)
    slant = 0.15 + normal(count, 1, scale=0.28)  # most writers lean to the right
    x = x * uniform(0.5, 1.15)[:, None] - y * slant
    angle = normal(count, 1, scale=0.1)
    x, y = x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()
    pen = torch.stack([x, y], -1)

    radius = uniform(0.75, 1.8)[:, None]
    size = (pen.amax(1) - pen.amin(1)).amax(-1, keepdim=True)  # the longer side fits the 20×20 box
    pen = pen * ((20.5 - 2 * radius) / size)[..., None]
    ways = torch.arange(28.0)
    grid = torch.stack(torch.meshgrid(ways, ways, indexing="xy"), -1).view(1, -1, 2)  # (1, 784, 2)
    distance = torch.cdist(grid - 13.5, pen - pen.mean(1, keepdim=True)).amin(-1)  # (count, 784)
    ink = (0.5 + (radius - distance) / 1.4).clamp(0, 1)  # an edge 1.4 pixels soft
    return (255 * ink).round().byte().view(-1, 1, 28, 28)


def digits(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` digits, classes balanced, order shuffled: (count, 1, 28, 28) uint8, (count,) int64."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    images = torch.empty(count, 1, 28, 28, dtype=torch.uint8)
    for digit, ways in WAYS.items():
        places = (labels == digit).nonzero().flatten()
        for way, at in zip(ways, places.chunk(len(ways)), strict=False):
            for part in at.split(500):
                images[part] = draw(way, len(part), generator)
    order = torch.randperm(count, generator=generator)
    return images[order], labels[order]
