"""`onmodel release push`, a process of its own against a local stand-in of the hub: what leaves the
machine, and what not."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from onmodel.hashing import sha256_file
from onmodel.release.verify import verify
from tests.support.command_line import onmodel
from tests.support.hub import Hub, running

NAME = "someone/backgwa"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as hub:
        yield hub


def push(
    hub: Hub,
    folder: Path,
    *words: str,
    xet: bool = False,
    token: str | None = None,
    home: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    return onmodel(
        *("release", "push", folder, NAME, *words),
        HF_ENDPOINT=hub.address,
        HF_TOKEN=hub.token if token is None else token,
        HF_HOME=str(home or folder.parent / "hf"),
        HF_HUB_DISABLE_XET="" if xet else "1",
        NO_PROXY="127.0.0.1",
    )


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_without_yes_nothing_leaves_the_machine(hub: Hub, folder: Path) -> None:
    run = push(hub, folder)
    assert run.returncode == 0, run.stderr
    assert hub.requests == []
    assert all(name in run.stdout for name in names(folder))
    assert "nothing was uploaded; add --yes" in run.stdout and NAME in run.stdout


def test_a_pushed_release_is_there_byte_for_byte_in_one_commit(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    run = push(hub, folder, "--yes", "--private", "--json")
    assert run.returncode == 0, run.stderr
    assert hub.repositories[NAME]["visibility"] == "private" and len(hub.commits) == 1
    assert hub.commits[0]["summary"] == f"Release {folder.name}"
    assert {
        f"POST /{NAME}.git/info/lfs/objects/batch",
        f"POST /api/models/{NAME}/preupload/main",
    } <= set(hub.requests)
    assert set(hub.files) == names(folder) | {".gitattributes"}
    for name in hub.files:
        path = tmp_path / "downloaded" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hub.content(name))
    assert verify(tmp_path / "downloaded")
    table = json.loads(run.stdout)
    assert table["url"] == f"{hub.address}/{NAME}" and table["beside"] == []
    assert table["bytes"] == sum((folder / name).stat().st_size for name in names(folder))


def test_the_default_transfer_through_xet(hub: Hub, folder: Path) -> None:
    """hf_xet reads, cuts and hashes; the commit names each large file by the hash that hf_xet
    found."""
    run = push(hub, folder, "--yes", xet=True)
    assert run.returncode == 0, run.stderr
    large = {name: entry for name, entry in hub.files.items() if isinstance(entry, tuple)}
    assert any(name.endswith(".safetensors") for name in large) and any(
        name.endswith(".png") for name in large
    )
    for name, (sha256, size) in large.items():
        assert (sha256, size) == (sha256_file(folder / name), (folder / name).stat().st_size)
    assert sum(map(len, hub.blobs)) > 0 and not hub.objects
    assert f"GET /api/models/{NAME}/xet-write-token/main" in hub.requests


def test_an_existing_repository_keeps_its_other_files(hub: Hub, folder: Path) -> None:
    assert push(hub, folder, "--yes").returncode == 0
    hub.files["older.safetensors"] = b"x"
    run = push(hub, folder, "--yes")
    assert run.returncode == 0, run.stderr
    assert "other file in the repository, left as it is: older.safetensors" in run.stdout
    assert hub.files["older.safetensors"] == b"x"


@pytest.mark.parametrize("fault", ["bytes", "card", "not ours", "name"])
def test_what_is_wrong_is_not_pushed(hub: Hub, folder: Path, fault: str) -> None:
    if fault == "bytes":
        weights = next(folder.glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    if fault == "card":
        from tests.support.built_release import edit, rebind

        edit("README.md", "## Files", "Right in 87.5 % of pictures.\n\n## Files")(folder)
        rebind(folder)
    if fault == "not ours":
        (folder / "lineage.json").unlink()
    run = push(hub, folder, "--yes") if fault != "name" else push(hub, folder / "nowhere", "--yes")
    assert run.returncode in (1, 2) and run.stderr.strip().splitlines()[-1].startswith(
        "onmodel: "
    ), run.stderr
    assert hub.requests == []


@pytest.mark.parametrize(("token", "fails"), [("wrong", ""), (None, "/commit/")])
def test_a_hub_that_refuses_ends_in_one_line(
    hub: Hub, folder: Path, token: str | None, fails: str
) -> None:
    hub.fails = fails
    run = push(hub, folder, "--yes", token=token)
    last = run.stderr.strip().splitlines()[-1]
    assert run.returncode == 1 and last.startswith(f"onmodel: {NAME}: the hub refused"), run.stderr
    assert "Traceback" not in run.stderr and not hub.commits
    hub.fails = ""
    assert push(hub, folder, "--yes").returncode == 0


def test_no_network_ends_in_one_line(folder: Path) -> None:
    with running() as hub:
        pass
    run = push(hub, folder, "--yes")
    assert run.returncode == 1 and "Traceback" not in run.stderr and "the hub refused" in run.stderr
