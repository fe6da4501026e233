"""Folders of a base that lie on the Hugging Face hub: from its local cache, else downloaded into it."""

from collections.abc import Sequence
from pathlib import Path

from onmodel.errors import InputError

FIELD = "base.hub"


def snapshot(repository: str, folders: Sequence[str], download: bool) -> Path | None:
    """The local copy of a repository, `owner/name` or `owner/name@revision`, with these folders in it.

    None when it is not whole in the cache and `download` is off. Raises InputError when it cannot be had: no such
    repository, no access to it, no connection, no room.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )  # fmt: skip

    name, _, revision = repository.partition("@")
    patterns = [f"{folder}/*.{ending}" for folder in folders for ending in ("json", "safetensors", "txt", "model")]
    try:
        path = Path(snapshot_download(
            name, revision=revision or None, allow_patterns=patterns, local_files_only=not download
        ))  # fmt: skip
    except HFValidationError as error:
        raise InputError(FIELD, repository, 'write "owner/name" or "owner/name@revision"') from error
    except GatedRepoError as error:
        remedy = "needs its licence accepted on its page, and `hf auth login` here"
        raise InputError(FIELD, repository, remedy) from error
    except RevisionNotFoundError as error:
        raise InputError(FIELD, repository, f"has no revision {revision}") from error
    except RepositoryNotFoundError as error:
        raise InputError(FIELD, repository, "no such repository, or a private one; check the name") from error
    except LocalEntryNotFoundError as error:
        if not download:
            return None
        remedy = "is not in the local cache and the hub cannot be reached; connect once, or name its folder on disk"
        raise InputError(FIELD, repository, remedy) from error
    except (HfHubHTTPError, OSError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(FIELD, repository, f"cannot be downloaded ({said}); run the command again") from error
    complete = all((path / folder).is_dir() for folder in folders)
    if not complete and download:
        lacking = ", ".join(folder for folder in folders if not (path / folder).is_dir())
        raise InputError(FIELD, repository, f"has no {lacking}/; name the base's diffusers repository")
    return path if complete else None
