"""What a notebook's cells define, for the tests of it."""

import ast

from companion import retrain


def definitions(section: str) -> dict:
    """The imports, classes and functions of notebook `section`, "31.3", and nothing else it does."""
    (path,) = retrain.NOTEBOOKS.glob(f"{section}_*.ipynb")
    kinds, names = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef), {}
    for source in retrain.code_cells(path):
        for node in ast.parse(source).body:
            if isinstance(node, kinds):
                exec(ast.unparse(node), names)
    return names
