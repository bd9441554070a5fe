"""
Reading the audit log back, in the process that has it open.

Nothing is verified here: this is for the owner of the log.  Others verify it
first, and read what was verified.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from secureml.audit.details import Sealed, read_details
from secureml.audit.record import Record
from secureml.evidence.pruning import first_entry

if TYPE_CHECKING:
    from secureml.evidence.log import Log

__all__ = ["Reading"]


class Reading:
    """
    The part of an audit log that reads it.

    Attributes:
        log: The transparency log.
        details: Directory of the values.
    """

    log: "Log"
    details: Path

    def _published(self) -> None:
        """Publish what this process wrote, so that it can be read."""
        raise NotImplementedError

    def records(self) -> Iterator[tuple[int, Record]]:
        """
        Yield (index, record) of every record so far, oldest first.

        Of a pruned log those from which on none is missing.

        Raises:
            FormatError: A leaf is no record.
            StoreError: What this process wrote could not be published.
        """
        self._published()
        start = first_entry(self.log.directory, self.log.size)
        for index, leaf in enumerate(self.log.entries(start), start):
            yield index, Record.decode(leaf)

    def read(self, record: str) -> tuple[int, Record]:
        """
        Return (index, record) by the record's id, looking from the newest back.

        Raises:
            LookupError: No leaf has this id.
            FormatError: Its leaf is no record.
            StoreError: What this process wrote could not be published.
        """
        self._published()
        needle = f'"record":{{"id":"{record}"}}'.encode()
        for index, leaf in self._backwards():
            if needle in leaf:
                found = Record.decode(leaf)
                if found.id == record:
                    return index, found
        msg = f"the audit log has no record {record!r}"
        raise LookupError(msg)

    def _backwards(self) -> Iterator[tuple[int, bytes]]:
        stop = self.log.size
        first = first_entry(self.log.directory, stop)
        while stop > first:
            start = (stop - 1) // 256 * 256
            entries = list(self.log.entries(start, stop))
            for index in range(start + len(entries) - 1, start - 1, -1):
                yield index, entries[index - start]
            stop = start

    def values(self, record: Record) -> Mapping[str, Sealed]:
        """
        Return the captured values of a record; empty when it has none, or they were erased.

        Raises:
            FormatError: Its line in the details is malformed.
        """
        if record.segment is None:
            return {}
        found = read_details(self.details, record.segment, record.id)
        return {} if found is None else found.values
