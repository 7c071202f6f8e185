"""Which route is meant, however a caller spells the host, and however long she makes the path."""

from __future__ import annotations

import time

import pytest

from gateway.core.routes import Route, Router
from gateway.core.target import view_path


@pytest.mark.parametrize(
    "host", [b"admin.test", b"ADMIN.test", b"admin.test:8080", b"admin.test.", b"admin.test.:80"]
)
def test_every_spelling_of_a_host_means_its_route(host: bytes) -> None:
    """A backend takes the name with its last dot for the same one, so the policy must be the same too."""
    router = Router([Route("open", "u"), Route("narrow", "u", host="admin.test", roles=frozenset(("Ops",)))])
    route = router.match(host, view_path(b"/x"))
    assert route
    assert route.name == "narrow"


@pytest.mark.parametrize(
    "path", [b"/x" * 4000, b"//x" * 2700, b"/;" * 4000], ids=["plain", "empty", "parameters"]
)
def test_a_path_of_thousands_of_segments_is_matched_in_no_time(path: bytes) -> None:
    """It is matched before anybody is authenticated: one request must not cost milliseconds."""
    router = Router(
        [Route("deep", "u", path="/x/y/z"), Route("here", "u", path="/x", host="h"), Route("all", "u")]
    )
    view = view_path(path)
    cost = min(_seconds(router, view_path(path)) for _ in range(5))
    assert cost < 0.001, f"{cost * 1000:.1f} ms for {len(view.readings)} readings"


def _seconds(router: Router, view: object) -> float:
    begun = time.process_time()
    router.match(b"h", view)  # type: ignore[arg-type]
    return time.process_time() - begun


def test_the_longest_prefix_in_whole_segments_counts_at_any_depth() -> None:
    router = Router([Route(path, "u", path=path) for path in ("/", "/a", "/a/b", "/a/b/c/")])
    for path, name in {
        b"/": "/",
        b"/ab": "/",
        b"/a": "/a",
        b"/a/": "/a",
        b"/a/bc/d/e": "/a",
        b"/a/b": "/a/b",
        b"/a/b/": "/a/b",
        b"/a/b/cd/e/f": "/a/b",
        b"/a/b/c": "/a/b/c/",
        b"/a/b/c/d/e/f/g": "/a/b/c/",
    }.items():
        route = router.match(b"h", view_path(path))
        assert route
        assert route.name == name, path
