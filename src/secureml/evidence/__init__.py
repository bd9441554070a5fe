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
    from secureml.evidence.epochkeys import EpochKeys as EpochKeys
    from secureml.evidence.epochs import EpochChain as EpochChain
    from secureml.evidence.epochs import EpochLeaf as EpochLeaf
    from secureml.evidence.epochs import epoch_body as epoch_body
    from secureml.evidence.epochs import read_notes as read_notes
    from secureml.evidence.epochs import verify_epochs as verify_epochs
    from secureml.evidence.log import Log as Log
    from secureml.evidence.notes import VerifiedCheckpoint as VerifiedCheckpoint
    from secureml.evidence.notes import add_signatures as add_signatures
    from secureml.evidence.notes import sign_checkpoint as sign_checkpoint
    from secureml.evidence.notes import verify_checkpoint as verify_checkpoint
    from secureml.evidence.observe import observed as observed
    from secureml.evidence.observe import observing as observing
    from secureml.evidence.rotation import Rotation as Rotation
    from secureml.evidence.rotation import apply_rotation as apply_rotation
    from secureml.evidence.rotation import rotate as rotate
    from secureml.evidence.rotation import rotation_statement as rotation_statement
    from secureml.evidence.rotation import verify_rotation as verify_rotation
    from secureml.evidence.sealedtail import SealedTail as SealedTail
    from secureml.evidence.statements import Logged as Logged
    from secureml.evidence.statements import StatementLog as StatementLog
    from secureml.evidence.subject import SubjectLike as SubjectLike
    from secureml.evidence.subject import VerifiedSubject as VerifiedSubject
    from secureml.evidence.tail import Tail as Tail
    from secureml.evidence.tail import VerifiedTail as VerifiedTail
    from secureml.evidence.tail import check_tail as check_tail
    from secureml.evidence.trust import ROLES as ROLES
    from secureml.evidence.trust import Identity as Identity
    from secureml.evidence.trust import ModelRule as ModelRule
    from secureml.evidence.trust import Position as Position
    from secureml.evidence.trust import Trust as Trust
    from secureml.evidence.trust import identity_block as identity_block
    from secureml.evidence.verify import ROLE_OF as ROLE_OF
    from secureml.evidence.verify import Evidence as Evidence
    from secureml.evidence.verify import verify_bundle as verify_bundle
    from secureml.evidence.witness import Cosignature as Cosignature
    from secureml.evidence.witness import VerifiedCosignatures as VerifiedCosignatures
    from secureml.evidence.witness import Witness as Witness
    from secureml.evidence.witness import sign_cosignature as sign_cosignature
    from secureml.evidence.witness import verify_cosignatures as verify_cosignatures
    from secureml.evidence.witness import witness_block as witness_block

_HOME = {
    "BlobStore": "blobs",
    "Cosignature": "witness",
    "EpochChain": "epochs",
    "EpochKeys": "epochkeys",
    "EpochLeaf": "epochs",
    "Evidence": "verify",
    "Identity": "trust",
    "Log": "log",
    "Logged": "statements",
    "ModelRule": "trust",
    "Position": "trust",
    "ROLES": "trust",
    "ROLE_OF": "verify",
    "Rotation": "rotation",
    "SealedTail": "sealedtail",
    "StatementLog": "statements",
    "SubjectLike": "subject",
    "Tail": "tail",
    "Trust": "trust",
    "VerifiedCheckpoint": "notes",
    "VerifiedCosignatures": "witness",
    "VerifiedLog": "checklog",
    "VerifiedSubject": "subject",
    "VerifiedTail": "tail",
    "Witness": "witness",
    "add_signatures": "notes",
    "apply_rotation": "rotation",
    "check_tail": "tail",
    "epoch_body": "epochs",
    "identity_block": "trust",
    "observed": "observe",
    "observing": "observe",
    "read_notes": "epochs",
    "rotate": "rotation",
    "rotation_statement": "rotation",
    "sign_checkpoint": "notes",
    "sign_cosignature": "witness",
    "verify_bundle": "verify",
    "verify_checkpoint": "notes",
    "verify_cosignatures": "witness",
    "verify_epochs": "epochs",
    "verify_log": "checklog",
    "verify_rotation": "rotation",
    "witness_block": "witness",
}

__all__ = [
    "ROLES",
    "ROLE_OF",
    "BlobStore",
    "Cosignature",
    "EpochChain",
    "EpochKeys",
    "EpochLeaf",
    "Evidence",
    "Identity",
    "Log",
    "Logged",
    "ModelRule",
    "Position",
    "Rotation",
    "SealedTail",
    "StatementLog",
    "SubjectLike",
    "Tail",
    "Trust",
    "VerifiedCheckpoint",
    "VerifiedCosignatures",
    "VerifiedLog",
    "VerifiedSubject",
    "VerifiedTail",
    "Witness",
    "add_signatures",
    "apply_rotation",
    "check_tail",
    "epoch_body",
    "identity_block",
    "observed",
    "observing",
    "read_notes",
    "rotate",
    "rotation_statement",
    "sign_checkpoint",
    "sign_cosignature",
    "verify_bundle",
    "verify_checkpoint",
    "verify_cosignatures",
    "verify_epochs",
    "verify_log",
    "verify_rotation",
    "witness_block",
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
