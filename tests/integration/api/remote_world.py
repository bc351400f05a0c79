"""A real server on loopback, and a command line that works over it beside one that works on the machine itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from api import serving


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve *app* and give its address."""
    listening = serving._bound("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listening.close()


def far_side(seeded: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that runs a command over the API at *url* as somebody."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(seeded.root / "config"))

    def say(*words: Any, who: str = "olga", scopes: tuple[Any, ...] = ()) -> Any:
        with monkeypatch.context() as patched:
            patched.setenv("CERTBRIDGE_API_URL", url)
            patched.setenv("CERTBRIDGE_TOKEN", seeded.token(who, *scopes))
            return seeded.world.say(*words)

    return say
