"""The audit: every request one row in a database, and what the proxy remembers between two starts."""

from marbury.audit.stage import Audit, open_audit

__all__ = ["Audit", "open_audit"]
