"""The page in a real browser: each tab with two inputs, whose results differ and are those of the model's methods.

Nothing may stand in the browser's console, and nothing may be asked of another machine."""

import pytest
from browser import CHROMIUM, IS_NEEDED, browser

from hf_bnvae.explorer.serving import build, card_folder, start
from hf_bnvae.explorer.shown_corpus import load_corpus
from hf_bnvae.explorer.tabs.common import as_lines
from hf_bnvae.jobs.saved_model import load_saved_model
from hf_bnvae.reporting.model_card import BNVAEModelCard

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None and not IS_NEEDED, reason="needs Chromium: apt-get install chromium"),
]

QUIET = {"do_sample": False, "show_progress": False}


@pytest.fixture(scope="module")
def model(explored):
    return load_saved_model(str(explored), device="cpu")


@pytest.fixture(scope="module")
def address(model, explored, labelled_texts, tmp_path_factory):
    """Where the page is served, from a folder with a card and a map of its texts."""
    table = tmp_path_factory.mktemp("map") / "texts.tsv"
    table.write_text("\n".join(["text\tlabel", *("\t".join(row) for row in labelled_texts)]))
    corpus = load_corpus(model, texts=str(table), text_column="text", label_column="label")
    figures = {"kl": 2.0, "kl_floor": 2.0}
    BNVAEModelCard.from_folder(explored, figures=figures, verdict="alive", verdict_text="It is alive. It is.").save(
        explored
    )
    page = build(model, str(explored), corpus, card_folder(str(explored)))
    yield start(page)
    page.close()


@pytest.fixture
def opened(address):
    with browser(address) as (window,):
        yield window
        assert window.problems == [] and window.strangers == []


def test_reconstruct(opened, model, texts):
    for text in texts[100:102]:
        opened.fill("reconstruct-text", text)
        opened.wait_for("reconstruct-result", model.reconstruct(text, **QUIET))
    expected = [model.reconstruct(text, **QUIET) for text in texts[100:102]]
    assert expected[0] != expected[1]
    for text in texts[100:102]:
        opened.fill("reconstruct-text", text)
        opened.wait_for("reconstruct-result", model.reconstruct(text, **QUIET))
        opened.page.click("#reconstruct-measure")
        kl = next(iter(model.text_posteriors([text])))[1].kl().sum()
        opened.wait_for_words("reconstruct-figures", f"{kl:.1f} nats")
    opened.fill("reconstruct-text", " ")
    opened.wait_for("reconstruct-result", "")
    opened.page.click("#reconstruct-measure")
    opened.wait_for_message("Type a text first")


def undisturbed(draw):
    """What `draw` gives while the page, which shares the process and its random state, is at rest."""
    while (found := draw()) != draw():
        pass
    return found


def test_beams_and_draws(opened, model, texts):
    opened.fill("reconstruct-text", texts[100])
    opened.page.get_by_text("How the decoder chooses tokens").first.click()
    opened.page.get_by_label("beam search").first.check()
    opened.wait_for("reconstruct-result", model.reconstruct(texts[100], num_beams=4, **QUIET))
    settings = {"num_return_sequences": 4, "do_sample": True, "temperature": 1.0, "seed": 0}
    drawn = undisturbed(lambda: model.reconstruct(texts[100], **settings))
    opened.page.get_by_label("drawn tokens").first.check()
    opened.wait_for("reconstruct-result", as_lines(drawn))
    assert len(set(drawn)) > 1


def test_sample(opened, model):
    opened.tab("Sample")
    results = []
    for seed in (0, 5):
        expected = [as_lines(model.sample(8, seed=seed, prior=prior, **QUIET)) for prior in ("fitted", "standard")]
        opened.fill("sample-seed", str(seed))
        opened.page.click("#sample-start")
        for box, texts in zip(("sample-fitted", "sample-standard"), expected, strict=True):
            opened.wait_for(box, texts)
        results += expected
    assert len(set(results)) == 4


def test_interpolate(opened, model, texts):
    opened.tab("Interpolate")
    results = []
    for method in ("linear", "spherical"):
        opened.fill("interpolate-from", texts[100])
        opened.fill("interpolate-to", texts[103])
        opened.page.get_by_label(method).check()
        opened.page.click("#interpolate-start")
        path = model.interpolate(texts[100], texts[103], steps=9, method=method, **QUIET)
        opened.wait_for("interpolate-path", as_lines(path))
        results.append(path)
    opened.wait_for("interpolate-here", path[0])
    opened.page.locator("#interpolate-place input[type=number]").fill("9")
    opened.wait_for("interpolate-here", path[8])
    opened.fill("interpolate-to", texts[104])
    opened.page.click("#interpolate-start")
    other = model.interpolate(texts[100], texts[104], steps=9, method="spherical", **QUIET)
    opened.wait_for("interpolate-path", as_lines(other))
    assert other != path


def test_edit(opened, model, texts):
    opened.tab("Edit")
    results = []
    for strength in (1, -3):
        opened.fill("edit-text", texts[100])
        opened.page.locator("#edit-strength input[type=number]").fill(str(strength))
        opened.page.click("#edit-start")
        results.append(model.edit(texts[100], "made up", strength, **QUIET))
        opened.wait_for("edit-after", results[-1])
        opened.wait_for("edit-before", model.reconstruct(texts[100], **QUIET))
    assert results[0] != results[1]
    # Two lists that are typed in.
    opened.page.locator("#edit-direction input").click()
    opened.page.get_by_role("option", name="from the two lists below").click()
    opened.page.click("#edit-start")
    opened.wait_for_message("Type texts to go to, one text a line")
    opened.page.get_by_text("Two lists of texts, one a line").click()
    opened.fill("edit-negative", "\n".join(texts[:3]))
    opened.fill("edit-positive", "\n".join(texts[3:6]))
    opened.page.click("#edit-start")
    opened.wait_for("edit-after", model.edit(texts[100], model.direction(texts[3:6], texts[:3]), -3, **QUIET))
    opened.wait_for_words("edit-about", "(3 and 3 texts)")


def test_dimensions(opened, model, texts):
    opened.tab("Dimensions")
    results = []
    for dimension in (0, 5):
        opened.fill("dimensions-text", texts[100])
        opened.page.locator("#dimensions-number input[type=number]").fill(str(dimension))
        opened.page.click("#dimensions-start")
        results.append(as_lines(model.traverse(texts[100], dimension, range(-3, 4), **QUIET)))
        opened.wait_for("dimensions-along", results[-1])
        latent = model.encode_texts(texts[100])[dimension]
        opened.wait_for_words("dimensions-own", f"The text itself has {latent:.2f} there")
        opened.wait_for_count("#dimensions-bars rect", model.config.latent_size)
        low = model.encode_texts(texts[:60])[:, dimension].argsort()[:5]
        opened.wait_for("dimensions-low", as_lines([texts[i] for i in low]))
    assert results[0] != results[1]


def test_map(opened, model, texts):
    opened.tab("Map")
    opened.wait_for_count("#map-points circle", 60)
    for place in (7, 31):
        opened.page.locator(f"#map-points circle[data-number='{place}']").dispatch_event("click")
        opened.wait_for("map-chosen", texts[place])
        opened.page.locator("#map-number input").fill(str(place + 2))
        opened.page.locator("#map-number input").press("Enter")
        opened.wait_for("map-chosen", texts[place + 1])
    opened.page.locator("#map-number input").fill("99")
    opened.page.locator("#map-number input").press("Enter")
    opened.wait_for_message("The map has the texts 1 to 60, got 99")
    opened.tab("Reconstruct")
    opened.wait_for("reconstruct-text", texts[32])
    opened.wait_for("reconstruct-result", model.reconstruct(texts[32], **QUIET))
    opened.tab("Interpolate")
    opened.wait_for("interpolate-from", texts[32])
    opened.wait_for("interpolate-to", texts[31])


def test_the_verdict_stands_there(opened):
    opened.tab("Is it alive?")
    opened.wait_for_words("verdict", "It is alive.")


def test_the_keyboard_is_enough(opened, model, texts):
    """From the tabs to a text, to its result, and to another tab, without a mouse."""
    keys = opened.page.keyboard
    opened.page.get_by_role("tab", name="Reconstruct").focus()
    keys.press("Tab")
    while not opened.page.evaluate("document.activeElement.matches('#reconstruct-text textarea')"):
        keys.press("Tab")
    keys.press("Control+a")
    keys.type(texts[100])
    opened.wait_for("reconstruct-result", model.reconstruct(texts[100], **QUIET))
    expected = as_lines(model.sample(8, seed=0, prior="fitted", **QUIET))
    opened.page.get_by_role("tab", name="Sample").focus()
    keys.press("Enter")
    opened.page.locator("#sample-start").focus()
    keys.press("Enter")
    opened.wait_for("sample-fitted", expected)


def test_a_narrow_window_shows_everything(address):
    with browser(address, width=380) as (window,):
        window.page.wait_for_timeout(500)
        assert window.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        box = window.page.locator("#reconstruct-result").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 380
        assert window.problems == []


def test_two_people_at_once_get_their_own_results(address, model, texts):
    with browser(address, count=2) as (first, second):
        for window in (first, second):
            window.tab("Interpolate")
        for number in range(3):
            mine, other = texts[100 + number], texts[110 + number]
            for window, start_text in ((first, mine), (second, other)):
                window.fill("interpolate-from", start_text)
                window.fill("interpolate-to", texts[103])
            for window in (first, second):
                window.page.click("#interpolate-start")
            for window, start_text in ((first, mine), (second, other)):
                path = model.interpolate(start_text, texts[103], steps=9, **QUIET)
                window.wait_for("interpolate-path", as_lines(path))
                window.page.locator("#interpolate-place input[type=number]").fill("5")
                window.wait_for("interpolate-here", path[4])
        assert first.problems == second.problems == []


def test_long_work_can_be_stopped(opened):
    opened.tab("Sample")
    opened.page.locator("#sample-count input[type=number]").fill("100")
    opened.page.click("#sample-start")
    opened.page.wait_for_function("document.querySelector('#sample-fitted textarea').value !== ''")
    opened.page.get_by_role("button", name="Stop").click()
    opened.page.wait_for_timeout(1500)
    stopped_at = len(opened.read("sample-fitted").splitlines())
    opened.page.wait_for_timeout(1500)
    assert len(opened.read("sample-fitted").splitlines()) == stopped_at < 100


def test_what_the_browser_complains_about_is_seen(address):
    """The controls of all tests above."""
    with browser(address) as (window,):
        window.page.evaluate("console.warn('odd')")
        window.page.evaluate("fetch('http://127.0.0.1:9/away').catch(() => 0)")
        window.page.wait_for_timeout(500)
        assert "warning: odd" in window.problems and window.strangers == ["http://127.0.0.1:9/away"]
        with pytest.raises(AssertionError, match="not 'nonsense'"):
            window.page.set_default_timeout(500)
            window.wait_for("reconstruct-result", "nonsense")


def test_every_tab_reads_the_condition(answering_folder, texts, tmp_path):
    model = load_saved_model(answering_folder, device="cpu")
    table = tmp_path / "texts.tsv"
    rows = [f"{text}\t{text.split()[0]} ?" for text in texts[:20]]
    table.write_text("\n".join(["text\tasked", *rows]))
    corpus = load_corpus(model, texts=str(table), text_column="text", condition_column="asked")
    page = build(model, answering_folder, corpus)
    results = []
    try:
        with browser(start(page)) as (window,):
            for condition in ("My ?", ""):
                chosen = {"condition": condition, **QUIET}
                window.fill("condition", condition)
                window.tab("Reconstruct")
                window.fill("reconstruct-text", texts[100])
                results.append(model.reconstruct(texts[100], **chosen))
                window.wait_for("reconstruct-result", results[-1])
                window.fill("reconstruct-other", "The ?")
                moved = model.reconstruct(texts[100], condition="The ?", text_condition=condition, **QUIET)
                assert moved != results[-1]
                window.wait_for("reconstruct-result", moved)
                window.fill("reconstruct-other", "")
                window.tab("Sample")
                window.page.click("#sample-start")
                window.wait_for("sample-standard", as_lines(model.sample(8, seed=0, prior="standard", **chosen)))
                window.tab("Interpolate")
                window.fill("interpolate-from", texts[100])
                window.fill("interpolate-to", texts[103])
                window.page.click("#interpolate-start")
                path = model.interpolate(texts[100], texts[103], steps=9, **chosen)
                window.wait_for("interpolate-path", as_lines(path))
                window.tab("Dimensions")
                window.fill("dimensions-text", texts[100])
                window.page.click("#dimensions-start")
                latent = model.encode_texts(texts[100], condition=condition)
                numbers = [float(number) for number in range(-3, 4)]
                window.wait_for("dimensions-along", as_lines(model.traverse(latent, 0, numbers, **chosen)))
            window.tab("Map")
            window.page.locator("#map-number input").fill("3")
            window.page.locator("#map-number input").press("Enter")
            window.wait_for("map-chosen", texts[2])
            window.wait_for("condition", corpus.conditions[2])
            assert window.problems == [] and window.strangers == []
    finally:
        page.close()
    assert results[0] != results[1]


def test_a_model_without_conditions_shows_no_box_for_one(opened):
    for box in ("condition", "reconstruct-other"):
        assert not opened.page.locator(f"#{box}").is_visible()
