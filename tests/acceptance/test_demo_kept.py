"""`certbridge demo --keep`: the pages stay open, one can sign in, and it ends as it says."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

import pytest

from workflows.settings import Settings


@pytest.mark.timeout(300)
def test_demo_that_is_kept_can_be_signed_in_to_and_ended():
    """The link makes the first administrator, and the commands that it names leave nothing behind."""
    home = Path(tempfile.mkdtemp(prefix="h"))
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CERTBRIDGE_", "XDG_"))}
    environment = own | {"HOME": str(home), "TMPDIR": str(home), "COLUMNS": "200"}
    words = [sys.executable, "-m", "api", "demo", "--keep", "--nodes", "1", "--latency", "0.2"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        words,
        env=environment,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    ending = re.search(
        r"^End it: kill (\d+); CERTBRIDGE_STATE=(\S+) .*certbridge down; rm -r (\S+)$", done.stdout, re.MULTILINE
    )
    try:
        assert done.returncode == 0, done.stdout
        url, secret = re.search(r"Open (http://127\.0\.0\.1:\d+)/invitation#(\S+),", done.stdout).groups()
        assert f"Open: {url}/" in done.stdout
        form = {"token": secret, "password": (word := "grey heron lands at noon"), "again": word, "name": "root"}
        asking = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        asking.request("POST", "/invitation", urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
        answer = asking.getresponse()
        assert (answer.status, "certbridge=" in (answer.headers["Set-Cookie"] or "")) == (303, True), answer.read()
        asking.close()
    finally:
        assert ending, done.stdout
        os.kill(int(ending[1]), 15)
        state = Settings.load({}, state=Path(ending[2]))
        subprocess.run(
            [sys.executable, "-m", "api", "--local", "down"],
            env=environment | state.environment(),
            cwd=root,
            check=True,
            timeout=100,
        )
        shutil.rmtree(home)
