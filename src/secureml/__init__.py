"""
secureml: from any prediction, walk back by cryptographic proof to the rows behind it.

Three verbs close the loop: `attest` makes an envelope out of a claim and a
key, `verify` makes evidence out of an envelope and a trust, and `decide` makes
a decision out of evidence and a policy.  `open` gives the friendly face, a
`Workspace`.

Importing this module imports nothing else: each name is looked up when it is
first used (PEP 562), so a process pays for what it needs.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from secureml import audit as audit
    from secureml import data as data
    from secureml import detect as detect
    from secureml import doctor as doctor
    from secureml import errors as errors
    from secureml import evidence as evidence
    from secureml import gates as gates
    from secureml import hashing as hashing
    from secureml import keys as keys
    from secureml import models as models
    from secureml import sealing as sealing
    from secureml import training as training
    from secureml import wire as wire
    from secureml import workspace as workspace
    from secureml.audit import audited as audited
    from secureml.errors import FormatError as FormatError
    from secureml.errors import GateDeniedError as GateDeniedError
    from secureml.errors import SecureMLError as SecureMLError
    from secureml.errors import StoreError as StoreError
    from secureml.errors import VerificationError as VerificationError
    from secureml.evidence.attest import attest as attest
    from secureml.evidence.log import Log as Log
    from secureml.evidence.trust import Trust as Trust
    from secureml.evidence.verify import Evidence as Evidence
    from secureml.evidence.verify import verify as verify
    from secureml.gates import Gate as Gate
    from secureml.gates import Policy as Policy
    from secureml.gates import decide as decide
    from secureml.hashing import manifest as manifest
    from secureml.models import sign_model as sign_model
    from secureml.models import verify_model as verify_model
    from secureml.wire.digest import Digest as Digest
    from secureml.wire.dsse import Envelope as Envelope
    from secureml.wire.manifest import Manifest as Manifest
    from secureml.wire.statement import Statement as Statement
    from secureml.workspace.loading import load_model as load_model
    from secureml.workspace.opening import open_workspace as open  # noqa: A004  the word users know
    from secureml.workspace.workspace import Workspace as Workspace

    __version__: str

__all__ = [
    "Digest",
    "Envelope",
    "Evidence",
    "FormatError",
    "Gate",
    "GateDeniedError",
    "Log",
    "Manifest",
    "Policy",
    "SecureMLError",
    "Statement",
    "StoreError",
    "Trust",
    "VerificationError",
    "Workspace",
    "__version__",
    "attest",
    "audit",
    "audited",
    "data",
    "decide",
    "detect",
    "doctor",
    "errors",
    "evidence",
    "gates",
    "hashing",
    "keys",
    "load_model",
    "manifest",
    "models",
    "open",
    "sealing",
    "sign_model",
    "training",
    "verify",
    "verify_model",
    "wire",
    "workspace",
]

_HOME = {
    "Digest": "wire.digest",
    "Envelope": "wire.dsse",
    "Evidence": "evidence.verify",
    "FormatError": "errors",
    "Gate": "gates",
    "GateDeniedError": "errors",
    "Log": "evidence.log",
    "Manifest": "wire.manifest",
    "Policy": "gates",
    "SecureMLError": "errors",
    "Statement": "wire.statement",
    "StoreError": "errors",
    "Trust": "evidence.trust",
    "VerificationError": "errors",
    "Workspace": "workspace.workspace",
    "attest": "evidence.attest",
    "audited": "audit",
    "decide": "gates",
    "load_model": "workspace.loading",
    "manifest": "hashing",
    "open": "workspace.opening",
    "sign_model": "models",
    "verify": "evidence.verify",
    "verify_model": "models",
}
"""Public name → the module below ``secureml`` that defines it."""

_ELSEWHERE = {"open": "open_workspace"}
"""Public name → what it is called where it is defined, when that differs."""

_NAMESPACES = frozenset(
    {
        "audit",
        "data",
        "detect",
        "doctor",
        "errors",
        "evidence",
        "gates",
        "hashing",
        "keys",
        "models",
        "sealing",
        "training",
        "wire",
        "workspace",
    }
)


def __getattr__(name: str) -> object:
    value: object
    if name in _NAMESPACES:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    if name in _HOME:
        from importlib import import_module

        home = import_module(f"{__name__}.{_HOME[name]}")
        value = getattr(home, _ELSEWHERE.get(name, name))
    elif name == "__version__":
        from importlib.metadata import version

        value = version("secureml-sdk")
    else:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
