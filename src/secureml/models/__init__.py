"""Models: sign them, verify them, and load exactly the bytes that were verified."""

from secureml.models.loading import LoadedModel, load_value, load_verified
from secureml.models.oms import (
    OWN_IGNORED,
    OmsClaim,
    Resource,
    oms_root,
    oms_statement,
    read_oms,
    read_resources,
)
from secureml.models.saving import save
from secureml.models.signing import (
    SIGNATURE_NAME,
    check_key,
    default_signature,
    read_signature,
    sign_model,
)
from secureml.models.verifying import (
    SIGNATURE_ONLY,
    TRUSTED,
    VerifiedFiles,
    VerifiedModel,
    open_model,
    verify_model,
)

__all__ = [
    "OWN_IGNORED",
    "SIGNATURE_NAME",
    "SIGNATURE_ONLY",
    "TRUSTED",
    "LoadedModel",
    "OmsClaim",
    "Resource",
    "VerifiedFiles",
    "VerifiedModel",
    "check_key",
    "default_signature",
    "load_value",
    "load_verified",
    "oms_root",
    "oms_statement",
    "open_model",
    "read_oms",
    "read_resources",
    "read_signature",
    "save",
    "sign_model",
    "verify_model",
]
