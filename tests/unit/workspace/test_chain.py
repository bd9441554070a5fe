"""Each link of the chain breaks by name when what it joins, or where it stands, is wrong."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st_

from secureml import keys
from secureml.data.claim import Column, DatasetClaim
from secureml.errors import ChainError, FormatError
from secureml.evidence.attest import attest
from secureml.evidence.trust import Identity, ModelRule, Position, Trust
from secureml.evidence.verify import ROLE_OF, Evidence, verify
from secureml.gates import Finding
from secureml.gates.predicates import GatePlan, PlannedCheck, TestResult, Verdict
from secureml.models.oms import oms_statement
from secureml.training.code import Code
from secureml.training.predicates import Input, Output, Provenance, RunStart
from secureml.wire import statement as st
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope, Signature, pae
from secureml.wire.manifest import Manifest
from secureml.wire.statement import Statement, Subject
from secureml.workspace.chain import Chain, join_digest, judge

KEY = keys.generate()
TIME = "2026-01-01T00:00:00.000000Z"
ORIGIN = "example.com/log"
TRUST = Trust(
    (
        Identity(
            name="all",
            verifier=KEY.verifier,
            roles=frozenset({"dataset", "gate", "run", "model"}),
        ),
    )
)
MODEL = Manifest.of([("model.skops", bytes(32))])
TABLE = {"sha256": "11" * 32, "tableDigest1": "22" * 32}
OTHER = {"sha256": "33" * 32, "tableDigest1": "44" * 32}
CODE = Code(source="unknown")
CHECKS = (PlannedCheck("not_null@1", {"column": "x"}),)


@dataclass(frozen=True)
class Story:
    """The statements of a good chain, by name, in the order of the log."""

    steps: Mapping[str, Statement]

    def but(self, **changed: Statement | None) -> "Story":
        """Return the story with some steps changed, or left out."""
        steps = {**self.steps, **changed}
        return Story({name: step for name, step in steps.items() if step is not None})

    def ordered(self, *names: str) -> "Story":
        """Return the story in another order."""
        return Story({name: self.steps[name] for name in names})

    def evidence(self) -> list[Evidence]:
        """Sign and verify each step at its place in one log."""
        return [
            verify(
                attest(step, KEY),
                trust=TRUST,
                role=ROLE_OF[step.predicate_type],
                position=Position(ORIGIN, index, TIME),
            )
            for index, step in enumerate(self.steps.values())
        ]

    def judge(self, rule: ModelRule | None = None, **options: object) -> Chain:
        """Judge the story under *rule*."""
        rules = [rule or RULE]
        return judge(MODEL.digest, self.evidence(), rules, **options)  # type: ignore[arg-type]


def plan_of(
    checks: tuple[PlannedCheck, ...] = CHECKS, digests: Mapping[str, str] = TABLE
) -> GatePlan:
    """Return a plan for the gate, with its digest."""
    from secureml.gates.gate import plan_value
    from secureml.wire import canonical

    value = plan_value("train@1", [(c.id, c.params) for c in checks])
    return GatePlan(
        gate="train@1",
        digest=Digest.sha256(canonical.encode(value)),
        checks=checks,
        planned_at=TIME,
        subject=Subject("data", dict(digests)),
    )


PLAN = plan_of()
RULE = ModelRule(name="demo", require={"train@1": PLAN.digest})


def payload(statement: Statement) -> Digest:
    """Return the digest by which other statements name this one."""
    return Digest.sha256(statement.encode())


def decision(
    plan: GatePlan, *, passed: bool = True, attempts: int = 1
) -> tuple[Statement, Statement]:
    """Return the result and the decision of *plan*."""
    result = TestResult(
        gate=plan.gate,
        gate_digest=plan.digest,
        plan=payload(plan.statement()),
        findings=tuple(
            Finding(check=check.name, passed=passed, message="m", counts={})
            for check in plan.checks
        ),
        subject=plan.subject,
    ).statement()
    verdict = Verdict(
        gate=plan.gate,
        gate_digest=plan.digest,
        passed=passed,
        at=TIME,
        plan=payload(plan.statement()),
        result=payload(result),
        attempts=attempts,
        plans=tuple(range(attempts)),
        reasons=() if passed else ("no",),
        verifier="https://example.com/verifier",
        subject=plan.subject,
    ).statement()
    return result, verdict


def run(
    inputs: tuple[Input, ...], *, start: RunStart | None = None, model: Digest | None = None
) -> tuple[Statement, Statement]:
    """Return the start and the provenance of a run."""
    began = start or RunStart(
        invocation_id="6c9e4f0a-0000-4000-8000-000000000000",
        name="demo",
        seed=1,
        parameters={},
        started_on=TIME,
        inputs=inputs,
        code=CODE,
    )
    done = Provenance(
        invocation_id="6c9e4f0a-0000-4000-8000-000000000000",
        name="demo",
        seed=1,
        parameters={},
        started_on=TIME,
        finished_on=TIME,
        inputs=inputs,
        decisions=(),
        run_start=payload(began.statement()),
        code=CODE,
        environment={},
        outputs=(Output(name="model", digest=model or MODEL.digest),),
    )
    return began.statement(), done.statement()


def good() -> Story:
    """Return a chain in which everything holds."""
    claim = DatasetClaim(
        name="data",
        format="parquet",
        digests=TABLE,
        source="a form",
        licence="CC0",
        rows=1,
        schema=(Column("x", "int64"),),
    )
    result, verdict = decision(PLAN)
    start, provenance = run((Input(name="data", digests=TABLE, strength="observed"),))
    return Story(
        {
            "dataset": claim.statement(),
            "plan": PLAN.statement(),
            "result": result,
            "verdict": verdict,
            "start": start,
            "provenance": provenance,
            "signature": oms_statement(MODEL, "model"),
        }
    )


GOOD = good()


def broken(chain: Chain) -> str:
    """Return the name of the first link that does not hold."""
    return next((link.name for link in chain.links if not link.ok), "")


def test_a_good_chain_holds() -> None:
    """Every link holds, in the order from the model to the source."""
    chain = GOOD.judge()

    assert chain.ok
    assert "demo" == chain.model
    assert [
        "model signature",
        "training run",
        "run start",
        "gate decision",
        "dataset",
        "source",
    ] == [link.name for link in chain.links]
    assert "observed" == chain.links[4].strength
    chain.enforce()


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("dataset", "dataset"),
        ("plan", "gate decision"),
        ("result", "gate decision"),
        ("verdict", "gate decision"),
        ("start", "run start"),
        ("provenance", "training run"),
        ("signature", "model signature"),
    ],
)
def test_a_missing_step_breaks_its_link(missing: str, named: str) -> None:
    """Leaving out any statement is refused, and the link is named."""
    chain = GOOD.but(**{missing: None}).judge()

    assert named == broken(chain)
    with pytest.raises(ChainError, match=named):
        chain.enforce()


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ("verdict", "start", "gate decision"),
        ("plan", "verdict", "gate decision"),
        ("plan", "result", "gate decision"),
        ("result", "verdict", "gate decision"),
        ("start", "provenance", "run start"),
        ("provenance", "signature", "training run"),
        ("dataset", "start", "dataset"),
    ],
)
def test_the_order_of_the_log_is_the_order_of_the_chain(
    first: str, second: str, named: str
) -> None:
    """A step that was logged too late does not count."""
    names = list(GOOD.steps)
    a, b = names.index(first), names.index(second)
    names.insert(b, names.pop(a))

    assert named == broken(GOOD.ordered(*names).judge())


def test_a_failed_decision_does_not_count() -> None:
    """FAILED is not PASSED, whatever else is there."""
    result, verdict = decision(PLAN, passed=False)

    assert "gate decision" == broken(GOOD.but(result=result, verdict=verdict).judge())


def test_a_decision_about_other_data_does_not_count() -> None:
    """The decision has to be about the very rows of the run."""
    plan = replace(PLAN, subject=Subject("data", dict(OTHER)))
    result, verdict = decision(plan)
    chain = GOOD.but(plan=plan.statement(), result=result, verdict=verdict).judge()

    assert "gate decision" == broken(chain)


def test_every_input_needs_a_decision() -> None:
    """A second input, declared or not, that no gate saw breaks the chain."""
    for extra in (
        Input(name="more", digests=OTHER),
        Input(name="more", digests=OTHER, strength="observed", undeclared=True),
    ):
        start, provenance = run((Input(name="data", digests=TABLE), extra))
        chain = GOOD.but(start=start, provenance=provenance).judge()

        assert "gate decision" == broken(chain)


def test_a_run_without_input_meets_nothing() -> None:
    """No dataset, no decision: a rule that demands nothing is not met either."""
    began = RunStart.from_statement(GOOD.steps["start"])
    start, provenance = run((), start=began)
    chain = GOOD.but(start=start, provenance=provenance).judge(ModelRule(name="demo"))

    assert "dataset" == broken(chain)


def test_logging_a_start_again_does_not_move_it() -> None:
    """A decision after the first start stays too late, also when the start is logged anew."""
    late = GOOD.ordered("dataset", "plan", "result", "start", "verdict", "provenance", "signature")
    names = list(late.steps)
    names.insert(names.index("verdict") + 1, "again")
    steps = {**late.steps, "again": late.steps["start"]}

    assert "gate decision" == broken(Story({n: steps[n] for n in names}).judge())


def test_a_run_that_made_other_files_does_not_count() -> None:
    """The run must have produced exactly this manifest."""
    start, provenance = run(
        (Input(name="data", digests=TABLE),), model=Digest("dirHash", b"\7" * 32)
    )

    assert "training run" == broken(GOOD.but(start=start, provenance=provenance).judge())


def test_without_a_rule_nothing_is_allowed() -> None:
    """A model that the trust file does not speak of is refused."""
    assert "rule" == broken(GOOD.judge(ModelRule(name="another")))


def test_the_name_that_was_asked_for_counts() -> None:
    """A good model under another name is refused."""
    assert "rule" == broken(GOOD.judge(name="another"))
    assert GOOD.judge(name="demo").ok


def test_a_rule_names_the_plan_not_the_label() -> None:
    """The same label with another digest is another gate."""
    rule = ModelRule(name="demo", require={"train@1": Digest("sha256", bytes(32))})
    chain = GOOD.judge(rule)

    assert "gate decision" == broken(chain)
    assert any("another gate under the same name" in link.detail for link in chain.links)


@pytest.mark.parametrize(("attempts", "allowed"), [(1, True), (3, False)])
def test_attempts_are_limited_by_the_larger_count(*, attempts: int, allowed: bool) -> None:
    """What the decision states and what is counted: the larger one decides."""
    result, verdict = decision(PLAN, attempts=attempts)
    story = GOOD.but(result=result, verdict=verdict)
    rule = ModelRule(name="demo", require={"train@1": PLAN.digest}, max_attempts=2)

    assert allowed == story.judge(rule).ok
    assert not story.judge(rule, counted={payload(verdict).hex: 9}).ok


def test_plans_among_the_claims_are_counted() -> None:
    """A decision that states fewer attempts than there are plans is found out."""
    earlier = replace(PLAN, planned_at="2025-01-01T00:00:00.000000Z").statement()
    story = Story({"earlier": earlier, **GOOD.steps})
    rule = ModelRule(name="demo", require={"train@1": PLAN.digest}, max_attempts=1)

    assert GOOD.judge(rule).ok
    assert not story.judge(rule).ok


@given(st_.lists(st_.sampled_from(sorted(GOOD.steps)), max_size=4))
def test_more_evidence_never_turns_yes_into_no(names: list[str]) -> None:
    """L4 for chains: what holds, holds with more beside it."""
    extra = [GOOD.steps[name] for name in names]
    failed = [plan_of(digests=OTHER).statement(), *decision(PLAN, passed=False)]
    story = Story(
        {**GOOD.steps, **{f"more {n}": step for n, step in enumerate([*failed, *extra])}}
    )

    assert story.judge().ok


@given(st_.sets(st_.sampled_from(sorted(GOOD.steps))))
def test_less_evidence_never_turns_no_into_yes(names: set[str]) -> None:
    """Only the whole chain is a yes."""
    story = GOOD.but(**dict.fromkeys(names))

    assert story.judge().ok == (not names)


def test_another_log_is_no_proof_of_order() -> None:
    """Steps of two logs have no order, so they make no chain."""
    evidence = GOOD.evidence()
    elsewhere = verify(
        evidence[3].envelope, trust=TRUST, role="gate", position=Position("other", 3, TIME)
    )
    evidence[3] = elsewhere

    assert "gate decision" == broken(judge(MODEL.digest, evidence, [RULE]))


def test_a_dataset_joins_on_its_logical_digest() -> None:
    """Tables join on content, trees on names and contents, bytes alone on nothing."""
    assert "tableDigest1" == join_digest(TABLE).algorithm
    assert "dirHash" == join_digest({"dirHash": "11" * 32}).algorithm
    with pytest.raises(FormatError, match="no digest to join on"):
        join_digest({"sha256": "11" * 32})


def test_before_a_signature_only_the_rest_is_judged() -> None:
    """Signing asks whether the chain up to the run holds."""
    unsigned: Callable[..., Chain] = GOOD.but(signature=None).judge

    assert unsigned(signed=False).ok
    assert "model signature" == broken(unsigned())
    assert st.OMS not in {link.name for link in unsigned(signed=False).links}


def test_provenance_leaves_out_no_declared_input() -> None:
    """A dataset that the run's start declares is an input, whatever the provenance says."""
    both = (Input(name="data", digests=TABLE), Input(name="more", digests=OTHER))
    began = RunStart(
        invocation_id="6c9e4f0a-0000-4000-8000-000000000000",
        name="demo",
        seed=1,
        parameters={},
        started_on=TIME,
        inputs=both,
        code=CODE,
    )
    start, provenance = run((Input(name="data", digests=TABLE),), start=began)
    chain = GOOD.but(start=start, provenance=provenance).judge()

    assert "dataset" == broken(chain)
    assert "leaves it out" in next(link.detail for link in chain.links if not link.ok)


def test_what_has_no_canonical_spelling_is_refused_by_name() -> None:
    """A float in a field that nobody reads breaks the link, and nothing else is raised."""
    result, _ = decision(PLAN)
    odd = Statement(result.subject, result.predicate_type, {**result.predicate, "more": 0.5})
    raw = json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": s.name, "digest": dict(s.digest)} for s in odd.subject],
            "predicateType": odd.predicate_type,
            "predicate": odd.predicate,
        }
    ).encode()
    verdict = Verdict.from_statement(GOOD.steps["verdict"])
    named = replace(verdict, result=Digest.sha256(raw)).statement()
    evidence = GOOD.but(verdict=named).evidence()
    message = pae(st.PAYLOAD_TYPE, raw)
    signature = Signature(KEY.verifier.hint, KEY.sign(message, purpose="statements"))
    evidence[2] = verify(
        Envelope(st.PAYLOAD_TYPE, raw, (signature,)),
        trust=TRUST,
        role="gate",
        position=Position(ORIGIN, 2, TIME),
    )
    chain = judge(MODEL.digest, evidence, [RULE])

    assert "gate decision" == broken(chain)
    assert "float" in next(link.detail for link in chain.links if not link.ok)
