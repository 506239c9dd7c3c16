"""A model on its way to a URL: written to temporary files, where it can be verified, and then uploaded."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from onnx_net2net.storage.model import LazyModel
from onnx_net2net.storage.remote import content_of, put
from onnx_net2net.storage.urls import beside, is_url, name_of
from onnx_net2net.storage.writer import Draft


class Upload:
    """What `Draft` is for a file. Temporary files vanish with the block.

    Args:
        target: The URL.
        inputs: Files and URLs that the model is made from.
        draft: Makes the draft, given its path and the files that are never touched.
    """

    def __init__(self, target: str, inputs: set[str], draft: Callable[[Path, set[str]], Draft]) -> None:
        self.target = target
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="onnx_net2net."))
        taken = {os.path.join(self.folder, name_of(url)) for url in inputs if is_url(url)}  # no new file is called so
        try:
            self.draft = draft(Path(self.folder) / name_of(target), inputs | taken)
        except BaseException:
            self._clean()
            raise

    def __enter__(self) -> Upload:
        try:
            self.draft.__enter__()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.draft.__exit__()
        self._clean()

    @property
    def model(self) -> LazyModel:
        """What was written, as it is read back."""
        return self.draft.model

    def publish(self) -> None:
        """Uploads all files, the model last. Raises what `put` raises."""
        names = (beside(self.target, name) for name in self.draft.names)
        put([(name, partial(content_of, sink.name)) for name, sink in zip(names, self.draft.sinks, strict=True)])

    def _clean(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
