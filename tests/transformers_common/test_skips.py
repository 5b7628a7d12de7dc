"""The page of this folder, against the common tests: it names skipped tests that exist, each with a reason."""

import re

from common_tests import ON_THE_PAGE, SKIPPED, import_common_tests, stands_on_the_page

MIXINS = (
    import_common_tests("test_modeling_common").ModelTesterMixin,
    import_common_tests("test_processing_common").ProcessorTesterMixin,
)


def test_the_page_names_common_tests_that_exist():
    existing = {name for mixin in MIXINS for name in dir(mixin)}
    # `expand` has replaced a test by its cases.
    cases = {re.sub(r"_\d+(_\w+)?$", "", name) for name in existing}
    assert not ON_THE_PAGE - existing - cases
    assert SKIPPED.keys() < ON_THE_PAGE


def test_a_skipped_test_that_the_page_does_not_name_is_found():
    assert stands_on_the_page("test_inputs_embeds")
    assert stands_on_the_page("test_subprocessor_defaults_1_images")
    assert not stands_on_the_page("test_save_load") and not stands_on_the_page("test_inputs_embeds_matches_input_ids")


def test_no_reason_says_that_something_may_come_later():
    assert not [reason for reason in SKIPPED.values() if re.search(r"\byet\b|not supported|to ?do", reason.lower())]
