"""
The audit log: every prediction leaves a record that cannot be edited unseen.

`audited` makes a function leave a record each time it runs; `AuditLog` keeps
the records as leaves of a signed transparency log, and the values they commit
to beside it, where they can be erased.  `verify_audit` checks all of it,
`query_log` asks it, `export_log` hands it to other people's tools, `erase` and
`prune` take out what must not stay.

The names are imported when first used, so that a process which only records
loads nothing else.  `query`, `export`, `redaction`, `profiles` and the other
modules are reached by attribute, too; the two functions that would have the
name of their module are called `query_log` and `export_log` here.
"""

# A module of the same name would take their place as soon as anything imported it.
from secureml.audit.collect import collect
from secureml.audit.context import context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from secureml.audit import checkdetails as checkdetails
    from secureml.audit import daemon as daemon
    from secureml.audit import decoding as decoding
    from secureml.audit import decorator as decorator
    from secureml.audit import details as details
    from secureml.audit import erasing as erasing
    from secureml.audit import export as export
    from secureml.audit import findings as findings
    from secureml.audit import options as options
    from secureml.audit import oversight as oversight
    from secureml.audit import policies as policies
    from secureml.audit import profiles as profiles
    from secureml.audit import pseudonyms as pseudonyms
    from secureml.audit import query as query
    from secureml.audit import record as record
    from secureml.audit import redaction as redaction
    from secureml.audit import retention as retention
    from secureml.audit import sink as sink
    from secureml.audit import value as value
    from secureml.audit import verification as verification
    from secureml.audit import verify as verify
    from secureml.audit.appended import Appended as Appended
    from secureml.audit.checkdetails import DetailsReport as DetailsReport
    from secureml.audit.checkdetails import check_details as check_details
    from secureml.audit.checkdetails import matches_input as matches_input
    from secureml.audit.checkdetails import matching_path as matching_path
    from secureml.audit.checkdetails import open_value as open_value
    from secureml.audit.checkdetails import survey_details as survey_details
    from secureml.audit.collect import CallRecord as CallRecord
    from secureml.audit.collect import Current as Current
    from secureml.audit.collect import current as current
    from secureml.audit.context import carry as carry
    from secureml.audit.context import wrap_executor as wrap_executor
    from secureml.audit.decorator import Audits as Audits
    from secureml.audit.decorator import audited as audited
    from secureml.audit.erasing import Erasure as Erasure
    from secureml.audit.erasing import complete_erasures as complete_erasures
    from secureml.audit.erasing import erase as erase
    from secureml.audit.export import Exported as Exported
    from secureml.audit.export import export as export_log
    from secureml.audit.export.push import Pushed as Pushed
    from secureml.audit.export.push import push_otlp as push_otlp
    from secureml.audit.findings import AuditFinding as AuditFinding
    from secureml.audit.options import Ack as Ack
    from secureml.audit.options import AuditOptions as AuditOptions
    from secureml.audit.options import Constant as Constant
    from secureml.audit.options import OnFailure as OnFailure
    from secureml.audit.options import Require as Require
    from secureml.audit.oversight import oversee as oversee
    from secureml.audit.oversight import review as review
    from secureml.audit.policies import FLOOR_DAYS as FLOOR_DAYS
    from secureml.audit.policies import PRESETS as PRESETS
    from secureml.audit.policies import Preset as Preset
    from secureml.audit.policies import RetentionPolicy as RetentionPolicy
    from secureml.audit.profiles import PROFILES as PROFILES
    from secureml.audit.profiles import Missing as Missing
    from secureml.audit.profiles import Profile as Profile
    from secureml.audit.query import AuditIndex as AuditIndex
    from secureml.audit.query import access_body as access_body
    from secureml.audit.query import open_index as open_index
    from secureml.audit.query import query as query_log
    from secureml.audit.query import query_rows as query_rows
    from secureml.audit.query import to_duckdb as to_duckdb
    from secureml.audit.record import Record as Record
    from secureml.audit.redaction import Redaction as Redaction
    from secureml.audit.redaction import Redactor as Redactor
    from secureml.audit.retention import Due as Due
    from secureml.audit.retention import Pruned as Pruned
    from secureml.audit.retention import complete_pruning as complete_pruning
    from secureml.audit.retention import due as due
    from secureml.audit.retention import holds as holds
    from secureml.audit.retention import place_hold as place_hold
    from secureml.audit.retention import prune as prune
    from secureml.audit.retention import release_hold as release_hold
    from secureml.audit.retention import retention_policy as retention_policy
    from secureml.audit.retention import set_policy as set_policy
    from secureml.audit.retention import verify_pruned_log as verify_pruned_log
    from secureml.audit.sink import AuditLog as AuditLog
    from secureml.audit.verification import AuditVerification as AuditVerification
    from secureml.audit.verification import Window as Window
    from secureml.audit.verification import verify_audit as verify_audit
    from secureml.audit.verify import AuditReport as AuditReport
    from secureml.audit.verify import check_records as check_records
    from secureml.audit.verify import survey_records as survey_records

_HOME = {
    "Ack": "options",
    "Appended": "appended",
    "AuditFinding": "findings",
    "AuditIndex": "query",
    "AuditLog": "sink",
    "AuditOptions": "options",
    "AuditReport": "verify",
    "AuditVerification": "verification",
    "Audits": "decorator",
    "CallRecord": "collect",
    "Constant": "options",
    "Current": "collect",
    "DetailsReport": "checkdetails",
    "Due": "retention",
    "Erasure": "erasing",
    "Exported": "export",
    "FLOOR_DAYS": "policies",
    "Missing": "profiles",
    "OnFailure": "options",
    "PRESETS": "policies",
    "PROFILES": "profiles",
    "Preset": "policies",
    "Profile": "profiles",
    "Pruned": "retention",
    "Pushed": "export.push",
    "Record": "record",
    "Redaction": "redaction",
    "Redactor": "redaction",
    "Require": "options",
    "RetentionPolicy": "policies",
    "Window": "verification",
    "access_body": "query",
    "audited": "decorator",
    "carry": "context",
    "check_details": "checkdetails",
    "check_records": "verify",
    "complete_erasures": "erasing",
    "complete_pruning": "retention",
    "current": "collect",
    "due": "retention",
    "erase": "erasing",
    "export_log": "export",
    "holds": "retention",
    "matches_input": "checkdetails",
    "matching_path": "checkdetails",
    "open_index": "query",
    "open_value": "checkdetails",
    "oversee": "oversight",
    "place_hold": "retention",
    "prune": "retention",
    "push_otlp": "export.push",
    "query_log": "query",
    "query_rows": "query",
    "release_hold": "retention",
    "retention_policy": "retention",
    "review": "oversight",
    "set_policy": "retention",
    "survey_details": "checkdetails",
    "survey_records": "verify",
    "to_duckdb": "query",
    "verify_audit": "verification",
    "verify_pruned_log": "retention",
    "wrap_executor": "context",
}
"""Public name → the module below ``secureml.audit`` that defines it."""

_ELSEWHERE = {"export_log": "export", "query_log": "query"}
"""Public name → what it is called where it is defined, when that differs."""

_MODULES = frozenset(
    {
        "checkdetails",
        "daemon",
        "decoding",
        "decorator",
        "details",
        "erasing",
        "export",
        "findings",
        "options",
        "oversight",
        "policies",
        "profiles",
        "pseudonyms",
        "query",
        "record",
        "redaction",
        "retention",
        "sink",
        "value",
        "verification",
        "verify",
    }
)

__all__ = [
    "FLOOR_DAYS",
    "PRESETS",
    "PROFILES",
    "Ack",
    "Appended",
    "AuditFinding",
    "AuditIndex",
    "AuditLog",
    "AuditOptions",
    "AuditReport",
    "AuditVerification",
    "Audits",
    "CallRecord",
    "Constant",
    "Current",
    "DetailsReport",
    "Due",
    "Erasure",
    "Exported",
    "Missing",
    "OnFailure",
    "Preset",
    "Profile",
    "Pruned",
    "Pushed",
    "Record",
    "Redaction",
    "Redactor",
    "Require",
    "RetentionPolicy",
    "Window",
    "access_body",
    "audited",
    "carry",
    "check_details",
    "check_records",
    "collect",
    "complete_erasures",
    "complete_pruning",
    "context",
    "current",
    "due",
    "erase",
    "export_log",
    "holds",
    "matches_input",
    "matching_path",
    "open_index",
    "open_value",
    "oversee",
    "place_hold",
    "prune",
    "push_otlp",
    "query_log",
    "query_rows",
    "release_hold",
    "retention_policy",
    "review",
    "set_policy",
    "survey_details",
    "survey_records",
    "to_duckdb",
    "verify_audit",
    "verify_pruned_log",
    "wrap_executor",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    home = _HOME.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{home}"), _ELSEWHERE.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
