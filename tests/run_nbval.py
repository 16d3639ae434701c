"""nbval on every committed notebook: strictly on real data, else laxly on the embedded default."""

import os
import subprocess
import sys
from pathlib import Path

from companion import data

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


def main() -> int:
    real = data.mnist(verbose=False).name == "mnist"
    real = real and data.colours(64, verbose=False).name.startswith("imagenette")
    if real:
        print("nbval: strict, on real data (MNIST, Imagenette): outputs are compared.")
    else:
        print(
            "nbval: lax, on the embedded default (digits drawn from pen strokes, crops of bundled "
            "photographs): real data were not found, outputs are not compared."
        )
        os.environ["COMPANION_DATA"] = data.EMBEDDED
    mode = "--nbval" if real else "--nbval-lax"
    return subprocess.call([sys.executable, "-m", "pytest", mode, *map(str, NOTEBOOKS)])


if __name__ == "__main__":
    sys.exit(main())
