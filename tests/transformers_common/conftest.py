"""The marks of the common tests. A test that is skipped must stand on this folder's page."""

import pytest
from common_tests import stands_on_the_page

MARKS = ("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test")


def pytest_configure(config: pytest.Config) -> None:
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: a mark of the common tests of Transformers")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> pytest.TestReport:
    report = yield
    if report.skipped and not stands_on_the_page(item.name):
        report.outcome = "failed"
        report.longrepr = f"The page of this folder does not name this test, which was skipped: {report.longrepr}"
    return report
