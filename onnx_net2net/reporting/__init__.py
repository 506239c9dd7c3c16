"""What a check came to, for people and for machines that run checks: JUnit XML, Markdown and HTML."""

from onnx_net2net.reporting.document import check_document, failed_document
from onnx_net2net.reporting.junit import junit
from onnx_net2net.reporting.markdown import markdown
from onnx_net2net.reporting.page import page

__all__ = ["check_document", "failed_document", "junit", "markdown", "page"]
