"""
Gates: checks asked of a dataset, a plan logged before, a signed decision after.

``Gate(name, checks)`` is what is asked; `run` asks it and records the plan,
the findings and the decision; `decide` is the pure function in the middle.
Everything that is missing, skipped or failed denies.
"""

from secureml.gates.attempts import Attempts, count_attempts
from secureml.gates.check import Check, Finding, Measurable, State, check_name
from secureml.gates.gate import Gate, Preview
from secureml.gates.policy import AllOf, AnyOf, Decision, Measured, Passes, Policy, decide
from secureml.gates.predicates import GatePlan, TestResult, Verdict, confirm
from secureml.gates.run import GateResult, Recorded, require_gate, run

__all__ = [
    "AllOf",
    "AnyOf",
    "Attempts",
    "Check",
    "Decision",
    "Finding",
    "Gate",
    "GatePlan",
    "GateResult",
    "Measurable",
    "Measured",
    "Passes",
    "Policy",
    "Preview",
    "Recorded",
    "State",
    "TestResult",
    "Verdict",
    "check_name",
    "confirm",
    "count_attempts",
    "decide",
    "require_gate",
    "run",
]
