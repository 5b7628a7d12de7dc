"""The options of a training: from a command line or a file, with defaults and help, and the command that repeats a
run. Help is checked against the dataclasses that it describes."""

import json
import re
import shlex
from dataclasses import asdict, fields
from fnmatch import fnmatchcase

import pytest
import yaml

from hf_bnvae.jobs.arguments import (
    DEFAULT_OUTPUT_DIR,
    FROM_SCRATCH_DEFAULTS,
    PRETRAINED_PAIR_DEFAULTS,
    DataArguments,
    ModelArguments,
    ReportArguments,
)
from hf_bnvae.jobs.option_parser import show_value
from hf_bnvae.jobs.training_arguments import ScriptTrainingArguments
from hf_bnvae.jobs.training_help import COMMON_TRAINER_OPTIONS, TRAINING_GROUPS, training_help
from hf_bnvae.jobs.training_options import parse_arguments, training_command
from hf_bnvae.model.configuration_bnvae import BNVAEConfig
from hf_bnvae.reporting.settings import ROLES, Role, has_role, names_with_role
from hf_bnvae.training.objective_arguments import ObjectiveArguments


def test_without_arguments_a_small_model_is_trained_and_evaluated():
    model, data, _, training = parse_arguments([])
    assert training.do_train and training.do_eval and training.output_dir == DEFAULT_OUTPUT_DIR
    rate = FROM_SCRATCH_DEFAULTS["rate"]
    assert model.config_fields() == {"rate": rate} and data.train_file is None
    training_defaults = {name: value for name, value in FROM_SCRATCH_DEFAULTS.items() if name != "rate"}
    assert all(getattr(training, name) == value for name, value in training_defaults.items())


@pytest.mark.parametrize(
    ("options", "has_rate"),
    [
        ("--posterior bn_rms", True),
        ("--posterior bn", True),
        ("--posterior ln", True),
        ("--posterior gaussian", False),
        ("--posterior bn_mean", False),
        ("--posterior delta", False),
        ("--bn_tau 0.1", False),
        ("--encoder_name_or_path a", True),
        ("--encoder_name_or_path a --decoder_name_or_path b", False),
        ("--model_name_or_path a", False),
    ],
)
def test_the_rate_from_scratch_is_for_heads_that_take_one_and_have_no_other_scale(options, has_rate):
    arguments = parse_arguments(options.split())
    assert arguments[0].rate == (FROM_SCRATCH_DEFAULTS["rate"] if has_rate else None)
    command = training_command(arguments, "Trainer")
    assert "--rate" not in command and parse_arguments(shlex.split(command)[2:])[0] == arguments[0]
    assert parse_arguments([*options.split(), "--rate", "2"])[0].rate == 2


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


@pytest.mark.parametrize("start", [["--config"], []])
def test_typed_options_win_over_a_file(tmp_path, start):
    file = tmp_path / "run.yaml"
    file.write_text("rate: 4.0\nlatent_size: 8\nmodel_name_or_path: c\n")
    argv = [*start, str(file), "--rate", "2"]
    model, _, _, training = parse_arguments(argv)
    assert (model.rate, model.latent_size, model.model_name_or_path) == (2.0, 8, "c")
    # The file decides on the defaults, too.
    assert training.learning_rate == 5e-5
    assert parse_arguments(argv[:-2])[0].rate == 4.0


def test_a_typed_option_wins_over_a_file_even_with_its_default(tmp_path):
    file = tmp_path / "run.json"
    file.write_text('{"vocab_size": 99, "bf16_full_eval": true}')
    model, _, _, training = parse_arguments([str(file), "--vocab_size", "4096", "--bf16_full_eval", "false"])
    assert (model.vocab_size, training.bf16_full_eval) == (4096, False)


def test_a_typo_names_the_nearest_option(tmp_path):
    for argv in (["--postterior", "bn"], ["--postterior=bn"]):
        with pytest.raises(ValueError, match=r"no option --postterior\. Did you mean --posterior\?"):
            parse_arguments(argv)
    file = tmp_path / "run.yaml"
    file.write_text("learning_rte: 0.1\n")
    with pytest.raises(
        ValueError, match=r"run.yaml: there is no option 'learning_rte'\. Did you mean learning_rate\?"
    ):
        parse_arguments([str(file)])
    with pytest.raises(ValueError, match=r"no option --qqqq\. `hf-bnvae train --help` lists the options"):
        parse_arguments(["--qqqq", "1"])
    with pytest.raises(ValueError, match=r"Unexpected argument 'texts\.txt'"):
        parse_arguments(["--rate", "2", "texts.txt"])


def test_a_model_has_a_short_name():
    assert parse_arguments(["--model", "c"])[0].model_name_or_path == "c"


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("use_cpu: maybe", r"options\.yaml: argument --use_cpu.*Truthy value expected"),
        ("latent_size: four", r"options\.yaml: argument --latent_size.*invalid int value: 'four'"),
        ("posterior: bnrms", r"options\.yaml: argument --posterior: invalid choice: 'bnrms'"),
    ],
)
def test_values_in_a_file_are_checked_as_typed_ones(text, message, tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        parse_arguments(["--config", str(file)])


def test_values_in_a_file_are_converted_as_typed_ones(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text(
        "use_cpu: 'true'\nnum_train_epochs: '2'\nbf16: false\nlr_scheduler_kwargs: {num_cycles: 2}\nrevision: null\n"
    )
    model, *_, training = parse_arguments(["--config", str(file)])
    assert training.use_cpu is True and training.num_train_epochs == 2.0 and training.bf16 is False
    assert training.lr_scheduler_kwargs == {"num_cycles": 2} and model.revision is None


def test_do_train_alone_asks_for_no_evaluation():
    only, both = parse_arguments(["--do_train", "--use_cpu"])[-1], parse_arguments(["--use_cpu"])[-1]
    assert (only.do_train, only.do_eval) == (True, False) and only.eval_strategy == "epoch"
    assert (both.do_train, both.do_eval) == (True, True)


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


def test_a_model_has_its_own_networks():
    for name in ("encoder", "decoder"):
        with pytest.raises(ValueError, match="not both"):
            parse_arguments([f"--{name}_name_or_path", "a", "--model_name_or_path", "c"])
    with pytest.raises(ValueError, match="encoder_side_name_or_path needs encoder_name_or_path"):
        parse_arguments(["--decoder_name_or_path", "a", "--encoder_side_name_or_path", "c"])


def test_one_pretrained_network_is_frozen_unless_that_is_refused():
    for name, other in (("encoder", "decoder"), ("decoder", "encoder")):
        found = {}
        for frozen in (None, name, "both", other, "none"):
            options = [f"--{name}_name_or_path", "a", *([] if frozen is None else ["--freeze", frozen])]
            arguments = parse_arguments(options)
            found[frozen] = arguments[-1].freeze, arguments[-1].learning_rate
            assert arguments[-1].latent_learning_rate == FROM_SCRATCH_DEFAULTS["latent_learning_rate"]
            # The recorded command repeats the run.
            command = training_command(arguments, "Trainer").split()[2:]
            assert parse_arguments(command)[-1].to_dict() == arguments[-1].to_dict()
        scratch, gentle = FROM_SCRATCH_DEFAULTS["learning_rate"], PRETRAINED_PAIR_DEFAULTS["learning_rate"]
        assert found[None] == found[name] == (name, scratch) and found["both"] == ("both", scratch)
        assert found[other] == (other, gentle) and found["none"] == ("none", gentle)
        assert parse_arguments([f"--{name}_name_or_path", "a", "--freeze", "none"])[-1].frozen_part is None


# -- help ------------------------------------------------------------------------------------------------------------


def described(text: str) -> dict[str, str]:
    """What a help says of each option, by its name, in one line."""
    parts = re.split(r"^  --(\w+)", text, flags=re.MULTILINE)
    return {name: " ".join(rest.split()) for name, rest in zip(parts[1::2], parts[2::2], strict=True)}


def defaults_of(description: str) -> list[str]:
    """The defaults that a help names for a start from scratch, from a pair, and from a trained model."""
    found = re.search(r"\(default: (.*?)\)", description)
    if found is None:
        return [""] * 3
    each = re.fullmatch(r"from scratch (\S+), (?:otherwise (\S+)|pair (\S+), --model (\S+))", found[1])
    if each is None:
        return [found[1]] * 3
    scratch, both, pair, model = each.groups()
    return [scratch, both or pair, both or model]


def test_help_says_the_default_of_every_start():
    """The defaults in the help are those of the dataclass, with those of the start over them."""
    own = {option.name: option.default for option in fields(ScriptTrainingArguments)}
    shown = described(training_help("hf-bnvae train"))
    names = [*COMMON_TRAINER_OPTIONS, *(option.name for option in fields(ObjectiveArguments))]
    for name in names:
        starts = (FROM_SCRATCH_DEFAULTS, PRETRAINED_PAIR_DEFAULTS, {})
        expected = [show_value(start.get(name, own[name])) for start in starts]
        expected = [value or "all" for value in expected] if name == "save_total_limit" else expected
        assert defaults_of(shown[name]) == expected, name
    assert len({*defaults_of(shown["learning_rate"])}) == 3
    assert defaults_of(shown["learning_rate"])[1] == f"{PRETRAINED_PAIR_DEFAULTS['learning_rate']:g}"


def test_a_run_gets_the_defaults_that_help_says():
    shown = described(training_help("hf-bnvae train"))
    starts = ([], ["--encoder_name_or_path", "a", "--decoder_name_or_path", "b"], ["--model", "c"])
    for place, start in enumerate(starts):
        *_, training = parse_arguments(start)
        for name in ("learning_rate", "latent_learning_rate", "num_train_epochs", "warmup_steps", "logging_steps"):
            assert defaults_of(shown[name])[place] == show_value(getattr(training, name)), (name, start)


def test_every_start_has_checkpoints_within_a_long_epoch():
    for start in ([], ["--encoder_name_or_path", "a"], ["--model", "c"]):
        *_, training = parse_arguments(start)
        assert (training.save_strategy, training.save_steps) == ("steps", 500)
        *_, training = parse_arguments([*start, "--save_strategy", "epoch"])
        assert training.save_strategy == "epoch"
    # The best model is chosen among those that are evaluated, by default after each epoch.
    *_, training = parse_arguments(["--load_best_model_at_end", "true"])
    assert training.save_strategy == training.eval_strategy == "epoch"
    *_, training = parse_arguments(["--load_best_model_at_end", "true", "--eval_strategy", "steps"])
    assert training.save_strategy == training.eval_strategy == "steps"
    with pytest.raises(ValueError, match="load_best_model_at_end requires"):
        parse_arguments(["--load_best_model_at_end", "true", "--eval_strategy", "no"])


def test_help_says_the_defaults_of_the_configuration_once():
    shown = described(training_help("hf-bnvae train"))
    config = BNVAEConfig()
    for name in ("latent_size", "posterior", "pooling", "latent_injection", "encoder_dropout"):
        assert defaults_of(shown[name])[0] == str(getattr(config, name))
    assert f"bn_rms and ln {config.rate:g}" in shown["rate"]
    assert f"bn_mean {BNVAEConfig(posterior='bn_mean').bn_gamma:g}" in shown["bn_gamma"]
    assert all(description.count("default") <= 1 for description in shown.values())
    assert "None" not in " ".join(shown.values())


def test_help_shows_every_own_option_in_one_group():
    grouped = [name for group in TRAINING_GROUPS for name in group.names]
    kinds = (ModelArguments, DataArguments, ReportArguments, ObjectiveArguments)
    own = [option.name for kind in kinds for option in fields(kind)]
    assert sorted(grouped) == sorted([*own, *COMMON_TRAINER_OPTIONS])
    text = training_help("hf-bnvae train")
    assert all(f"\n{group.title}:\n" in text and group.sentence.endswith(".") for group in TRAINING_GROUPS)
    assert text.index("example:") < text.index("networks:")


def test_all_help_offers_everything_but_what_is_always_refused():
    own = described(training_help("hf-bnvae train"))
    everything = described(training_help("hf-bnvae train", shows_all=True))
    names = {option.name for option in fields(ScriptTrainingArguments)}
    assert (
        names - everything.keys()
        == set(names_with_role(Role.REFUSED)) & names
        == {
            "do_predict",
            "resume_from_checkpoint",
            "save_only_model",
        }
    )
    assert len(own) < len(everything) - 50
    other_loop = described(training_help("x", "Accelerate", shows_all=True))
    assert "fsdp" in everything and not set(names_with_role(Role.TRAINER_ONLY)) & other_loop.keys()


def test_every_role_is_of_an_option_that_exists():
    kinds = (ModelArguments, DataArguments, ReportArguments, ScriptTrainingArguments)
    names = [option.name for kind in kinds for option in fields(kind)]
    names += ["processes", "mixed_precision", "project"]  # a launcher's settings
    for pattern in ROLES:
        assert any(fnmatchcase(name, pattern) for name in names), pattern
    assert has_role("hub_token", Role.UNRECORDED) and not has_role("learning_rate", Role.FREE)


# -- the command that repeats a run ----------------------------------------------------------------------------------


def settings(arguments) -> dict:
    """What makes a run what it is."""
    *others, training = arguments
    values = {name: value for one in others for name, value in asdict(one).items()} | training.to_dict()
    return {name: value for name, value in values.items() if not has_role(name, Role.UNRECORDED)}


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--rate 4.0 --posterior ln --latent_size 8 --seed 7",
        "--model_name_or_path user/model --learning_rate 5e-05 --num_train_epochs 2.0",
        "--encoder_name_or_path a --decoder_name_or_path b --learning_rate 0.0001 --warmup_steps 0",
        "--bf16_full_eval true --dataloader_in_order false --do_eval true --max_steps 3 --use_cpu true",
        "--text_column 'a column' --train_file mine.csv --freeze encoder --freeze_steps 9 --lr_scheduler_type cosine",
    ],
)
def test_a_recorded_command_gives_the_same_settings(options):
    arguments = parse_arguments([*shlex.split(options), "--output_dir", "elsewhere"])
    words = shlex.split(training_command(arguments, "Trainer"))
    assert words[:2] == ["hf-bnvae", "train"] and "--output_dir" not in words
    assert settings(parse_arguments(words[2:])) == settings(arguments)
    # The control: another command has other settings.
    assert settings(parse_arguments([*words[2:], "--weight_decay", "0.3"])) != settings(arguments)


def test_a_recorded_command_names_the_loop_and_no_secret(tmp_path):
    file = tmp_path / "mine.txt"
    arguments = parse_arguments(["--train_file", str(file), "--token", "hf_a", "--hub_token", "hf_b", "--rate", "2"])
    command = "python scripts/run_bnvae_no_trainer.py --rate 2.0 --train_file mine.txt"
    assert training_command(arguments, "Accelerate").replace(str(file), "mine.txt") == command
    assert str(tmp_path) not in training_command(arguments, "Accelerate")


def test_a_column_without_texts_is_refused():
    with pytest.raises(ValueError, match="text_column='review' names a column of your texts, but no texts are given"):
        parse_arguments(["--text_column", "review", "--use_cpu"])
    data = parse_arguments(["--text_column", "review", "--train_file", "a.csv", "--use_cpu"])[1]
    assert data.text_column == "review"
