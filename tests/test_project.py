"""The repository keeps its own rules: one list of dependencies, clean notebooks, no foreign hosts."""

import ast
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
    assert len([path for path in held if "checkpoints" in path.parts]) <= 430


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
    text = path.read_text()
    source = "".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    section = path.name[:4]
    assert len(re.findall(r"\bclaims?\(", source)) >= 5
    assert 4 <= len(re.findall(rf'check\("{section}\.\d"', source)) <= 6
    assert "paper_table(" in source and "_or_load(" in source and "widget-view+json" in text


# The core, in the order in which data flow: pixels → loss → history and weights → numbers → what is seen.
CORE = ("data", "models", "training", "metrics", "show")
PACKAGE = ROOT / "companion"
MODULES = sorted(PACKAGE.rglob("*.py"))
SECTIONS = sorted((PACKAGE / "sections").glob("s31_*.py"))


def imports_of(path: Path) -> set[str]:
    """What a module imports of the package, anywhere in it: {"data.files.DATA", "sections.s31_2"}."""
    package = ("companion", *path.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            home = node.module.split(".") if node.module else []
            home = [*package[: len(package) + 1 - node.level], *home] if node.level else home
            found |= {".".join([*home, alias.name]) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("companion.") for name in found if name.startswith("companion.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_folder_imports_only_from_those_before_it(path):
    folder, imported = path.relative_to(PACKAGE).parts[0], imports_of(path)
    own = {
        "__init__.py": (),
        "exercises": (*CORE, "exercises"),
        "classroom.py": ("exercises", "retrain"),
    }
    before = own.get(folder, CORE)
    if folder in CORE:
        before = CORE[: CORE.index(folder) + 1]
    if folder == "exercises":  # an exercise may use its own section's file
        imported = {n for n in imported if not f"{n}.".startswith(f"sections.{path.stem}.")}
    assert {name.split(".")[0] for name in imported} <= set(before)


def lines_of_code(path: Path) -> int:
    """Lines that are not empty, a comment or a docstring."""
    text, words = path.read_text(), set()
    for node in ast.walk(ast.parse(text)):
        kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            words |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return sum(bool(line) and line[0] != "#" and n not in words for n, line in lines)


# What shows a panel, in Jupyter and on a page; `panel.js` and `page.js` are bounded in `test_site`.
HOMES = [PACKAGE / "show" / f"{name}.py" for name in ("panel", "jupyter", "page")]
HOMES += [PACKAGE / "site.py"]


def test_the_core_is_small():
    """The five folders that notebooks share."""
    core = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in CORE]
    assert 1000 < sum(lines_of_code(path) for path in core if path not in HOMES) <= 2350


def test_what_shows_a_panel_is_small():
    assert 100 < sum(map(lines_of_code, HOMES)) <= 400


@pytest.mark.parametrize("section", ["31.1", "31.2", "31.3", "31.4", "31.5", "31.6"])
def test_each_notebook_has_a_file_that_is_read_beside_it(section):
    assert lines_of_code(PACKAGE / "sections" / f"s{section.replace('.', '_')}.py") <= 250


def test_the_package_holds_the_core_the_sections_the_exercises_and_three_commands():
    named = {path.relative_to(PACKAGE).parts[0] for path in MODULES}
    assert named == {*CORE, "sections", "exercises", "__init__.py", *COMMANDS}
    assert len(SECTIONS) == 6 and {path.parent.name for path in MODULES} <= {*named, "companion"}


COMMANDS = ("retrain.py", "classroom.py", "site.py")


def test_no_module_lists_its_names_twice():
    assert not [path for path in MODULES if re.search(r"\b__all__\b", path.read_text())]
