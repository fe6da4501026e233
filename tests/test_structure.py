"""What the source files may hold."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "onmodel"


def test_nothing_below_cli_prints_or_imports_rich() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if "cli" in path.relative_to(PACKAGE).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            prints = isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
            if prints or any(name.partition(".")[0] == "rich" for name in imported(node)):
                wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)}")  # type: ignore[attr-defined]
    assert wrong == []


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []
