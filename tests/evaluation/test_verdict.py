"""One verdict from figures: both sides of each threshold, the order of the verdicts, and their words."""

import math
import re

import pytest

from hf_bnvae.evaluation.verdict import (
    COLLAPSED_INFORMATION,
    DEAF_GAIN,
    GREATEST_RATIO,
    LEAST_RATIO,
    LEAST_USED_SHARE,
    VERDICTS,
    judge,
    judge_training,
)

HEALTHY = {
    "reconstruction_nll": 50.0,
    "frequency_nll": 70.0,
    "kl": 8.0,
    "kl_floor": 8.0,
    "elbo": -58.0,
    "iw_nll": 55.0,
    "mutual_information": 6.0,
    "active_units": 32,
    "decoder_information": 5.0,
    "latent_gain": 7.0,
    "mean_moment_ratio": 0.97,
    "variance_moment_ratio": 1.02,
}
# What makes each verdict, with numbers on the far side of its threshold.
CHANGES = {
    "broken": {"elbo": math.nan},
    "not trained": {"reconstruction_nll": 70.0},
    "collapsed": {"kl": 0.1, "kl_floor": 0.0, "mutual_information": 0.1},
    "deaf": {"latent_gain": 0.0},
    "noisy": {"mean_moment_ratio": 0.1, "decoder_information": 0.5},
    "unlike its training texts": {"mean_moment_ratio": 0.1},
    "wasteful": {"decoder_information": 0.5},
}


def verdict_with(**changes) -> str:
    return judge({**HEALTHY, **changes}).name


def test_every_verdict_comes_from_its_own_figures():
    assert judge(HEALTHY).name == "alive"
    assert {name: verdict_with(**changes) for name, changes in CHANGES.items()} == {name: name for name in CHANGES}
    assert [*CHANGES, "alive"] == list(VERDICTS)


def test_an_earlier_verdict_hides_a_later_one():
    # Odd moments are those of other texts only where the decoder uses the latent: with "wasteful" they are noise.
    # They are also the reason of a decoder that does not listen.
    names = [name for name in CHANGES if name not in ("unlike its training texts", "deaf")]
    for place, name in enumerate(names):
        later = {}
        for other in reversed(names[place:]):
            later |= CHANGES[other]
        assert verdict_with(**later) == name


@pytest.mark.parametrize(
    ("name", "figure", "healthy", "ill"),
    [
        ("not trained", "reconstruction_nll", 69.99, 70.0),
        ("collapsed", "mutual_information", COLLAPSED_INFORMATION, COLLAPSED_INFORMATION - 0.01),
        ("deaf", "latent_gain", DEAF_GAIN, DEAF_GAIN - 0.01),
        ("unlike its training texts", "mean_moment_ratio", LEAST_RATIO, LEAST_RATIO - 0.01),
        ("unlike its training texts", "mean_moment_ratio", GREATEST_RATIO, GREATEST_RATIO + 0.01),
        ("unlike its training texts", "variance_moment_ratio", LEAST_RATIO, LEAST_RATIO - 0.01),
        ("unlike its training texts", "variance_moment_ratio", GREATEST_RATIO, GREATEST_RATIO + 0.01),
        ("wasteful", "decoder_information", 8 * LEAST_USED_SHARE, 8 * LEAST_USED_SHARE - 0.01),
    ],
)
def test_both_sides_of_each_threshold(name, figure, healthy, ill):
    assert verdict_with(**{figure: healthy}) == "alive"
    assert verdict_with(**{figure: ill}) == name


def test_noise_is_why_a_decoder_does_not_listen():
    assert verdict_with(latent_gain=0.0) == "deaf"
    assert verdict_with(latent_gain=0.0, decoder_information=0.0, mean_moment_ratio=0.1) == "noisy"


def test_noise_and_other_texts_differ_in_what_the_decoder_uses():
    most = 8 * LEAST_USED_SHARE
    assert verdict_with(mean_moment_ratio=0.1, decoder_information=most) == "unlike its training texts"
    assert verdict_with(mean_moment_ratio=0.1, decoder_information=most - 0.01) == "noisy"


@pytest.mark.parametrize("name", ["reconstruction_nll", "kl", "elbo", "iw_nll", "mutual_information"])
@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_figure_that_is_no_number_breaks_all(name, value):
    assert verdict_with(**{name: value}) == "broken"
    assert verdict_with(decoder_information=None) == "alive"  # too few draws to measure it


def test_only_the_healthy_verdict_says_that_the_latent_space_is_alive():
    for name, changes in {**CHANGES, "alive": {}}.items():
        text = str(judge({**HEALTHY, **changes}))
        assert text.startswith(f"The latent space is {name}. ")
        assert ("is alive" in text) == (name == "alive")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            r"Of a KL of 8.00 nats the decoder uses 5.00 \(62%\)\. With another one's latent, a text loses 7.00 nats",
        ),
        (CHANGES["broken"], "No number: ELBO.*smaller learning rate"),
        (CHANGES["not trained"], "a text costs 70.00 nats.*predict it with 70.00 nats.*Train longer"),
        ({"kl": 0.02, "mutual_information": 0.01, "kl_floor": 0.0}, "posterior is the prior.*posterior='bn_rms'"),
        ({"mutual_information": 0.1}, r"KL 8.00 nats \(floor 8.00\), of which 0.10 tell.*nearly the same posterior"),
        (CHANGES["deaf"], "loses only 0.00 nats.*whether the latent reaches the decoder"),
        (CHANGES["noisy"], "posterior means is 0.1 times what training saw.*encoder_dropout=0"),
        (CHANGES["unlike its training texts"], "The decoder uses 62% of the KL all the same"),
        (CHANGES["wasteful"], "a KL of 8.00 nats, and the decoder uses 0.50 of them.*Lower the rate"),
    ],
)
def test_a_verdict_says_what_was_seen_and_what_to_do(changes, words):
    assert re.search(words, str(judge({**HEALTHY, **changes})))


def test_words_fit_images():
    for changes in ({}, *CHANGES.values()):
        text = str(judge({**HEALTHY, **changes}, data="images"))
        assert "text" not in text
    assert "an image loses" in str(judge(HEALTHY, data="images"))
    assert "The latent space is unlike its training images." in str(
        judge({**HEALTHY, **CHANGES["unlike its training texts"]}, data="images")
    )


def test_figures_of_the_encoder_alone_are_not_enough():
    """Those of an older report."""
    known = {name: HEALTHY[name] for name in ("kl", "kl_floor", "active_units", "mutual_information")}
    assert "Nobody asked the decoder" in str(judge(known))


@pytest.mark.parametrize("name", ["decoder_information", "latent_gain"])
def test_a_figure_of_the_decoder_may_be_missing_and_must_not_be_nan(name):
    assert verdict_with(**{name: None}) == "alive"
    assert verdict_with(**{name: math.nan}) == "broken"


def test_a_latent_that_misleads_the_decoder_is_wasted_and_not_ignored():
    text = str(judge({**HEALTHY, "latent_gain": -2.0, "decoder_information": -3.0}))
    assert "is wasteful" in text and "uses 0.00 of them" in text


def test_the_share_is_of_the_kl_of_the_same_sentences():
    text = str(judge({**HEALTHY, "kl": 4.0, "iw_kl": 10.0}))
    assert "Of a KL of 10.00 nats the decoder uses 5.00 (50%)" in text
    some = {"num_sentences": 3000, "iw_nll_num_sentences": 500}
    assert "KL of 10.00 nats (500 texts) the decoder" in str(judge({**HEALTHY, "iw_kl": 10.0, **some}))
    assert verdict_with(iw_kl=40.0) == "wasteful"


def test_in_training_the_latent_gain_tells_whether_the_decoder_listens():
    """An evaluation during training knows neither mutual information nor decoder information."""
    known = {name: HEALTHY[name] for name in ("kl", "kl_floor", "active_units", "latent_gain", "mean_moment_ratio")}
    assert judge(known).name == "alive"
    assert judge({**known, "latent_gain": 0.0}).name == "deaf"
    assert judge({**known, "mean_moment_ratio": 3.0}).name == "unlike its training texts"
    assert judge({**known, "mean_moment_ratio": 3.0, "latent_gain": 0.0}).name == "noisy"
    # With many dimensions the mean of each may vary little.
    assert judge({**known, "active_units": 0}).name == "alive"
    silent = judge({**known, "active_units": 0, "latent_gain": 0.0})
    assert silent.name == "collapsed" and "no posterior mean varies with the text" in str(silent)
    assert judge({"latent_gain": 0.0}).name == "deaf"  # nothing else is known


def test_training_batches_show_a_collapse_only():
    assert judge_training({**HEALTHY, "mean_moment_ratio": 0.1}).name == "alive"
    assert judge_training({"kl": 4.0, "kl_floor": 4.0, "active_units": 0}).name == "collapsed"
    assert judge_training({"kl": 0.01, "kl_floor": 0.0, "active_units": 3}).name == "collapsed"
    assert judge_training({}).name == "alive"


@pytest.mark.parametrize("information", [{"mutual_information": 0.01}, {}])
def test_a_posterior_that_says_nothing_because_of_noise_is_noisy(information):
    """All texts have the same posterior in evaluation, and it is not the prior."""
    figures = {"kl": 50.0, "kl_floor": 4.0, "active_units": 0, "latent_gain": 0.0, **information}
    assert judge({**figures, "mean_moment_ratio": 0.01}).name == "noisy"
    assert judge(figures).name == "collapsed"


def test_a_kl_below_the_floor_names_texts_that_do_not_differ():
    training = judge_training({"kl": 1.5, "kl_floor": 4.0, "active_units": 0})
    evaluation = judge({"kl": 1.5, "kl_floor": 4.0, "active_units": 0, "mean_moment_ratio": 0.0})
    for verdict in (training, evaluation):
        assert verdict.name == "collapsed"
        assert "KL 1.50 nats, below the floor of 4.00" in str(verdict)
        assert "The floor holds only if the texts of a training batch differ" in str(verdict)
    # The controls: noise in the encoder, and a floor that holds.
    noisy = judge({"kl": 1.5, "kl_floor": 4.0, "active_units": 0, "mean_moment_ratio": 1e-3})
    held = judge_training({"kl": 4.0, "kl_floor": 4.0, "active_units": 0})
    assert all("differ" not in str(verdict) for verdict in (noisy, held))
