"""Captured values on their way from a call to its details."""

from typing import TYPE_CHECKING

from secureml.audit._plan import Capture, Plan
from secureml.audit.details import encrypted_member, spell_line, value_member
from secureml.audit.value import commit

if TYPE_CHECKING:
    from secureml.sealing import Encrypted

__all__ = ["Vault"]


class Vault:
    """
    Captured values of one record: in the clear, or encrypted under a subject's key.

    Attributes:
        encrypted: Whether any is encrypted.
    """

    __slots__ = ("_found", "_plan", "_record", "_subject", "encrypted")

    def __init__(self, record: str, subject: str, plan: Plan) -> None:
        self._record = record
        self._subject = subject
        self._plan = plan
        self._found: list[tuple[int, bytes]] = []
        self.encrypted = False

    def put(self, capture: Capture, salt: bytes, encoded: bytes) -> str:
        """Keep a value for the details; return its member of the leaf."""
        commitment = commit(salt, encoded).hex()
        if not self._subject:
            self._found.append((capture.salt, value_member(capture.quoted, salt, encoded)))
            return f'{capture.head}{commitment}"}}'
        keys = self._plan.log.subjects
        sealed: Encrypted = keys.encrypt(
            self._subject, salt + encoded, record=self._record, path=capture.path
        )
        self.encrypted = True
        self._found.append((capture.salt, encrypted_member(capture.quoted, sealed)))
        return f'{capture.head}{commitment}","key":"{sealed.key}","ref":"{sealed.ref}"}}'

    def line(self) -> bytes | None:
        """Return the line of the details, or None where nothing was captured."""
        found = self._found
        if not found:
            return None
        if len(found) > 1:
            found.sort()  # By place, which is the order of the paths.
        members = [member for _, member in found]
        if self.encrypted:
            return spell_line(self._record, (), members)
        return spell_line(self._record, members, ())
