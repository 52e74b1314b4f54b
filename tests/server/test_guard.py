"""Who may ask: names, pages, the key."""

from __future__ import annotations

import pytest

from mlxrun.core import RequestError
from mlxrun.server.run import address_of, check_names, check_reach, listen

from .scripted import ask, error_of, server


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "[::1]:8080", "10.0.0.5:80", "box.lan"])
def test_our_names(host: str) -> None:
    own, _ = server(hosts=("box.lan",))
    assert ask(own, "/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[evil]",
        "[::1]evil.com",
        "localhost:80@evil.com",
        "[::1",
        "localhost:80:90",
        "evil.com#localhost",
        "localhost:x",
        "::1",
    ],
)
def test_a_name_that_someone_else_pointed_here(host: str) -> None:
    refused = ask(server()[0], "/v1/models", headers={"host": host})
    assert (refused.status_code, error_of(refused)["type"]) == (403, "permission_error")


def test_other_peoples_pages() -> None:
    own, engine = server(origins=("https://chat.example",))
    for origin in ("https://evil.example", "null", "http://127.0.0.1:3000", "http://chat.example"):
        refused = ask(own, "/v1/completions", {"prompt": "a"}, headers={"origin": origin})
        assert (refused.status_code, engine.handles) == (403, [])
        assert "access-control-allow-origin" not in refused.headers
    assert ask(own, "/health", headers={"origin": "http://127.0.0.1:8080"}).status_code == 200
    allowed = ask(own, "/v1/completions", {"prompt": "a"}, headers={"origin": "https://chat.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://chat.example"


@pytest.mark.parametrize("origin", ["tauri://localhost", "app://obsidian.md", "vscode-webview://0a1b-2c"])
def test_apps_may_ask_where_they_are_let(origin: str) -> None:
    asked = {"headers": {"origin": origin, "sec-fetch-site": "cross-site"}}
    assert ask(server()[0], "/v1/completions", {"prompt": "a"}, **asked).status_code == 403
    own, _ = server(origins=("apps",))
    allowed = ask(own, "/v1/completions", {"prompt": "a"}, **asked)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, origin)
    for other in ("https://evil.example", "apps", f"{origin}/x", f"https://x?{origin}"):
        assert ask(own, "/v1/completions", {"prompt": "a"}, headers={"origin": other}).status_code == 403


def test_a_page_that_hides_where_it_is_from() -> None:
    own, engine = server(origins=("https://chat.example",))
    crossing = {"sec-fetch-site": "cross-site"}
    refused = ask(own, "/v1/completions", {"prompt": "a"}, headers=crossing)
    assert (refused.status_code, error_of(refused)["type"], engine.handles) == (403, "permission_error", [])
    assert ask(own, "/health", headers=crossing).status_code == 200  # as a link is followed
    allowed = {**crossing, "origin": "https://chat.example"}
    assert ask(own, "/v1/completions", {"prompt": "a"}, headers=allowed).status_code == 200
    assert ask(own, "/v1/completions", {"prompt": "a"}, headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_a_preflight_is_answered_only_to_pages_that_may() -> None:
    headers = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    own, _ = server(origins=("https://chat.example",), key="k")
    asked = {**headers, "origin": "https://chat.example"}
    assert ask(own, "/v1/completions", method="OPTIONS", headers=asked).status_code == 200
    assert ask(own, "/v1/completions", method="OPTIONS", headers={**headers, "origin": "https://x"}).status_code == 403
    assert ask(server()[0], "/v1/completions", method="OPTIONS").status_code == 405


def test_the_key() -> None:
    own, engine = server(key="secret")
    for sent in (b"", b"Bearer wrong", b"secret", b"Bearer \xff"):
        for path in ("/v1/models", "/metrics", "/memory", "/v1/completions"):
            refused = ask(
                own, path, {"prompt": "a"} if path.endswith("completions") else None, headers={"authorization": sent}
            )
            assert (refused.status_code, error_of(refused)["type"]) == (401, "authentication_error")
    assert engine.handles == []
    assert ask(own, "/health").status_code == 200
    assert ask(own, "/v1/models", headers={"authorization": "bearer secret"}).status_code == 200


def test_each_of_several_keys_opens_and_shares_nothing_with_the_others() -> None:
    own, engine = server(key="one two")
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    asked = [{"authorization": "Bearer one"}, {"x-api-key": "two"}, {"authorization": "Bearer one"}]
    for headers in asked:
        assert ask(own, "/v1/chat/completions", body, headers=headers).status_code == 200
    scopes = [request.scope for request in engine.asked]
    assert scopes[0] == scopes[2] != scopes[1]
    assert not {"", "one", "two"} & set(scopes)
    assert ask(own, "/v1/models", headers={"x-api-key": "one two"}).status_code == 401
    alone, engine = server(key="one")
    ask(alone, "/v1/chat/completions", body, headers=asked[0])
    assert engine.asked[0].scope == ""


def test_the_key_as_anthropics_clients_send_it() -> None:
    own, _ = server(key="secret")
    assert ask(own, "/v1/models", headers={"x-api-key": "secret"}).status_code == 200
    for right in (
        {"x-api-key": "other", "authorization": "Bearer secret"},
        {"x-api-key": "secret", "authorization": "x"},
    ):
        assert ask(own, "/v1/models", headers=right).status_code == 200
    for wrong in ({"x-api-key": ""}, {"x-api-key": "Bearer secret"}, {"x-api-key": "other"}):
        assert ask(own, "/v1/models", headers=wrong).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])
def test_other_machines_only_with_a_key(host: str) -> None:
    with pytest.raises(RequestError, match="--key"):
        check_reach(host, None)
    check_reach(host, "secret")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    check_reach(host, None)


@pytest.mark.parametrize("key", ["", " ", "schlüssel", "a\nb"])
def test_keys_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(RequestError, match="key"):
        check_reach("127.0.0.1", key)


def test_a_port_in_use() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert address_of(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(RequestError, match=f"Port {port} of 127.0.0.1 is in use"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("127.0.0.1", -1), ("no such host", 80)])
def test_what_cannot_be_listened_on(host: str, port: int) -> None:
    with pytest.raises(RequestError, match=r"\.$"):
        listen(host, port)


@pytest.mark.parametrize(
    "origin", ["chat.example", "https://chat.example/", "https://x/y", "http://x:3000/", "*", "null", "HTTP://x"]
)
def test_an_origin_that_no_browser_sends(origin: str) -> None:
    with pytest.raises(RequestError, match="--allow-origin wants what browsers send"):
        check_names((), (origin,))


@pytest.mark.parametrize("host", ["http://box.lan", "box.lan:8080", "", "*"])
def test_a_host_that_is_more_than_a_name(host: str) -> None:
    with pytest.raises(RequestError, match="--allow-host wants a name alone"):
        check_names((host,), ())


def test_hosts_and_origins_as_they_are_sent() -> None:
    check_names(
        ("box.lan", "BOX"),
        ("https://chat.example", "http://localhost:3000", "chrome-extension://abcdef", "http://[::1]:3000"),
    )
