"""The tables of the collapse benchmark: what they show of runs, and what they say about remedies."""

import pytest

from hf_bnvae.benchmarks.tables.collapse import (
    block_of,
    measures_of,
    render_benchmark,
    render_choices,
    render_frontier,
    render_grids,
    render_priors,
    render_probes,
    render_remedies,
    render_samples,
    render_summary,
    render_verdicts,
    wins,
)
from hf_bnvae.evaluation.plots import plot_remedies

FIGURES = ("kl", "marginal_kl", "reconstruction_nll", "active_units", "reconstruction_bleu")
FIGURES += ("decoder_information", "latent_gain")


def entry(name, nlls, information):
    runs = [
        {"seed": seed, "figures": dict.fromkeys(FIGURES, 1.0) | {"iw_nll": nll, "mutual_information": mi}}
        for seed, (nll, mi) in enumerate(zip(nlls, information, strict=True))
    ]
    grid = [
        {"options": {"posterior": name, "bn_tau": 0.1}, "figures": runs[0]["figures"], "has_failed": False},
        {"options": {"posterior": name, "bn_tau": 0.25}, "figures": None, "has_failed": name != "b"},
    ]
    return {"name": name, "grid": grid, "chosen": 0, "runs": runs, "is_ours": name == "bn", "dropout_runs": []}


def test_tables_show_means_and_deviations_over_seeds():
    entries = [entry("bn", [50.0, 52.0], [4.0, 5.0]), entry("b", [40.0], [3.0])]
    table = render_remedies(entries)
    assert "| bn     | bn_tau 0.1     | 2     | 51.00 ± 1.41 | 4.50 ± 0.71 |" in table
    assert "| b      | bn_tau 0.1     | 1     | 40.00 " in table
    assert render_remedies(entries, "dropout_runs").count("\n") == 1


def test_the_table_of_grids_says_what_was_chosen_and_what_is_missing():
    grids = render_grids([entry("bn", [50.0], [4.0]), entry("a", [52.0], [3.0]), entry("b", [40.0], [3.0])])
    assert grids.count("failed") == 2 and grids.count("not yet") == 1 and grids.count("chosen") == 3


def test_a_figure_that_older_runs_lack_is_a_dash_and_has_no_column_if_all_lack_it():
    old, new = entry("a", [52.0, 53.0], [3.0, 3.0]), entry("b", [52.0], [3.0])
    for run in old["runs"]:
        run["figures"] = {name: value for name, value in run["figures"].items() if name != "latent_gain"}
    header, _, row, _ = (
        [cell.strip() for cell in line.split("|")] for line in render_remedies([old, new]).splitlines()
    )
    assert row[header.index("latent gain")] == "-" and row[header.index("decoder information")] == "1.00 ± 0.00"
    assert "latent gain" not in render_remedies([old])


def test_verdicts_name_the_remedies_that_are_beaten():
    entries = [entry("bn", [50.0, 52.0], [4.0, 5.0]), entry("a", [52.0, 53.0], [3.0, 3.0]), entry("b", [40.0], [3.0])]
    explanation, _, *lines = render_verdicts(entries).splitlines()
    assert explanation == "Compared under N(0, I), by IW-NLL and mutual information, with every seed:"
    header, _, row = ([cell.strip() for cell in line.split("|")] for line in lines)
    assert row[1] == "bn (bn_tau 0.1)"
    assert dict(zip(header[2:], row[2:], strict=True)) == {
        "": "",
        "better in both than": "a",
        "better in likelihood only than": "",
        "better in information only than": "b",
        "better in neither than": "",
    }
    assert render_verdicts(entries[1:]) == render_verdicts(entries[:1]) == ""


def with_priors(entry, fitted_nlls):
    for run, nll in zip(entry["runs"], fitted_nlls, strict=True):
        fitted = dict.fromkeys(("kl", "marginal_kl", "iw_negative_elbo", "decoder_information"), 0.5)
        run["figures"] |= {"iw_negative_elbo": 60.0, "fitted_iw_nll": nll}
        run["figures"] |= {f"fitted_{name}": value for name, value in fitted.items()}
    return entry


def test_both_priors_stand_side_by_side():
    entries = [with_priors(entry("bn", [50.0, 52.0], [4.0, 5.0]), [49.0, 49.5]), entry("a", [52.0], [3.0])]
    table = render_priors(entries)
    row = [cell.strip() for cell in table.splitlines()[-1].split("|")]
    assert row[1:4] == ["bn", "60.00 ± 0.00 / 0.50 ± 0.00", "51.00 ± 1.41 / 49.25 ± 0.35"]
    assert "| a " not in table, "it has no fitted prior"
    assert render_priors(entries[1:]) == ""


def test_remedies_with_fitted_priors_are_compared_under_them():
    ours = with_priors(entry("bn", [50.0, 52.0], [4.0, 5.0]), [49.0, 49.0])
    other = with_priors(entry("a", [51.0, 53.0], [3.0, 4.0]), [48.0, 48.0])
    measures = measures_of([ours, other])
    assert wins(ours, other, measures) == (False, False)  # worse, and the decoder uses as much
    ours["runs"][0]["figures"]["fitted_decoder_information"] = 0.6
    assert wins(ours, other, measures) == (False, False)
    ours["runs"][1]["figures"]["fitted_decoder_information"] = 0.6
    assert wins(ours, other, measures) == (False, True)
    assert "under the fitted priors, by IW-NLL and decoder information" in render_verdicts([ours, other])
    # Control: one remedy without a fitted prior, and all are compared under N(0, I).
    plain = measures_of([ours, other, entry("b", [51.0], [3.0])])
    assert plain == ("iw_nll", "mutual_information") and wins(ours, other, plain) == (True, True)


def test_samples_have_a_row_for_each_prior_and_way_of_decoding():
    def judged(perplexity):
        kind = {"perplexity": perplexity, "frechet_distance": None, "self_bleu": 20.0, "distinct": 0.5, "num_texts": 9}
        kinds = ("held-out texts", "standard prior, greedy", "fitted prior, greedy")
        return {"kinds": dict.fromkeys(kinds, kind), "judges": {"language_model": "judge", "encoder": "other"}}

    entries = [entry("bn", [50.0, 52.0], [4.0, 5.0]), entry("a", [52.0], [3.0]), entry("b", [52.0], [3.0])]
    for run, perplexity in zip((*entries[0]["runs"], *entries[1]["runs"]), (10.0, 12.0, 13.0), strict=True):
        run["samples"] = judged(perplexity)
    _, _, _, _, *rows = ([cell.strip() for cell in line.split("|")] for line in render_samples(entries).splitlines())
    assert [row[1:4] for row in rows] == [
        ["", "held-out texts", "11.0 ± 1.4"],
        ["bn", "standard prior, greedy", "11.0 ± 1.4"],
        ["bn", "fitted prior, greedy", "11.0 ± 1.4"],
        ["a", "standard prior, greedy", "13.0"],
        ["a", "fitted prior, greedy", "13.0"],
    ]
    assert rows[0][4:] == ["-", "20.0 ± 0.0", "0.50 ± 0.00", ""]
    assert render_samples(entries[2:]) == ""
    # Figures of other judges are not comparable.
    entries[1]["runs"][0]["samples"]["judges"]["encoder"] = "another"
    assert "| a " not in render_samples(entries)


def test_every_setting_of_the_others_is_held_against_ours():
    ours, other = entry("bn", [50.0], [4.0]), entry("a", [51.0], [3.0])
    text = render_frontier([ours, other])
    assert "had 1 settings" in text and "For 1 of them" in text and "there is none" not in text
    better = {**entry("b", [49.0], [1.0]), "is_ours": False}
    text = render_frontier([ours, other, better])
    assert "had 2 settings" in text and "For 1 of them" in text
    assert text.endswith("For these there is none:\n\n- *b*: bn_tau 0.1")
    assert render_frontier([ours]) == render_frontier([other]) == ""


def test_a_remedy_wins_with_every_seed_or_not_at_all():
    ours, measures = entry("bn", [50.0, 52.0], [4.0, 5.0]), ("iw_nll", "mutual_information")
    assert wins(ours, entry("a", [51.0, 53.0], [3.0, 4.9]), measures) == (True, True)
    assert wins(ours, entry("a", [51.0, 53.0], [3.0, 5.1]), measures) == (True, False)
    assert wins(ours, entry("a", [60.0, 51.9], [3.0, 4.9]), measures) == (False, True)
    assert wins(ours, entry("a", [40.0, 41.0], [9.0, 9.0]), measures) == (False, False)
    assert wins(ours, {**ours, "runs": []}, measures) == (False, False)


def test_the_picture_shows_means_and_spreads():
    entries = [entry("bn", [50.0, 52.0], [4.0, 5.0]), {**entry("a", [47.0], [1.0]), "runs": []}]
    figure = plot_remedies(entries)
    likelihood, marginal, _ = figure.axes
    assert marginal.containers[0].lines[0].get_xydata().tolist() == [[4.5, 1.0]]
    (mark,) = likelihood.containers
    assert mark.lines[0].get_xydata().tolist() == [[4.5, 51.0]]
    (horizontal,), (vertical,) = (bars.get_segments() for bars in mark.lines[2])
    assert horizontal[:, 0].tolist() == pytest.approx([4.5 - 0.5**0.5, 4.5 + 0.5**0.5])
    assert vertical[:, 1].tolist() == pytest.approx([51 - 2**0.5, 51 + 2**0.5])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bn", "a"]


def test_grids_have_a_picture_of_their_own():
    entries = [entry("bn", [50.0, 52.0], [4.0, 5.0]), {**entry("a", [47.0], [1.0]), "runs": []}]
    grids = plot_remedies(entries).axes[2]
    assert [line.get_xydata().tolist() for line in grids.lines] == [[[4.0, 50.0]], [[1.0, 47.0]]]
    # Before anything is chosen there are only the grids.
    (only,) = plot_remedies([{**one, "runs": []} for one in entries]).axes
    assert len(only.lines) == 2


def test_axes_neither_hide_small_differences_nor_blow_them_up():
    far = plot_remedies([entry("a", [47.0], [0.0]), entry("b", [90.0], [1.0])]).axes[2]
    assert far.get_ylim()[0] < 47 and far.get_ylim()[1] - far.get_ylim()[0] == pytest.approx(6)
    for axes in plot_remedies([entry("a", [47.0, 47.001], [0.0, 0.0001])]).axes:
        assert all(most - least >= 1 for least, most in (axes.get_xlim(), axes.get_ylim()))


def test_every_remedy_looks_different_in_the_picture():
    many = [{**entry(f"{i}", [47.0], [1.0]), "is_ours": i % 4 == 0} for i in range(13)]
    drawn = plot_remedies(many).axes[2].lines
    looks = {(line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in drawn}
    assert len(looks) == len({(line.get_color(), line.get_markerfacecolor()) for line in drawn}) == 13


def test_the_probe_is_shown_on_means_and_on_draws():
    def probe(accuracies):
        rows = [{"labels_per_class": n, "accuracy": a} for n, a in zip((10, None), accuracies, strict=True)]
        return {"rows": rows, "majority_accuracy": 0.575}

    runs = [{"probe": {"results": {"means": probe((0.6, a)), "draws": probe((0.5, 0.575))}}} for a in (0.7, 0.8)]
    assert render_probes([{"name": "a", "runs": []}, {"name": "b", "runs": runs}]).splitlines() == [
        "| remedy | on                        | 10 labels per class | all labels |",
        "|--------|---------------------------|---------------------|------------|",
        "| b      | means of the posteriors   | 60.0 ± 0.0          | 75.0 ± 7.1 |",
        "| b      | draws from the posteriors | 50.0 ± 0.0          | 57.5 ± 0.0 |",
        "",
        "Always naming the most frequent class: 57.5.",
    ]


@pytest.fixture
def results():
    entries = [entry("bn", [50.0, 52.0], [4.0, 5.0])]
    for run in entries[0]["runs"]:
        counts = {"num_sentences": 9, "log_num_sentences": 2.2, "iw_nll_num_sentences": 9, "iw_nll_num_samples": 5}
        run["figures"] |= counts
    points = [
        {"value": value, "runs": entry("bn", [nll], [3.0])["runs"]} for value, nll in (("cls", 51.0), (None, 50.0))
    ]
    return {
        "setting_name": "small",
        "remedies": entries,
        "informed": [
            {"min_information": 4.0, "remedies": [entry("ln", [55.0], [4.5])]},
            {"min_information": 9.0, "remedies": [{**entry("du", [60.0], [5.0]), "runs": []}]},
        ],
        "choices": [{"base": "bn", "option": "pooling", "points": [*points, {"value": "mean", "runs": []}]}],
        "torch_version": "1",
        "transformers_version": "2",
        "hardware": "CPU",
        "min_information": 2.0,
        "encoder_dropout": 0.1,
    }


@pytest.mark.parametrize("render", [render_summary, render_benchmark])
def test_a_page_gets_the_tables_of_its_setting(results, render):
    page = "before\n<!-- collapse small: begin -->\nold\n<!-- collapse small: end -->\nafter"
    text = block_of(results).update(page, render(results))
    assert text.startswith("before\n") and text.endswith("\nafter") and "old" not in text
    assert "| bn     | bn_tau 0.1     | 2     | 51.00 ± 1.41 |" in text
    assert "at least 4 nats" in text and "| ln     |" in text and "at least 9 nats" not in text
    assert block_of(results).update(text, render(results)) == text
    with pytest.raises(ValueError, match="collapse large: begin"):
        block_of({**results, "setting_name": "large"}).update(page, render(results))


def test_choices_are_shown_where_more_than_one_value_was_run(results):
    choices = render_choices(results["choices"])
    assert choices in render_benchmark(results) and "pooling" not in render_summary(results)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in choices.splitlines()[2:]]
    others = ["1.00", "1.00", "1.00", "1.00", "1.00", "1", "1.0"]
    assert cells == [
        ["bn", "pooling", "cls", "1", "51.00", "3.00", *others],
        ["bn", "pooling", "none", "1", "50.00", "3.00", *others],
    ]
    (choice,) = results["choices"]
    unvaried = [{**choice, "points": [choice["points"][0], {"value": "mean", "runs": []}]}]
    assert "pooling" not in render_benchmark({**results, "choices": unvaried})


def test_a_benchmark_that_has_chosen_nothing_shows_what_it_has_varied_under_both_priors(results):
    (choice,) = results["choices"]
    for index, point in enumerate(choice["points"][:2]):
        figures = point["runs"][0]["figures"]
        figures |= results["remedies"][0]["runs"][0]["figures"] | {"iw_nll": 51.0 - index, "iw_negative_elbo": 53.0}
        if index == 0:
            figures["fitted_iw_nll"] = 49.5
    unchosen = {**results, "remedies": [{**one, "chosen": None, "runs": []} for one in results["remedies"]]}
    page = render_benchmark(unchosen)
    assert "9 texts for tuning" in page and "Setting `small`; torch 1, transformers 2; CPU." in page
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| bn ")]
    assert [row[:6] for row in rows] == [
        ["bn", "pooling", "cls", "1", "53.00", "51.00 / 49.50"],
        ["bn", "pooling", "None", "1", "53.00", "50.00"],
    ]
    assert "| seeds | -ELBO" in page and "not yet" not in page and "chosen" not in page
    assert "not yet" not in render_benchmark(results)  # control: chosen settings have all tables
