"""The public functions: what `import onmodel` costs, and the examples of docs/reference/api.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import onmodel
from onmodel.evaluate.evaluation import Evaluation
from tests.support.lora_files import write

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "api.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, onmodel; print(sorted(name for name in sys.modules if 'onmodel' in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['onmodel']\n"


def test_every_public_name_is_there_and_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in onmodel.__all__:
        assert getattr(onmodel, name).__doc__ and f"| `{name}" in text, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        onmodel.nothing  # noqa: B018


def test_a_lora_is_read_and_converted_as_in_the_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my.safetensors", 1)
    exec(EXAMPLES[0], {})
    assert capsys.readouterr().out.count("\n") == len(onmodel.read_lora("my.safetensors").modules)
    assert (tmp_path / "my-kohya.safetensors").exists()
    with pytest.raises(onmodel.InputError, match="exists already"):
        onmodel.convert_lora("my.safetensors", "my-kohya.safetensors", "kohya")


@pytest.mark.slow
def test_a_recipe_runs_and_its_checkpoints_are_compared_as_in_the_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Path(__file__).with_name("tiny_recipe.toml").resolve()
    monkeypatch.chdir(tmp_path)
    text = EXAMPLES[1].replace("recipes/demo.toml", str(recipe)).replace("preview", "first")
    space: dict[str, object] = {}
    exec(text, space)
    files = sorted(space["artifacts"]["first"].path.glob("*.safetensors"))  # type: ignore[index]
    for name, file in zip("ab", (files[0], files[-1]), strict=True):
        (tmp_path / f"{name}.safetensors").write_bytes(file.read_bytes())
    exec(EXAMPLES[2], space)
    found = space["found"]
    assert isinstance(found, Evaluation) and [model.name for model in found.models] == ["a", "b"]
