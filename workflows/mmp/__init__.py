"""The command line of Cisco Meeting Server (MMP) as values: no I/O here, the session in `workers/` carries bytes.

conversation   bytes in, events out           commands   what can be asked, as frozen values
replies        what the answers mean          services   which service wants which files and lines
"""
