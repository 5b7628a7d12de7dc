"""`hf-bnvae check` finds what changed in a model's folder and in the checkpoints of a run."""

import pytest

from hf_bnvae.cli import main
from hf_bnvae.utils.checkpoints import record_contents


def checked(folder, capsys) -> tuple[int, str]:
    status = 0
    try:
        main(["check", str(folder)])
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    return status, printed.out + printed.err


@pytest.fixture
def run(saved_model, tmp_path):
    """A run's folder: a model, and two checkpoints."""
    saved_model.save_pretrained(tmp_path)
    for step in (5, 10):
        checkpoint = tmp_path / f"checkpoint-{step}"
        saved_model.save_pretrained(checkpoint)
        record_contents(checkpoint)
        (checkpoint / "trainer_state.json").write_text("{}")
    return tmp_path


def test_a_folder_that_is_as_it_was_saved_passes(run, capsys):
    status, printed = checked(run, capsys)
    assert status == 0 and printed.count("as saved.") == 3
    assert checked(run / "checkpoint-5", capsys) == (0, f"{run / 'checkpoint-5'}: as saved.\n")
    # Control: without checksums nothing can be said about bits.
    (run / "checksums.json").unlink()
    status, printed = checked(run, capsys)
    assert status == 0 and "has no checksums.json" in printed


@pytest.mark.parametrize(
    ("name", "place", "found"),
    [
        ("model.safetensors", -1, "model.safetensors is not as saved"),
        ("config.json", 300, "config.json is"),
        ("checkpoint-10/model.safetensors", -1, "checkpoint-10 is damaged: model.safetensors is not as written."),
    ],
)
def test_one_flipped_bit_is_found(name, place, found, run, capsys):
    content = bytearray((run / name).read_bytes())
    content[place] ^= 1
    (run / name).write_bytes(content)
    status, printed = checked(run, capsys)
    assert status == 1 and found in printed and printed.count("as saved.") == 2


def test_a_folder_with_neither_model_nor_checkpoint_is_an_error(tmp_path, capsys):
    status, printed = checked(tmp_path, capsys)
    assert status == 2 and "holds no saved BNVAE" in printed
    status, printed = checked(tmp_path / "nowhere", capsys)
    assert status == 2 and printed.startswith("error: There is no folder")
