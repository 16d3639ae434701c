"""What is installed elsewhere is the whole package, and it finds the book it stands in."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


def python(code, cwd, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_wheel_in_a_bare_folder_brings_every_module(tmp_path):
    source, bare = tmp_path / "source", tmp_path / "bare"
    copytree(ROOT / "companion", source / "companion", ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, source)
    python("from setuptools import build_meta; build_meta.build_wheel('..')", source)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(bare)
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "companion").rglob("*.py")
    )
    assert len(modules) > 20
    code = (
        "import importlib, sys; print([importlib.import_module(m).__file__ for m in sys.argv[1:]])"
    )
    code = code.replace("sys.argv[1:]", repr(modules))
    found = python(code, tmp_path, PYTHONPATH=str(bare))
    assert found.count(str(bare)) == len(modules)
    code = "from companion.data import files; print(files.DATA)"
    where = python(code, ROOT / "notebooks", PYTHONPATH=str(bare))
    assert Path(where.strip()) == ROOT / "data"
