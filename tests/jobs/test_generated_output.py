"""Where `hf-bnvae generate` escapes what it prints: on a terminal, and not in a pipe, which other programs read."""

import io
import json
import sys

import pytest

from hf_bnvae.jobs.text_generation import generation_parser, write_texts

TEXT = "The food\x9b31m likes \u202e the red car ."


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_control_characters_are_escaped_on_a_terminal_alone(trained_model, monkeypatch, stream):
    arguments = ["--model", "any", "--output_format", "jsonl", "--max_new_tokens", "4", TEXT]
    monkeypatch.setattr(sys, "stdout", stream())
    write_texts("reconstruct", trained_model, generation_parser("reconstruct").parse_args(arguments))
    printed = sys.stdout.getvalue()
    if stream is Terminal:
        assert "\\x9b31m likes \\u202e" in printed and not {"\x9b", "\u202e"} & set(printed)
    else:
        assert json.loads(printed)["text"] == TEXT and "\x9b" in printed
