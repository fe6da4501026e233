"""Sign a release folder with a private key, and check such a signature: OpenSSF model-signing,
offline, EC keys.

The signature stands beside the release as `model.sig`, a Sigstore bundle over the hash of every
file. It says who made the release; verify.py alone says that its parts belong together.
https://github.com/sigstore/model-transparency
"""

import base64
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onmodel.errors import InputError, VerifyError
from onmodel.hashing import write_atomic
from onmodel.reading import parse_json, read_bytes
from onmodel.release.folder import CHECKSUMS, SIDE_FILES, SIGNATURE, hashes
from onmodel.release.verify import verify

if TYPE_CHECKING:
    from model_signing.hashing import Config

CURVES = "P-256, P-384 or P-521"


def sign(folder: Path, key: Path) -> str:
    """Verify a release folder and write its signature; a line that says so.

    Raises InputError for a key that is none, VerifyError for a folder that is damaged: that is
    never signed.
    """
    signing = _library("signing", key)
    if not folder.is_dir():
        raise InputError("folder", folder, "name a release folder that onmodel made")
    read_bytes(key, "--key")
    try:
        config = (
            signing.Config()
            .use_elliptic_key_signer(private_key=key)
            .set_hashing_config(_hashing(key))
        )
    except _key_errors() as error:
        remedy = (
            f"is not a private EC key ({CURVES}) in PEM form without a password; "
            "docs/how-to/release-and-sign.md says how to make one"
        )
        raise InputError("--key", key, remedy) from error
    verify(folder)
    with tempfile.TemporaryDirectory() as work:
        config.sign(folder, Path(work) / SIGNATURE)
        write_atomic(folder / SIGNATURE, (Path(work) / SIGNATURE).read_bytes())
    return f"{folder / SIGNATURE}: signs {len(hashes(folder)) + 1} files"


def check_signature(folder: Path, key: Path) -> str:
    """Hold a verified folder against its signature and a public key; a line that says what is
    signed.

    Raises InputError for a key that is none, VerifyError where the signature is missing, another's
    or of other files.
    """
    verifying = _library("verifying", key)
    if not folder.is_dir():
        raise InputError(
            "path", folder, "is one file; a signature is over a whole release folder, so name that"
        )
    read_bytes(key, "--key")
    try:
        config = (
            verifying.Config()
            .use_elliptic_key_verifier(public_key=key)
            .set_hashing_config(_hashing(key))
        )
    except _key_errors() as error:
        raise InputError("--key", key, f"is not a public EC key ({CURVES}) in PEM form") from error
    if not (folder / SIGNATURE).is_file():
        raise VerifyError(SIGNATURE, "is missing: the release is not signed")
    from cryptography.exceptions import InvalidSignature

    try:
        signed = _signed_names(folder / SIGNATURE)
        config.verify(folder, folder / SIGNATURE)
    except (
        InvalidSignature,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        InputError,
    ) as error:
        what = (
            f"does not sign this folder with {key.name}: it was made by another key, for other"
            " files, or is damaged"
        )
        raise VerifyError(SIGNATURE, what) from error
    unsigned = sorted({*hashes(folder), CHECKSUMS} - signed)
    if unsigned:
        raise VerifyError(unsigned[0], f"is not among the files that {SIGNATURE} signs")
    return f"{SIGNATURE}: {len(signed)} files are signed by the key {key.name}"


def _signed_names(file: Path) -> set[str]:
    """The files that a signature is over. Whether it is a good one is model-signing's question."""
    bundle = parse_json(read_bytes(file, SIGNATURE).decode())
    statement = parse_json(base64.b64decode(bundle["dsseEnvelope"]["payload"]).decode())
    return {row["name"] for row in statement["predicate"]["resources"]}


def _hashing(key: Path) -> "Config":
    """Every file but those that are no part of a release."""
    hashing = _library("hashing", key)
    config: Config = hashing.Config().set_ignored_paths(
        paths=sorted(SIDE_FILES), ignore_git_paths=False
    )
    return config


def _key_errors() -> tuple[type[Exception], ...]:
    """What model-signing and cryptography raise for a file that is not a key, or one of another
    kind."""
    from cryptography.exceptions import UnsupportedAlgorithm

    return (ValueError, TypeError, AttributeError, UnsupportedAlgorithm)


def _library(module: str, key: Path) -> Any:
    """Import a module of model-signing, an optional extra with sixteen packages."""
    try:
        return import_module(f"model_signing.{module}")
    except ImportError as error:
        remedy = (
            "signatures need two more packages: pip install 'model-signing>=1.1.1' 'pyOpenSSL>=26'"
        )
        raise InputError("--key", key, remedy) from error
