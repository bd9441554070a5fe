"""
Secrets: tokens that begin with their issuer's mark, keys, and what is assigned to a password.

A token's mark is a literal that most text does not hold, so each pattern runs
only where its mark is there.  Patterns have a class or a literal first, one
way to match, and a limit.

Source: the issuers' pages on token formats.
"""

import re
from math import log2
from typing import Final

from secureml.detect._plain import Found

__all__ = ["ASSIGNED", "KINDS", "is_secret_name", "secrets"]

ASSIGNED: Final = "password"
"""The kind of what is assigned to a name that says it is secret."""

_W: Final = "A-Za-z0-9"
_END: Final = "(?![A-Za-z0-9])"

# A mark is hung on its rarest character, which the engine finds at the speed
# of memchr; one test then stands for all marks with this character.
_GATES: Final[tuple[tuple[str, re.Pattern[str], tuple[tuple[str, re.Pattern[str]], ...]], ...]] = (
    tuple(
        (char, re.compile(mark), tuple((kind, re.compile(body)) for kind, body in patterns))
        for char, mark, patterns in (
            (
                "-",
                r"-(?:(?<=sk-)|(?<=xox[a-z]-|xapp-)|(?<=glpat-)|(?<=gl[dr]t-|pypi-)|(?<=GOCSPX-))",
                (
                    ("anthropic-key", rf"sk-ant-[{_W}_-]{{20,255}}"),
                    (
                        "openai-key",
                        rf"sk-(?:(?:proj|svcacct|admin|None|or)-[{_W}_-]{{20,255}}|[{_W}]{{20,255}}{_END})",
                    ),
                    ("slack-token", rf"x(?:ox[a-z]|app)-[{_W}.-]{{10,255}}"),
                    ("gitlab-token", rf"gl(?:pat|dt|rt)-[{_W}_.-]{{20,255}}"),
                    ("google-key", rf"GOCSPX-[{_W}_-]{{20,64}}"),
                    ("pypi-token", rf"pypi-AgE[{_W}_-]{{50,2048}}"),
                ),
            ),
            (
                "_",
                r"_(?:(?<=gh[pousr]_|npm_|org_)|(?<=live_|test_)|(?<=whsec_|wandb_)|(?<=github_)|(?<=hf_))",
                (
                    ("github-token", rf"gh[pousr]_[{_W}]{{36,255}}{_END}"),
                    ("github-token", rf"github_pat_[{_W}_]{{22,255}}{_END}"),
                    ("stripe-key", rf"[sr]k_(?:live|test)_[{_W}]{{10,255}}"),
                    ("stripe-key", rf"whsec_[{_W}+/=]{{24,255}}"),
                    ("huggingface-token", rf"(?:hf_|api_org_)[A-Za-z]{{30,64}}{_END}"),
                    ("npm-token", rf"npm_[{_W}]{{36}}{_END}"),
                    ("wandb-key", rf"wandb_v1_[{_W}_-]{{20,255}}"),
                ),
            ),
            (
                ".",
                r"\.(?:(?<=ya29\.)|(?<=SG\.)|(?<=xoxe\.)|eyJ|slack\.com/)",
                (
                    ("google-key", rf"ya29\.[{_W}_.-]{{20,2048}}"),
                    ("sendgrid-key", rf"SG\.[{_W}_-]{{16,32}}\.[{_W}_-]{{16,64}}"),
                    ("slack-token", rf"xoxe\.[{_W}.-]{{10,255}}"),
                    (
                        "slack-token",
                        rf"hooks\.slack\.com/(?:services|workflows|triggers)/[{_W}/_+-]{{20,255}}",
                    ),
                    (
                        "jwt",
                        rf"eyJ[{_W}_-]{{8,8192}}\.eyJ[{_W}_-]{{2,16384}}\.[{_W}_-]{{0,8192}}",
                    ),
                ),
            ),
            (
                "A",
                r"A(?:[SKB]IA|CCA|3T[A-Z0-9]|Iza)",
                (
                    ("aws-key", rf"A(?:[SKB]IA|CCA|3T[A-Z0-9])[A-Z2-7]{{16}}{_END}"),
                    ("google-key", rf"AIza[{_W}_-]{{35}}{_END}"),
                ),
            ),
            ("d", r"dapi", (("databricks-token", rf"dapi[0-9a-f]{{32}}(?:-[0-9])?{_END}"),)),
            (
                "=",
                r"=(?:(?<=Key=)|(?<=sig=))",
                (
                    (
                        "azure-key",
                        rf"(?:Account|SharedAccess)Key=[{_W}+/]{{40,128}}={{0,2}}",
                    ),
                    ("azure-key", rf"sig=[{_W}%+/]{{40,128}}(?:=|%3[Dd]){{0,2}}"),
                ),
            ),
        )
    )
)
_ALNUM_UNDERSCORE: Final = re.compile(r"\w")

_PEM: Final = re.compile(r"-----BEGIN (?P<label>[A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?)-----")
_PEM_MAX: Final = 65_536
_AGE: Final = re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]{40,80}")

_URL: Final = re.compile(
    r"://(?P<user>[^\s/?#:@\[\]\"'<>]{0,128}):(?P<pass>[^\s/?#@\"'<>]{1,256})@"
)
_BEARER: Final = re.compile(
    rf"(?:[Bb]earer|BEARER|[Bb]asic|BASIC) (?P<token>[{_W}._~+/-]{{16,8192}}={{0,2}})"
)

_NAMES: Final = (
    r"pass(?:word|wd|phrase|code|wort|e)?s?|kennwort|contrase[nñ]a|senha|pwd|"
    r"secrets?(?:[ _-]?(?:access[ _-]?)?keys?)?|tokens?|credentials?|密码|パスワード"
)
_KEY: Final = (
    r"(?:api|access|secret|private|auth|client|account|signing|encryption|master|service|shared)"
    r"[ _-]?"
)
# What assigns, then the value; it is tried only where a name ends.
_ASSIGNMENT: Final = re.compile(
    r"(?P<name>" + _NAMES + r"|keys?)(?:[\"'`\]]{0,2})"
    r"(?P<sep>[ \t]{0,4}(?:=>|:=|==?|:|=)[ \t]{0,4}| (?:i(?:s|st)|was|est?)[ :]{1,3}"
    r"|[ \t]{1,2}(?=[\"'`]))"
    r"(?:[rbuf]{0,2}(?P<quote>[\"'`]))?"
    r"(?P<value>(?(quote)[^\"'`\r\n]{1,512}|[^\s\"'`<>,;&]{1,256}"
    r"(?:[,;&](?![\w.-]{1,40}=|\s|$)[^\s\"'`<>,;&]{0,256}){0,8}))",
    re.IGNORECASE,
)
_IS_KEY: Final = re.compile(_KEY + "$", re.IGNORECASE)
_KEY_WINDOW: Final = 12
_FLAG: Final = re.compile(
    r"--(?:password|passwd|pwd|token|secret|api-key)[ =](?P<value>[^\s\"'\[<$%{-][^\s\"']{3,512})"
)
_HINTS: Final = (
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "credential",
    "kennwort",
    "senha",
    "contrase",
)
_HINTS_WIDE: Final = ("密码", "パスワード")
_ANY_HINT: Final = re.compile("|".join((*_HINTS, *_HINTS_WIDE)), re.IGNORECASE)
_WEAK: Final = re.compile(r"token|secret|key|credential")
_PLACEHOLDER: Final = re.compile(
    r"(?:none|null|nil|undefined|true|false|str|string|bytes|int|any|optional|required|missing|"
    r"redacted|masked|hidden|changeme|example|empty|invalid|incorrect|wrong|expired|not|the|a|an|"
    r"\*+|x{3,}|\.{2,}|…+|-+|_+|\[[^\]]*\]?|<.*|\$.*|\{.*|%\(?\w*.*|@.*|\(.*|self\..*|os\..*|env\b.*|"
    r"getenv.*|process\.env.*|config\b.*|settings\..*|args\..*|getpass.*|[a-z_][a-z0-9_.]*[(\[].*)"
    r"[.)\]!?]*",
    re.IGNORECASE | re.DOTALL,
)
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]+(?:[_.][A-Za-z_]+)*[)\]},.;:]*")
_NOT_WORD: Final = re.compile(r"[^A-Za-z]")
_LEAST: Final = 4
_LEAST_WEAK: Final = 8
_BITS: Final = 2.5
"""Shannon entropy for each character of a token: words in prose repeat their letters."""

_NAME: Final = re.compile(
    rf"(?:[\w .-]*[\W_]|(?-i:[\w .-]*[a-z0-9](?=[A-Z])))?(?:{_NAMES}|{_KEY}keys?)"
    r"(?:[_-]?(?:hash|value|[0-9]{1,2}))?",
    re.IGNORECASE,
)
_COUNTED: Final = re.compile(
    r"(?:max|min|num|n|total|prompt|completion|input|output|count|used|new|cached)[_ -]?tokens?"
    r"|tokens|passe?s?",
    re.IGNORECASE,
)

KINDS: Final = frozenset(
    {
        *(kind for *_, patterns in _GATES for kind, _ in patterns),
        "private-key",
        "url-password",
        "bearer-token",
        ASSIGNED,
    }
)


def is_secret_name(name: str) -> bool:
    """Return whether a value of this name, of a key or a parameter, is a secret by its name."""
    return _NAME.fullmatch(name) is not None and _COUNTED.fullmatch(name) is None


def secrets(text: str, wanted: frozenset[str], found: Found) -> None:
    """Report the secrets of the *wanted* kinds."""
    for char, mark, patterns in _GATES:
        if char in text and mark.search(text):
            for kind, pattern in patterns:
                if kind in wanted:
                    _tokens(text, kind, pattern, found)
    if "PRIVATE KEY" in text and "private-key" in wanted:
        _private_keys(text, found)
    if "AGE-SECRET-KEY-1" in text and "private-key" in wanted:
        for match in _AGE.finditer(text):
            found(*match.span(), "private-key")
    if "://" in text and "url-password" in wanted:
        for match in _URL.finditer(text):
            if not _PLACEHOLDER.fullmatch(match["pass"]):
                found(*match.span("pass"), "url-password")
    if "bearer-token" in wanted and ("earer " in text or "asic " in text or "BEARER " in text):
        for match in _BEARER.finditer(text):
            if _dense(match["token"]):
                found(*match.span("token"), "bearer-token")
    if ASSIGNED in wanted:
        _assigned(text, found)


def _tokens(text: str, kind: str, pattern: re.Pattern[str], found: Found) -> None:
    for match in pattern.finditer(text):
        start, end = match.span()
        if start and _ALNUM_UNDERSCORE.match(text, start - 1):
            continue
        found(start, end, kind)


def _private_keys(text: str, found: Found) -> None:
    position = 0
    while True:
        match = _PEM.search(text, position)
        if match is None:
            return
        mark = f"-----END {match['label']}-----"
        limit = min(len(text), match.end() + _PEM_MAX)
        stop = text.find(mark, match.end(), limit)
        # Cut off before its end, it is still the first part of a key.
        position = limit if stop < 0 else stop + len(mark)
        found(match.start(), position, "private-key")


def _assigned(text: str, found: Found) -> None:
    end = 0
    for start in _hints(text):
        if start < end:
            continue
        match = _ASSIGNMENT.match(text, start)
        if match is not None and _is_value(text, match):
            end = match.end()
            found(*match.span("value"), ASSIGNED)
    if "--" in text:
        for match in _FLAG.finditer(text):
            found(*match.span("value"), ASSIGNED)


def _hints(text: str) -> list[int]:
    """Return where a name may begin that says that its value is secret."""
    lower = text.lower()
    if len(lower) != len(text):  # a few capital letters become two
        return [match.start() for match in _ANY_HINT.finditer(text)]
    places: list[int] = []
    for hint in _HINTS if text.isascii() else (*_HINTS, *_HINTS_WIDE):
        place = lower.find(hint)
        while place >= 0:
            places.append(place)
            place = lower.find(hint, place + len(hint))
    return sorted(places)


def _is_value(text: str, match: re.Match[str]) -> bool:
    """Return whether what is assigned looks like a secret, and not like code or prose."""
    value, separator, name = match["value"], match["sep"].strip().lower(), match["name"].lower()
    start = match.start()
    if name in {"key", "keys"} and not _IS_KEY.search(text[max(0, start - _KEY_WINDOW) : start]):
        return False
    if _PLACEHOLDER.fullmatch(value) or len(value) < _LEAST:
        return False
    if name == "pass" and start and text[start - 1].isalpha():
        return False  # compass, bypass
    quoted = match["quote"] is not None
    plain = _IDENTIFIER.fullmatch(value) is not None
    if _WEAK.search(name):
        digits = _NOT_WORD.search(value) is not None
        long = len(value) >= _LEAST_WEAK and not value.isdigit()
        return long and (quoted or not plain) and digits and _dense(value)
    if separator.rstrip(":").isalpha() or (separator == ":" and not quoted):
        return not plain
    if not quoted and plain:
        # password=letmein, but not login(password=user_password).
        return "_" not in value and "." not in value.rstrip(".") and value[-1:] not in ")]},:"
    return True


def _dense(value: str) -> bool:
    size = len(value)
    counts = [value.count(char) for char in set(value[:128])]
    return -sum(n / size * log2(n / size) for n in counts) >= _BITS
