"""A release folder to a Hugging Face repository, through huggingface_hub. What is uploaded was
checked and verified.

Nothing is deleted there: files of the repository that are no part of this release stay, and are
named.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from onmodel.errors import InputError, OnmodelError
from onmodel.release.check import check
from onmodel.release.folder import CHECKSUMS, LINEAGE, SIDE_FILES, SIGNATURE, hashes
from onmodel.release.verify import verify
from onmodel.text import one_line, shown

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Push:
    """What goes where: `files` as (path in the repository, bytes). `warnings` are check's, which do
    not stop it."""

    repository: str
    files: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...]


def plan_push(folder: Path, repository: str) -> Push:
    """Check and verify a folder, offline. Raises InputError, VerifyError, or OnmodelError naming
    the first error."""
    if not _REPOSITORY.fullmatch(repository):
        raise InputError("repository", repository, "write it as the hub does: your-name/your-lora")
    if not (folder / LINEAGE).is_file():
        raise InputError("folder", folder, f"has no {LINEAGE}; name a release that onmodel made")
    verify(folder)
    findings = check(folder)
    errors = [row for row in findings if row.status == "fail"]
    if errors:
        raise OnmodelError(
            f"{len(errors)} errors in {folder}, so nothing is pushed; the first: {errors[0]}"
        )
    signed = [SIGNATURE] if (folder / SIGNATURE).is_file() else []
    names = sorted([*hashes(folder), CHECKSUMS, *signed])
    files = tuple((name, (folder / name).stat().st_size) for name in names)
    return Push(repository, files, tuple(map(str, findings)))


def push(folder: Path, plan: Push, private: bool, message: str) -> tuple[str, list[str]]:
    """Make the repository where it is missing and upload in one commit; its address and the files
    that stay beside.

    Progress and token are huggingface_hub's own (HF_TOKEN, or `hf auth login`). Raises OnmodelError
    with its words.
    """
    import httpx2  # what huggingface_hub speaks through; its errors pass through that
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    names = [name for name, _ in plan.files]
    try:
        url = api.create_repo(plan.repository, private=private, exist_ok=True)
        patterns = [_literal(name) for name in names]
        api.upload_folder(
            repo_id=plan.repository,
            folder_path=folder,
            allow_patterns=patterns,
            commit_message=message,
        )
        there = api.list_repo_files(plan.repository)
    except (
        HfHubHTTPError,
        LocalTokenNotFoundError,
        httpx2.HTTPError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        reason = shown(one_line(error), 200) or type(error).__name__
        raise OnmodelError(
            f"{plan.repository}: the hub refused ({reason}); run the same command again"
        ) from error
    lost = sorted(set(names) - set(there))
    if lost:
        raise OnmodelError(
            f"{plan.repository}: the hub does not list {lost[0]}; run the same command again"
        )
    return str(url), [
        name for name in there if name not in names and name.split("/")[0] not in SIDE_FILES
    ]


def _literal(name: str) -> str:
    """A name as a pattern that matches it alone."""
    return re.sub(r"([*?\[])", r"[\1]", name)
