"""`certbridge demo`, as a new user types it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PORTS_OF_A_NODE = 5  # webadmin, callbridge, webbridge3 https and c2w, turn


def demo(home: Path, *words: str) -> subprocess.Popen[str]:
    """Start `certbridge demo` as somebody who has nothing yet: empty home, own directory for temporary files."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CERTBRIDGE_", "XDG_"))}
    return subprocess.Popen(
        [sys.executable, "-c", "from api.cli import main; main()", "demo", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[2],
        env=own | {"HOME": str(home), "TMPDIR": str(home), "COLUMNS": "200"},
        start_new_session=True,
    )


@pytest.fixture
def home() -> Iterator[Path]:
    """Give an empty home with a short path, since sockets lie below it."""
    path = Path(tempfile.mkdtemp(prefix="h"))
    yield path
    shutil.rmtree(path)


def ended(pid: int, within_s: float) -> bool:
    """Return whether the process is gone; whoever adopted it may take a moment to notice."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.timeout(240)
def test_demo_renews_every_port_and_leaves_nothing_behind(home):
    """Two servers go from survey to proof; exit 0, a row before and after for each port, and an empty disk."""
    with demo(home, "--nodes", "2", "--latency", "0.2") as process:
        text, _ = process.communicate(timeout=220)

    rows = re.findall(r"^(cmscore\d)\s+(\S+)\s+127\.\S+\s+(\S+) → (\S+)\s+(\d)\s+yes$", text, re.MULTILINE)
    assert process.returncode == 0, text
    assert len(rows) == 2 * PORTS_OF_A_NODE, text
    assert [row for row in rows if not row[2] < row[3]] == [], "each new certificate ends later than the old one"
    assert {row[4] for row in rows} == {"3"}, "leaf, issuing CA and root are served"
    assert "the chain is whole" in text
    assert sorted(home.iterdir()) == []


@pytest.mark.timeout(120)
def test_demo_that_is_interrupted_stops_all_it_started(home):
    """Ctrl-C while the engine runs ends every process of the demo, and its directory is gone."""
    with demo(home, "--nodes", "1", "--latency", "0.2") as process:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if "certbridge survey" in line:
                break
        pids = [int(path.read_text()) for path in home.glob("certbridge-demo-*/state/supervisord.pid")]
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=100)

    assert process.returncode == 130, "".join(seen) + rest
    assert len(pids) == 1
    assert ended(pids[0], within_s=10)
    assert sorted(home.iterdir()) == []


@pytest.mark.timeout(120)
def test_demo_whose_reader_goes_away_stops_all_it_started(home):
    """`certbridge demo | head` ends with the reader: no process and no file of the demo stays."""
    with demo(home, "--nodes", "1", "--latency", "0.2") as process:
        for line in process.stdout:
            if "certbridge survey" in line:
                break
        pids = [int(path.read_text()) for path in home.glob("certbridge-demo-*/state/supervisord.pid")]
        process.stdout.close()
        assert process.wait(timeout=100) == 1

    assert len(pids) == 1
    assert ended(pids[0], within_s=10)
    assert sorted(home.iterdir()) == []
