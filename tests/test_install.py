"""What is installed elsewhere is the whole package with its pictures, and it finds its book."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


def python(code, cwd, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_wheel_in_a_bare_folder_brings_every_module_and_picture(tmp_path):
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
    pictures = sorted((ROOT / "companion" / "show" / "skeletons").glob("*.png"))
    assert len(modules) > 20
    code = f"""
import importlib
print([importlib.import_module(module).__file__ for module in {modules!r}])
from companion.data import files
from companion.show import skeleton
print(files.DATA)
print([skeleton(name).size for name in {[path.stem for path in pictures]!r}])
"""
    found, where, sizes = python(code, ROOT / "notebooks", PYTHONPATH=str(bare)).splitlines()
    assert found.count(str(bare)) == len(modules)
    assert Path(where) == ROOT / "data"
    assert sizes == str([Image.open(path).size for path in pictures]) and len(pictures) == 7
