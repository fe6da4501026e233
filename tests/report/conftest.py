"""One made-up run for all tests of the report."""

import pytest

from onmodel.report.source import ReportSource
from tests.support.report_project import made_up


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> ReportSource:
    return made_up(tmp_path_factory.mktemp("run"))
