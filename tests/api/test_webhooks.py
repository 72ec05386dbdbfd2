from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from fleet.client import ApiError, Client

PUBLIC_URL = "https://93.184.216.34/T0/secret-path"  # an address: nothing is looked up


def refusal(client: Client, **said: object) -> dict[str, object]:
    """The problem with a webhook of which something else is said."""
    wanted = {"name": "chat", "url": PUBLIC_URL, "kinds": ["cron.*"], **said}
    with pytest.raises(ApiError) as refused:
        client.add_webhook(**wanted)  # type: ignore[arg-type]
    assert refused.value.status == 422
    return refused.value.problem


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.216.34/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "no url",
    ],
)
def test_an_address_that_leads_inwards_is_refused(client: Client, url: str) -> None:
    assert refusal(client, url=url)["field"] == "url"


def test_what_cannot_be_is_named(client: Client) -> None:
    assert refusal(client, kinds=["A B"])["field"] == "kinds[0]"
    for said, field in (({"shape": "teams"}, "shape"), ({"kinds": []}, "kinds"), ({"name": "a b"}, "name")):
        assert field in str(refusal(client, **said)["errors"])


def test_a_webhook_is_added_shown_without_its_address_and_removed(client: Client) -> None:
    minted = client.add_webhook("chat", PUBLIC_URL, ["cron.*"], shape="slack")
    assert minted.secret.startswith("whsec_")
    shown = client.webhook(minted.id)
    assert (shown.host, shown.shape, shown.kinds) == ("93.184.216.34", "slack", ["cron.*"])
    assert "secret" not in shown.model_dump_json()
    assert client.webhooks(name="chat").items == [shown]
    assert client.rotate_webhook(minted.id).secret != minted.secret
    sent = client.test_webhook(minted.id)
    assert client.deliveries(minted.id, state="pending").items == [sent]
    assert client.deliveries(minted.id, state="dead").items == []
    assert client.redeliver(minted.id, sent.id).id == sent.id  # it is under way: no second one
    client.remove_webhook(minted.id)
    with pytest.raises(ApiError) as refused:
        client.webhook(minted.id)
    assert refused.value.status == 404


def test_a_key_makes_one_webhook_and_shows_no_secret_twice(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    headers = bearer("admin") | {"Idempotency-Key": "k"}
    body = {"name": "chat", "url": PUBLIC_URL, "kinds": ["cron.*"]}
    first = http.post("/v1/webhooks", json=body, headers=headers)
    assert (first.status_code, first.headers["cache-control"]) == (201, "no-store")
    assert http.post("/v1/webhooks", json=body, headers=headers).status_code == 409


def test_only_administrators_send_events_elsewhere(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    body = {"name": "chat", "url": PUBLIC_URL, "kinds": ["cron.*"]}
    for role in ("viewer", "user", "operator"):
        assert http.post("/v1/webhooks", json=body, headers=bearer(role)).status_code == 403
        assert http.get("/v1/webhooks", headers=bearer(role)).status_code == 403
