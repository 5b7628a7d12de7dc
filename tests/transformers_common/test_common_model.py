"""`BNVAEModel` and `BNVAEConfig`, against the common tests that the models of Transformers pass."""

import copy
import unittest

import families
import pytest
import torch
from common_tests import import_common_tests, skipping

from hf_bnvae import BNVAEConfig, BNVAEModel

ModelTesterMixin = import_common_tests("test_modeling_common").ModelTesterMixin
ConfigTester = import_common_tests("test_configuration_common").ConfigTester

pytestmark = pytest.mark.slow

# The vocabularies in which the special tokens of GPT-2 and of ModernBERT lie if a configuration does not name any.
GPT2_VOCAB_SIZE, MODERNBERT_VOCAB_SIZE = 50257, 50368


class ModelTester:
    """What the common tests ask about a model: its sizes, a configuration and a batch."""

    batch_size = 13
    seq_length = 7
    decoder_seq_length = 6
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 2
    num_hidden_states_types = 2
    is_training = True
    # To compare eager with sdpa attention, the tests make noise for image models, one number for each patch. An image
    # of 16 patches gives one number for each of 16 latent dimensions.
    image_size, patch_size = 4, 1
    latent_size = 16

    def __init__(self, encoder: str, decoder: str) -> None:
        self.encoder, self.decoder = copy.deepcopy((families.ENCODERS[encoder], families.DECODERS[decoder]))

    def get_config(self) -> BNVAEConfig:
        return BNVAEConfig.from_encoder_decoder_configs(self.encoder, self.decoder, latent_size=self.latent_size)

    def prepare_config_and_inputs_for_common(self):
        def random_ids(length: int) -> torch.Tensor:
            return torch.randint(3, families.VOCAB_SIZE, (self.batch_size, length))

        inputs = {
            "input_ids": random_ids(self.seq_length),
            "attention_mask": torch.ones(self.batch_size, self.seq_length, dtype=torch.long),
            "decoder_input_ids": random_ids(self.decoder_seq_length),
            "noise": torch.randn(self.batch_size, self.latent_size),
        }
        return self.get_config(), inputs


@skipping
class CommonModelTests(ModelTesterMixin):
    """The common tests of one pair of networks."""

    all_model_classes = (BNVAEModel,)
    _is_composite = True
    encoder: str
    decoder: str

    def setUp(self) -> None:
        self.model_tester = ModelTester(self.encoder, self.decoder)
        self.config_tester = ConfigTester(self, config_class=BNVAEConfig, has_text_modality=False)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = copy.deepcopy(inputs_dict)
        if return_labels:
            inputs["labels"] = inputs["decoder_input_ids"].roll(-1, dims=1)
        return inputs

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    def test_model_forward_default_config_values(self) -> None:
        # The test takes the special tokens away. Their defaults must lie in the vocabulary.
        self.model_tester.encoder.vocab_size = MODERNBERT_VOCAB_SIZE
        self.model_tester.decoder.vocab_size = GPT2_VOCAB_SIZE
        super().test_model_forward_default_config_values()

    def _prepare_config_and_inputs_for_retain_grad_hidden_states_attentions(self):
        # The test differentiates the first output. With labels this is the loss, which goes through both networks.
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        return config, self._prepare_for_class(inputs, BNVAEModel, return_labels=True)

    def test_retain_grad_hidden_states_attentions(self) -> None:
        # Of attentions, the test would also ask for those between decoder and encoder, which this model has not.
        # `tests/model/test_transformers_conventions.py` checks the others.
        self.has_attentions = False
        super().test_retain_grad_hidden_states_attentions()


class BertAndGPT2Test(CommonModelTests, unittest.TestCase):
    encoder, decoder = "bert", "gpt2"


class ModernBertAndQwen3Test(CommonModelTests, unittest.TestCase):
    encoder, decoder = "modernbert", "qwen3"
