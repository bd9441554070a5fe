"""RFC 3161 time stamps, by ``openssl ts`` on this machine."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from secureml.errors import FormatError, SecureMLError, SignatureError, StoreError
from secureml.evidence.anchors import Authority, Head, Receipt, TimeStampAnchor
from secureml.evidence.anchors.timestamp import stamp_of, stamped_at
from secureml.wire.base64 import b64decode, b64encode


def test_an_authority_stamps_the_note(make_log: Callable, make_authority: Callable) -> None:
    """The stamp is over the note's bytes; its time is an upper bound, accuracy included."""
    log = make_log(3)
    one = make_authority()
    before = datetime.now(UTC).replace(microsecond=0)

    receipt = one.anchor.submit(Head.read(log.log))

    time = stamp_of(receipt, one.authority)
    assert log.log.checkpoint_note() == receipt.note
    assert before + timedelta(seconds=1.5) <= time
    assert time <= datetime.now(UTC) + timedelta(seconds=2)


def test_openssl_verifies_the_token_that_was_kept(
    make_log: Callable, make_authority: Callable, tmp_path: Path
) -> None:
    """What is kept is a plain TimeStampResp: openssl verifies it over the note."""
    log = make_log(3)
    one = make_authority()
    receipt = one.anchor.submit(Head.read(log.log))
    (tmp_path / "note").write_text(receipt.note)
    (tmp_path / "token").write_bytes(b64decode(receipt.values["token"]))

    done = subprocess.run(
        [
            *("openssl", "ts", "-verify", "-data", "note", "-in", "token"),
            *("-CAfile", str(one.where / "root.pem")),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Verification: OK" in done.stdout + done.stderr


def test_another_note_is_not_what_was_stamped(
    make_log: Callable, make_authority: Callable
) -> None:
    """A token under another checkpoint is refused."""
    log = make_log(3)
    one = make_authority()
    token = one.anchor.submit(Head.read(log.log)).values["token"]

    with pytest.raises(SignatureError):
        stamp_of(Receipt("rfc3161", log.grow(1), {"token": token}), one.authority)


def test_another_authority_s_roots_do_not_do(make_log: Callable, make_authority: Callable) -> None:
    """A stamp is verified under the roots that the caller gives, no others."""
    log = make_log(3)
    receipt = make_authority("a").anchor.submit(Head.read(log.log))

    with pytest.raises(SignatureError):
        stamp_of(receipt, make_authority("b").authority)


def test_a_certificate_for_something_else_stamps_nothing(
    make_log: Callable, make_authority: Callable
) -> None:
    """A certificate under the right root without the purpose of time stamping is refused."""
    log = make_log(3)
    one = make_authority("a", "other")

    with pytest.raises(SecureMLError) as caught:
        one.anchor.submit(Head.read(log.log))

    assert isinstance(caught.value, SignatureError | FormatError | StoreError)


def test_an_old_answer_is_no_new_one(
    make_log: Callable, make_authority: Callable, serve: Callable
) -> None:
    """A token that was made for another request is not kept: the nonce tells."""
    log = make_log(3)
    one = make_authority()
    token = b64decode(one.anchor.submit(Head.read(log.log)).values["token"])
    server = serve(lambda *_: (200, "application/timestamp-reply", token))
    again = TimeStampAnchor(name="again", url=server.url, authority=one.authority)

    with pytest.raises(SignatureError, match="time stamp"):
        again.submit(Head.read(log.log))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"", FormatError),
        (200, b"hello", FormatError),
        (200, bytes.fromhex("30053003020102"), SignatureError),
        (404, b"", StoreError),
        (503, b"", StoreError),
    ],
)
def test_a_hostile_authority_gives_an_error_with_a_name(
    make_log: Callable,
    make_authority: Callable,
    serve: Callable,
    status: int,
    body: bytes,
    error: type[Exception],
) -> None:
    """No answer, a refusal and garbage are errors of ours."""
    log = make_log(1)
    server = serve(lambda *_: (status, "text/html", body))
    anchor = TimeStampAnchor(name="t", url=server.url, authority=make_authority().authority)

    with pytest.raises(error):
        anchor.submit(Head.read(log.log))


def test_no_changed_token_is_accepted(make_log: Callable, make_authority: Callable) -> None:
    """
    A changed byte in a token is refused with one of our errors, or changes nothing it says.

    Some bytes of a CMS structure are signed by nobody: a version, the status.
    """
    log = make_log(1)
    one = make_authority()
    receipt = one.anchor.submit(Head.read(log.log))
    token = b64decode(receipt.values["token"])
    time = stamp_of(receipt, one.authority)
    accepted = 0
    for at in range(0, len(token), 3):
        changed = bytearray(token)
        changed[at] ^= 1 << at % 8
        try:
            assert time == stamped_at(bytes(changed), receipt.note, one.authority)
            accepted += 1
        except (FormatError, SignatureError):
            continue
    assert accepted < len(token) / 30


def test_roots_are_certificates() -> None:
    """Roots that are no PEM certificates are refused when they are given."""
    for roots in ("", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(FormatError, match="no certificate"):
            Authority(name="t", roots=roots)
    with pytest.raises(ValueError, match="name"):
        Authority(name="", roots="")


def test_the_certificate_that_signs_may_be_named(
    make_log: Callable, make_authority: Callable
) -> None:
    """With its own certificate named, another one under the same root stamps nothing."""
    log = make_log(1)
    one = make_authority("a")
    receipt = one.anchor.submit(Head.read(log.log))
    own, root = ((one.where / name).read_text() for name in ("tsa.pem", "root.pem"))

    stamp_of(receipt, Authority(name="a", roots=root, certificate=own))

    with pytest.raises(SignatureError):
        stamp_of(receipt, Authority(name="a", roots=root, certificate=root))
    with pytest.raises(FormatError, match="more than one"):
        Authority(name="a", roots=root, certificate=own + root)
    with pytest.raises(FormatError, match="no certificate"):
        Authority(name="a", roots=root, certificate="x")


def test_a_token_in_a_receipt_is_base_64(make_log: Callable, make_authority: Callable) -> None:
    """A receipt whose token is not base 64 is malformed."""
    log = make_log(1)
    authority = make_authority().authority
    note = log.log.checkpoint_note()

    for token in ("*", b64encode(b"x")):
        with pytest.raises(FormatError):
            stamp_of(Receipt("rfc3161", note, {"token": token}), authority)
