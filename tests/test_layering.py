"""Imports go one way, and the light part of the package stays light."""

import ast
import subprocess
import sys
from pathlib import Path

from tests.support.command_line import imported

HEAVY = {"torch", "diffusers", "transformers", "peft", "accelerate", "scipy", "onnxruntime"}
PACKAGE = Path(__file__).parent.parent / "onmodel"

# Each rank may import those before it, not its own neighbours and not what follows.
RANKS = (
    {"text", "version", "prompt_syntax"},
    {"errors", "freed_memory"},
    {"command_settings", "hashing", "locking", "paths", "reading", "failures", "validation"}
    | {"devices"},
    {"randomness", "checked", "processes", "transfer", "weights"},
    {"records", "events", "policy"},
    {"character", "ledger"},
    {"toon"},
    {"families"},
    {"lora"},
    {"dataset"},
    {"train", "sample"},
    {"evaluate"},
    {"curate", "release"},
    {"stages", "experiment"},
    {"recipe"},
    {"engine"},
    {"doctor", "report", "sheet_draft", "starter"},
    {"project_check", "judge"},
    {"api"},
    {"studio"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}


def package_imports() -> list[tuple[str, str, str]]:
    """(file, importing package, imported package) for every import inside onmodel, also those
    inside functions."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        own = relative.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = (
                    [node.module]
                    if node.module != "onmodel"
                    else [f"onmodel.{alias.name}" for alias in node.names]
                )
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                parts = name.split(".")
                if (
                    parts[0] == "onmodel"
                    and len(parts) > 1
                    and parts[1] in RANK
                    and parts[1] != own
                ):
                    found.append((relative.as_posix(), own, parts[1]))
    return found


def test_every_package_has_a_rank() -> None:
    here = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert here - {"__init__"} == set(RANK)


def test_imports_go_one_way() -> None:
    wrong = [
        f"{file}: {own} imports {other}"
        for file, own, other in package_imports()
        if own != "__init__" and RANK[other] >= RANK[own]
    ]
    assert wrong == []


def graph() -> dict[str, set[str]]:
    """Module → the modules of onmodel that it imports anywhere, for types too."""
    paths = {
        ".".join(("onmodel", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in PACKAGE.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for module, path in paths.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                whole = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                names |= {name if name in paths else node.module for name in whole.values()}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        found[module] = names & set(paths) - {module}
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = graph()
    while free := [module for module, names in left.items() if not names & set(left)]:
        for module in free:
            del left[module]
    assert left == {}


def test_a_plan_loads_no_torch(tmp_path: Path) -> None:
    recipe = PACKAGE.parent / "recipes" / "demo.toml"
    modules = imported("run", recipe, "--project", tmp_path / "p", "--dry-run")
    assert not HEAVY & modules
    assert "onmodel.stages.train" in modules  # else nothing was planned


def test_the_doctor_loads_nothing_heavy_but_torch_and_that_for_a_card() -> None:
    assert HEAVY & imported("doctor") <= {"torch"}


def test_help_and_import_load_no_torch() -> None:
    heavy = "{'torch', 'diffusers', 'transformers', 'numpy', 'PIL'}"
    code = f"import sys, onmodel.cli.main; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
