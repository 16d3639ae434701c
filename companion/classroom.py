"""`python -m companion.classroom`: a section's exercises as an assignment, graded; a page to teach from.

`assignment 31.4` writes build/classroom/31.4.zip, what students get: their notebook and a package
without solutions or checks. `grade 31.4 FOLDER` runs and grades every notebook in a folder, whatever
state it is in, and writes grades-31.4.csv and a page of feedback for each student. `--seed` chooses the
constants of the hidden inputs; give `grade` the same. `instructor 31.4` writes a page for you, with the
section's main figures as large PNGs for slides.

Whoever runs code in the grader's process can reach what lies in it: the checks judge mistakes, they do
not withstand an attack.
"""

import argparse
import ast
import contextlib
import csv
import inspect
import io
import os
import re
import shutil
import sys
import textwrap
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import nbformat
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from traitlets.config import Config

from companion import exercises, retrain
from companion.exercises import EXERCISES, PROOFS

ROOT = Path(__file__).resolve().parent.parent
COURSE = ROOT / "build" / "classroom"
SECONDS = 60  # that one cell of a submission may take
HANDOUT = '''"""The exercises are checked where they are handed in."""


def check(number, attempt, *own, seed=0):
    """Print that an exercise is checked once it is handed in."""
    print(f"Exercise {number}: checked when you hand it in.")


def solution(number):
    """Nothing yet: solutions come back with the grades."""
'''


class ClassroomError(Exception):
    """One sentence with the mend."""


def notebook_of(section: str) -> Path:
    found = sorted((ROOT / "notebooks").glob(f"{section}_*.ipynb"))
    if not re.fullmatch(r"31\.\d", section) or not found:
        raise ClassroomError(f"There is no notebook {section}: choose 31.1 to 31.6.")
    return found[0]


def graded(kind: str, number: str, source: str):
    """A code cell that nbgrader knows: kind "answer" is cleared for the student, "check" gives the points."""
    cell = new_code_cell(source, id=f"{kind}-{number.replace('.', '-')}")
    check = kind == "check"
    cell.metadata["nbgrader"] = {
        "schema_version": 3, "grade_id": cell.id, "grade": check, "solution": not check,
        "locked": check, "task": False, **({"points": 1} if check else {}),
    }  # fmt: skip
    return cell


def answered(number: str, source: str) -> tuple[str, str]:
    """The exercise's cell with its solution in place of the stub's body, and the function's name."""
    stub = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    head = source.splitlines()[stub.lineno - 1 : stub.end_lineno]
    written = inspect.getsource(EXERCISES[number].solve)
    body = ast.parse(written).body[0].body
    lines = textwrap.dedent("\n".join(written.splitlines()[body[0].lineno - 1 :])).splitlines()
    solution = ["### BEGIN SOLUTION", *lines, "### END SOLUTION"]
    return "\n".join([*head, *(f"    {line}" for line in solution)]), stub.name


def master(section: str, whole: bool = False, seed: int = 0):
    """The instructor's notebook: the section's exercises, or the `whole` section, for nbgrader."""
    cells, number = nbformat.read(notebook_of(section), 4).cells, None
    kept = []
    if not whole:
        title = cells[0].source.splitlines()[0].removeprefix("# ")
        kept += [
            new_markdown_cell(f"# Exercises of {title}", id="title"),
            new_code_cell("import math\n\nimport torch", id="imports"),
        ]
    for cell in cells:
        begins = re.search(rf"\*\*({re.escape(section)}\.\d)\*\*", cell.source)
        if cell.cell_type == "markdown" and begins:
            number = begins[1]
            text = cell.source if whole else cell.source[begins.start() :]
            kept.append(new_markdown_cell(text, id=cell.id))
        elif "solution" in cell.metadata.get("tags", []):
            continue
        elif number and cell.cell_type == "code" and f'check("{number}"' in cell.source:
            source, name = answered(number, cell.source)
            test = f'from companion.exercises import check\n\ncheck("{number}", {name}, seed={seed}).points'
            hidden = f"### BEGIN HIDDEN TESTS\n{test}\n### END HIDDEN TESTS"
            note = f"# Exercise {number} is graded here: leave this cell as it is."
            kept += [graded("answer", number, source), graded("check", number, f"{note}\n{hidden}")]
            number = None
        elif cell.source.startswith("**Open question**"):
            text = cell.source if whole else cell.source.split("\n\n**Make it")[0]
            kept.append(new_markdown_cell(text, id=cell.id))
            kept.append(new_markdown_cell("*Your answer:*", id="open-answer"))
        elif whole:
            new = new_code_cell if cell.cell_type == "code" else new_markdown_cell
            kept.append(new(cell.source, id=cell.id))
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return new_notebook(cells=kept, metadata={"kernelspec": kernel}, nbformat_minor=5)


def course():
    """nbgrader's own interface, set up for build/classroom; ClassroomError where it is not installed."""
    try:
        from nbgrader.apps import NbGraderAPI
    except ImportError:
        raise ClassroomError(
            "nbgrader is missing: `make assignment` and `make grade` install it."
        ) from None
    warnings.filterwarnings("ignore", module="nbgrader")  # of its database, nothing to act on
    tools = Path(sys.executable).parent  # nbgrader calls `alembic` by its name
    os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"
    settings = Config()
    settings.CourseDirectory.root = str(COURSE)
    settings.CourseDirectory.course_id = "autoencoders"
    settings.Execute.timeout, settings.Execute.iopub_timeout = SECONDS, 30
    settings.Execute.extra_arguments = ["--log-level=ERROR", "--HistoryManager.hist_file=:memory:"]
    settings.OverwriteCells.add_missing_cells = True
    settings.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}
    api = NbGraderAPI(config=settings)
    api.log.setLevel("ERROR")
    return api


def why_not(result: dict) -> str:
    """Why one of nbgrader's steps failed, in a line."""
    log = f"{result.get('log', '')}\n{result.get('error', '')}"
    if "DeadKernelError" in log or "Kernel died" in log:
        return "it ended its own kernel, by `quit`, `os._exit` or too much memory"
    named = [
        line.strip() for line in log.splitlines() if re.match(r"\s*[\w.]+(Error|Exception): ", line)
    ]
    return named[0] if named else "nbgrader stopped"


def assign(section: str, whole: bool = False, seed: int = 0) -> Path:
    """Write the zip that students get, by nbgrader's own steps; its path."""
    source = COURSE / "source" / section
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    nbformat.write(master(section, whole, seed), source / f"{section}.ipynb")
    made = course().generate_assignment(section, force=True, create=True)
    if not made["success"]:
        raise ClassroomError(f"nbgrader could not make {section}: {why_not(made)}")
    path = COURSE / f"{section}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        release = COURSE / "release" / section / f"{section}.ipynb"
        file.write(release, f"{section}/notebooks/{section}.ipynb")
        for name, text in package_without_solutions(section, whole).items():
            file.writestr(f"{section}/{name}", text)
    return path


def package_without_solutions(section: str, whole: bool) -> dict[str, bytes]:
    """{path: content} of what a student's notebook imports, and with the whole section its weights."""
    files, own = {}, ROOT / "companion"
    for path in sorted(own.rglob("*")):
        inner = path.relative_to(own)
        left_out = {"exercises", "classroom.py"} | (set() if whole else {"sections", "retrain.py"})
        if path.is_file() and "__pycache__" not in inner.parts and inner.parts[0] not in left_out:
            files[f"companion/{inner}"] = path.read_bytes()
    files["companion/exercises/__init__.py"] = HANDOUT.encode()
    sections = set(re.findall(r"31\.\d(?=/)", notebook_of(section).read_text())) if whole else set()
    for used in sorted(sections):
        for path in sorted((ROOT / "data" / "checkpoints" / used).iterdir()):
            files[str(path.relative_to(ROOT))] = path.read_bytes()
    return files


def submissions(folder: Path, section: str) -> tuple[dict[str, Path], dict[str, str]]:
    """{student: notebook} of a folder with a notebook or a folder for each, and {name: why it is skipped}."""
    if not folder.is_dir():
        raise ClassroomError(f"{folder} is no folder: name the one that holds the submissions.")
    found, skipped = {}, {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or (entry.is_file() and entry.suffix != ".ipynb"):
            continue
        books = [entry] if entry.is_file() else sorted(entry.rglob("*.ipynb"))
        books = [book for book in books if ".ipynb_checkpoints" not in book.parts]
        name = (entry.stem if entry.is_file() else entry.name).replace(section, "").strip(" _-.")
        name = name or entry.stem
        if not books:
            skipped[name] = "the folder holds no notebook"
            continue
        latest = max(
            [*books, *([found[name]] if name in found else [])], key=lambda b: b.stat().st_mtime
        )
        if len(books) > 1 or name in found:
            skipped[f"{name}, an earlier copy"] = f"{latest.name} was handed in later and is graded"
        found[name] = latest
    if not found and not skipped:
        raise ClassroomError(f"{folder} holds no notebook (.ipynb).")
    return found, skipped


def grade(section: str, folder: Path, seed: int = 0) -> Path:
    """Grade a folder of submissions; the path of the table, students × exercises, as CSV."""
    found, notes = submissions(folder, section)
    assign(section, seed=seed)
    numbers = [number for number in EXERCISES if number.startswith(f"{section}.")]
    api, rows = course(), []
    for place, (name, notebook) in enumerate(found.items()):
        student = re.sub(r"[^\w.-]+", "_", f"{name} {place}")  # two names may read the same then
        try:
            scores, note = one(api, section, student, notebook, numbers)
        except Exception as error:  # one submission never stops the class
            why = str(error).splitlines() or [type(error).__name__]
            scores, note = {}, f"could not be run: {why[0]}"
        rows.append({"student": name, **scores, "total": sum(scores.values()), "note": note})
        print(f"{name}: {sum(scores.values()):g} of {len(numbers)}{f' ({note})' if note else ''}")
    for name, why in notes.items():
        rows.append({"student": name, "note": f"not graded: {why}"})
        print(f"{name}: not graded, {why}")
    path = COURSE / f"grades-{section}.csv"
    # Spreadsheets know UTF-8 by the mark at its head.
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, ["student", *numbers, "total", "note"])
        table.writeheader()
        table.writerows(rows)
    return path


def one(api, section: str, student: str, notebook: Path, numbers: list[str]) -> tuple[dict, str]:
    """Grade one student's notebook and write the feedback: {exercise: points}, and a note."""
    try:
        book = nbformat.read(notebook, 4)
    except Exception:
        raise ClassroomError("the file is no notebook") from None
    for cell in book.cells:  # what was printed at home is no matter
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    place = COURSE / "submitted" / student / section
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    nbformat.write(book, place / f"{section}.ipynb")
    ran = api.autograde(section, student, force=True, create=True)
    if not ran["success"]:
        raise ClassroomError(why_not(ran))
    with api.gradebook as gradebook:
        cells = gradebook.find_submission_notebook(section, section, student).grades
        points = {cell.name: cell.auto_score or 0.0 for cell in cells}
    page = api.generate_feedback(section, student, force=True)
    scores = {number: points.get(f"check-{number.replace('.', '-')}", 0.0) for number in numbers}
    return scores, "" if page["success"] else f"no page of feedback: {why_not(page)}"


class Asked(NamedTuple):
    """An exercise as its notebook asks it; minutes are what a student of the course needs."""

    title: str
    level: str
    minutes: int
    text: str


EXERCISE = re.compile(
    r"\*\*(31\.\d\.\d)\*\* \((easy|medium|hard), (\d+) min\) \*([^*]+?)[.]?\* (.+)", re.S
)
AT_THE_END = r"\*\*%s\*\* (\(\d+ min\)\. .+?)(?=\n\n\*\*|\n## |\Z)"
FRAME = {  # what stands around the exercises: heading on the page -> where a notebook has it
    "Title": r"\A# (.+)",
    "Short path": r"\*The short path, for a class of 50 minutes: (.+)\*",
    "Open question": AT_THE_END % "Open question",
    "Make it your own": AT_THE_END % "Make it your own",
}


def asked(section: str) -> tuple[dict[str, Asked], dict[str, str]]:
    """A notebook's exercises, {number: how it is asked}, and {heading of FRAME: text}."""
    path = notebook_of(section)
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
    found = [match for cell in cells for match in EXERCISE.finditer(cell.source)]
    text, frame = "\n".join(cell.source for cell in cells), {}
    for heading, pattern in FRAME.items():
        match = re.search(pattern, text) or re.search(pattern, text, re.S)
        if not match:
            raise ClassroomError(f"{path.name} has no {heading.lower()}: see how another has it.")
        frame[heading] = match[1]
    questions = {m[1]: Asked(m[4], m[2], int(m[3]), m[5].strip()) for m in found}
    if missing := {n for n in EXERCISES if n.startswith(f"{section}.")} - set(questions):
        raise ClassroomError(
            f"{path.name}: {min(missing)} needs its level, minutes and title, "
            f"such as **{min(missing)}** (easy, 10 min) *Title.*"
        )
    return questions, frame


def page_of(section: str, figures: list[str] = ()) -> str:
    """The instructor's page, Markdown: goals, exercises with solutions and mistakes, rubric, figures."""
    questions, frame = asked(section)
    own = getattr(exercises, f"s{section.replace('.', '_')}")
    total = sum(one.minutes for one in questions.values())
    parts = [f"# {frame.pop('Title')}: for the instructor", "## Goals", "Afterwards a student can"]
    parts += [";\n".join(f"- {goal}" for goal in own.GOALS) + "."]
    parts += ["## Short path", f"For a class of 50 minutes: {frame.pop('Short path')}"]
    parts += [f"## Exercises, {total} minutes"]
    rows = [f"| {n} | {q.title} | {q.level} | {q.minutes} |" for n, q in questions.items()]
    parts += ["\n".join(["| | | level | minutes |", "|---|---|---|---|", *rows])]
    for number, question in questions.items():
        hints = "\n".join(f"- {hint}" for hint in EXERCISES[number].mistakes)
        source = inspect.getsource(EXERCISES[number].solve).strip()
        parts += [f"### {number} {question.title}", question.text, "Mistakes that the hints name:"]
        parts += [hints, "A solution:", f"```python\n{source}\n```"]
        if number in PROOFS:
            parts += ["A proof:", f"```text\n{PROOFS[number]}\n```"]
    for heading, text in frame.items():
        parts += [f"## {heading}", text]
        if heading == "Open question":
            rubric = "\n".join(f"- {line} (1 point)" for line in own.RUBRIC)
            parts += [f"Out of {len(own.RUBRIC)} points:", rubric]
    parts += ["## Figures", "1,920 pixels wide, for slides."] if figures else []
    return "\n\n".join([*parts, *(f"![{name}]({quote(name)})" for name in figures)]) + "\n"


def instructor(section: str) -> Path:
    """Write a section's page for the instructor, and its main figures as PNGs; the page's path.

    The notebook is run with what is kept; its main figures are those of cells tagged "figure".
    """
    notebook, pictures = notebook_of(section), {}
    asked(section)  # what is missing is said before the minutes that follow
    code = [cell for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]

    def keep(number: int, figures: list) -> None:
        for figure in figures if "figure" in code[number - 1].metadata.get("tags", []) else []:
            figure.set_dpi(100)
            box = figure.get_tightbbox().padded(0.1)  # inches
            file = pictures[f"figure {len(pictures) + 1}.png"] = io.BytesIO()
            figure.savefig(file, dpi=1920 / box.width, bbox_inches=box)

    print(f"Running {section} for its figures, some minutes.")
    with contextlib.redirect_stdout(io.StringIO()):
        retrain.run(notebook, keep)
    book = new_notebook(cells=[new_markdown_cell(page_of(section, list(pictures)))])
    book.metadata["title"] = f"{section} for the instructor"
    page, _ = HTMLExporter().from_notebook_node(book)
    place = COURSE / "instructor" / section
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name, file in pictures.items():
        (place / name).write_bytes(file.getvalue())
    (place / "index.html").write_text(page, encoding="utf-8")
    return place / "index.html"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="companion.classroom",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    section = argparse.ArgumentParser(add_help=False)
    section.add_argument("section", help="31.1 to 31.6")
    both = argparse.ArgumentParser(add_help=False, parents=[section])
    both.add_argument("--seed", type=int, default=0, help="chooses the hidden inputs")
    making = commands.add_parser("assignment", parents=[both], help="write what students get")
    making.add_argument("--whole", action="store_true", help="the section, not its exercises alone")
    grading = commands.add_parser("grade", parents=[both], help="grade what they handed in")
    grading.add_argument("folder", type=Path, help="with a notebook, or a folder, for each student")
    commands.add_parser("instructor", parents=[section], help="a page to teach from, and figures")
    given = parser.parse_args(arguments)
    try:
        if given.command == "instructor":
            print(f"For you alone: {instructor(given.section)}")
        elif given.command == "assignment":
            print(f"For your students: {assign(given.section, given.whole, given.seed)}")
        else:
            print(f"The table: {grade(given.section, given.folder, given.seed)}")
    except ClassroomError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
