"""Certificates without I/O: bytes and the time go in, values come out.

`names` (what may be asked for) → `request` (asking) → `pile` (reading what came back) → `match` (whose is it) →
`chain` (who issued it) → `acceptance` (is it right) → `bundle` (the files servers want); `renewal` tells when again.
"""
