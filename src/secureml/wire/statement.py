"""
In-toto Statement v1: one thing said about other things, by their digests.

What is signed is the bytes of a statement, so a verifier reads the bytes it
received and never writes them again.  `Statement.decode` therefore takes any
spelling of the JSON; the structure is strict: no unknown member beside
``_type``, ``subject``, ``predicateType`` and ``predicate``, at least one
subject, each with at least one digest.  Members of a subject beyond its name
and digest are read over, as the standard asks.

Source: in-toto attestation framework v1, ``spec/v1/statement.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from secureml.wire import canonical
from secureml.wire._read import array, malformed, members, reading, text
from secureml.wire.canonical import JSON

__all__ = [
    "ANCHOR",
    "DATASET",
    "GATE_PLAN",
    "KEY_ROTATION",
    "OMS",
    "PAYLOAD_TYPE",
    "PREDICATE_PREFIX",
    "PROVENANCE",
    "RUN_FAILURE",
    "RUN_START",
    "SEAL",
    "STATEMENT_TYPE",
    "TEST_RESULT",
    "VSA",
    "Statement",
    "Subject",
]

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""The DSSE payload type of a statement."""

PREDICATE_PREFIX: Final = "https://secureml.dev/predicate/"
"""The names of all predicate types that are ours begin with this."""

DATASET: Final = PREDICATE_PREFIX + "dataset/v1"
GATE_PLAN: Final = PREDICATE_PREFIX + "gate-plan/v1"
RUN_START: Final = PREDICATE_PREFIX + "run-start/v1"
RUN_FAILURE: Final = PREDICATE_PREFIX + "run-failure/v1"
ANCHOR: Final = PREDICATE_PREFIX + "anchor/v1"
SEAL: Final = PREDICATE_PREFIX + "seal/v1"
KEY_ROTATION: Final = PREDICATE_PREFIX + "key-rotation/v1"

PROVENANCE: Final = "https://slsa.dev/provenance/v1"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
VSA: Final = "https://slsa.dev/verification_summary/v1"
OMS: Final = "https://model_signing/signature/v1.0"


@dataclass(frozen=True, slots=True)
class Subject:
    """
    What a statement is about.

    Attributes:
        name: For people; things are matched by digest alone.  May be empty.
        digest: Digest set: algorithm to lower case hex.  Algorithms may be
            unknown to us; `secureml.wire.digest.Digest.from_set` judges.

    Raises:
        ValueError: The digest set is empty.
    """

    name: str
    digest: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.digest:
            msg = f"the subject {self.name[:60]!a} has no digest"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Statement:
    """
    One thing said about some subjects.

    Attributes:
        subject: What it is about; at least one.
        predicate_type: URI that names the kind of thing said.
        predicate: What is said.

    Raises:
        ValueError: No subject, or no predicate type.
    """

    subject: tuple[Subject, ...]
    predicate_type: str
    predicate: Mapping[str, JSON]

    def __post_init__(self) -> None:
        if not self.subject:
            msg = "a statement needs at least one subject"
            raise ValueError(msg)
        if not self.predicate_type:
            msg = "a statement needs a predicate type"
            raise ValueError(msg)

    def encode(self) -> bytes:
        """
        Return the statement as canonical JSON.

        Raises:
            TypeError: The predicate has a float or another type that has no
                canonical form.
            ValueError: See `secureml.wire.canonical.encode`.
        """
        return canonical.encode(
            {
                "_type": STATEMENT_TYPE,
                "subject": [
                    {"name": subject.name, "digest": subject.digest} for subject in self.subject
                ],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )

    @classmethod
    def decode(cls, data: bytes, /) -> "Statement":
        """
        Read a statement in any spelling of JSON.

        Raises:
            FormatError: Not an in-toto Statement v1.
        """
        what = "the in-toto statement"
        top = members(
            canonical.parse(data, what=what),
            what,
            required=("_type", "subject", "predicateType", "predicate"),
        )
        if top["_type"] != STATEMENT_TYPE:
            raise malformed(what, f"its '_type' is not {STATEMENT_TYPE}")
        predicate = top["predicate"]
        if not isinstance(predicate, dict):
            raise malformed(what, "'predicate' must be an object")
        subjects = [_subject(item, what) for item in array(top["subject"], what, "subject")]
        with reading(what):
            return cls(
                tuple(subjects), text(top["predicateType"], what, "predicateType"), predicate
            )


def _subject(value: JSON, what: str) -> Subject:
    if not isinstance(value, dict):
        raise malformed(what, "each subject must be an object")
    digests = value.get("digest")
    if not isinstance(digests, dict):
        raise malformed(what, "each subject must have an object 'digest'")
    digest = {name: text(item, what, "digest") for name, item in digests.items()}
    with reading(what):
        return Subject(text(value.get("name", ""), what, "name"), digest)
