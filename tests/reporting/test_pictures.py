"""Pictures as files: what `savefig` would draw, to the pixel."""

import numpy as np
import pytest
from cases import cases
from matplotlib.figure import Figure
from PIL import Image

from hf_bnvae.evaluation import plots
from hf_bnvae.reporting.pictures import save_picture


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).copy()


LATENTS = np.random.default_rng(0).normal(size=(50, 4))
LOG = [{"step": step, "loss": 1 / step, "kl": 1.0 + step, "kl_floor": 1.0, "beta": 1.0} for step in range(1, 9)]
PICTURES = {
    "kl": lambda: plots.plot_kl_per_dimension([0.3, 2.0, 0.1], [0.2, 0.2, 0.2]),
    "posterior": lambda: plots.plot_aggregated_posterior(LATENTS, [4, 3, 2, 1]),
    "rates": lambda: plots.plot_rate_distortion([plots.RateDistortionPoint("a", 4.0, 18.0, 2.0)]),
    "training": lambda: plots.plot_training_curves(LOG),
}
EACH_PICTURE = pytest.mark.parametrize("name", cases(PICTURES, quick=["kl", "posterior"]))


@EACH_PICTURE
def test_a_picture_is_what_savefig_draws(name, tmp_path):
    save_picture(PICTURES[name](), tmp_path / "once.png")
    PICTURES[name]().savefig(tmp_path / "twice.png")
    once, twice = pixels(tmp_path / "once.png"), pixels(tmp_path / "twice.png")
    assert np.array_equal(once, twice) and once.std() > 1
    # The control: another picture.
    other = next(key for key in PICTURES if key != name)
    save_picture(PICTURES[other](), tmp_path / "other.png")
    assert not np.array_equal(once, pixels(tmp_path / "other.png"))


@EACH_PICTURE
def test_titles_stand_where_matplotlib_would_put_them(name, tmp_path):
    save_picture(PICTURES[name](), tmp_path / "own.png")
    for file, height in (("automatic.png", None), ("higher.png", 1.05)):  # the latter is the control
        figure = PICTURES[name]()
        for axes in figure.axes:
            axes.set_title(axes.get_title(), fontsize=axes.title.get_fontsize(), y=height)
        save_picture(figure, tmp_path / file)
    assert np.array_equal(pixels(tmp_path / "own.png"), pixels(tmp_path / "automatic.png"))
    assert not np.array_equal(pixels(tmp_path / "own.png"), pixels(tmp_path / "higher.png"))


def test_a_picture_keeps_the_resolution_of_its_figure(tmp_path):
    save_picture(Figure(figsize=(2, 1), dpi=130), tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as image:
        assert image.size == (260, 130) and image.info["dpi"] == pytest.approx((130, 130), abs=0.1)
