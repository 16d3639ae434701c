"""nbval on every committed notebook: strictly on real data, else laxly on the embedded default.

Outputs were made on a CPU, and a GPU draws other noise: they are compared with the GPU hidden. Where
there is one, the notebooks then run once more on it, without comparing. What a reader has trained in
`data/trained` is left out of all of it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from companion import data

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


def nbval(mode: str, **environment: str) -> int:
    command = [sys.executable, "-m", "pytest", mode, *map(str, NOTEBOOKS)]
    with tempfile.TemporaryDirectory() as trained:
        environment = os.environ | {"COMPANION_TRAINED": trained} | environment
        status = subprocess.call(command, env=environment)
        if left := [path.name for path in Path(trained).rglob("*.safetensors")]:
            print(f"nbval: {', '.join(left)} trained anew: the committed checkpoints do not fit.")
            status = status or 1
    return status


def main() -> int:
    real = data.mnist(verbose=False).name == "mnist"
    real = real and data.colours(64, verbose=False).name.startswith("imagenette")
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    if real:
        print("nbval: strict, on real data (MNIST, Imagenette): outputs are compared.", flush=True)
        status = nbval("--nbval", **hidden)
    else:
        print(
            "nbval: lax, on the embedded default (digits drawn from pen strokes, crops of bundled "
            "photographs): real data were not found, outputs are not compared.",
            flush=True,
        )
        os.environ["COMPANION_DATA"] = data.EMBEDDED
        status = nbval("--nbval-lax", **hidden)
    if status or not torch.cuda.is_available():
        return status
    print(f"nbval: lax, on {torch.cuda.get_device_name()}: outputs are not compared.", flush=True)
    return nbval("--nbval-lax")


if __name__ == "__main__":
    sys.exit(main())
