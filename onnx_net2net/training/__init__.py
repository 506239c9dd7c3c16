"""The way back to training: checkpoints, modules and optimizers grow as a Plan says."""

from onnx_net2net.training.checkpoint import read_state, write_state
from onnx_net2net.training.course import Course, expand_checkpoint
from onnx_net2net.training.weights import Report

__all__ = ["Course", "Report", "expand_checkpoint", "read_state", "write_state"]
