"""Training: a run puts on record what went in, what came out, and that it failed."""

from secureml.training.code import Code, current_code
from secureml.training.environment import current_environment
from secureml.training.predicates import (
    BUILD_TYPE,
    BUILDER_ID,
    DecisionRef,
    Input,
    Output,
    Provenance,
    RunFailure,
    RunStart,
)
from secureml.training.run import Recorded, TrainingRun

__all__ = [
    "BUILDER_ID",
    "BUILD_TYPE",
    "Code",
    "DecisionRef",
    "Input",
    "Output",
    "Provenance",
    "Recorded",
    "RunFailure",
    "RunStart",
    "TrainingRun",
    "current_code",
    "current_environment",
]
