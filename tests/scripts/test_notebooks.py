"""The notebook runs from its first cell to its last on a small model, and shows the outputs of a run."""

import json

import pytest
from paths import SCRIPTS

from hf_bnvae import BNVAEModel, fit_prior

NOTEBOOK = SCRIPTS / "notebooks" / "tour.ipynb"


def code_cells() -> list[dict]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_shows_what_a_run_printed():
    numbers = [cell["execution_count"] for cell in code_cells()]
    assert numbers == list(range(1, len(numbers) + 1))
    # The first cell sets names only.
    outputs = [cell["outputs"] for cell in code_cells()[1:]]
    assert all(len(found) == 1 and found[0]["name"] == "stdout" and found[0]["text"] for found in outputs)
    assert "The latent space is alive." in "".join(outputs[-1][0]["text"])


@pytest.mark.slow
def test_the_notebook_runs(trained_folder, texts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = BNVAEModel.from_pretrained(trained_folder).eval()
    fit_prior(model, texts)
    model.save_pretrained("runs/yelp")
    labels = [int(len(text) > 35) for text in texts]
    (tmp_path / "valid.tsv").write_text(
        "\n".join(["text\tlabel", *(f"{t}\t{y}" for t, y in zip(texts, labels, strict=True))])
    )
    names: dict = {}
    for number, cell in enumerate(code_cells()):
        capsys.readouterr()
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        assert number == 0 or capsys.readouterr().out
    assert names["sentiment"].num_positive == sum(labels)
