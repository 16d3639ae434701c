"""The repository keeps its own rules: one list of dependencies, clean notebooks, no foreign hosts."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def tracked() -> list[Path]:
    """Files that git tracks, or would."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.splitlines() if (ROOT / name).exists()]


def test_environment_and_pyproject_name_the_same_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        line.replace("torch>", "pytorch>", 1) if line.startswith("torch>") else line
        for line in project["dependencies"]
    }
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert {line for line in listed if isinstance(line, str)} - {"pip"} == wanted | {
        "python" + project["requires-python"]
    }
    assert {"pip": ["-e ."]} in listed


def test_the_top_level_is_as_designed():
    allowed = {"notebooks", "companion", "data", "tests", "environment.yml", "README.md"}
    allowed |= {"pyproject.toml", "Makefile", "LICENSE", ".ci", ".github", ".gitignore"}
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= allowed


def test_no_text_names_a_package_host_or_a_lock():
    for path in tracked():
        if (
            path.suffix in {".py", ".toml", ".yml", ".md", ".txt", ".ipynb", ""}
            and path.name != "test_project.py"
        ):
            text = path.read_text(errors="ignore")
            assert not re.search(r"pypi\.org|pythonhosted|conda\.anaconda", text), path
        assert not path.name.endswith(".lock"), path


def test_data_hold_our_checkpoints_and_words_only():
    held = [path for path in tracked() if path.relative_to(ROOT).parts[0] == "data"]
    assert all(path.suffix in {".safetensors", ".json", ".md"} for path in held)
    assert sum(path.stat().st_size for path in held) < 250e6  # half precision already


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:4])
def test_a_committed_notebook_is_executed_small_and_in_short_cells(path):
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert "widgets" not in notebook["metadata"]
    assert path.stat().st_size < 2 * 2**20
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    lengths = sorted(len("".join(cell["source"]).splitlines()) for cell in code)
    assert lengths[-1] <= 30 and lengths[len(lengths) // 2] <= 8
    for cell in code:
        for output in cell["outputs"]:
            assert output["output_type"] != "error" and output.get("name") != "stderr"
            assert not {"image/svg+xml", "application/pdf"} & set(output.get("data", {}))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:4])
def test_a_notebook_has_claims_exercises_and_a_paper_table(path):
    source = "".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
    section = path.name[:4]
    assert len(re.findall(r"\bclaim\(", source)) >= 5
    assert 4 <= len(re.findall(rf'check\("{section}\.\d"', source)) <= 6
    assert "paper_table(" in source and "widgets." in source and "fit_or_load(" in source
