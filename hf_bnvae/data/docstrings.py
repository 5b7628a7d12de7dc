# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The embedded corpus: the first sentences of the docstrings of Python and of the packages in `PACKAGES`.

Every machine that can import this package has this corpus of real English, without a network. The files are parsed,
never imported. The corpus depends on the versions of the packages in `PACKAGES`, so results carry its hash. Other
installed packages do not change it.
"""

import ast
import hashlib
import os
import re
import sysconfig
import warnings
from importlib import metadata
from pathlib import Path

import datasets

MIN_WORDS, MAX_WORDS = 4, 16
# Raise this number when the extraction changes, so that no corpus from an older extraction is read from the cache.
EXTRACTION_VERSION = 3

# The corpus is made of the docstrings of the standard library and of these packages. The list is fixed: a package that
# is required later, or installed too, must not change the corpus. A package that is not installed adds nothing.
PACKAGES = (
    "accelerate",
    "aiohappyeyeballs",
    "aiohttp",
    "aiosignal",
    "annotated-doc",
    "annotated-types",
    "anyio",
    "attrs",
    "certifi",
    "charset-normalizer",
    "click",
    "colorama",
    "datasets",
    "dill",
    "evaluate",
    "filelock",
    "frozenlist",
    "fsspec",
    "h11",
    "hf-xet",
    "httpcore2",
    "httpx2",
    "huggingface_hub",
    "idna",
    "Jinja2",
    "lxml",
    "markdown-it-py",
    "MarkupSafe",
    "mdurl",
    "mpmath",
    "multidict",
    "multiprocess",
    "networkx",
    "numpy",
    "packaging",
    "pandas",
    "portalocker",
    "propcache",
    "psutil",
    "pyarrow",
    "pydantic",
    "pydantic_core",
    "Pygments",
    "python-dateutil",
    "PyYAML",
    "regex",
    "requests",
    "rich",
    "sacrebleu",
    "safetensors",
    "setuptools",
    "shellingham",
    "sympy",
    "tabulate",
    "tokenizers",
    "torch",
    "tqdm",
    "transformers",
    "truststore",
    "typer",
    "typing-inspection",
    "typing_extensions",
    "tzdata",
    "urllib3",
    "xxhash",
    "yarl",
)

_SKIPPED_FOLDERS = {"test", "tests", "site-packages", "__pycache__", "hf_bnvae"}
_FIRST_SENTENCE = re.compile(r".*?[.!?](?=\s+[A-Z(]|$)")
_PLAIN_ENGLISH = re.compile(r"[A-Z][A-Za-z0-9 ,;:'()/-]*[.!?]")


def docstring_sentences(show_progress: bool = True) -> list[str]:
    """
    Distinct sentences from the docstrings of the standard library and of the packages in `PACKAGES`.

    The first call takes about a minute on two cores. Later calls read the result from the cache folder of `datasets`,
    as long as the same files are installed.

    Args:
        show_progress (`bool`, *optional*, defaults to `True`): Whether to draw a progress bar.

    Returns:
        `list[str]`: Sentences of 4 to 16 words in plain characters, sorted.
    """
    files = _source_files()
    key = hashlib.sha256(f"{EXTRACTION_VERSION}".encode())
    for path, size in files:
        key.update(f"{path}\0{size}\n".encode())
    cache_file = Path(datasets.config.HF_DATASETS_CACHE) / "hf_bnvae" / f"docstrings-{key.hexdigest()[:16]}.txt"
    if cache_file.is_file():
        return cache_file.read_text(encoding="utf-8").splitlines()

    # `Dataset.map` provides the pool of processes and the progress bar.
    paths = datasets.Dataset.from_dict({"path": [str(path) for path, _ in files]})
    was_enabled = datasets.are_progress_bars_disabled() is False
    if not show_progress:
        datasets.disable_progress_bars()
    try:
        extracted = paths.map(
            _extract_batch,
            batched=True,
            batch_size=32,
            remove_columns=["path"],
            num_proc=min(os.cpu_count() or 1, 8),
            desc="Reading docstrings",
        )
    finally:
        if was_enabled:
            datasets.enable_progress_bars()
    sentences = sorted(set(extracted["text"]))
    cache_file.parent.mkdir(parents=True, exist_ok=True)
    partial = cache_file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text("\n".join(sentences) + "\n", encoding="utf-8")
    partial.replace(cache_file)
    return sentences


def first_sentence(docstring: str) -> str | None:
    """The first sentence of a docstring if it is plain English of 4 to 16 words, otherwise `None`."""
    paragraph = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    match = _FIRST_SENTENCE.match(" ".join(paragraph.split()))
    if match is None:
        return None
    sentence = match.group().replace("`", "")
    is_plain = _PLAIN_ENGLISH.fullmatch(sentence) is not None
    return sentence if is_plain and MIN_WORDS <= len(sentence.split()) <= MAX_WORDS else None


def _source_files() -> list[tuple[Path, int]]:
    """All Python files of the standard library and of `PACKAGES` with their sizes, in a fixed order."""
    found = {}
    for folder, folders, names in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        found |= {path: path.stat().st_size for path in (Path(folder, name) for name in names if name.endswith(".py"))}
    for name in PACKAGES:
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for file in distribution.files or ():
            path = Path(file.locate())
            if file.suffix == ".py" and not _SKIPPED_FOLDERS & set(file.parts) and path.is_file():
                found[path] = path.stat().st_size
    return sorted(found.items())


def _extract_batch(batch: dict[str, list[str]]) -> dict[str, list[str]]:
    return {"text": [sentence for path in batch["path"] for sentence in _extract_file(Path(path))]}


def _extract_file(path: Path) -> list[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # not every file in a package is valid source of this Python version
    docstrings = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
    sentences = (first_sentence(docstring) for docstring in docstrings if docstring)
    return [sentence for sentence in sentences if sentence]
