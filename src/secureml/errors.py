"""
Every exception of secureml, grouped by what the caller does next.

::

    Exception
    ├── TypeError, ValueError           a bug of the caller, found before any work
    └── SecureMLError                   code, what, why, fix
        ├── FormatError                 bytes are not what they claim to be: get them again
        ├── VerificationError           evidence does not hold: do not use the thing
        │   ├── DigestMismatchError     other bytes than the evidence is about
        │   ├── SignatureError          a signature does not verify
        │   ├── UntrustedSignerError    a good signature by somebody the trust does not name
        │   ├── ThresholdError          fewer than the required number of signers
        │   ├── InclusionError          a record is not proven to be in the log
        │   ├── ConsistencyError        a log was forked, cut or rolled back
        │   ├── ExpiredError            outside the validity of a key, or of a statement
        │   ├── ChainError              a link of the chain of custody is missing or broken
        │   ├── UnexpectedFileError     a file that nothing signed names, or one that is gone
        │   └── UnsafeFormatError       loading it would run code
        ├── GateDeniedError             a gate said no: reasons, decision digest
        ├── StoreError                  a log or store could not do it: see `retryable`
        │   └── StoreBusyError          another process writes to this log
        ├── KeyUnavailableError         a key is missing, locked or unreadable
        │   └── KeyRoleError            a key was asked to sign outside its role
        └── MissingExtraError           an optional library is needed: the install line

Errors carry plain values only, and all of them pickle: Ray, Dask and Spark
ship errors between processes.
"""

from typing import ClassVar, final

__all__ = [
    "ChainError",
    "ConsistencyError",
    "DigestMismatchError",
    "ExpiredError",
    "FormatError",
    "GateDeniedError",
    "InclusionError",
    "KeyRoleError",
    "KeyUnavailableError",
    "MissingExtraError",
    "SecureMLError",
    "SignatureError",
    "StoreBusyError",
    "StoreError",
    "ThresholdError",
    "UnexpectedFileError",
    "UnsafeFormatError",
    "UntrustedSignerError",
    "VerificationError",
]


class SecureMLError(Exception):
    """
    The root of what secureml refuses or cannot do.

    Attributes:
        what: One line: what happened, naming the thing.
        why: What was found, and what was expected.
        fix: What to do next.
    """

    code: ClassVar[str] = "SML000"
    """Stable identifier, never reused; documented in ``docs/errors.md``."""

    def __init__(self, what: str, *, why: str, fix: str) -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what} [{self.code}]\n  why: {self.why}\n  fix: {self.fix}"

    @final
    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[SecureMLError], args: tuple[str, str, str], state: dict[str, object]
) -> SecureMLError:
    what, why, fix = args
    error = kind.__new__(kind)
    SecureMLError.__init__(error, what, why=why, fix=fix)
    error.__dict__.update(state)
    return error


class FormatError(SecureMLError):
    """Bytes are not in the format they should be in."""

    code = "SML100"


class VerificationError(SecureMLError):
    """Evidence does not hold; the thing it is about must not be used."""

    code = "SML200"


class DigestMismatchError(VerificationError):
    """The bytes at hand are not the bytes that the evidence is about."""

    code = "SML201"


class SignatureError(VerificationError):
    """A signature does not verify under the key it names."""

    code = "SML202"


class UntrustedSignerError(VerificationError):
    """The signer is not named by the trust file, or not in this role."""

    code = "SML203"


class ThresholdError(VerificationError):
    """Fewer signers than the trust demands."""

    code = "SML204"


class InclusionError(VerificationError):
    """A record is not proven to be in the log."""

    code = "SML205"


class ConsistencyError(VerificationError):
    """Two views of a log disagree: it was forked, cut or rolled back."""

    code = "SML206"


class ExpiredError(VerificationError):
    """A key or a statement is outside the time, or the part of the log, it is valid for."""

    code = "SML207"


class ChainError(VerificationError):
    """A link of the chain of custody is missing, broken or out of order."""

    code = "SML208"


class UnexpectedFileError(VerificationError):
    """A file is present that nothing signed names, or one that is named is gone."""

    code = "SML209"


class UnsafeFormatError(VerificationError):
    """Loading the file would run code that it brings along."""

    code = "SML210"


class GateDeniedError(SecureMLError):
    """
    A gate said no.

    Attributes:
        reasons: One line for each requirement that was not met.
        decision: Digest of the signed decision, ``sha256:…``; empty when none was made.
    """

    code = "SML300"

    def __init__(
        self,
        what: str,
        *,
        why: str,
        fix: str,
        reasons: tuple[str, ...] = (),
        decision: str = "",
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.reasons = reasons
        self.decision = decision


class StoreError(SecureMLError):
    """
    A log or a store could not do what was asked.

    Attributes:
        retryable: Whether the same call may succeed later, with nothing changed.
    """

    code = "SML400"

    def __init__(self, what: str, *, why: str, fix: str, retryable: bool = False) -> None:
        super().__init__(what, why=why, fix=fix)
        self.retryable = retryable


class StoreBusyError(StoreError):
    """Another process, or the parent of this fork, writes to this log."""

    code = "SML401"


class KeyUnavailableError(SecureMLError):
    """A key is missing, locked, unreadable or readable by others."""

    code = "SML500"


class KeyRoleError(KeyUnavailableError):
    """A key was asked to sign something outside its role."""

    code = "SML501"


class MissingExtraError(SecureMLError):
    """An optional library is needed; `fix` is the exact install line."""

    code = "SML600"
