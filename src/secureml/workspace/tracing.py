"""
Walk back from one prediction, each link judged and named.

A trace is shown also when it breaks, because the reader wants to see where.
It never looks like a good one: the broken link carries its code, `Trace.ok` is
False, and `Trace.enforce` raises.

Source: ``docs/spec/chain.md``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from secureml import audit
from secureml._html import grid
from secureml.errors import ChainError, SecureMLError
from secureml.evidence.blobs import BlobStore
from secureml.evidence.trust import Trust
from secureml.sealing import SubjectKeys
from secureml.wire.digest import Digest
from secureml.workspace.auditing import Head, read_audit
from secureml.workspace.chain import Link, judge
from secureml.workspace.claims import open_claims
from secureml.workspace.layout import Layout, find_nested

__all__ = ["NOTHING", "Trace", "one_line", "trace_prediction"]

NOTHING = object()
"""Stands for "no input was given", because None is a value that a call may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """
    A prediction, walked back to its sources.

    Attributes:
        prediction: The record's id.
        links: From the prediction to the sources of the data.
        warnings: What weakens the trace without breaking it.
    """

    prediction: str
    links: tuple[Link, ...]
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every link holds."""
        return bool(self.links) and all(link.ok for link in self.links)

    def enforce(self) -> None:
        """
        Raise for the first link that does not hold.

        Raises:
            ChainError: It names the link and the reason.
        """
        for link in self.links:
            if not link.ok:
                raise ChainError(
                    f"the trace of prediction {self.prediction} breaks at: {link.name}",
                    why=link.detail,
                    fix="do not rely on the prediction; find out who changed what, from the first "
                    "link that holds",
                )

    def to_dict(self) -> dict[str, object]:
        """Return the trace as plain values, for ``--json``."""
        return {
            "ok": self.ok,
            "prediction": self.prediction,
            "links": [
                {
                    "name": link.name,
                    "subject": link.subject,
                    "digest": link.digest,
                    "strength": link.strength,
                    "signer": link.signer,
                    "index": link.index,
                    "detail": link.detail,
                    "ok": link.ok,
                    "code": link.error,
                }
                for link in self.links
            ],
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        lines = [f"trace of prediction {self.prediction}"]
        for depth, link in enumerate(self.links):
            mark = "✓" if link.ok else "✗"
            place = "" if link.index is None else f" #{link.index}"
            lines.append(
                f"{mark} {'  ' * min(depth, 1)}{link.name:<16} {one_line(link.subject)}"
                f"  {_short(link.digest)}"
            )
            said = f"by {link.signer}{place}" if link.signer else "by nobody trusted"
            state = link.strength if link.ok else f"BROKEN [{link.error}]"
            lines.append(f"      {state}, {said}: {one_line(link.detail)}")
        lines += [f"! {text}" for text in self.warnings]
        if not self.ok:
            lines.append("the chain does not hold")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return grid(
            f"trace of prediction {self.prediction}",
            ("", "link", "subject", "digest", "strength", "said by", "found"),
            [
                (
                    "✓" if link.ok else f"✗ {link.error}",
                    link.name,
                    link.subject,
                    _short(link.digest),
                    link.strength if link.ok else "broken",
                    link.signer,
                    link.detail,
                )
                for link in self.links
            ],
            note=" · ".join(self.warnings),
        )


def one_line(text: str) -> str:
    """Escape what would begin another line, or move the reader's eye: texts are signers' own."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _short(digest: str) -> str:
    algorithm, colon, value = digest.partition(":")
    return f"{algorithm}:{value[:16]}…" if colon else digest


def trace_prediction(
    directory: Path, prediction: str, *, trust: Trust, value: object = NOTHING
) -> Trace:
    """
    Walk back from *prediction*, found in *directory* or an evidence directory inside it.

    Args:
        directory: An evidence directory.
        prediction: The record's id.
        trust: From outside the directory.
        value: Compared with the recorded input of the call, when given.

    Raises:
        LookupError: No record has this id.
        VerificationError: A log does not hold.
        FormatError: A log or a record cannot be read.
    """
    for root in (Layout.of(directory).root, *find_nested(Layout.of(directory).root)):
        layout = Layout.of(root)
        if not layout.audit.is_dir():
            continue
        found = read_audit(layout, trust=trust)
        for number, (index, record) in enumerate(zip(found.places, found.records, strict=True)):
            if record.id == prediction:
                place = _Place(layout, found.head, found.records, found.places, number, index)
                return _walk(place, trust, value)
    msg = (
        f"no prediction has id {prediction!r} in {str(directory)!r}: ids are printed by the "
        "serving code (secureml.audit.collect()) and stand in the audit log; a record becomes "
        "visible when its log is published"
    )
    raise LookupError(msg)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the record is that a trace begins with: *number* among those that are there."""

    layout: Layout
    log: Head
    records: Sequence[audit.Record]
    places: Sequence[int]
    number: int
    index: int

    @property
    def record(self) -> audit.Record:
        return self.records[self.number]


def _walk(place: _Place, trust: Trust, value: object) -> Trace:
    record, log, records = place.record, place.log, place.records
    links = [
        Link(
            name="prediction",
            subject=f"{record.action} → {record.outcome} at {record.time}",
            digest=record.leaf_digest,
            strength="observed",
            signer=log.signer.name,
            index=place.index,
            detail=f"one of {log.size:,} entries under a signed checkpoint",
        )
    ]
    try:
        standing = [r for r in records if r.type in {"erasure", "hold"}]
        audit.check_details([record, *standing], place.layout.details, partial=True)
        if value is not NOTHING:
            links.append(_input_link(place, value))
    except SecureMLError as error:
        links.append(_link_of(error, "captured values", record.action or "?"))
    links.extend(_model_links(place, trust))
    return Trace(
        prediction=record.id,
        links=tuple(links),
        warnings=_warnings(trust, {link.signer for link in links}),
    )


def _input_link(place: _Place, value: object) -> Link:
    keys = SubjectKeys(place.layout.private) if place.layout.private.is_dir() else None
    path = audit.matching_path(place.record, place.layout.details, value, keys=keys)
    if path is None:
        return Link(
            name="input",
            subject="the given input",
            detail="it is none of the values that were committed to for this call",
            error=ChainError.code,
        )
    return Link(
        name="input",
        subject=path,
        strength="observed",
        signer=place.log.signer.name,
        index=place.index,
        detail="the given input is the one that was committed to",
    )


def _model_links(place: _Place, trust: Trust) -> list[Link]:
    record = place.record
    known = _verified_digest(record)
    if record.model is None or known is None:
        return [
            Link(
                name="model",
                subject=record.action or "?",
                detail="the call was recorded without a verified model",
                error=ChainError.code,
            )
        ]
    digest = Digest.parse(known)
    load = next(
        (
            (i, r)
            for i, r in reversed(
                list(zip(place.places, place.records, strict=True))[: place.number]
            )
            if r.claims is not None
            and r.writer == record.writer
            and r.outcome == "ok"
            and _verified_digest(r) == known
        ),
        None,
    )
    if load is None or load[1].claims is None:
        return [
            Link(
                name="model load",
                subject=record.model.name or "?",
                digest=str(digest),
                detail="no record says that this writer loaded and verified the model before",
                error=ChainError.code,
            )
        ]
    try:
        claims = open_claims(BlobStore(place.layout.blobs).get(load[1].claims), trust=trust)
        chain = judge(digest, claims.evidence, trust.rules, name=record.model.name)
    except SecureMLError as error:
        return [_link_of(error, "claims", record.model.name or "?")]
    loaded = Link(
        name="model load",
        subject=chain.model,
        digest=str(load[1].claims),
        strength="observed",
        signer=place.log.signer.name,
        index=load[0],
        detail=f"verified against {claims.size} entries of {claims.origin}",
    )
    return [loaded, *chain.links]


def _verified_digest(record: audit.Record) -> str | None:
    """Return the digest of the model that *record* says was verified; None when unverified."""
    model = record.model
    return model.digest if model is not None and model.status == "verified" else None


def _link_of(error: SecureMLError, name: str, subject: str) -> Link:
    return Link(name=name, subject=subject, detail=f"{error.what}: {error.why}", error=error.code)


def _warnings(trust: Trust, signers: set[str]) -> tuple[str, ...]:
    found: list[str] = []
    development = sorted(signers & set(trust.development))
    if development:
        found.append("development keys: " + ", ".join(development))
    if trust.separation_of_duties == "none":
        found.append("separation of duties: none")
    found.append("rollback: checked by `verify` with a remembered checkpoint, not by a trace")
    return tuple(found)
