"""Every setting, in one frozen model: prefix ``CAPISTREAM_``, nesting with ``__``.

Sources, the first one that has a value wins: the environment, the files that a running
``capistream up`` leaves in its data directory (so that every other command finds it), the
defaults below.
"""

import base64
import binascii
import difflib
import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from typing_extensions import override

from runtime.errors import ConfigError

PREFIX: Final = "CAPISTREAM_"
DEFAULT_DATA_DIR: Final = Path(".capistream")
STACK_FILE: Final = "stack.json"
SECRETS_FILE: Final = "secrets.json"


class Section(BaseModel):
    """A group of settings. A misspelt name is refused, not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    """How to reach the log."""

    bootstrap: str = "127.0.0.1:9092"
    """Comma-separated host:port of the brokers."""
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    """Put before every topic and group name, to run several systems on one cluster."""
    replication_factor: Annotated[int, Field(ge=1, le=9)] = 1
    session_timeout_seconds: Annotated[int, Field(ge=6, le=300)] = 10
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    ssl_ca_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> "KafkaSettings":
        asked = self.security_protocol.startswith("sasl")
        given = (self.sasl_mechanism, self.sasl_username, self.sasl_password)
        if asked and None in given:
            msg = "security_protocol sasl_* needs sasl_mechanism, sasl_username and sasl_password"
            raise ValueError(msg)
        return self


class RedisSettings(Section):
    """Claims of the dedupe step: a cache that may be emptied, at the price of duplicates."""

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    timeout_seconds: Annotated[float, Field(gt=0)] = 5.0


class DatabaseSettings(Section):
    """Where organisations, domains and destinations are kept."""

    url: SecretStr | None = None
    """SQLAlchemy URL; a SQLite file in the data directory when absent."""


def _is_key(text: SecretStr) -> SecretStr:
    try:
        raw = base64.b64decode(text.get_secret_value(), validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        msg = "must be the base64 of exactly 32 bytes (head -c 32 /dev/urandom | base64)"
        raise ValueError(msg)
    return text


Key = Annotated[SecretStr, AfterValidator(_is_key)]


class VaultSettings(Section):
    """The keyring that seals credentials: AES-256-GCM keys by id."""

    keys: dict[str, Key] = Field(default_factory=dict)
    active: str | None = None
    """Id of the key that seals; the others only open. The only key when there is one."""

    @model_validator(mode="after")
    def _active_is_known(self) -> "VaultSettings":
        if self.active is not None and self.active not in self.keys:
            msg = f"active names the key {self.active!r}, which is not among keys"
            raise ValueError(msg)
        if self.active is None and len(self.keys) > 1:
            msg = "active must name one of several keys"
            raise ValueError(msg)
        return self

    @property
    def active_key_id(self) -> str | None:
        """The id of the sealing key, or None when there is no key at all."""
        return self.active or next(iter(self.keys), None)


class TokenSettings(Section):
    """The secret that domain tokens are derived from."""

    secret: Key | None = None


def _split(value: Any) -> Any:
    """Lists are written with commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


class GatewaySettings(Section):
    """The HTTP door."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    delivery_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 4.0
    """How long an answer waits for Kafka's acknowledgement before it is a 503."""
    trusted_proxies: Annotated[
        tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)
    ] = ()
    """Networks (CIDR, with commas) whose X-Forwarded-For is believed."""
    max_requests_in_flight: Annotated[int, Field(ge=1)] = 2000
    """Requests that one process works at once; one more is answered 503."""
    requests_per_minute: Annotated[int, Field(ge=0)] = 120
    """Requests of one client to one domain in any 60 seconds; 0: any number."""
    body_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    """How long a client may take to send its body."""
    idle_timeout_seconds: Annotated[float, Field(gt=0)] = 75.0
    """How long a connection may take to bring the head of its next request."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that share the port."""


class StreamsSettings(Section):
    """The Faust stage."""

    batch_records: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Records of one partition that are worked as one."""
    batch_bytes: Annotated[int, Field(ge=100_000)] = 4_000_000
    """What they may take together."""
    batches_in_flight: Annotated[int, Field(ge=1, le=64)] = 8
    """Batches whose output Kafka has not acknowledged yet; as many more wait to be worked."""
    unknown_domain_wait_seconds: Annotated[float, Field(ge=0)] = 10.0
    """How long a record of a domain that the config feed does not know yet is waited for."""
    commit_interval_seconds: Annotated[float, Field(gt=0)] = 1.0
    max_failures_in_a_row: Annotated[int, Field(ge=1)] = 1000
    """Dead letters without one good record between them after which the worker stops: a bad
    release must not dead-letter everything."""


class SinksSettings(Section):
    """The posting stage."""

    linger_seconds: Annotated[float, Field(ge=0)] = 1.0
    """How long a lone delivery waits for company."""
    request_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    requests_per_destination: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests that may be under way to one destination."""
    requests_in_total: Annotated[int, Field(ge=1, le=1024)] = 64
    """Requests that one process may have under way."""
    backoff_base_seconds: Annotated[float, Field(gt=0)] = 0.5
    """The first wait after a failure is up to this, each later one up to twice as long."""
    backoff_cap_seconds: Annotated[float, Field(gt=0)] = 30.0
    failures_until_open: Annotated[int, Field(ge=1)] = 3
    """Failures in a row after which a destination gets one request at a time, as a probe."""
    in_place_seconds: Annotated[float, Field(ge=0)] = 30.0
    """How long deliveries to a destination that fails are kept in memory, to be tried again;
    then they go to a retry topic."""
    retry_seconds: Annotated[
        tuple[
            Annotated[float, Field(gt=0)],
            Annotated[float, Field(gt=0)],
            Annotated[float, Field(gt=0)],
        ],
        NoDecode,
        BeforeValidator(_split),
    ] = (60.0, 600.0, 3600.0)
    """How long deliveries wait in each of the retry topics, with commas; the last is repeated."""
    parked_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """How often a destination with a wrong token or account is tried, were it not set anew."""
    releases_per_second: Annotated[float, Field(gt=0)] = 2000.0
    """Parked deliveries that a process takes up again in a second."""
    unknown_destination_wait_seconds: Annotated[float, Field(ge=0)] = 10.0
    """How long a delivery for a destination that the config feed does not know yet is kept before
    the destination counts as removed."""
    max_in_flight_records: Annotated[int, Field(ge=1)] = 100_000
    """Deliveries that one process holds; then it reads no more until half of them are done."""
    max_in_flight_bytes: Annotated[int, Field(ge=1_000_000)] = 256_000_000
    """What they may take together."""
    ledger_seconds: Annotated[int, Field(ge=60)] = 6 * 3600
    """For how long it is remembered that a delivery was taken by its platform."""
    commit_interval_seconds: Annotated[float, Field(gt=0)] = 0.1
    """Outcomes and offsets are committed together, no more often than this."""


class AuditSettings(Section):
    """How outcomes are written, and for how long the event log keeps them."""

    transactions: bool = True
    """Outcomes and offsets in one transaction: each outcome is on ``audit`` once. Off for a broker
    that cannot do it, such as the embedded one: then an outcome may lie there twice, under one id."""
    retention_seconds: Annotated[int, Field(ge=60)] = 90 * 24 * 3600
    """How long the event log keeps what became of events whose domain says nothing else."""
    sweep_seconds: Annotated[float, Field(gt=0)] = 60.0
    """How often it is looked for what is older."""


def _is_base_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        msg = "must start with http:// or https://"
        raise ValueError(msg)
    return url.rstrip("/")


_HOST_NAME: Final = re.compile(
    r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
)


def _is_host_name(text: str) -> str:
    host = text.strip().lower().rstrip(".")
    if not _HOST_NAME.fullmatch(host):
        msg = "must be a host name such as ssp.example.com"
        raise ValueError(msg)
    return host


def _is_address_and_port(text: str) -> str:
    address, _, port = text.strip().rpartition(":")
    try:
        ip_address(address.removeprefix("[").removesuffix("]"))
        is_port = 0 < int(port) < 65536
    except ValueError:
        is_port = False
    if not is_port:
        msg = "must be an address and a port such as 192.0.2.53:53 or [2001:db8::53]:53"
        raise ValueError(msg)
    return text.strip()


class ManageSettings(Section):
    """The management API."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8090
    public_url: Annotated[str, AfterValidator(_is_base_url)] | None = None
    """Where people reach it; stands in mails, and is the origin that may change something.
    http://<host>:<port> when absent."""
    development: bool = False
    """Cookies over http, and mails that go to standard error and a file instead of a server."""
    trusted_proxies: Annotated[
        tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)
    ] = ()
    """Networks (CIDR, with commas) whose X-Forwarded-For is believed."""
    default_plan: str = "unlimited"
    """Of a new organisation: unlimited, free, pro, business or scale."""
    requests_per_minute: Annotated[int, Field(ge=0)] = 60
    """Requests of one session in any 60 seconds; 0: any number."""
    logins_per_hour: Annotated[int, Field(ge=1)] = 5
    """Magic links to one address in an hour."""
    cname_target: Annotated[str, AfterValidator(_is_host_name)] | None = None
    """The host that the shops' hosts are to be CNAMEs of. Absent: a host counts as routed here."""
    dns_resolver: Annotated[str, AfterValidator(_is_address_and_port)] | None = None
    """``address:port`` of the name server that is asked; the system's when absent."""
    callback_networks: Annotated[
        tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)
    ] = ()
    """Networks (CIDR, with commas) that shops' callbacks may lie in although they are not public,
    also over http. For development, and for shops inside one's own walls."""
    reconcile_seconds: Annotated[float, Field(gt=0)] = 30.0
    """How often what Kafka has of the configuration is compared with the database."""


class MailSettings(Section):
    """The server that mails are handed to."""

    host: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    sender: str = "capistream@localhost"
    timeout_seconds: Annotated[float, Field(gt=0)] = 10.0


class LogSettings(Section):
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    """auto: readable in a terminal, JSON elsewhere."""


class EndpointSettings(Section):
    """Where one ad platform is reached."""

    base_url: Annotated[str, AfterValidator(_is_base_url)] | None = None
    """Scheme, host and port; the vendor's own when absent."""


class Settings(BaseSettings):
    """All settings of all processes."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
    )

    data_dir: Path = DEFAULT_DATA_DIR
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    database: DatabaseSettings = DatabaseSettings()
    vault: VaultSettings = VaultSettings()
    tokens: TokenSettings = TokenSettings()
    gateway: GatewaySettings = GatewaySettings()
    streams: StreamsSettings = StreamsSettings()
    sinks: SinksSettings = SinksSettings()
    audit: AuditSettings = AuditSettings()
    manage: ManageSettings = ManageSettings()
    mail: MailSettings = MailSettings()
    log: LogSettings = LogSettings()
    platforms: dict[str, EndpointSettings] = Field(default_factory=dict)
    """By platform slug."""

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before the data directory's files; no dotenv, no secrets directory."""
        return init_settings, env_settings, JsonConfigSettingsSource(settings_cls)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL in force."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite+aiosqlite:///{(self.data_dir / 'capistream.db').absolute()}"

    @property
    def platform_urls(self) -> dict[str, str]:
        """Where platforms are reached instead of their own addresses, by slug."""
        return {
            slug: endpoint.base_url
            for slug, endpoint in self.platforms.items()
            if endpoint.base_url is not None
        }

    def topic(self, name: str) -> str:
        """The name of a topic, or of a consumer group, on this cluster."""
        return self.kafka.topic_prefix + name


def load_settings(data_dir: Path | None = None) -> Settings:
    """Read the settings in force.

    Raises ``ConfigError`` with one line per wrong setting.
    """
    directory = data_dir or Path(os.environ.get(f"{PREFIX}DATA_DIR") or DEFAULT_DATA_DIR)
    _refuse_misspelt(os.environ)

    class LocatedSettings(Settings):
        model_config = SettingsConfigDict(
            json_file=[directory / STACK_FILE, directory / SECRETS_FILE]
        )

    try:
        return LocatedSettings(data_dir=directory)
    except ValidationError as error:
        lines = [f"  {_variable(e['loc'])}: {_sentence(e)}" for e in error.errors()]
        raise ConfigError("These settings cannot work:\n" + "\n".join(lines)) from None
    except ValueError as error:
        raise ConfigError(f"The settings could not be read: {error}") from None


def _variable(location: tuple[int | str, ...]) -> str:
    return PREFIX + "__".join(str(part).upper() for part in location)


def _sentence(error: Any) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    return "there is no such setting" if error["type"] == "extra_forbidden" else text


def _refuse_misspelt(environment: Any) -> None:
    """A variable with our prefix that names no setting is a typing error that must not pass."""
    known = set(Settings.model_fields)
    for variable in environment:
        if not variable.startswith(PREFIX):
            continue
        section = variable.removeprefix(PREFIX).split("__")[0].lower()
        if section not in known:
            close = difflib.get_close_matches(section, known, n=1)
            hint = f"; did you mean {PREFIX}{close[0].upper()}?" if close else ""
            raise ConfigError(f"{variable} is not a setting{hint} (see `capistream settings`)")
