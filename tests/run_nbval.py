"""nbval on every committed notebook: strictly on real data, else laxly on the embedded default.

Outputs were made on a CPU, and a GPU draws other noise: they are compared with the GPU hidden. Where
there is one, the notebooks then run once more on it, without comparing. On the CPU the notebooks run
side by side, one on each core with one thread; on the GPU one after the other. What a reader has
trained in `data/trained` is left out of all of it.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch

from companion import data

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
LONGEST_FIRST = ("31.6", "31.5", "31.4", "31.3", "31.1", "31.2")  # so that the cores end together
HANGS = 7200  # seconds in which one cell, or one start, does not end: its kernel is stuck
LIMITS = [f"--nbval-cell-timeout={HANGS}", f"--nbval-kernel-startup-timeout={HANGS}"]


def order(path: Path) -> int:
    """The place of a notebook in the queue; one that was never timed goes first."""
    section = path.name[:4]
    return LONGEST_FIRST.index(section) if section in LONGEST_FIRST else -1


def check(path: Path, mode: str, environment: dict[str, str]) -> tuple[bool, str]:
    """Run one notebook by nbval: whether it passed, and all that was printed."""
    # no cache: side by side they would all write the same one
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", mode, *LIMITS, str(path)]
    with tempfile.TemporaryDirectory() as trained:
        environment = os.environ | {"COMPANION_TRAINED": trained} | environment
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        files = [file.name for file in Path(trained).rglob("*") if file.is_file()]
    text, left = done.stdout, sorted(name for name in files if "unfinished" not in name)
    if left:
        text += f"nbval: {', '.join(left)} made anew: what is committed does not fit.\n"
    return done.returncode == 0 and not left, text


def nbval(mode: str, workers: int, **environment: str) -> int:
    """Run every notebook, `workers` at a time: 0 if all passed, else 1."""
    failed = []
    with ThreadPoolExecutor(workers) as pool:
        queue = sorted(NOTEBOOKS, key=order)
        runs = {pool.submit(check, path, mode, environment): path for path in queue}
        try:
            for run in as_completed(runs):
                passed, text = run.result()
                print(text, flush=True)
                failed += [] if passed else [runs[run].name]
        finally:  # Ctrl-C: those that have not begun do not begin
            pool.shutdown(cancel_futures=True)
    if failed:
        print(f"nbval: failed: {', '.join(sorted(failed))}", flush=True)
    return int(bool(failed))


def main() -> int:
    real = data.mnist(verbose=False).name == "mnist"
    real = real and data.colours(64, verbose=False).name.startswith("imagenette")
    side_by_side = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # fewer, where this process is held to some of them
        cores = len(os.sched_getaffinity(0))
    if real:
        print("nbval: strict, on real data (MNIST, Imagenette): outputs are compared.", flush=True)
        status = nbval("--nbval", cores, **side_by_side)
    else:
        print(
            "nbval: lax, on the embedded default (digits drawn from pen strokes, crops of bundled "
            "photographs): real data were not found, outputs are not compared.",
            flush=True,
        )
        os.environ["COMPANION_DATA"] = data.EMBEDDED
        status = nbval("--nbval-lax", cores, **side_by_side)
    if status or not torch.cuda.is_available():
        return status
    print(f"nbval: lax, on {torch.cuda.get_device_name()}: outputs are not compared.", flush=True)
    return nbval("--nbval-lax", 1)


if __name__ == "__main__":
    sys.exit(main())
