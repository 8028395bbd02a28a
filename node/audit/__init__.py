"""The audit trail: who did what to which study, in records that cannot be changed unseen."""

from node.audit.chain import AUDIT, METADATA, AuditKey, append, read_or_make_key
from node.audit.verify import Verified, last_anchor, verify, write_anchor

__all__ = [
    "AUDIT",
    "METADATA",
    "AuditKey",
    "Verified",
    "append",
    "last_anchor",
    "read_or_make_key",
    "verify",
    "write_anchor",
]
