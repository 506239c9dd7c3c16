"""The exceptions of the package, and the one format of their messages."""

from __future__ import annotations


def message(op: str, node: str, tensor: str, wrong: str, way_out: str) -> str:
    """Formats ``Op 'node' (tensor): what is wrong; what to do``.

    Parts that are unknown are left out, so the same format serves errors that concern a file or an
    option rather than a node.
    """
    subject = op + (f" '{node}'" if node else "") + (f" ({tensor})" if tensor else "")
    text = f"{subject}: {wrong}" if subject else wrong
    return f"{text}; {way_out}" if way_out else text


class Net2NetError(Exception):
    """Base of every error that is the input's fault rather than the program's.

    Args:
        wrong: What is wrong, in a few words.
        way_out: What the user can do about it.
        op: Operator type (or another subject, such as a file) that the error is about.
        node: Name of the node.
        tensor: Name of the tensor, initializer or axis.
    """

    def __init__(self, wrong: str, way_out: str = "", *, op: str = "", node: str = "", tensor: str = "") -> None:
        super().__init__(message(op, node, tensor, wrong, way_out))


class ModelError(Net2NetError):
    """The model cannot be read, is not valid ONNX, or contradicts itself."""


class RequestError(Net2NetError):
    """The model is fine, but what was asked of it cannot be done."""


class UsageError(Net2NetError):
    """The arguments contradict each other or have no meaning."""


class NotEquivalentError(Net2NetError):
    """A student failed its verification; nothing was written."""


class MissingError(Net2NetError):
    """Something that is needed is not installed or not present on this machine."""


class SizeMismatch(Net2NetError):
    """Two terms that an equation calls equal have different sizes."""


class Declined(Exception):  # control flow between a rule and the engine, not an error
    """Raised by a rule that cannot answer for a node; its text is the reason of the pins."""
