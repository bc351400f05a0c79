"""Read a server's host key without logging in; a person compares the fingerprint before it is pinned (`trust`)."""

from __future__ import annotations

from typing import Any

from workers.connections import scan_host_key as scan
from workers.context import StepContext


async def scan_host_key(context: StepContext) -> dict[str, Any]:
    """Return {"address", "port", "key" (OpenSSH text), "fingerprint" (SHA256:…)} of the server of this step."""
    node = context.node
    key, fingerprint = await scan(node.address, node.port)
    return {"address": node.address, "port": node.port, "key": key, "fingerprint": fingerprint}
