"""Hypothesis strategies for what travels through the system."""

from typing import Any, Final

from hypothesis import strategies as st

from schemas.config import Destination
from schemas.event import ActionSource, Event, EventName

SHA256: Final = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"
MD5: Final = "d41d8cd98f00b204e9800998ecf8427e"

# Control characters and lone surrogates cannot come out of the JSON that a shop sends.
texts: Final = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)
emails: Final = st.one_of(
    st.emails(), st.sampled_from([" Ada.L+Shop@Example.COM ", "nobody", "a b@c.d", SHA256, MD5])
)
phones: Final = st.one_of(
    st.sampled_from(
        ["+44 (0)20 7946 0018", "0044 844 412 4653", "1(650)555-1212", "(11) 91234-5678", "12", "x"]
    ),
    st.from_regex(r"\+?[0-9 ()-]{0,18}", fullmatch=True),
    st.just(SHA256),
)
countries: Final = st.sampled_from(["US", "gb", " BR ", "Germany", "usa", "uk", "zz", SHA256])
addresses: Final = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["10.0.0.1, 8.8.8.8", "unknown", "203.0.113.7", SHA256]),
)
names: Final = st.one_of(texts, st.sampled_from(["O'Neil-King", "Zoë", "अनीता", MD5, SHA256]))
amounts: Final = st.decimals(0, 10**12, places=2).map(str)
currencies: Final = st.sampled_from(["EUR", "usd", "JPY", "KWD"])


def _some(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


user_data: Final = _some(
    {
        "email": emails,
        "phone": phones,
        "firstName": names,
        "lastName": names,
        "gender": st.sampled_from(["F", "male", "Non-binary", "?"]),
        "dateOfBirth": st.one_of(st.dates().map(str), st.sampled_from(["1990-02-31", "31.12.90"])),
        "city": names,
        "state": st.one_of(texts, st.sampled_from(["NY", "California", SHA256])),
        "postalCode": st.sampled_from(["10001-1234", "SW1A 1AA", "01310-100", "-", SHA256]),
        "country": countries,
        "externalId": st.one_of(texts, st.sampled_from([" User_123 ", MD5, SHA256])),
        "ipAddress": addresses,
        "userAgent": st.sampled_from(["Mozilla/5.0", SHA256]),
        "fbc": st.one_of(texts, st.just("fb.1.1554763741205.OLDclick")),
        "fbp": st.one_of(texts, st.just("fb.1.1554763741205.42")),
        "fbclid": texts,
        "ttclid": st.one_of(texts, st.just("E" * 1001)),
        "ttp": texts,
        "epik": texts,
        "scClickId": texts,
        "scCookie1": texts,
        "kwaiClickId": st.one_of(texts, st.just(SHA256)),
        "rdtCid": texts,
        "rdtUuid": st.one_of(texts, st.uuids(version=4).map(lambda uuid: f"1684189007728.{uuid}")),
    }
)
contents: Final = st.lists(
    _some(
        {
            "id": st.one_of(texts, st.integers(0, 10**6)),
            "name": texts,
            "category": texts,
            "brand": texts,
            "quantity": st.integers(0, 1000),
            "price": amounts,
        }
    ),
    max_size=3,
)
custom_data: Final = _some(
    {
        "currency": currencies,
        "value": amounts,
        "orderId": st.one_of(texts, st.just("O" * 101)),
        "numItems": st.integers(0, 1000),
        "searchString": texts,
        "contentName": texts,
        "contentCategory": texts,
        "contentType": st.sampled_from(["product", "product_group", "page"]),
        "contents": contents,
    }
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event that the gateway can accept."""
    optional = _some(
        {
            "customEventName": st.one_of(texts, st.just("Newsletter"), st.just("N" * 80)),
            "eventSourceUrl": st.just("https://shop.example/thanks?a=b"),
            "referrerUrl": st.just("https://shop.example/cart"),
            "actionSource": st.sampled_from(ActionSource),
            "userData": user_data,
            "customData": custom_data,
            "consent": _some({"limitedDataUse": st.booleans()}),
            "testEventCode": st.sampled_from(["TEST42", None]),
        }
    )
    required = {
        "eventId": draw(st.text("abcdef0123456789-", min_size=1, max_size=20)),
        "eventName": draw(st.sampled_from(EventName)),
        "eventTime": draw(st.integers(1_600_000_000_000, 1_900_000_000_000)),
    }
    return Event.model_validate(required | draw(optional))


def destinations(platform: str) -> st.SearchStrategy[Destination]:
    """Any enabled destination of a platform."""
    switches = _some(
        {
            "advancedMatching": st.booleans(),
            "limitedDataUse": st.booleans(),
            "eventNames": st.dictionaries(
                st.sampled_from(["Purchase", "Custom", "Newsletter"]),
                st.one_of(
                    texts, st.sampled_from(["Lead", "lead", "CUSTOM_EVENT_3", "EVENT_CONTACT"])
                ),
                max_size=2,
            ),
        }
    )
    fixed = {"id": "d1", "platform": platform, "account": "1", "sealed": ""}
    return switches.map(lambda changes: Destination.model_validate(fixed | changes))
