"""What a notebook's cells define, for the tests of it."""

import ast

from companion import retrain


def cells(section: str) -> list[str]:
    """The code cells of notebook `section`, "31.3"."""
    (path,) = retrain.NOTEBOOKS.glob(f"{section}_*.ipynb")
    return retrain.code_cells(path)


def definitions(section: str) -> dict:
    """The imports, classes and functions of notebook `section`, and nothing else it does."""
    kinds, names = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef), {}
    for source in cells(section):
        for node in ast.parse(source).body:
            if isinstance(node, kinds):
                exec(ast.unparse(node), names)
    return names
