"""Names of models: paths of this machine, or URLs that fsspec reads and writes (``s3://bucket/model.onnx``)."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import TypeAlias

Place: TypeAlias = Path | str
"""A path, or the text of a URL."""
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://")
"""A protocol of one letter would be a drive of Windows. ``zip://`` and ``simplecache::`` may stand before others."""
LOCAL = re.compile(r"(?:file|local)://(?:/(?=[A-Za-z]:))?", re.IGNORECASE)
ODD = re.compile(r"://|::|[\\?#%\0]")
"""What may mean something else in a URL than in the name of a file."""


def is_url(name: object) -> bool:
    """Whether a name is a URL. A `Path` never is, nor is ``./s3://...``."""
    return isinstance(name, str) and URL.match(name) is not None and LOCAL.match(name) is None


def place(name: str | os.PathLike[str]) -> Place:
    """What a name stands for; ``file://`` is a path."""
    if isinstance(name, str):
        return name if is_url(name) else Path(LOCAL.sub("", name, count=1) if LOCAL.match(name) else name)
    return Path(name)


def name_of(where: Place) -> str:
    """The last part of a name."""
    return where.name if isinstance(where, Path) else posixpath.basename(_split(where)[1])


def beside(url: str, location: str) -> str:
    """The URL of a file in the folder of another, or below that.

    Raises:
        ValueError: If it would lie elsewhere.
    """
    inside = posixpath.normpath(location)
    if ODD.search(location) or posixpath.isabs(location) or inside.split("/")[0] in ("", ".", ".."):
        raise ValueError(location)
    before, path, after = _split(url)
    return before + posixpath.join(posixpath.dirname(path), inside) + after


def _split(url: str) -> tuple[str, str, str]:
    """A URL's protocol, path, and what follows: the query of the web's, or where an archive is."""
    first = URL.match(url)
    start = first.end() if first else 0
    ends = [found for found in (url.find("::", start), _query(url, start)) if found >= 0]
    end = min(ends, default=len(url))
    return url[:start], url[start:end], url[end:]


def _query(url: str, start: int) -> int:
    return url.find("?", start) if re.search(r"https?://$", url[:start]) else -1
