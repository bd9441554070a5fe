"""
Evidence: what was said, by whom, and where a log holds it.

`attest` makes an envelope out of a statement and a key.  `verify` makes
`Evidence` out of an envelope and a trust.  A `Log` keeps envelopes in order.

The names are imported when first used, so that a process which only writes a
log loads nothing else.  The functions `attest.attest` and `verify.verify` are
not among them: a name that is a function or a module, depending on what was
imported before, helps nobody.  They are at the top level, ``secureml.verify``.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from secureml.evidence.blobs import BlobStore as BlobStore
    from secureml.evidence.checklog import VerifiedLog as VerifiedLog
    from secureml.evidence.checklog import verify_log as verify_log
    from secureml.evidence.log import Log as Log
    from secureml.evidence.notes import VerifiedCheckpoint as VerifiedCheckpoint
    from secureml.evidence.notes import sign_checkpoint as sign_checkpoint
    from secureml.evidence.notes import verify_checkpoint as verify_checkpoint
    from secureml.evidence.observe import observed as observed
    from secureml.evidence.observe import observing as observing
    from secureml.evidence.rotation import Rotation as Rotation
    from secureml.evidence.rotation import apply_rotation as apply_rotation
    from secureml.evidence.rotation import rotate as rotate
    from secureml.evidence.rotation import rotation_statement as rotation_statement
    from secureml.evidence.rotation import verify_rotation as verify_rotation
    from secureml.evidence.statements import Logged as Logged
    from secureml.evidence.statements import StatementLog as StatementLog
    from secureml.evidence.subject import SubjectLike as SubjectLike
    from secureml.evidence.subject import VerifiedSubject as VerifiedSubject
    from secureml.evidence.trust import ROLES as ROLES
    from secureml.evidence.trust import Identity as Identity
    from secureml.evidence.trust import ModelRule as ModelRule
    from secureml.evidence.trust import Position as Position
    from secureml.evidence.trust import Trust as Trust
    from secureml.evidence.trust import identity_block as identity_block
    from secureml.evidence.verify import ROLE_OF as ROLE_OF
    from secureml.evidence.verify import Evidence as Evidence
    from secureml.evidence.verify import verify_bundle as verify_bundle

_HOME = {
    "BlobStore": "blobs",
    "Evidence": "verify",
    "Identity": "trust",
    "Log": "log",
    "Logged": "statements",
    "ModelRule": "trust",
    "Position": "trust",
    "ROLES": "trust",
    "ROLE_OF": "verify",
    "Rotation": "rotation",
    "StatementLog": "statements",
    "SubjectLike": "subject",
    "Trust": "trust",
    "VerifiedCheckpoint": "notes",
    "VerifiedLog": "checklog",
    "VerifiedSubject": "subject",
    "apply_rotation": "rotation",
    "identity_block": "trust",
    "observed": "observe",
    "observing": "observe",
    "rotate": "rotation",
    "rotation_statement": "rotation",
    "sign_checkpoint": "notes",
    "verify_bundle": "verify",
    "verify_checkpoint": "notes",
    "verify_log": "checklog",
    "verify_rotation": "rotation",
}

__all__ = [
    "ROLES",
    "ROLE_OF",
    "BlobStore",
    "Evidence",
    "Identity",
    "Log",
    "Logged",
    "ModelRule",
    "Position",
    "Rotation",
    "StatementLog",
    "SubjectLike",
    "Trust",
    "VerifiedCheckpoint",
    "VerifiedLog",
    "VerifiedSubject",
    "apply_rotation",
    "identity_block",
    "observed",
    "observing",
    "rotate",
    "rotation_statement",
    "sign_checkpoint",
    "verify_bundle",
    "verify_checkpoint",
    "verify_log",
    "verify_rotation",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    globals()[name] = value = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
