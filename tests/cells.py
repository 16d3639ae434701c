"""What a notebook's cells define, for the tests of it."""

import ast

from companion import retrain


def cells(section: str) -> list[str]:
    """The code cells of notebook `section`, "31.3"."""
    (path,) = retrain.NOTEBOOKS.glob(f"{section}_*.ipynb")
    return retrain.code_cells(path)


def definitions(section: str) -> dict:
    """The imports, classes, functions and constants of notebook `section`; nothing else it does."""
    kinds, names = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef), {}
    for source in cells(section):
        for node in ast.parse(source).body:
            if isinstance(node, kinds) or is_constant(node):
                exec(ast.unparse(node), names)
    return names


def is_constant(node: ast.stmt) -> bool:
    """Whether a statement gives a name to a number, a text or a tuple of such."""
    if not isinstance(node, ast.Assign) or isinstance(node.targets[0], ast.Subscript):
        return False
    try:
        return ast.literal_eval(node.value) is not None
    except ValueError:
        return False
