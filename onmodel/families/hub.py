"""Files on the Hugging Face hub, from its local cache or downloaded: folders of a base, files of
observers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from onmodel.errors import InputError
from onmodel.failures import os_error_words
from onmodel.text import one_line, shown

FIELD = "base.hub"


def snapshot(repository: str, folders: Sequence[str], download: bool) -> Path | None:
    """The local copy of a repository, `owner/name` or `owner/name@revision`, with these folders in
    it.

    None when it is not whole in the cache and `download` is off. Raises InputError when it cannot
    be had: no such repository, no access to it, no connection, no room.
    """
    patterns = [
        f"{folder}/*.{ending}"
        for folder in folders
        for ending in ("json", "safetensors", "txt", "model")
    ]
    path = fetch(FIELD, repository, patterns, download)
    if path is None:
        return None
    complete = all((path / folder).is_dir() for folder in folders)
    if not complete and download:
        lacking = ", ".join(folder for folder in folders if not (path / folder).is_dir())
        raise InputError(
            FIELD, repository, f"has no {lacking}/; name the base's diffusers repository"
        )
    return path if complete else None


def fetch(
    field: str, repository: str, patterns: Sequence[str], download: bool = True
) -> Path | None:
    """The local copy of a repository, `owner/name` or `owner/name@revision`, with the files of
    these patterns.

    None when it is not in the cache and `download` is off. Raises InputError naming `field` when it
    cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, _, revision = repository.partition("@")
    with hub_errors(field, repository):
        try:
            return Path(
                snapshot_download(
                    name,
                    revision=revision or None,
                    allow_patterns=list(patterns),
                    local_files_only=not download,
                )
            )
        except LocalEntryNotFoundError:
            if download:
                raise
            return None


@contextmanager
def hub_errors(field: str, repository: str) -> Iterator[None]:
    """Turn what huggingface_hub raises for a repository into an InputError naming `field`."""
    import httpx2  # what huggingface_hub speaks through; its errors pass through that
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise InputError(
            field, repository, 'write "owner/name" or "owner/name@revision"'
        ) from error
    except GatedRepoError as error:
        remedy = "needs its licence accepted on its page, and `hf auth login` here"
        raise InputError(field, repository, remedy) from error
    except RevisionNotFoundError as error:
        revision = repository.partition("@")[2]
        raise InputError(field, repository, f"has no revision {revision}") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            field, repository, "no such repository, or a private one; check the name"
        ) from error
    except LocalEntryNotFoundError as error:
        remedy = (
            "is not in the local cache and the hub cannot be reached; connect once, or name its"
            " folder on disk"
        )
        raise InputError(field, repository, remedy) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        said = (
            (os_error_words(error) if isinstance(error, OSError) else "")
            or shown(one_line(error), 200)
            or type(error).__name__
        )
        raise InputError(
            field, repository, f"cannot be downloaded ({said}); run the command again"
        ) from error
