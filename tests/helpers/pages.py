"""Code blocks of Markdown pages, taken out and run, and small networks under the names that the pages load."""

import ast
import re
from pathlib import Path

from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from hf_bnvae import BNVAEProcessor

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def code_blocks(page: str, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page) if found == language]


def shown_output(code: str) -> list[str | None]:
    """For each `print` of a block, what the comment at the end of its line says that it prints."""
    lines = code.splitlines()
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    prints = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    ends = [lines[call.end_lineno - 1].encode()[call.end_col_offset :].decode() for call in prints]
    return [end.strip().removeprefix("# ") if end.strip() else None for end in ends]


def run_blocks(blocks: list[str], page: Path) -> list[tuple[str, str]]:
    """Run the blocks of a page one after another; what a comment says is printed, and what was, where they differ."""
    printed: list[str] = []
    names = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
    wrong = []
    for block in blocks:
        printed.clear()
        exec(compile(block, str(page), "exec"), names)
        pairs = zip(shown_output(block), printed, strict=True)
        wrong += [(shown, value) for shown, value in pairs if shown is not None and shown != value]
    return wrong


def save_pair(processor: BNVAEProcessor, encoder_config: BertConfig, decoder_config: GPT2Config) -> None:
    """Save a pair of new networks to folders that have the names of a pair on the Hub."""
    BertModel(encoder_config).save_pretrained("google-bert/bert-base-cased")
    processor.encoder_tokenizer.save_pretrained("google-bert/bert-base-cased")
    GPT2LMHeadModel(decoder_config).save_pretrained("openai-community/gpt2")
    processor.tokenizer.save_pretrained("openai-community/gpt2")
