"""
The chain of custody, judged: does this model rest on what the rule demands?

A pure function from evidence to links.  It reads nothing, so the same code
judges the claims that came with a model and the whole log of a workspace.  It
looks for *some* run and *some* decisions that meet the rule: more evidence
never turns a yes into a no.

Source: ``docs/spec/chain.md``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from secureml.data.claim import DatasetClaim
from secureml.errors import ChainError, FormatError
from secureml.evidence.trust import ModelRule
from secureml.evidence.verify import Evidence
from secureml.gates.predicates import GatePlan, TestResult, Verdict, confirm
from secureml.models.oms import read_resources
from secureml.training.predicates import Input, Provenance, RunStart
from secureml.wire import statement as st
from secureml.wire.digest import DIR_HASH, TABLE_DIGEST, Digest

__all__ = ["Chain", "Link", "join_digest", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """
    One step of the walk back, with how it is known.

    Attributes:
        name: Which step: ``"training run"``, ``"gate decision"``, …
        subject: What it is about, for people.
        digest: The digest it joins on, ``alg:hex``; empty where there is none.
        strength: ``proven``, ``observed`` or ``declared``.
        signer: Name of the identity that said it.
        index: Its place in the log; None outside one.
        detail: What was found, one line.
        error: The error's code where the link is broken, else empty.
    """

    name: str
    subject: str
    digest: str = ""
    strength: str = "proven"
    signer: str = ""
    index: int | None = None
    detail: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the link holds."""
        return not self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """
    A model, walked back to its sources, each link judged.

    Attributes:
        model: The name of the training run, which is what the rule is for.
        digest: The model's dirHash.
        links: From the model's signature to the sources.
    """

    model: str
    digest: Digest
    links: tuple[Link, ...]

    @property
    def ok(self) -> bool:
        """Whether every link holds."""
        return all(link.ok for link in self.links)

    def enforce(self) -> None:
        """
        Raise for the first link that does not hold.

        Raises:
            ChainError: It names the link and the reason.
        """
        for link in self.links:
            if not link.ok:
                raise ChainError(
                    f"the chain of model {self.model or '?'!r} breaks at: {link.name}",
                    why=link.detail,
                    fix=_FIXES.get(link.name, "get the model again, with its claims").format(
                        model=self.model
                    ),
                )


_FIXES = {
    "model signature": "sign the model in the workspace that trained it: ws.sign_model(…)",
    "training run": "train inside ws.training_run(…) and save with run.save(…), then sign",
    "rule": 'add [models."{model}"] with what it must require to the trust file, after review',
    "gate decision": "run the demanded gate on every input before the run, train and sign again",
    "dataset": "register the data with ws.dataset(…) in the workspace that trains",
}


def join_digest(digests: Mapping[str, str]) -> Digest:
    """
    Return the digest on which statements about a dataset join.

    Raises:
        FormatError: The set names neither a table nor a tree.
    """
    for algorithm in (TABLE_DIGEST, DIR_HASH):
        if algorithm in digests:
            return Digest.from_set(digests, algorithm)
    raise FormatError(
        "a dataset has no digest to join on",
        why=f"it names {sorted(digests)}; a table has {TABLE_DIGEST}, a tree {DIR_HASH}",
        fix="register it with ws.dataset(…)",
    )


@dataclass(slots=True)
class _Board:
    """
    The evidence, laid out by type.

    A statement that was logged twice stands where it was logged first, so that
    logging it again neither moves it nor hides it.
    """

    signatures: list[Evidence] = field(default_factory=list)
    runs: list[tuple[Evidence, Provenance]] = field(default_factory=list)
    starts: dict[str, tuple[Evidence, RunStart]] = field(default_factory=dict)
    plans: dict[str, tuple[Evidence, GatePlan]] = field(default_factory=dict)
    results: dict[str, tuple[Evidence, TestResult]] = field(default_factory=dict)
    verdicts: list[tuple[Evidence, Verdict]] = field(default_factory=list)
    datasets: list[tuple[Evidence, DatasetClaim]] = field(default_factory=list)

    def add(self, item: Evidence) -> None:
        statement, name = item.statement, item.digest.hex
        match statement.predicate_type:
            case st.OMS:
                self.signatures.append(item)
            case st.PROVENANCE:
                self.runs.append((item, Provenance.from_statement(statement)))
            case st.RUN_START:
                self.starts.setdefault(name, (item, RunStart.from_statement(statement)))
            case st.GATE_PLAN:
                self.plans.setdefault(name, (item, GatePlan.from_statement(statement)))
            case st.TEST_RESULT:
                self.results.setdefault(name, (item, TestResult.from_statement(statement)))
            case st.VSA:
                self.verdicts.append((item, Verdict.from_statement(statement)))
            case st.DATASET:
                self.datasets.append((item, DatasetClaim.from_statement(statement)))


def judge(
    model: Digest,
    evidence: Iterable[Evidence],
    rules: Iterable[ModelRule],
    *,
    name: str | None = None,
    counted: Mapping[str, int] | None = None,
    signed: bool = True,
) -> Chain:
    """
    Walk from *model* back to its sources, and judge each link.

    Args:
        model: The model's dirHash.
        evidence: Verified statements of one log.
        rules: The relying party's rules.
        name: The model name that the caller expects; any name with a rule when None.
        counted: Attempts counted from the whole log, by payload digest (hex)
            of the decision; None when only claims are at hand.
        signed: Whether the model's signature is part of the chain; False
            before it is made.

    Raises:
        FormatError: A statement of a known type cannot be read.
    """
    board = _Board()
    by_name = {rule.name: rule for rule in rules}
    for item in evidence:
        board.add(item)
    signatures = [
        item for item in board.signatures if read_resources(item.statement).digest == model
    ]
    if signed and not signatures:
        missing = _broken(
            "model signature",
            name or "?",
            "no signature among the evidence is about exactly these files",
            model,
        )
        return Chain(model=name or "", digest=model, links=(missing,))
    best: Chain | None = None
    for run, provenance in reversed(board.runs):
        if not _names(run, model):
            continue
        signature = next((s for s in signatures if _before(run, s)), None)
        if signed and signature is None:
            continue
        head = () if signature is None else (_signature_link(signature, model),)
        links = (*head, *_judge_run(board, run, provenance, by_name, name, counted))
        chain = Chain(model=provenance.name, digest=model, links=links)
        if chain.ok:
            return chain
        best = best or chain
    if best is not None:
        return best
    head = (_signature_link(signatures[0], model),) if signed else ()
    missing = _broken(
        "training run",
        name or "?",
        "no run that was logged before the signature produced exactly these files",
    )
    return Chain(model=name or "", digest=model, links=(*head, missing))


def _signature_link(signature: Evidence, model: Digest) -> Link:
    return Link(
        name="model signature",
        subject=signature.statement.subject[0].name,
        digest=str(model),
        signer=signature.signer.name,
        index=_index(signature),
        detail="OMS v1.0, name recomputed from the signed resources",
    )


def _judge_run(
    board: _Board,
    run: Evidence,
    provenance: Provenance,
    rules: Mapping[str, ModelRule],
    name: str | None,
    counted: Mapping[str, int] | None,
) -> list[Link]:
    links = [
        Link(
            name="training run",
            subject=provenance.name,
            digest=str(run.digest),
            signer=run.signer.name,
            index=_index(run),
            detail=f"code {provenance.code}; seed {provenance.seed}",
        )
    ]
    start = board.starts.get(provenance.run_start.hex)
    if (
        start is None
        or not _before(start[0], run)
        or start[1].invocation_id != provenance.invocation_id
        or start[1].name != provenance.name
    ):
        links.append(
            _broken("run start", provenance.name, "the run's start is not in the log before it")
        )
        return links
    links.append(
        Link(
            name="run start",
            subject=provenance.name,
            digest=str(start[0].digest),
            signer=start[0].signer.name,
            index=_index(start[0]),
            detail=f"{len(provenance.inputs)} inputs",
        )
    )
    rule = rules.get(provenance.name)
    if name is not None and name != provenance.name:
        links.append(
            _broken("rule", name, f"the model is {provenance.name!r}, {name!r} was asked for")
        )
        return links
    if rule is None:
        links.append(
            _broken("rule", provenance.name, "the trust file has no rule for this model: deny")
        )
        return links
    if not provenance.inputs:
        links.append(
            _broken("dataset", provenance.name, "the run names no dataset, so no gate can be met")
        )
    named = {join_digest(source.digests) for source in provenance.inputs}
    for source in start[1].inputs:
        if join_digest(source.digests) not in named:
            why = "the run declared it at its start, and its provenance leaves it out"
            links.append(_broken("dataset", source.name, why, join_digest(source.digests)))
    for source in provenance.inputs:
        links.extend(_judge_input(board, source, start[0], rule, counted))
    return links


def _judge_input(
    board: _Board,
    source: Input,
    start: Evidence,
    rule: ModelRule,
    counted: Mapping[str, int] | None,
) -> list[Link]:
    digest = join_digest(source.digests)
    links = [
        _judge_gate(board, source.name, digest, gate, plan, start, rule.max_attempts, counted)
        for gate, plan in sorted(rule.require.items())
    ]
    for item, claim in board.datasets:
        if _names(item, digest) and _before(item, start):
            links.append(
                Link(
                    name="dataset",
                    subject=claim.name,
                    digest=str(digest),
                    strength=source.strength,
                    signer=item.signer.name,
                    index=_index(item),
                    detail=claim.describe(),
                )
            )
            links.append(
                Link(
                    name="source",
                    subject=claim.source,
                    strength="declared",
                    signer=item.signer.name,
                    index=_index(item),
                    detail=f"licence {claim.licence}"
                    + (f"; collected by {claim.collector}" if claim.collector else ""),
                )
            )
            return links
    links.append(
        _broken("dataset", source.name, "no claim about this dataset precedes the run", digest)
    )
    return links


def _judge_gate(
    board: _Board,
    dataset: str,
    digest: Digest,
    gate: str,
    plan_digest: Digest,
    start: Evidence,
    max_attempts: int | None,
    counted: Mapping[str, int] | None,
) -> Link:
    reason = f"no decision of gate {gate!r} about dataset {dataset!r}"
    for item, verdict in reversed(board.verdicts):
        if verdict.gate != gate or not _names(item, digest):
            continue
        problem = _verdict_problem(board, item, verdict, digest, plan_digest, start)
        attempts = _attempts(board, item, verdict, dataset, counted)
        if not problem and max_attempts is not None and attempts > max_attempts:
            problem = f"{attempts} attempts were made, the rule allows {max_attempts}"
        if not problem:
            return Link(
                name="gate decision",
                subject=f"{gate} on {dataset}",
                digest=str(item.digest),
                signer=item.signer.name,
                index=_index(item),
                detail=f"PASSED, attempt {attempts}, plan {plan_digest.short}",
            )
        reason = f"gate {gate!r} on {dataset!r}: {problem}"
    return _broken("gate decision", f"{gate} on {dataset}", reason, digest)


def _verdict_problem(
    board: _Board,
    item: Evidence,
    verdict: Verdict,
    digest: Digest,
    plan_digest: Digest,
    start: Evidence,
) -> str:
    if verdict.gate_digest != plan_digest:
        return (
            f"the decision is about plan {verdict.gate_digest.short}, the rule demands "
            f"{plan_digest.short}: another gate under the same name"
        )
    if not verdict.passed:
        return "the decision is FAILED"
    if not _before(item, start):
        return "the decision was made after the run began"
    plan = board.plans.get(verdict.plan.hex)
    if plan is None or not _names(plan[0], digest):
        return "its plan is not among the evidence"
    result = board.results.get(verdict.result.hex)
    if result is None or not _names(result[0], digest):
        return "its measured result is not among the evidence"
    if not (_before(plan[0], result[0]) and _before(result[0], item)):
        return "plan, result and decision are not in this order in the log"
    try:
        confirm(plan[0].statement, result[0].statement, item.statement)
    except ChainError as error:
        return error.why
    except (TypeError, ValueError):
        # Only canonical statements have the names that `confirm` compares.
        return "plan, result or decision holds what canonical JSON cannot, such as a float"
    return ""


def _attempts(
    board: _Board,
    item: Evidence,
    verdict: Verdict,
    dataset: str,
    counted: Mapping[str, int] | None,
) -> int:
    if counted is not None:
        return max(counted.get(item.digest.hex, 0), verdict.attempts)
    seen = sum(
        1
        for plan_item, plan in board.plans.values()
        if _before(plan_item, item)
        and (plan.gate == verdict.gate or dataset in {s.name for s in plan_item.statement.subject})
    )
    return max(seen, verdict.attempts)


def _broken(name: str, subject: str, detail: str, digest: Digest | None = None) -> Link:
    return Link(
        name=name,
        subject=subject,
        digest=str(digest) if digest else "",
        detail=detail,
        error=ChainError.code,
    )


def _names(item: Evidence, digest: Digest) -> bool:
    return any(
        subject.digest.get(digest.algorithm) == digest.hex for subject in item.statement.subject
    )


def _index(item: Evidence) -> int | None:
    return None if item.position is None else item.position.index


def _before(first: Evidence, second: Evidence) -> bool:
    """Whether both are leaves of one log, *first* below *second*."""
    a, b = first.position, second.position
    return a is not None and b is not None and a.origin == b.origin and a.index < b.index
