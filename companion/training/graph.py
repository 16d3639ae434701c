"""On a GPU: a training step as one CUDA graph, so that a small model does not wait for Python."""

import contextlib

import torch


def recorded(step):
    """`step(index)`, recorded once and replayed.

    The first steps run as they are, then one is recorded. What cannot be recorded (a loss that reads
    a value back to Python) goes on step by step, and a line says so.
    """
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    calls, where, row = 0, None, {}

    def replay(index):
        nonlocal calls, where, row, graph
        calls += 1
        if graph is None:
            return step(index)
        if calls <= 3:  # libraries choose their kernels and make their buffers
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                row = step(index)
            torch.cuda.current_stream().wait_stream(side)
            return row
        if where is None:
            where = index.clone()
            try:
                with torch.cuda.graph(graph):
                    row = step(where)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                print(f"This step cannot be recorded ({reason}): it runs without a CUDA graph.")
                graph = None
                free_the_dice(index.device)
                return step(index)
        where.copy_(index)
        graph.replay()
        return {name: value.clone() for name, value in row.items()}

    return replay


def free_the_dice(device) -> None:
    """A recording that failed leaves the generator waiting for its end; one that succeeds frees it."""
    with contextlib.suppress(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.rand(1, device=device)
