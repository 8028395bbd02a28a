"""What every test shares. In CI a test that needs a real peer fails if the peer is not there."""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and item.get_closest_marker("peer"):
        report.outcome = "failed"
        report.longrepr = f"a test with a real peer was skipped in CI: {report.longrepr}"
    return report
