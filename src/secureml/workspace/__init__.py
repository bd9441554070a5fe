"""
The friendly face: a directory of evidence, opened for training or for serving.

It composes the verbs of the stages and adds their order.  What it verifies, it
verifies with plain functions that need no workspace.
"""

from secureml.workspace.chain import Chain, Link
from secureml.workspace.loading import load_model
from secureml.workspace.opening import open_workspace
from secureml.workspace.signing import SignedModel
from secureml.workspace.tracing import Trace, trace_prediction
from secureml.workspace.verifying import Report, verify_directory
from secureml.workspace.workspace import Workspace

__all__ = [
    "Chain",
    "Link",
    "Report",
    "SignedModel",
    "Trace",
    "Workspace",
    "load_model",
    "open_workspace",
    "trace_prediction",
    "verify_directory",
]
