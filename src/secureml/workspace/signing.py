"""
Signing a model that has earned it, and packing what it rests on.

The rule is checked before a key is touched: a model whose inputs have not
passed the required gates is never signed.

What happens if the process dies here: a ``model.sig`` without its claims is
refused by every `load_model`; signing again completes it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from secureml import gates, models
from secureml._durable import write_beside
from secureml._html import card
from secureml.errors import ChainError, DigestMismatchError, GateDeniedError
from secureml.evidence.statements import StatementLog
from secureml.evidence.subject import SubjectLike
from secureml.evidence.trust import ModelRule, Trust
from secureml.evidence.verify import Evidence, verify
from secureml.gates.predicates import GatePlan, Verdict
from secureml.hashing import manifest
from secureml.keys import Signer
from secureml.models.oms import read_resources
from secureml.training.predicates import Provenance
from secureml.wire import statement as st
from secureml.wire.digest import Digest
from secureml.workspace.chain import join_digest, judge
from secureml.workspace.claims import CLAIMS_NAME, encode_claims
from secureml.workspace.roles import evidence_of, role_of

__all__ = ["SignedModel", "passing_decisions", "sign_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedModel:
    """
    A model that was signed, and the rule that a relying party would pin.

    Attributes:
        name: The name of its training run.
        path: Its directory.
        digest: Its dirHash.
        rule: The rule to review and paste into a trust file, TOML.
    """

    name: str
    path: Path
    digest: Digest
    rule: str

    def __str__(self) -> str:
        return f"{self.name} {self.digest.short} signed in {self.path}"

    def _repr_html_(self) -> str:
        return card(
            f"signed model {self.name}",
            [("digest", self.digest), ("path", self.path), ("rule to pin", self.rule)],
        )


def passing_decisions(
    ledger: StatementLog, inputs: Iterable[SubjectLike]
) -> list[tuple[str, Digest]]:
    """Return (gate, digest of the decision) for each passing decision about *inputs*."""
    found: dict[Digest, str] = {}
    for subject in inputs:
        for logged in ledger.find(subject.digest, st.VSA):
            verdict = Verdict.from_statement(logged.envelope.statement())
            if verdict.passed:
                found[logged.envelope.digest] = verdict.gate
    return [(gate, digest) for digest, gate in found.items()]


def sign_model(
    path: Path,
    *,
    require: Sequence[gates.Gate],
    key: Signer,
    ledger: StatementLog,
    trust: Trust,
) -> SignedModel:
    """See `Workspace.sign_model`."""
    if not all(isinstance(gate, gates.Gate) for gate in require):
        msg = "require is a list of gates: write require=[gate], the Gate that was run"
        raise TypeError(msg)
    digest = manifest(path, exclude=models.OWN_IGNORED).digest
    evidence = _all_evidence(ledger, trust)
    runs = [e for e in evidence if _produced(e, digest)]
    if not runs:
        raise ChainError(
            f"model {str(path)!r} was not made by a run of this workspace",
            why=f"no logged run has an output with digest {digest.short}",
            fix="save it with run.save(…) inside ws.training_run(…), and do not change it after; "
            "secureml.sign_model signs files alone, without a chain",
        )
    name = Provenance.from_statement(runs[-1].statement).name
    rule = ModelRule(name=name, require={gate.name: gate.digest for gate in require})
    if require:
        chain = judge(digest, evidence, [rule], name=name, signed=False)
        broken = tuple(link.detail for link in chain.links if not link.ok)
        if broken:
            raise GateDeniedError(
                f"model {name!r} is not signed",
                why="; ".join(broken),
                fix="run the required gates on every input before the training run, fix what they "
                "find, and train again",
                reasons=broken,
            )
    signature = models.sign_model(path, key=key)
    envelope = signature.envelope
    if read_resources(verify(envelope, trust=trust, role="model").statement).digest != digest:
        raise DigestMismatchError(
            f"model {str(path)!r} changed while it was being signed",
            why=f"it was made with digest {digest.short}, and other files were signed",
            fix="let nothing write to the directory, and sign again",
        )
    logged = ledger.append(envelope)
    ledger.publish()
    places = {
        item.position.index: item.signer.verifier.hint
        for item in _relevant(evidence, runs)
        if item.position is not None
    }
    places[logged.index] = key.verifier.hint
    bundles = [ledger.bundle(index, hint=hint) for index, hint in sorted(places.items())]
    write_beside(path / CLAIMS_NAME, encode_claims(bundles))
    return SignedModel(name=name, path=path, digest=digest, rule=Trust(rules=(rule,)).to_toml())


def _all_evidence(ledger: StatementLog, trust: Trust) -> list[Evidence]:
    return [
        evidence_of(logged, origin=ledger.origin, trust=trust)
        for logged in ledger
        if role_of(logged.envelope.statement().predicate_type) != "log"
    ]


def _produced(item: Evidence, digest: Digest) -> bool:
    statement = item.statement
    return statement.predicate_type == st.PROVENANCE and any(
        s.digest.get(digest.algorithm) == digest.hex for s in statement.subject
    )


def _relevant(evidence: Sequence[Evidence], runs: Sequence[Evidence]) -> list[Evidence]:
    """Return what a verifier needs: the runs, their starts, and all about their inputs."""
    provenances = [Provenance.from_statement(run.statement) for run in runs]
    starts = {p.run_start for p in provenances}
    inputs = [i for p in provenances for i in p.inputs]
    joins = {join_digest(i.digests) for i in inputs}
    names = {i.name for i in inputs}
    labels = {
        GatePlan.from_statement(e.statement).gate
        for e in evidence
        if e.statement.predicate_type == st.GATE_PLAN and _about(e, joins, names)
    }

    def wanted(item: Evidence) -> bool:
        kind = item.statement.predicate_type
        if kind == st.RUN_START:
            return item.digest in starts
        if kind == st.GATE_PLAN:
            # Every attempt counts, also those under other data of the same gate.
            plan = GatePlan.from_statement(item.statement)
            return plan.gate in labels or _about(item, joins, names)
        return kind in (st.DATASET, st.TEST_RESULT, st.VSA) and _about(item, joins, names)

    return [e for e in evidence if e in runs or wanted(e)]


def _about(item: Evidence, joins: set[Digest], names: set[str]) -> bool:
    return any(
        subject.name in names or any(subject.digest.get(d.algorithm) == d.hex for d in joins)
        for subject in item.statement.subject
    )
