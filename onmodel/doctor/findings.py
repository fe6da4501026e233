"""What the checks share: sizes in GiB, and errors as findings."""

from collections.abc import Iterator
from contextlib import contextmanager

from onmodel.errors import InputError, OnmodelError
from onmodel.events import Finding

GIB = 2**30


@contextmanager
def caught(rows: list[Finding], about: str) -> Iterator[None]:
    """An error within becomes a finding."""
    try:
        yield
    except InputError as error:
        rows.append(Finding(about, "fail", f"{error.field}: {error.value}", error.remedy))
    except OnmodelError as error:
        rows.append(Finding(about, "fail", str(error)))
