"""A signed release is its author's: another key, another file or a damaged signature is one
line."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from typer.testing import CliRunner

from onmodel.cli.main import app
from onmodel.errors import InputError, VerifyError
from onmodel.release import signature
from onmodel.release.folder import CHECKSUMS, LINEAGE, SIGNATURE
from onmodel.release.push import plan_push
from onmodel.release.signature import check_signature, sign
from onmodel.release.verify import verify
from tests.support.built_release import edit, rebind

PEM = serialization.Encoding.PEM
KINDS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "other": lambda: ec.generate_private_key(ec.SECP256R1()),
    "k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`NAME.pem` and `NAME.pub.pem` of every kind; `locked.pem` has a password."""
    home = tmp_path_factory.mktemp("keys")
    plain, form = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    for name, make in KINDS.items():
        key = make()
        (home / f"{name}.pem").write_bytes(key.private_bytes(PEM, form, plain))
        public = key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (home / f"{name}.pub.pem").write_bytes(public)
    locked = KINDS["p256"]().private_bytes(PEM, form, serialization.BestAvailableEncryption(b"x"))
    (home / "locked.pem").write_bytes(locked)
    (home / "empty.pem").write_bytes(b"")
    return home


@pytest.mark.parametrize("kind", ["p256", "p384", "p521"])
def test_a_signed_release_verifies_with_its_key_in_any_place(
    folder: Path, keys: Path, kind: str, tmp_path: Path
) -> None:
    assert sign(folder, keys / f"{kind}.pem").endswith("signs 16 files")
    assert len(verify(folder)) == 8  # the signature is no part of what it signs
    there = Path(shutil.copytree(folder, tmp_path / "downloaded"))
    (there / ".gitattributes").write_text("* text")
    (there / ".cache").mkdir()
    (there / ".cache" / "x").write_text("")
    assert (
        check_signature(there, keys / f"{kind}.pub.pem")
        == f"model.sig: 16 files are signed by the key {kind}.pub.pem"
    )
    assert str(folder.parent) not in (folder / SIGNATURE).read_text()
    assert (SIGNATURE, (folder / SIGNATURE).stat().st_size) in plan_push(folder, "me/lora").files


def test_a_release_that_was_built_anew_by_another_does_not_verify(folder: Path, keys: Path) -> None:
    """All hashes fit together, as if it had been made so; the signature does not."""
    sign(folder, keys / "p256.pem")
    for name, change in [
        (LINEAGE, b" "),
        (CHECKSUMS, b"\n"),
        ("README.md", b"\n"),
        ("images/outfit-beach.png", b"x"),
    ]:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data + change)
        with pytest.raises(VerifyError, match=r"^model\.sig: does not sign this folder with p256"):
            check_signature(folder, keys / "p256.pub.pem")
        (folder / name).write_bytes(data)
    (folder / "more.txt").write_text("more")
    with pytest.raises(VerifyError, match="does not sign this folder"):
        check_signature(folder, keys / "p256.pub.pem")


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        "[]",
        "[" * 5000,
        '{"a": 1, "a": 2}',
        '{"dsseEnvelope": 3}',
        '{"dsseEnvelope": {"payload": "e30="}}',
        "\xff",
    ],
)
def test_a_signature_that_is_none_is_one_line(folder: Path, keys: Path, damaged: str) -> None:
    (folder / SIGNATURE).write_bytes(damaged.encode("latin-1"))
    with pytest.raises(VerifyError, match=r"^model\.sig: does not sign this folder") as error:
        check_signature(folder, keys / "p256.pub.pem")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["payload", "sig", "hint", "signatures", "payloadType"])
def test_every_part_of_a_signature_counts(folder: Path, keys: Path, part: str) -> None:
    sign(folder, keys / "p256.pem")
    sign(folder, keys / "p256.pem")  # again: the old one is no part of what is signed
    bundle = json.loads((folder / SIGNATURE).read_text())
    envelope = bundle["dsseEnvelope"]
    if part == "sig":
        envelope["signatures"][0]["sig"] = "MEUCIQ" + envelope["signatures"][0]["sig"][:-6]
    elif part == "signatures":
        envelope["signatures"] = []
    elif part == "hint":
        bundle["verificationMaterial"]["publicKey"]["hint"] = "0" * 64
    elif part == "payload":
        envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
    else:
        envelope["payloadType"] = "text/plain"
    (folder / SIGNATURE).write_text(json.dumps(bundle))
    with pytest.raises(VerifyError, match="does not sign this folder"):
        check_signature(folder, keys / "p256.pub.pem")


def test_another_key_and_no_signature_are_one_line(folder: Path, keys: Path) -> None:
    with pytest.raises(VerifyError, match=r"^model\.sig: is missing: the release is not signed$"):
        check_signature(folder, keys / "p256.pub.pem")
    sign(folder, keys / "p256.pem")
    for other in ("other", "p384"):
        with pytest.raises(VerifyError, match=f"does not sign this folder with {other}"):
            check_signature(folder, keys / f"{other}.pub.pem")


@pytest.mark.parametrize("name", ["k1", "rsa", "ed25519", "locked", "empty", "p256.pub", "gone"])
def test_what_is_no_private_key_signs_nothing(folder: Path, keys: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"^--key: .*(not a private EC key|no such file)"):
        sign(folder, keys / f"{name}.pem")
    assert not (folder / SIGNATURE).exists()


@pytest.mark.parametrize("name", ["k1.pub", "rsa.pub", "ed25519.pub", "empty", "p256", "gone"])
def test_what_is_no_public_key_is_a_users_mistake(folder: Path, keys: Path, name: str) -> None:
    sign(folder, keys / "p256.pem")
    with pytest.raises(InputError, match=r"^--key: .*(not a public EC key|no such file)"):
        check_signature(folder, keys / f"{name}.pem")


def test_a_damaged_release_is_not_signed(folder: Path, keys: Path) -> None:
    edit("README.md", "## Files", "More.\n\n## Files")(folder)
    rebind(folder)
    with pytest.raises(VerifyError, match=r"README\.md"):
        sign(folder, keys / "p256.pem")
    assert not (folder / SIGNATURE).exists()
    with pytest.raises(InputError, match="folder"):
        sign(folder / "README.md", keys / "p256.pem")


def test_without_the_extra_a_line_says_what_to_install(
    folder: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(signature, "import_module", missing)
    for command in (sign, check_signature):
        with pytest.raises(
            InputError, match=r"pip install 'model-signing>=1\.1\.1' 'pyOpenSSL>=26'$"
        ):
            command(folder, keys / "p256.pem")


def test_the_commands_sign_and_verify(folder: Path, keys: Path) -> None:
    def onmodel(*words: str) -> Result:
        return CliRunner().invoke(app, words)

    assert onmodel("release", "sign", str(folder), "--key", str(keys / "p256.pem")).exit_code == 0
    good = onmodel("release", "verify", str(folder), "--key", str(keys / "p256.pub.pem"))
    assert good.exit_code == 0 and good.stdout.splitlines()[-1].startswith(
        "model.sig: 16 files are signed"
    )
    bad = onmodel("release", "verify", str(folder), "--key", str(keys / "other.pub.pem"))
    assert isinstance(bad.exception, VerifyError) and bad.exception.exit_code == 1
    alone = onmodel(
        "release",
        "verify",
        str(next(folder.glob("*.safetensors"))),
        "--key",
        str(keys / "p256.pub.pem"),
    )
    assert "a signature is over a whole release folder" in str(alone.exception)
