"""An assignment handed out, handed in and graded; what is handed out holds no solution."""

import ast
import csv
import importlib
import inspect
import json
import math
import pkgutil
import re
import textwrap
import time
import warnings
import zipfile

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from cells import definitions
from PIL import Image

from companion import classroom, retrain
from companion.exercises import EXERCISES, PROOFS, judge, machinery
from companion.training import kept

SECTIONS = [f"31.{number}" for number in range(1, 7)]


def written(number: str) -> str:
    return textwrap.dedent(inspect.getsource(EXERCISES[number].solve))


def returned(source: str) -> set[str]:
    """What a function returns, the larger expressions, as its author wrote them."""
    values = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Return)]
    return {ast.unparse(value) for value in values if sum(1 for _ in ast.walk(value)) >= 10}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("section", SECTIONS)
def test_a_master_has_every_exercise_a_stub_a_grade_cell_and_no_old_solution(section, whole):
    book = classroom.master(section, whole)
    nbformat.validate(book)
    numbers = [number for number in EXERCISES if number.startswith(section)]
    graded = [cell.metadata.nbgrader for cell in book.cells if "nbgrader" in cell.metadata]
    names = [f"{kind}-{n.replace('.', '-')}" for n in numbers for kind in ("answer", "check")]
    assert [cell.grade_id for cell in graded] == names
    assert sum(cell.get("points", 0) for cell in graded) == len(numbers)
    text = "\n".join(cell.source for cell in book.cells)
    assert "solution(" not in text and text.count("### BEGIN SOLUTION") == len(numbers)
    assert ("fit_or_load" in text) == ("Make it your own" in text) == whole
    assert text.count("**Open question**") == text.count("*Your answer:*") == 1


@pytest.mark.parametrize("section", SECTIONS)
def test_the_solution_in_a_master_is_correct(section):
    names = {}
    for cell in classroom.master(section).cells:
        if cell.cell_type == "code" and not cell.id.startswith("check"):
            exec(cell.source, names)
    for number in EXERCISES:
        if number.startswith(section):
            assert judge(EXERCISES[number], names[EXERCISES[number].solve.__name__]).points == 1


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("section", SECTIONS)
def test_no_solution_stands_in_what_is_handed_out(section, whole):
    files = classroom.package_without_solutions(section, whole)
    assert not [name for name in files if name.startswith("companion/exercises/s31")]
    assert any(name.startswith("companion/sections") for name in files) == whole
    code = [files[name].decode() for name in files if name.endswith(".py")]
    book = classroom.master(section, whole)
    text = [re.sub(r"### BEGIN.*?### END \w+", "", cell.source, flags=re.S) for cell in book.cells]
    nodes = (node for part in code for node in ast.walk(ast.parse(part)))
    kept = {ast.unparse(node) for node in nodes if isinstance(node, ast.expr)}
    found = {
        number
        for number in EXERCISES
        for value in returned(written(number))
        if value in kept or any(value in part for part in text)
    }
    assert found == ({"31.4.1"} if whole else set())  # the section itself measures the gap


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", EXERCISES)
def test_no_function_that_is_handed_out_solves_an_exercise_unless_the_check_forbids_it(
    number, monkeypatch
):
    monkeypatch.setattr(machinery, "SECONDS", 2)
    exercise = EXERCISES[number]
    cases = list(exercise.cases(torch.Generator().manual_seed(0)))
    for folder in ("data", "metrics", "models", "sections") if cases != [()] else ():
        package = importlib.import_module(f"companion.{folder}")
        for part in pkgutil.iter_modules(package.__path__, f"companion.{folder}."):
            for name, function in inspect.getmembers(importlib.import_module(part.name), inspect.isfunction):  # fmt: skip
                wanted = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]  # fmt: skip
                fits = function.__module__ == part.name and len(wanted) == len(cases[0])
                if fits and judge(exercise._replace(forbidden=()), function).points:
                    assert {name, folder} & set(exercise.forbidden), f"{part.name}.{name}"


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_for_an_instructor_has_all_that_a_class_needs(section):
    questions, frame = classroom.asked(section)
    numbers = [number for number in EXERCISES if number.startswith(section)]
    assert list(questions) == numbers
    assert all(5 <= one.minutes <= 40 and one.title[0].isupper() for one in questions.values())
    levels = [("easy", "medium", "hard").index(one.level) for one in questions.values()]
    assert levels[0] <= levels[-1] and len(set(levels)) > 1
    own = vars(importlib.import_module(f"companion.exercises.s{section.replace('.', '_')}"))
    page = classroom.page_of(section, ["figure 1.png"])
    parts = [f"- {goal}" for goal in own["GOALS"]] + [
        f"- {line} (1 point)" for line in own["RUBRIC"]
    ]
    for number in numbers:
        parts += [
            PROOFS.get(number, ""),
            written(number).strip(),
            questions[number].text,
            *EXERCISES[number].mistakes,
        ]
    for part in [*parts, *frame.values(), "![figure 1.png](figure%201.png)"]:
        assert page.count(part) >= 1, part
    assert 3 <= len(own["GOALS"]) <= 6 and len(own["RUBRIC"]) == 4


# What each proof ends in, by the solution: {number: arguments}.
ENDS = {"31.1.2": (), "31.2.2": (), "31.4.4": (1, 4, math.pi / 4), "31.5.2": (3, 0.25, 0, 1)}
ENDS |= {"31.4.5": (torch.tensor([2.0]), 0.25, 4), "31.6.5": (1, 2, 1, 16)}
ENDS["31.6.4"] = (*(torch.tensor([v]) for v in (1.0, 0.4, -0.1)), 0.25)


def test_where_pencil_comes_first_there_is_a_proof_that_ends_in_the_solutions_number():
    questions = {n: one for section in SECTIONS for n, one in classroom.asked(section)[0].items()}
    pencil = {
        n for n, q in questions.items() if re.search("[Pp]encil|[Pp]rove|Show", q.title + q.text)
    }
    assert pencil <= set(PROOFS)
    for number, arguments in ENDS.items():
        value = float(EXERCISES[number].solve(*arguments))
        words = {f"{value:.{digits}f}".removeprefix("0") for digits in range(4)}
        text = PROOFS[number] + questions[number].text
        assert any(re.search(rf"(?<![\d.]){re.escape(word)}(?!\d)", text) for word in words), number


@pytest.mark.parametrize("section", SECTIONS)
def test_no_rubric_and_no_proof_is_handed_out(section):
    own = importlib.import_module(f"companion.exercises.s{section.replace('.', '_')}")
    lines = [*own.RUBRIC, *(line for proof in own.PROOFS.values() for line in proof.splitlines())]
    held = "".join(cell.source for cell in classroom.master(section, whole=True).cells)
    files = classroom.package_without_solutions(section, whole=True)
    held += "".join(files[name].decode() for name in files if name.endswith(".py"))
    assert not [line for line in lines if line in held]


def test_an_instructor_gets_the_marked_figures_as_wide_pictures(tmp_path, monkeypatch):
    def run(path, look):
        for number in range(1, len(retrain.code_cells(path)) + 1):
            figure, axis = plt.subplots(figsize=(3 + number / 50, 2))
            axis.set(ylabel="a label\nof two lines", title=f"cell {number}")
            look(number, [figure])
            plt.close(figure)

    monkeypatch.setattr(classroom, "COURSE", tmp_path)
    monkeypatch.setattr(retrain, "run", run)
    page = classroom.instructor("31.4")
    code = [
        c for c in nbformat.read(classroom.notebook_of("31.4"), 4).cells if c.cell_type == "code"
    ]
    marked = [cell for cell in code if "figure" in cell.metadata.get("tags", [])]
    pictures = sorted(page.parent.glob("*.png"))
    assert len(pictures) == len(marked) >= 3
    assert {Image.open(path).width for path in pictures} <= {1919, 1920, 1921}
    text = page.read_text(encoding="utf-8")
    assert "for the instructor" in text and all(path.name in text for path in pictures)


# What a section's snippet uses that its notebook makes in passing; small, for the test.
USED = {"31.5": {"build": "partial(Colours, sides=(1, 16), width=16, latent=2, patch=2)"}}


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_a_reader_can_make_a_section_their_own(section, tmp_path, monkeypatch):
    """The code of "Make it your own", as it stands there, on a folder of 18 pictures."""
    text = classroom.asked(section)[1]["Make it your own"]
    code = re.search(r"```python\n(.+?)```", text, re.S)[1].replace("~/Pictures", str(tmp_path))
    for number in range(18):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(kept, "TRAINED", tmp_path / "trained")
    names = definitions(section)
    names |= {name: eval(source, names) for name, source in USED.get(section, {}).items()}
    exec(code, names)
    assert names["mine"].train.shape[0] == 17 and names["own"]
    assert list((tmp_path / "trained" / "mine").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        ("**Open question** (20 min)", "has no open question"),
        ("**Make it your own** (", "has no make it your own"),
        ("*The short path", "has no short path"),
        ("**31.4.2** (easy, 10 min)", "31.4.2 needs its level, minutes and title"),
    ],
)
def test_a_notebook_that_lacks_what_the_page_needs_costs_a_sentence(
    cut, words, tmp_path, monkeypatch
):
    text = classroom.notebook_of("31.4").read_text()
    path = tmp_path / "31.4_mine.ipynb"
    path.write_text(text.replace(cut, "gone"))
    monkeypatch.setattr(classroom, "notebook_of", lambda section: path)
    with pytest.raises(SystemExit, match=words):
        classroom.main(["instructor", "31.4"])


def handed_in(section: str, answers: dict[str, str]):
    """The student's notebook with these answers in the place of stubs, {exercise: code}."""
    book = nbformat.read(classroom.COURSE / "release" / section / f"{section}.ipynb", 4)
    for cell in book.cells:
        if cell.id.startswith("answer-"):
            cell.source = answers.get(
                cell.id.removeprefix("answer-").replace("-", "."), cell.source
            )
    return book


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    pytest.importorskip("nbgrader")
    before, classroom.COURSE = classroom.COURSE, tmp_path_factory.mktemp("a course, ü")
    yield classroom.COURSE
    classroom.COURSE = before


@pytest.mark.slow
def test_a_class_is_graded_whatever_it_hands_in(course, monkeypatch):
    section, box = "31.4", course / "handed in"
    path = classroom.assign(section, seed=3)
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        student = json.loads(file.read(f"{section}/notebooks/{section}.ipynb"))
    assert f"{section}/companion/metrics/__init__.py" in names
    assert "BEGIN" not in str(student) and "seed=3" not in str(student)

    monkeypatch.setattr(classroom, "SECONDS", 20)
    box.mkdir()
    right = {number: written(number) for number in EXERCISES}
    stub = "def {0}(*given):\n    {1}"
    wrong = {number: stub.format(EXERCISES[number].solve.__name__, "return 1") for number in right}
    solved = lambda **other: handed_in(
        section, right | {f"31.4.{k[1:]}": v for k, v in other.items()}
    )
    (box / "Müller, Ana").mkdir()
    nbformat.write(solved(), box / "Müller, Ana" / "31.4.ipynb")
    nbformat.write(handed_in(section, {}), box / "empty_31.4.ipynb")
    nbformat.write(solved(_1=wrong["31.4.1"], _3=wrong["31.4.3"]), box / "wrong.ipynb")
    loud = right["31.4.2"].replace("return", "import sys; print(1, file=sys.stderr)\n    return")
    nbformat.write(solved(_2=loud), box / "loud.ipynb")
    nbformat.write(solved(_2=stub.format("kept", "import sys; sys.exit()")), box / "exits.ipynb")
    nbformat.write(solved(_3=stub.format("gaussian_total_correlation", "while True: pass")), box / "loops.ipynb")  # fmt: skip
    nbformat.write(solved(_1="from companion.exercises.s31_4 import gap_of"), box / "borrows.ipynb")
    nbformat.write(solved(_5="import os\nos._exit(1)"), box / "dies.ipynb")
    cut = solved()
    cut.cells = [cell for cell in cut.cells if cell.id != "check-31-4-4"]
    nbformat.write(cut, box / "cut.ipynb")
    nbformat.write(handed_in(section, {}), box / "Müller_ Ana.ipynb")  # another student
    (box / "no json.ipynb").write_text("hello")
    (box / "nothing").mkdir()
    nbformat.write(handed_in(section, {}), box / "twice.ipynb")
    time.sleep(1.1)
    (box / "twice").mkdir()
    nbformat.write(solved(), box / "twice" / "new.ipynb")

    with classroom.grade(section, box, seed=3).open(encoding="utf-8-sig") as file:
        table = {row["student"]: row for row in csv.DictReader(file)}
    scores = {name: row["total"] for name, row in table.items() if row["total"]}
    assert scores == {
        "Müller, Ana": "5.0", "Müller_ Ana": "0.0", "empty": "0.0", "wrong": "3.0", "loud": "5.0", "exits": "4.0",
        "loops": "4.0", "borrows": "4.0", "dies": "0", "cut": "5.0", "no json": "0", "twice": "5.0",
    }  # fmt: skip
    assert "ended its own kernel" in table["dies"]["note"]
    assert "the file is no notebook" in table["no json"]["note"]
    assert "holds no notebook" in table["nothing"]["note"]
    assert "handed in later" in table["twice, an earlier copy"]["note"]
    assert len(list((course / "feedback").rglob("*.html"))) == 10


def test_bad_calls_cost_a_sentence(tmp_path):
    for arguments, words in (
        (["assignment", "31.9"], "There is no notebook 31.9"),
        (["grade", "31.4", str(tmp_path / "none")], "is no folder"),
        (["grade", "31.4", str(tmp_path)], "holds no notebook"),
    ):
        with pytest.raises(SystemExit, match=words), warnings.catch_warnings():
            classroom.main(arguments)
