"""What is mailed, and how it is handed to a real mail server."""

import ssl
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd import smtp
from aiosmtpd.controller import Controller
from pydantic import SecretStr
from structlog.testing import capture_logs

from capistream.embedded import free_port
from manage import mail
from manage.services import Services
from runtime.errors import ConfigError
from runtime.settings import MailSettings, ManageSettings, Settings
from tests.unit.manage.api import Client, error_of
from tests.unit.runtime.clocks import JumpingClock

TOKEN = "canary-token-0123456789"
LETTER = mail.login(
    "anna@shop.example", f"https://manage.example/v1/auth/callback?token={TOKEN}", 15
)


@dataclass
class Inbox:
    """What a server got, and what it answers to it."""

    answer: str = "250 OK"
    to: list[str] = field(default_factory=list)
    messages: list[EmailMessage] = field(default_factory=list)
    was_secure: list[bool] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - the library's name
        self,
        _server: smtp.SMTP,
        _session: smtp.Session,
        envelope: smtp.Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        """Take, or refuse, a recipient."""
        if self.answer.startswith("5"):
            return f"{self.answer} {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - the library's name
        self, _server: smtp.SMTP, session: smtp.Session, envelope: smtp.Envelope
    ) -> str:
        """Take, or refuse, a mail."""
        assert isinstance(envelope.content, bytes)
        if not self.answer.startswith("2"):
            return self.answer
        self.to += envelope.rcpt_tos
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        self.was_secure.append(session.ssl is not None)
        return self.answer


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.certificate, self.key)
        return made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Of localhost, signed by nobody but itself."""
    directory = tmp_path_factory.mktemp("tls")
    made = Certificate(directory / "cert.pem", directory / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", made.key, "-out", made.certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def port(inbox: Inbox) -> Iterator[int]:
    """A server that knows no TLS."""
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port
    controller.stop()


@pytest.fixture
def tls_port(inbox: Inbox, certificate: Certificate) -> Iterator[int]:
    """A server that takes mails after STARTTLS, from whoever has the password."""

    def authenticate(
        _server: smtp.SMTP,
        _session: smtp.Session,
        _envelope: smtp.Envelope,
        _how: str,
        data: object,
    ) -> smtp.AuthResult:
        assert isinstance(data, smtp.LoginPassword)
        is_right = (data.login, data.password) == (b"shop", b"pass-word")
        return smtp.AuthResult(success=is_right, handled=False)

    controller = Controller(
        inbox,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=certificate.context(),
        require_starttls=True,
        auth_required=True,
        authenticator=authenticate,
    )
    controller.start()
    yield controller.port
    controller.stop()


def plain(port: int) -> MailSettings:
    return MailSettings(
        host="127.0.0.1", port=port, security="none", sender="Shop <noreply@manage.example>"
    )


async def test_a_mail_arrives(port: int, inbox: Inbox) -> None:
    clock = JumpingClock()
    mailer = mail.mailer(Settings(mail=plain(port)), clock)
    await mailer.send(LETTER)
    (found,) = inbox.messages
    assert inbox.to == ["anna@shop.example"]
    assert (found["From"], found["To"]) == ("Shop <noreply@manage.example>", "anna@shop.example")
    assert found["Subject"] == "Your login link"
    assert found["Auto-Submitted"] == "auto-generated"
    assert found["Message-ID"].endswith("@manage.example>")
    assert found["Date"].datetime.timestamp() == clock.ms // 1000
    assert found.get_content_type() == "text/plain"
    assert found.get_content().replace("\r\n", "\n").strip() == LETTER.text.strip()


@pytest.mark.parametrize(
    "answer", ["550 no such mailbox", "554 refused: canary-token-0123456789", "451 try later"]
)
async def test_a_refused_mail_is_an_error_that_tells_nothing(
    port: int, inbox: Inbox, answer: str
) -> None:
    inbox.answer = answer
    mailer = mail.mailer(Settings(mail=plain(port)), JumpingClock())
    with capture_logs() as logs, pytest.raises(mail.MailError) as raised:
        await mailer.send(LETTER)
    (told,) = logs
    assert told["log_level"] == "error"
    for text in (str(logs), str(raised.value)):
        assert TOKEN not in text
        assert "anna" not in text


async def test_a_server_that_is_away(certificate: Certificate) -> None:
    mailer = mail.mailer(Settings(mail=plain(free_port())), JumpingClock())
    with pytest.raises(mail.MailError):
        await mailer.send(LETTER)


async def test_a_server_is_trusted_by_its_certificate(
    tls_port: int, inbox: Inbox, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = MailSettings(
        host="localhost",
        port=tls_port,
        username="shop",
        password=SecretStr("pass-word"),
    )
    mailer = mail.mailer(Settings(mail=section), JumpingClock())
    with capture_logs(), pytest.raises(mail.MailError):
        await mailer.send(LETTER)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    section = section.model_copy(update={"password": SecretStr("wrong")})
    stranger = mail.mailer(Settings(mail=section), JumpingClock())
    with capture_logs(), pytest.raises(mail.MailError):
        await stranger.send(LETTER)
    assert inbox.messages == []
    await mailer.send(LETTER)
    assert inbox.was_secure == [True]


async def test_no_mail_goes_to_a_server_that_knows_no_tls(port: int, inbox: Inbox) -> None:
    section = plain(port).model_copy(update={"security": "starttls"})
    with pytest.raises(mail.MailError):
        await mail.mailer(Settings(mail=section), JumpingClock()).send(LETTER)
    assert inbox.messages == []


def test_without_a_server_nothing_starts() -> None:
    with pytest.raises(ConfigError, match="CAPISTREAM_MAIL__HOST"):
        mail.mailer(Settings(), JumpingClock())


async def test_in_development_mails_are_in_a_file_and_on_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path / "new", manage=ManageSettings(development=True))
    mailer = mail.mailer(settings, JumpingClock())
    await mailer.send(LETTER)
    await mailer.send(mail.invite("b@shop.example", "https://x", "Shop", "a@shop.example", 7))
    path = settings.data_dir / "mails.txt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == capfd.readouterr().err
    assert path.read_text().count("To: ") == 2
    assert LETTER.text in path.read_text()


async def test_a_server_that_is_named_is_used_in_development_too(port: int, inbox: Inbox) -> None:
    settings = Settings(mail=plain(port), manage=ManageSettings(development=True))
    await mail.mailer(settings, JumpingClock()).send(LETTER)
    assert len(inbox.messages) == 1


class TestLoginByMail:
    """The API in production, whose mails go to a server."""

    @pytest.fixture
    def manage_settings(self) -> ManageSettings:
        return ManageSettings(public_url="https://manage.example")

    @pytest.fixture
    def settings(self, settings: Settings, port: int) -> Settings:
        return settings.model_copy(update={"mail": plain(port)})

    async def test_the_cookie_travels_over_tls_only(self, client: Client, inbox: Inbox) -> None:
        response = await client.post("/v1/auth/login", json={"email": "anna@shop.example"})
        assert response.status == 200
        text = inbox.messages[0].get_content()
        start = text.index("https://manage.example/v1/auth/callback?token=")
        path = text[start:].split()[0].removeprefix("https://manage.example")
        response = await client.get(path)
        (header,) = response.headers.getall("Set-Cookie")
        assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} < set(header.split("; "))
        # What clears it has to name it in the same way.
        response = await client.post("/v1/auth/logout")
        assert "Secure" in response.headers["Set-Cookie"]

    async def test_whoever_would_wait_for_nothing_is_told(
        self, client: Client, services: Services, inbox: Inbox
    ) -> None:
        inbox.answer = "451 try later"
        with capture_logs() as logs:
            response = await client.post("/v1/auth/login", json={"email": "anna@shop.example"})
        found = await error_of(response)
        assert (found["status"], found["code"]) == (503, "unavailable")
        assert int(response.headers["Retry-After"]) > 0
        assert "anna" not in str(logs)
        assert "token=" not in str(logs)
