"""The options of the scripts: from a command line, from a file, with the defaults that fit."""

import json

import pytest
import yaml

from hf_bnvae.jobs.arguments import DEFAULT_OUTPUT_DIR, FROM_SCRATCH_DEFAULTS, parse_arguments
from hf_bnvae.model.configuration_bnvae import BNVAEConfig


def test_without_arguments_a_small_model_is_trained_and_evaluated():
    model, data, _, training = parse_arguments([])
    assert training.do_train and training.do_eval and training.output_dir == DEFAULT_OUTPUT_DIR
    assert model.config_fields() == {} and data.train_file is None
    assert all(getattr(training, name) == value for name, value in FROM_SCRATCH_DEFAULTS.items())


def test_a_pretrained_pair_gets_gentler_defaults():
    model, _, _, training = parse_arguments(["--encoder_name_or_path", "a", "--decoder_name_or_path", "b"])
    assert training.learning_rate == 1e-4 and training.latent_learning_rate == 1e-3
    assert training.get_warmup_steps(400) == 40 and model.encoder_name_or_path == "a"
    *_, training = parse_arguments(["--model_name_or_path", "c"])
    assert training.learning_rate == 5e-5 and training.get_warmup_steps(400) == 0
    *_, training = parse_arguments(["--model_name_or_path", "c", "--learning_rate", "2e-4", "--do_eval"])
    assert training.learning_rate == 2e-4 and not training.do_train


def test_what_is_given_beats_the_defaults():
    model, _, _, training = parse_arguments(["--learning_rate", "0.5", "--posterior", "ln", "--bn_tau", "0.2"])
    assert training.learning_rate == 0.5
    config = BNVAEConfig(**model.config_fields())
    assert (config.posterior, config.bn_tau) == ("ln", 0.2)


@pytest.mark.parametrize("ending", ["json", "yaml", "yml"])
def test_options_from_a_file(tmp_path, ending):
    options = {"posterior": "bn_rms", "rate": 4.0, "max_steps": 7}
    file = tmp_path / f"options.{ending}"
    file.write_text(json.dumps(options) if ending == "json" else yaml.safe_dump(options))
    model, _, _, training = parse_arguments([str(file)])
    assert (model.posterior, model.rate, training.max_steps) == ("bn_rms", 4.0, 7)
    assert training.learning_rate == FROM_SCRATCH_DEFAULTS["learning_rate"]


def test_bad_files_of_options_are_refused(tmp_path):
    file = tmp_path / "options.json"
    for text, message in (
        ('{"posterior": ', "could not be read"),
        ("[1]", "one mapping"),
        ('{"postterior": 1}', "postterior"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            parse_arguments([str(file)])
    with pytest.raises(ValueError, match="could not be read"):
        parse_arguments([str(tmp_path / "nowhere.yaml")])


def test_numbers_as_yaml_misreads_them_are_numbers(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("latent_learning_rate: 1e-3\nlearning_rate: 2.5E-4\n")
    *_, training = parse_arguments([str(file)])
    assert (training.latent_learning_rate, training.learning_rate) == (1e-3, 2.5e-4)


def test_options_that_would_do_nothing_are_refused():
    for arguments, message in (
        (["--resume_from_checkpoint", "somewhere"], "the same command again resumes"),
        (["--save_only_model", "true"], "save_total_limit"),
        (["--do_predict"], "Use do_eval"),
        (["--num_examples", "0"], "num_examples must be at least 1, got 0"),
        (["--num_importance_samples", "0"], "num_importance_samples must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_arguments(arguments)


def test_half_a_pair_is_refused():
    with pytest.raises(ValueError, match="or neither"):
        parse_arguments(["--encoder_name_or_path", "a"])
    with pytest.raises(ValueError, match="not both"):
        pair = ["--encoder_name_or_path", "a", "--decoder_name_or_path", "b"]
        parse_arguments([*pair, "--model_name_or_path", "c"])


def test_a_misspelt_option_is_refused(capsys):
    with pytest.raises((SystemExit, ValueError)):
        parse_arguments(["--postterior", "bn"])
