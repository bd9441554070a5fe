"""
The walk through a captured value that takes out what redaction rules name.

It reads a value as `secureml.audit.value.encode` does, in the same order of
types, so that nothing is encoded that was not looked into.  The result is made
of plain values; an object of a class becomes an `Object`, which encodes alike,
and a frame an Arrow table.  No class of the user's is called to make one.
"""

import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from secureml import detect
from secureml.audit._places import (
    MissingStepError,
    Place,
    Refused,
    Search,
    Target,
    shown,
)
from secureml.audit._redacttables import Cells, as_table, put_table, put_words
from secureml.audit.value import (
    MAX_DEPTH,
    MAX_SIZE,
    Array,
    Object,
    Table,
    encode,
    fields_of,
    type_name,
)

__all__ = ["Counts", "Walk"]

_DROPPED: Final = "[dropped]"
_MASKED: Final = "[masked]"
_TOKEN_DOMAIN: Final = b"secureml-redaction-token/1\n"
_TOKEN_SIZE: Final = 16
_ROUNDS: Final = 8
"""Searches of one text: what is left may be found once what stood beside it is gone."""

_FEW_DIGITS: Final = 10**5
"""A number below is no card, no account and no person."""

_MANY_BITS: Final = 128
_CLEAN_KEYS: Final = 4096
_CLEAN_KEY: Final = 64

Counts = dict[tuple[str, str], int]
"""By path and rule: how many were taken out."""


class Walk:
    """
    The rules for one capture path.

    Args:
        path: The capture path.
        name: What the value is called, for detectors that go by a name.
        targets: What each rule does; rules by path first.
        keep: Whether to keep what cannot be looked into.
    """

    __slots__ = ("_keep", "_name", "_path", "_root")

    def __init__(
        self, path: str, name: str | None, targets: tuple[Target, ...], *, keep: bool
    ) -> None:
        self._path = path
        self._name = name
        self._keep = keep
        self._root = Place(targets)

    def value(self, value: object) -> tuple[object, Counts]:
        """Return *value* without what the rules take out, and how much that was."""
        run = _Run(self._path, keep=self._keep)
        return run.put(value, self._root, self._name, 0), run.counts

    def chunks(self, value: object) -> tuple[object, Counts]:
        """Return chunks, the texts among them searched as one."""
        run = _Run(self._path, keep=self._keep)
        return run.chunks(list(_sequence(value)), self._root, self._name), run.counts


def _sequence(value: object) -> Iterable[object]:
    if not isinstance(value, Iterable):
        msg = "chunks are a list"
        raise Refused(msg)
    return value


class _Run:
    """One application: what it counted, and how much it may still read."""

    __slots__ = ("_keep", "_left", "_path", "counts")

    def __init__(self, path: str, *, keep: bool) -> None:
        self._path = path
        self._keep = keep
        self._left = MAX_SIZE
        self.counts: Counts = {}

    def _count(self, path: str, rule: str, number: int = 1) -> None:
        self.counts[path, rule] = self.counts.get((path, rule), 0) + number

    # ------------------------------------------------------------ the way down

    def put(self, value: object, place: Place, name: str | None, depth: int) -> object:
        """Return *value* as the rules at *place* leave it."""
        if value is None:
            return None
        if place.fires is not None:
            return self._replaced(value, place.fires, depth)
        if place.search is None and not place.pending:
            return value
        if depth >= MAX_DEPTH:
            msg = f"{self._path!r} is nested deeper than {MAX_DEPTH} containers, or in itself"
            raise MissingStepError(msg)
        if isinstance(value, Enum):
            self._ends(place, value)
            return value
        if isinstance(value, _SCALARS):
            self._ends(place, value)
            return value if place.search is None else self._scalar(value, place.search, name)
        return self._container(value, place, name, depth)

    def _ends(self, place: Place, value: object) -> None:
        for target in place.pending:
            if not target.optional:
                raise self._missing(target, value)

    def _missing(self, target: Target, value: object) -> MissingStepError:
        step = target.steps[0]
        many = isinstance(value, list | tuple | set | frozenset)
        hint = "write '*' for each of its items" if many else "or make the rule optional"
        return MissingStepError(
            f"redaction path {target.path!r}: {shown(type(value))} has no {step!r} ({hint})"
        )

    def _into(self, place: Place, names: Iterable[str], value: object) -> None:
        """Check that what rules name next is among *names*."""
        known: frozenset[str] | None = None
        for target in place.pending:
            step = target.steps[0]
            if step != "*" and not target.optional:
                known = frozenset(names) if known is None else known
                if step not in known:
                    raise self._missing(target, value)

    # -------------------------------------------------------------- containers

    def _container(self, value: object, place: Place, name: str | None, depth: int) -> object:
        if isinstance(value, list | tuple):
            self._into(place, map(str, range(len(value))), value)
            items = [
                self.put(item, place.below(str(n)), name, depth + 1)
                for n, item in enumerate(value)
            ]
            return tuple(items) if isinstance(value, tuple) else items
        if isinstance(value, Mapping):
            return self._mapping(value, place, depth)
        if isinstance(value, set | frozenset):
            self._into(place, (), value)
            below = place.below("*")
            kept = [self.put(item, below, name, depth + 1) for item in value]
            return frozenset(kept) if isinstance(value, frozenset) else set(kept)
        if isinstance(value, Object):
            return self._object(value.type, value.fields, place, depth, value)
        if isinstance(value, Array | Table):
            self._ends(place, value)
            return value
        return self._foreign(value, place, name, depth)

    def _mapping(self, value: Mapping[Any, object], place: Place, depth: int) -> dict[Any, object]:
        items = list(value.items())
        self._into(place, (key for key, _ in items if isinstance(key, str)), value)
        result: dict[Any, object] = {}
        for key, item in items:
            word = str.__str__(key) if isinstance(key, str) else key
            below = place.below(word if isinstance(word, str) else "*")
            context = word if isinstance(word, str) else None
            title = word
            if isinstance(word, str) and place.search is not None:
                title = self._key(word, place.search, result)
            result[title] = self.put(item, below, context, depth + 1)
        return result

    def _key(self, key: str, search: Search, taken: Mapping[Any, object]) -> str:
        """Return a key that holds nothing to be found, and is not taken."""
        if key not in search.clean:
            new = self._text(key, search, None)
            if new == key and len(key) <= _CLEAN_KEY and len(search.clean) < _CLEAN_KEYS:
                search.clean.add(key)
            elif new != key:
                key = new
        title, number = key, 1
        while title in taken:
            number += 1
            title = f"{key}#{number}"
        return title

    def _object(
        self, kind: str, fields: Mapping[str, object], place: Place, depth: int, value: object
    ) -> Object:
        self._into(place, fields, value)
        result: dict[str, object] = {}
        for name, item in fields.items():
            # The names of a pydantic object's extra fields come with the data.
            title = name if place.search is None else self._key(name, place.search, result)
            result[title] = self.put(item, place.below(name), name, depth + 1)
        return Object(kind, result)

    def _foreign(self, value: object, place: Place, name: str | None, depth: int) -> object:
        table = as_table(value)
        if table is not None:
            cells = self._cells(place, depth, value)
            return put_table(table, cells)
        words = put_words(value, lambda word: self.put(word, place, name, depth + 1))
        if words is not None:
            self._ends(place, value)
            return words
        from secureml.audit import _adapters

        plain = _adapters.adapt(value, self._path)
        if plain is not value:
            return self.put(plain, place, name, depth + 1)
        kind = type(value)
        fields = fields_of(value)
        if fields is not None:
            found = {field: getattr(value, field) for field in fields}
            return self._object(type_name(kind), found, place, depth, value)
        if self._keep:
            return value
        msg = (
            f"{self._path!r} holds a {shown(kind)}, which redaction cannot look into: capture a "
            "part of it, or say opaque='keep'"
        )
        raise Refused(msg)

    def _cells(self, place: Place, depth: int, value: object) -> Cells:
        def check(columns: Sequence[str]) -> None:
            self._into(place, columns, value)

        def named(column: str) -> bool:
            return any(target.steps[0] in {column, "*"} for target in place.pending)

        def cells(column: str, items: Iterator[object]) -> list[object]:
            below = place.below(column)
            return [self.put(item, below, column, depth + 1) for item in items]

        def title(column: str, taken: Mapping[str, object]) -> str:
            return column if place.search is None else self._key(column, place.search, taken)

        return Cells(
            check=check,
            named=named,
            cells=cells,
            title=title,
            searched=place.search is not None,
        )

    # ----------------------------------------------------------- what is taken

    def _scalar(self, value: object, search: Search, name: str | None) -> object:
        if isinstance(value, str):
            return self._text(str.__str__(value), search, name)
        if isinstance(value, bytes | bytearray | memoryview):
            return self._bytes(bytes(value), search, name)
        if isinstance(value, bool | complex | time | timedelta | UUID):
            return value
        if isinstance(value, date):
            if "birth-date" not in search.paths:
                return value
            text = date.isoformat(value)
        elif isinstance(value, int):
            few = abs(value) < _FEW_DIGITS and not (name and search.finder.by_name(name))
            if few or int.bit_length(value) > _MANY_BITS:
                return value
            text = int.__repr__(value)
        elif isinstance(value, float):
            if not float.is_integer(value) or not _FEW_DIGITS <= abs(value) < 2**64:
                return value
            text = str(int(value))
        elif isinstance(value, Decimal):
            text = Decimal.__str__(value)
        else:
            return value
        new = self._text(text, search, name)
        return value if new == text else new

    def _bytes(self, value: bytes, search: Search, name: str | None) -> bytes:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = None
        if text is None:
            if self._keep:
                return value
            msg = (
                f"{self._path!r} holds bytes that are no UTF-8 text, which redaction cannot look "
                "into: capture a part of it, or say opaque='keep'"
            )
            raise Refused(msg)
        new = self._text(text, search, name)
        return value if new == text else new.encode()

    def _text(self, text: str, search: Search, name: str | None) -> str:
        return self._texts([text], search, name)[0]

    def _texts(self, texts: list[str], search: Search, name: str | None) -> list[str]:
        """Return texts that stand one after the other, with markers for what is found."""
        joined = texts[0] if len(texts) == 1 else "".join(texts)
        self._left -= len(joined)
        if self._left < 0:
            msg = f"{self._path!r} holds more than {MAX_SIZE} characters: capture a part of it"
            raise MissingStepError(msg)
        kind = ""
        for _ in range(_ROUNDS):
            spans = search.finder.find(joined, context=name)
            if not spans:
                return texts
            for span in spans:
                self._count(search.paths[span.kind], span.kind)
            kind = spans[-1].kind
            texts = _cut(joined, texts, spans)
            joined = texts[0] if len(texts) == 1 else "".join(texts)
        # A detector that finds markers, too: nothing of the text is kept.
        return [f"[{kind}]", *[""] * (len(texts) - 1)]

    def chunks(self, chunks: list[object], place: Place, name: str | None) -> list[object]:
        """Return chunks of a stream; texts that follow one another are searched as one."""
        search = place.search
        if search is None or place.fires is not None or place.pending:
            return [self.put(chunk, place, name, 1) for chunk in chunks]
        result: list[object] = list(chunks)
        run: list[int] = []
        for index, chunk in enumerate([*chunks, _END]):
            if isinstance(chunk, str) and not isinstance(chunk, Enum):
                run.append(index)
            elif chunk is not None:
                if run:
                    texts = [_plain_text(chunks[n]) for n in run]
                    for n, text in zip(run, self._texts(texts, search, name), strict=True):
                        result[n] = text
                    run = []
                if chunk is not _END:
                    result[index] = self.put(chunk, place, name, 1)
        return result

    def _replaced(self, value: object, target: Target, depth: int) -> object:
        if target.action == "drop":
            self._count(target.path, "drop")
            return _DROPPED
        if target.action == "token":
            encoded = encode(value, path=target.path)
            digest = hmac.digest(target.key, _TOKEN_DOMAIN + encoded, "sha256")
            self._count(target.path, "token")
            return f"[token:{digest[:_TOKEN_SIZE].hex()}]"
        return self._masked(value, target.path, depth)

    def _masked(self, value: object, path: str, depth: int) -> object:
        if depth < MAX_DEPTH:
            if isinstance(value, list | tuple):
                items = [self._masked(item, path, depth + 1) for item in value]
                return tuple(items) if isinstance(value, tuple) else items
            if isinstance(value, Mapping):
                return {k: self._masked(v, path, depth + 1) for k, v in value.items()}
            fields = value.fields if isinstance(value, Object) else None
            names = fields_of(value) if fields is None and not isinstance(value, Enum) else None
            if names is not None:
                fields = {name: getattr(value, name) for name in names}
            if fields is not None:
                kind = value.type if isinstance(value, Object) else type_name(type(value))
                return Object(
                    kind, {k: self._masked(v, path, depth + 1) for k, v in fields.items()}
                )
        if value is None:
            return None
        self._count(path, "mask")
        for kinds, blank in _BLANKS:
            if isinstance(value, kinds) and not isinstance(value, Enum):
                return blank
        return _MASKED


def _plain_text(value: object) -> str:
    return str.__str__(value) if isinstance(value, str) else ""


_END: Final = object()
_BLANKS: Final[tuple[tuple[type | tuple[type, ...], object], ...]] = (
    (bool, False),
    (int, 0),
    (float, 0.0),
    (complex, 0j),
    ((bytes, bytearray, memoryview), _MASKED.encode()),
    (Decimal, Decimal(0)),
)
_SCALARS: Final = (
    str,
    int,
    float,
    bytes,
    bytearray,
    memoryview,
    complex,
    datetime,
    date,
    time,
    timedelta,
    Decimal,
    UUID,
)


def _cut(joined: str, texts: list[str], spans: list[detect.Span]) -> list[str]:
    """Return the texts without the spans, each marked where it begins."""
    result: list[str] = []
    place = number = 0
    for text in texts:
        start, end = place, place + len(text)
        pieces: list[str] = []
        kept = start
        while number < len(spans) and spans[number].start < end:
            span = spans[number]
            if span.start >= start:
                pieces += joined[kept : span.start], f"[{span.kind}]"
            kept = min(span.end, end)
            if span.end > end:
                break
            number += 1
        pieces.append(joined[kept:end])
        result.append("".join(pieces))
        place = end
    return result
