"""A request of ours, judged by the platform's stand-in: no socket, no clock."""

import re
from typing import Any, Final

import orjson
from aiohttp.web import UrlDispatcher
from multidict import CIMultiDict

from platforms.base import AccountCredentials, Request, Response, Verdict
from platforms.registry import PLATFORMS
from sandbox.app import PLATFORMS as SANDBOX_PLATFORMS
from sandbox.exchange import Answer, Call
from schemas.config import Destination

STAND_INS: Final = {stand_in.SLUG: stand_in for stand_in in SANDBOX_PLATFORMS}


def credentials(slug: str, **changes: str) -> AccountCredentials:
    """Credentials that the stand-in takes; of ``changes``, those that the platform has."""
    fields = {"pixel_id": "123", "ad_account_id": "549755885175", "access_token": "good-token"}
    model = PLATFORMS[slug].Credentials
    known = {key: value for key, value in (fields | changes).items() if key in model.model_fields}
    return model.model_validate(known)


def destination(slug: str, **changes: Any) -> Destination:
    """A destination with everything switched on, but for ``changes`` (camelCase)."""
    fields = {"id": "d1", "platform": slug, "account": "123", "sealed": ""}
    return Destination.model_validate(fields | changes)


def call(slug: str, request: Request, now: float) -> Call:
    """The request as the stand-in gets it at ``now`` (Unix seconds). Fails if the path is not its
    own."""
    route = UrlDispatcher().add_resource(STAND_INS[slug].PATH).get_info()
    pattern = route.get("pattern") or re.compile(re.escape(route["path"]))
    found = pattern.fullmatch(request.path)
    assert found, f"{request.path} is not {STAND_INS[slug].PATH}"
    account = found.groupdict().get("account", "")
    headers = CIMultiDict(request.headers)
    return Call(account, headers, request.query, request.body, now, request.path)


def ask(slug: str, request: Request, now: float) -> Answer:
    """What the stand-in answers."""
    asked = call(slug, request, now)
    return STAND_INS[slug].answer(asked, STAND_INS[slug].read(asked))


def deliver(slug: str, payloads: list[dict[str, Any]], now: float) -> tuple[Answer, list[Verdict]]:
    """One request with these payloads: the stand-in's answer, and what we make of it."""
    platform = PLATFORMS[slug]
    request = platform.request([orjson.dumps(each) for each in payloads], credentials(slug))
    answer = ask(slug, request, now)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    response = Response(answer.status, answer.body, headers)
    return answer, platform.read(response, len(payloads))
