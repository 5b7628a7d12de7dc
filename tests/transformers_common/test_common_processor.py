"""`BNVAEProcessor`, against the common tests that the processors of Transformers pass."""

import unittest

import tiny
from common_tests import import_common_tests, skipping

from hf_bnvae import BNVAEProcessor

ProcessorTesterMixin = import_common_tests("test_processing_common").ProcessorTesterMixin


@skipping
class BNVAEProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = BNVAEProcessor

    @classmethod
    def _setup_from_components(cls) -> BNVAEProcessor:
        return tiny.make_processor(tiny.make_texts(400))

    def get_subprocessor_name(self, modality, attributes):
        # The input ids of a text are those of the encoder's tokenizer.
        return "encoder_tokenizer" if modality == "text" else super().get_subprocessor_name(modality, attributes)
