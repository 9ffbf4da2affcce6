"""People, known by their e-mail addresses."""

from typing import Annotated, Final

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, StringConstraints, WithJsonSchema
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from manage.tables import User
from runtime import ids

MAX_EMAIL: Final = 254


def address(text: str) -> str:
    """One spelling of an e-mail address: lower case, its domain in ASCII.

    Raises ``ValueError``. Whether there is such a mailbox is not asked here: a mail to it tells.
    """
    try:
        found = validate_email(text, check_deliverability=False, allow_smtputf8=False, strict=True)
    except EmailNotValidError:
        msg = "must be an e-mail address such as anna@shop.example"
        raise ValueError(msg) from None
    ascii_email: str | None = found.ascii_email
    return (ascii_email or found.normalized).lower()


Email = Annotated[
    str,
    StringConstraints(max_length=MAX_EMAIL),
    AfterValidator(address),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": MAX_EMAIL}),
]


async def ensure(session: AsyncSession, email: str, now_ms: int) -> User:
    """The user of this address, made when there is none. ``email`` is one of ``address``."""
    known = select(User).where(User.email == email)
    found = await session.scalar(known)
    if found is not None:
        return found
    made = User(id=ids.new_id("usr"), email=email, created_at=now_ms)
    try:
        async with session.begin_nested():
            session.add(made)
    except IntegrityError:  # somebody else made it in this moment
        return (await session.scalars(known)).one()
    return made
