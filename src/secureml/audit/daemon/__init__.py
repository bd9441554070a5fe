"""
The audit log under another user: a daemon that holds the key, and its clients.

Whoever controls an application controls what it can read.  So the log's key,
the spools and the captured values belong to a process under a user of its own,
and applications hand it their records over a socket: what they handed over is
then out of their reach.

    python -m secureml.audit.daemon --audit DIR/audit --private DIR.private --socket /run/…

    with secureml.audit.daemon.connect("/run/secureml/audit.sock", private="app.private") as log:
        @secureml.audit.audited(log, action="diagnose")
        def predict(row): ...

Source: docs/spec/daemon.md; docs/adr/0013-key-in-another-process.md.
"""

from secureml.audit.daemon.remote import RemoteAuditLog, connect

__all__ = ["RemoteAuditLog", "connect"]
