"""
The audit log: every prediction leaves a record that cannot be edited unseen.

`audited` makes a function leave a record each time it runs; `AuditLog` keeps
the records as leaves of a signed transparency log, and the values they commit
to beside it, where they can be erased.
"""

from secureml.audit.collect import CallRecord, Current, collect, current
from secureml.audit.decorator import audited
from secureml.audit.record import Record
from secureml.audit.sink import Appended, AuditLog
from secureml.audit.verify import (
    AuditFinding,
    AuditReport,
    DetailsReport,
    check_details,
    check_records,
    matches_input,
    matching_path,
    open_value,
    survey_details,
    survey_records,
)

__all__ = [
    "Appended",
    "AuditFinding",
    "AuditLog",
    "AuditReport",
    "CallRecord",
    "Current",
    "DetailsReport",
    "Record",
    "audited",
    "check_details",
    "check_records",
    "collect",
    "current",
    "matches_input",
    "matching_path",
    "open_value",
    "survey_details",
    "survey_records",
]
