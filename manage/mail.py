"""The mails that people get, in plain text, and how they are sent."""

import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from pathlib import Path
from typing import Final, Protocol

import aiosmtplib

from runtime.clock import Clock
from runtime.errors import ConfigError, UnavailableError
from runtime.logs import get_logger
from runtime.settings import MailSettings, Settings

log = get_logger(__name__)

MAILS_FILE: Final = "mails.txt"


class MailError(UnavailableError):
    """A mail was not taken."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one person."""

    to: str
    subject: str
    text: str


class Mailer(Protocol):
    """Sends mails."""

    async def send(self, mail: Mail) -> None:
        """Hand a mail over.

        Raises ``MailError``.
        """
        ...


class SmtpMailer:
    """Hands mails to a server. Unless security is off, nothing is said to one whose certificate is
    not the host's."""

    def __init__(self, settings: MailSettings, host: str, clock: Clock) -> None:
        self._settings = settings
        self._host = host
        self._clock = clock

    async def send(self, mail: Mail) -> None:
        """Return when the server has taken the mail.

        Raises ``MailError``.
        """
        settings = self._settings
        password = settings.password
        try:
            await aiosmtplib.send(
                _message(mail, settings.sender, self._clock.now_ms()),
                hostname=self._host,
                port=settings.port,
                username=settings.username,
                password=password.get_secret_value() if password else None,
                use_tls=settings.security == "tls",
                start_tls=settings.security == "starttls",
                timeout=settings.timeout_seconds,
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _not_taken(error) from None


class FileMailer:
    """For development: writes mails to standard error, and to a file that its owner alone can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, mail: Mail) -> None:
        """Append the mail.

        Raises ``MailError``.
        """
        text = f"To: {mail.to}\nSubject: {mail.subject}\n\n{mail.text}\n"
        sys.stderr.write(text)
        try:
            await asyncio.to_thread(self._append, text)
        except OSError as error:
            raise _not_taken(error) from None

    def _append(self, text: str) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(number, "a", encoding="utf-8") as file:
            file.write(text)


def mailer(settings: Settings, clock: Clock) -> Mailer:
    """The way of sending that the settings name.

    Raises ``ConfigError`` when they name none.
    """
    if settings.mail.host is not None:
        return SmtpMailer(settings.mail, settings.mail.host, clock)
    if settings.manage.development:
        return FileMailer(settings.data_dir / MAILS_FILE)
    raise ConfigError(
        "CAPISTREAM_MAIL__HOST is not set: nobody could log in. Name a mail server, or set "
        "CAPISTREAM_MANAGE__DEVELOPMENT=true to have mails in a file."
    )


def login(to: str, link: str, minutes: int) -> Mail:
    """The mail with a magic link."""
    return Mail(
        to,
        "Your login link",
        f"Open this link to log in:\n\n{link}\n\n"
        f"It works once, for {minutes} minutes. If you did not ask for it, do nothing: without the"
        " link nobody can log in as you.\n",
    )


def invite(to: str, link: str, organisation: str, invited_by: str, days: int) -> Mail:
    """The mail that asks somebody to join."""
    return Mail(
        to,
        f"You are invited to {organisation}",
        f"{invited_by} invites you to join {organisation}. Open this link to join and to log in:"
        f"\n\n{link}\n\n"
        f"It works once, for {days} days. If you do not know what this is about, do nothing.\n",
    )


@dataclass(frozen=True, slots=True)
class QuotaState:
    """How much of a month's events an organisation has used."""

    organisation: str
    percent: int
    """The threshold that was reached."""
    billable: int
    monthly_events: int
    resets_on: str
    """The first day of the next month."""


def quota(to: str, state: QuotaState) -> Mail:
    """The mail that tells an owner how near the quota is."""
    used = f"{state.billable:,} of {state.monthly_events:,} events"
    if state.percent < 100:
        subject = f"{state.organisation} has used {state.percent} % of this month's events"
        then = "When they are used up, further events are refused until then."
    else:
        subject = f"{state.organisation} has used up this month's events"
        then = "Further events are refused until then."
    return Mail(
        to,
        subject,
        f"{state.organisation} has used {used} of this month's plan. "
        f"The next month begins on {state.resets_on} (UTC). {then} A larger plan takes more of"
        " them at once.\n",
    )


def _not_taken(error: aiosmtplib.SMTPException | OSError) -> MailError:
    # The server's own words may hold the address, or even what was sent.
    log.error(
        "A mail was not taken.",
        error=type(error).__name__,
        code=getattr(error, "code", None),
    )
    return MailError("a mail was not taken")


def _message(mail: Mail, sender: str, now_ms: int) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(now_ms / 1000, UTC))
    domain = parseaddr(sender)[1].rpartition("@")[2]
    message["Message-ID"] = make_msgid(domain=domain or "localhost")
    # So that nobody's absence note answers.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    return message
