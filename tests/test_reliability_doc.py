"""docs/reference/reliability.md promises nothing that no test proves."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reference" / "reliability.md").read_text(encoding="utf-8")
ROWS = [
    line
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| guarantee |")
]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.mark.parametrize("row", ROWS, ids=[row[2:60] for row in ROWS])
def test_a_promise_names_tests_that_exist(row: str) -> None:
    promise, proof = (cell.strip() for cell in row.strip("|").split("|"))
    named = TEST.findall(proof)
    assert promise and named, row
    assert proof.count("`") == 2 * len(named), f"not each name in it is a test: {proof}"
    for file, function in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in functions and function.startswith("test_"), f"{file} has no {function}"


def test_the_page_holds_promises() -> None:
    assert len(ROWS) > 25
