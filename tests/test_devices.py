"""Devices by torch's names, and that nothing else asks torch about a card. No card was there: cards
are made up by replacing torch's answers."""

import re
from pathlib import Path

import pytest
import torch

from onmodel import devices
from onmodel.doctor.environment import installation
from onmodel.engine import local
from onmodel.engine.project import Project
from onmodel.errors import InputError
from onmodel.events import Event, Events
from onmodel.families.registry import SHIPPED, load_base, parse_base
from onmodel.recipe import load_recipe

PACKAGE = Path(devices.__file__).parent
# Who may name a kind of card, and why.
NAMES_CARDS = {
    "devices.py": "the one place",
    "engine/cluster/engine.py": "forecasts the memory of a card that another machine has",
    "engine/running.py": "notes the largest allocation of a stage, which NVIDIA's and AMD's tell",
    "families/held.py": "copies swapped blocks on a stream of their own; elsewhere without one",
    "freed_memory.py": "gives back what the allocator of a card keeps",
    "train/fitting.py": "swaps blocks where the card's memory is not the host's",
    "train/optimizers.py": "bitsandbytes works on NVIDIA cards alone",
}
# Calls that only POSIX has: where they stand there is a fallback for Windows.
POSIX = {
    "dataset/decoder.py": {"import resource"},
    "processes.py": {"os.sched_getaffinity"},
    "studio/jobs.py": {"start_new_session"},
}
# Modules that only POSIX has, at the top of a test: the file could not even be collected.
_POSIX_TOP = re.compile(r"^(?:import|from) (?:fcntl|resource|pwd|grp|termios)\b", re.M)
_POSIX_CALL = re.compile(
    r"os\.(?:fork|killpg|setsid|getuid|geteuid|nice|sync|statvfs|getpgid|sched_\w+)\b"
    r"|signal\.(?:SIGKILL|SIGALRM|SIGUSR\d|SIGHUP|alarm|setitimer)\b"
    r"|\bimport (?:fcntl|resource|pwd|grp|termios)\b|start_new_session|preexec_fn"
)


def sources() -> dict[str, str]:
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def a_card(monkeypatch: pytest.MonkeyPatch, name: str, count: int = 1) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(name))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:1", "mps", "xpu", "xpu:3"])
def test_torchs_names_are_read(name: str) -> None:
    assert parse_base({"folder": "base", "device": name}).device == name


@pytest.mark.parametrize(
    "name",
    [
        "gpu",
        "cuda:",
        "cuda:-1",
        "CUDA",
        "meta",
        "cuda:1:2",
        "",
        "cpu:5",
        "cuda:01",
        "cuda:\N{ARABIC-INDIC DIGIT SIX}",
        "cuda:999",
    ],
)
def test_another_name_is_refused_with_those_that_work(name: str) -> None:
    with pytest.raises(InputError, match=r'base\.device: .*write "auto", "cpu", "cuda"'):
        parse_base({"folder": "base", "device": name})


def test_auto_is_the_card_or_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert devices.find_device("auto", "device").type == "cpu"
    for name in ("cuda", "mps", "xpu"):
        a_card(monkeypatch, name)
        assert devices.find_device("auto", "device").type == name
    a_card(monkeypatch, "hpu")  # a kind that we have no rules for
    assert devices.find_device("auto", "device").type == "cpu"


def test_a_card_that_is_not_there_is_said_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(InputError, match=r'base\.device: mps — .*finds no card; use "auto"'):
        load_base({"folder": str(tmp_path / "none"), "device": "mps"})
    a_card(monkeypatch, "cuda", count=2)
    with pytest.raises(InputError, match="there are 2, numbered from 0"):
        devices.find_device("cuda:2", "base.device")
    with pytest.raises(InputError, match='finds cuda; use "auto"'):
        devices.find_device("xpu", "base.device")


def test_a_run_names_a_card_that_is_not_there_before_its_first_stage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    recipe = load_recipe(Path(__file__).parent / "tiny_recipe.toml")
    monkeypatch.setitem(SHIPPED["toon"], "device", "xpu")
    events: list[Event] = []
    with pytest.raises(InputError, match=r"base\.device: xpu"):
        local.run(recipe, Project(tmp_path), Events(events.append))
    assert events == []


def test_numbers_are_bfloat16_where_a_card_has_it_and_never_float16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert devices.default_dtype(torch.device("cpu")) is torch.float32
    for able, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.xpu, "is_bf16_supported", lambda able=able, **_: able)
        assert devices.default_dtype(torch.device("xpu")) is dtype


def test_doctor_names_the_card_and_that_it_was_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    a_card(monkeypatch, "xpu")
    facts = devices.DeviceFacts(torch.device("xpu"), "a card", 8 * 2**30, True)
    monkeypatch.setattr("onmodel.doctor.environment.facts_of", lambda _: facts)
    monkeypatch.setattr("onmodel.doctor.environment._may_have_card", lambda: True)
    (row,) = [row for row in installation() if row.about == "card"]
    assert row.text.startswith("xpu: a card, 8.0 GiB") and row.text.endswith("not tested by us")


def test_the_processor_tells_its_memory() -> None:
    cpu = torch.device("cpu")
    assert 0 < devices.used_memory(cpu) < devices.facts_of(cpu).memory
    assert 0 < devices.free_memory(cpu) <= devices.facts_of(cpu).memory


def test_one_module_asks_torch_about_cards() -> None:
    pattern = re.compile(r"torch\.(?:cuda|mps|xpu|accelerator|backends)\b|[\"'](?:cuda|mps|xpu)\b")
    naming = {name for name, text in sources().items() if pattern.search(text)}
    assert naming == set(NAMES_CARDS)


def test_calls_that_only_posix_has_stand_where_a_fallback_was_checked() -> None:
    found = {name: set(_POSIX_CALL.findall(text)) for name, text in sources().items()}
    assert {name: calls for name, calls in found.items() if calls} == POSIX


def test_test_modules_import_nothing_that_windows_lacks() -> None:
    folder = Path(__file__).parent
    wrong = [
        path.name
        for path in sorted(folder.rglob("test_*.py"))
        if _POSIX_TOP.search(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []
