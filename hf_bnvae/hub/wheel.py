# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The installed package as a wheel, for a machine that installs it without a clone and without an index."""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import distribution
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
_DISTRIBUTION = "hf-bnvae"
# The earliest date that a zip file can hold, so that equal files make equal wheels.
_DATE = (1980, 1, 1, 0, 0, 0)


def package_wheel() -> tuple[str, bytes]:
    """
    The wheel of this package, as it is installed here, also if it is installed for editing.

    `pip wheel` would need the sources' `pyproject.toml` and a place to build in.

    Returns:
        `tuple`: the name of the file and its content. The same files make the same content.
    """
    installed = distribution(_DISTRIBUTION)
    stem = f"{_DISTRIBUTION.replace('-', '_')}-{installed.version}"
    files = {
        f"{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes()
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    # A build leaves an `egg-info` beside the package, which Python finds first if it starts there.
    metadata = installed.read_text("METADATA") or installed.read_text("PKG-INFO")
    files[f"{stem}.dist-info/METADATA"] = metadata.encode()
    files[f"{stem}.dist-info/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: hf_bnvae\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{stem}.dist-info/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    record = f"{stem}.dist-info/RECORD"
    rows = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items()]
    files[record] = "".join([*rows, f"{record},,\n"]).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return f"{stem}-py3-none-any.whl", stream.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
