"""Wrong versions of a right function, made by machine: an exercise's check must refuse them."""

import ast
import copy
import inspect
from collections.abc import Callable, Iterator
from itertools import combinations

import torch

PAIRS = (
    ("mean", "sum"), ("amax", "amin"), ("max", "min"), ("logsumexp", "sum"), ("exp", "log"),
    ("cumsum", "cumprod"), ("ceil", "floor"), ("sin", "cos"), ("square", "abs"),
)  # fmt: skip
OTHER_NAMES = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
OTHER_SIGNS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Lt: ast.GtE, ast.LtE: ast.Lt, ast.Gt: ast.LtE, ast.GtE: ast.Gt,
}  # fmt: skip
DROPPED = {"relu", "clamp", "log", "exp", "sqrt", "square", "abs", "logsumexp", "floor"}


def of_arguments(solve: Callable, cases: list[tuple]) -> Iterator[tuple[str, Callable]]:
    """Each argument ignored (the first case's always), perturbed, and exchanged with each other one."""
    first = copy.deepcopy(cases[0])
    for i in range(len(first)):
        fixed = lambda *given, i=i: solve(*given[:i], copy.deepcopy(first[i]), *given[i + 1 :])
        yield f"argument {i} ignored", fixed
        moved = lambda *given, i=i: solve(*given[:i], perturbed(given[i]), *given[i + 1 :])
        yield f"argument {i} perturbed", moved
    for i, j in combinations(range(len(first)), 2):
        order = list(range(len(first)))
        order[i], order[j] = j, i
        yield (
            f"{i} and {j} exchanged",
            lambda *given, order=order: solve(*(given[k] for k in order)),
        )


def perturbed(value):
    """A number or tensor a little larger, an index or a count one higher, a dict with its values so."""
    if isinstance(value, dict):  # not all alike, for a share would not feel it
        return {key: part * (1.3 if key else 1) for key, part in value.items()}
    if isinstance(value, torch.Tensor):
        return value.roll(1, -1) if not value.is_floating_point() else value * 1.1 + 0.05
    return value + 1 if isinstance(value, int) else value * 1.1


def of_code(solve: Callable) -> Iterator[tuple[str, Callable]]:
    """Each constant, sign, comparison, name of a reduction and call of the source changed, one at a time."""
    tree = ast.parse(inspect.getsource(solve))
    count = sum(1 for _ in ast.walk(tree))
    for place in range(count):
        for way in range(4):
            changed = copy.deepcopy(tree)
            parents = {
                child: node for node in ast.walk(changed) for child in ast.iter_child_nodes(node)
            }
            node = list(ast.walk(changed))[place]
            if what := change(node, parents, way):
                names = dict(inspect.getmodule(solve).__dict__)
                exec(compile(ast.fix_missing_locations(changed), "mutant", "exec"), names)
                yield f"{what}: {ast.unparse(changed)}", names[solve.__name__]


def change(node: ast.AST, parents: dict, way: int) -> str | None:
    """Change a node in place, the `way`-th time differently; what was done, or None where nothing is to do."""
    number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
    if number and way < 3:
        node.value = (node.value + 1, node.value - 1, 2 * node.value + 3)[way]
        return "constant"
    if way:
        return None
    if isinstance(node, ast.BinOp) and type(node.op) in OTHER_SIGNS:
        node.op = OTHER_SIGNS[type(node.op)]()
        return "sign"
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER_SIGNS:
        node.ops = [OTHER_SIGNS[type(node.ops[0])]()]
        return "comparison"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node.op = ast.UAdd()
        return "sign"
    if isinstance(node, ast.Attribute) and node.attr in OTHER_NAMES:
        node.attr = OTHER_NAMES[node.attr]
        return "reduction"
    if isinstance(node, ast.Name) and node.id in OTHER_NAMES:
        node.id = OTHER_NAMES[node.id]
        return "reduction"
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in DROPPED
    ):
        whole = isinstance(node.func.value, ast.Name) and node.func.value.id in ("torch", "math")
        inner = node.args[0] if whole else node.func.value
        for field, value in ast.iter_fields(parents[node]):
            if value is node:
                setattr(parents[node], field, inner)
            elif isinstance(value, list) and node in value:
                value[value.index(node)] = inner
        return f"without {node.func.attr}"
    return None
