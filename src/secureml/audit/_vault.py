"""Captured values on their way from a call to its details."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from secureml.audit._plan import Capture, Plan
from secureml.audit.details import Detail, Sealed
from secureml.audit.value import commit

if TYPE_CHECKING:
    from secureml.sealing import Encrypted

__all__ = ["Vault"]

_NONE: Final[Mapping[str, "Encrypted"]] = MappingProxyType({})


class Vault:
    """Captured values of one record: in the clear, or encrypted under a subject's key."""

    __slots__ = ("encrypted", "plan", "record", "subject", "values")

    def __init__(self, record: str, subject: str, plan: Plan) -> None:
        self.record = record
        self.subject = subject
        self.plan = plan
        self.values: dict[str, Sealed] = {}
        self.encrypted: dict[str, Encrypted] = {}

    def put(self, capture: Capture, salt: bytes, encoded: bytes) -> str:
        """Keep a value for the details; return its member of the leaf."""
        commitment = commit(salt, encoded).hex()
        if not self.subject:
            self.values[capture.path] = Sealed(salt, encoded)
            return f'{capture.head}{commitment}"}}'
        keys = self.plan.ledger.keys(self.plan.log)
        sealed: Encrypted = keys.encrypt(
            self.subject, salt + encoded, record=self.record, path=capture.path
        )
        self.encrypted[capture.path] = sealed
        return f'{capture.head}{commitment}","key":"{sealed.key}","ref":"{sealed.ref}"}}'

    def detail(self) -> Detail | None:
        """Return the details line, or None where nothing was captured."""
        if self.encrypted:
            return Detail(self.record, self.values, self.encrypted)
        return Detail(self.record, self.values, _NONE) if self.values else None
