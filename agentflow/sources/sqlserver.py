"""Where a database is, who may call it, and what may be executed there."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from agentflow import egress
from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    MissingCredential,
    ProviderRejected,
    ProviderUnavailable,
    QueryFailed,
    QueryRefused,
    StepError,
    UnknownOutcome,
)
from agentflow.sources.credentials import Credentials, masked
from agentflow.sources.sql import Column, FiledRows, RowFile, Rows, SqlRequest, SqlService
from agentflow.spec.sql import MYSQL, POSTGRES, Statement
from agentflow.spec.sqlrules import refusal

Json = Any
TIMEOUT_S, FILE_TIMEOUT_S = 30.0, 600.0
CONNECT_S = 10.0
MOST_ROWS, MOST_FILE_ROWS, MOST_FILE_BYTES = 10_000, 100_000_000, 5_000_000_000
SCHEMES = {"postgres": POSTGRES, "postgresql": POSTGRES, "mysql": MYSQL, "mariadb": MYSQL}
_PORTS = {POSTGRES: 5432, MYSQL: 3306}
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?")
_SSL = ("prefer", "require", "verify-full")


class Address(msgspec.Struct, frozen=True):
    """Where a database is, and who calls. ``ssl``: prefer, require or verify-full; ``authority``: file
    of the certificate authority that vouches for the server, where it is not a public one."""

    driver: str
    host: str
    port: int
    user: str
    password: str
    database: str
    ssl: str
    authority: str | None = None

    @property
    def where(self) -> str:
        """As messages name it."""
        return f"Database {self.database!r} at {self.host}:{self.port}"

    def late(self, limit: float) -> CallTimeout:
        """It had so many seconds."""
        return CallTimeout(f"{self.where} did not finish the statement within {limit:g} s")

    def lost(self, what: str) -> ProviderUnavailable:
        """It went away in a statement."""
        return ProviderUnavailable(f"The connection to {self.where} was lost ({what})")

    def rolled_back(self, what: str) -> ProviderUnavailable:
        """It could not carry the statement out beside others, and did nothing."""
        return ProviderUnavailable(f"{self.where} rolled the statement back ({what})")


class Server:
    """How the server of one source is found: its address is read anew for every connection."""

    def __init__(
        self, source_id: str, config: Mapping[str, Json], policy: Policy, credentials: Credentials
    ) -> None:
        self.id = source_id
        self.config = config
        self._policy = policy
        self._credentials = credentials

    def address(self) -> Address:
        """The address. Raises MissingCredential, ProviderRejected."""
        variable = self.config.get("dsn_env")
        if not variable:
            raise MissingCredential(f"Source {self.id!r} needs dsn_env")
        text = self._credentials.value(str(variable), self.id)
        return parse_address(text, str(variable), self.config)

    async def reachable(self, address: Address) -> str:
        """The address to connect to: resolved once, and every one that the name has is permitted.

        Raises ConnectionFailed, ProviderRejected.
        """
        try:
            found = await egress.resolve_host(address.host, address.port)
        except (OSError, UnicodeError) as error:
            raise ConnectionFailed(
                f"The name {address.host!r} could not be resolved: {error}"
            ) from None
        policy = Policy(self._policy.allow, (address.port,), self._policy.denied)
        for each in found:
            if (reason := policy.refusal(each, address.port)) is not None:
                raise ProviderRejected(
                    f"{address.where} was not called: it is {reason}. An operator can open such "
                    f"addresses with the setting {egress.SETTING}"
                )
        if not found:
            raise ConnectionFailed(f"The name {address.host!r} has no address")
        return found[0]

    def timeout_s(self, request: SqlRequest, filed: bool = False) -> float:
        """The limit of a statement in seconds: the node's, else the source's. ``filed``: its rows go
        into a file."""
        own = self.config.get("timeout") or self.config.get("timeout_s")
        return float(request.timeout_s or own or (FILE_TIMEOUT_S if filed else TIMEOUT_S))

    def most_rows(self, request: SqlRequest, filed: bool = False) -> int:
        """How many rows the result may have; ``filed``: they go into a file."""
        name, most = ("max_file_rows", MOST_FILE_ROWS) if filed else ("max_rows", MOST_ROWS)
        return min(request.limit, int(self.config.get(name) or most))

    def result(
        self, columns: Sequence[Column], request: SqlRequest, file: RowFile | None = None
    ) -> Rows | FiledRows:
        """What takes the rows of a statement, up to their limits; ``file``: that one does. Raises
        QueryFailed."""
        most = self.most_rows(request, file is not None)
        if file is None:
            return Rows(columns, most)
        most_bytes = int(self.config.get("max_file_bytes") or MOST_FILE_BYTES)
        return FiledRows(columns, most, most_bytes, file)

    def after(self, progress: Sequence[str], error: StepError) -> StepError:
        """An error as far as it is known what the statement did: nothing, or nobody knows. ``progress``:
        ``begun``, ``committing``."""
        lost = isinstance(error, ProviderUnavailable | CallTimeout)
        if not progress and isinstance(error, ProviderUnavailable):
            return ConnectionFailed(error.message)
        if not lost or "committing" not in progress or self.dedupe_table() is not None:
            return error
        return UnknownOutcome(f"{error.message}; whether the write took effect is unknown")

    def dedupe_table(self) -> str | None:
        """The name of the dedupe table, if the source has one. Raises QueryRefused."""
        name = self.config.get("dedupe_table")
        if name is not None and not _TABLE.fullmatch(str(name)):
            raise QueryRefused(
                f"The dedupe_table of source {self.id!r} is not a table name of letters, digits and _"
            )
        return str(name) if name is not None else None

    def check(self, request: SqlRequest, dialect: str) -> Statement:
        """The statement, which may be executed. Raises QueryRefused."""
        statement, reason = _judged(request.text, dialect, request.mode)
        if request.mode == "write" and self.config.get("allow_write") is not True:
            raise QueryRefused(
                f"Source {self.id!r} does not allow writes: set allow_write in its config"
            )
        if reason is not None:
            raise QueryRefused(f"Invalid SQL for mode {request.mode!r}: {reason}")
        return statement

    def no_dedupe_table(self, table: str) -> QueryRefused:
        """What to say when the table that makes writes repeatable is not there."""
        return QueryRefused(
            f"The dedupe table {table!r} of source {self.id!r} is not there, so the write was not "
            "made: create it with 'agentflow sources prepare', or take dedupe_table out of the source"
        )


@lru_cache(maxsize=256)
def _judged(text: str, dialect: str, mode: str) -> tuple[Statement, str | None]:
    """A statement as it is read, and why it may not be executed."""
    statement = Statement(text, dialect)
    return statement, refusal(statement, mode)


async def open_database(
    source_id: str, config: Mapping[str, Json], *, policy: Policy, credentials: Credentials
) -> SqlService:
    """A connection to the kind of database that the source, or else its data source name, says. It is
    not called yet. Raises MissingCredential, ProviderRejected."""
    server = Server(source_id, config, policy, credentials)
    if server.address().driver == POSTGRES:
        from agentflow.sources.postgres import PostgresSource

        return PostgresSource(server)
    if find_spec("aiomysql") is None:
        raise ProviderRejected(
            f"Source {source_id!r} is a MySQL database, for which the driver is not installed here: "
            "pip install 'agentflow[mysql]'"
        )
    from agentflow.sources.mysql import MysqlSource

    return MysqlSource(server)


def parse_address(text: str, variable: str, config: Mapping[str, Json]) -> Address:
    """The address in a data source name such as ``postgresql://user:password@host:5432/database``.

    Raises ProviderRejected, which never repeats it.
    """
    wrong = f"The variable {variable} holds no data source name"
    try:
        parts = urlsplit(text)
        port = parts.port
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    except ValueError:
        raise ProviderRejected(f"{wrong} that can be read") from None
    driver = SCHEMES.get(parts.scheme.lower().partition("+")[0])
    if driver is None:
        raise ProviderRejected(f"{wrong} that begins with postgresql:// or mysql://")
    named = config.get("driver") or config.get("provider")
    if named and named != driver:
        raise ProviderRejected(f"{wrong} of a {named} database, but of a {driver} one")
    host = parts.hostname or ""
    database = unquote(parts.path.lstrip("/"))
    if not host or not database or "," in parts.netloc.rpartition("@")[2]:
        raise ProviderRejected(f"{wrong} with one host and a database")
    wanted = [str(config.get("ssl") or "prefer"), options.get("sslmode") or options.get("ssl-mode")]
    mode = max((mode for mode in wanted if mode in _SSL), key=_SSL.index)
    return Address(
        driver=driver,
        host=host,
        port=port or _PORTS[driver],
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=database,
        ssl=mode,
        authority=options.get("sslrootcert") or options.get("ssl-ca"),
    )


class _NamedContext(ssl.SSLContext):
    """A context that verifies the name of the server, although its checked address is called."""

    name: str | None = None

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        kwargs["server_hostname"] = self.name
        return super().wrap_bio(*args, **kwargs)


def tls(address: Address) -> ssl.SSLContext:
    """The TLS that the address asks for: verified, or for other modes only encrypted.

    Raises ProviderRejected when the file of the authority cannot be read.
    """
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.name = address.host
    if address.ssl != "verify-full":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if address.authority:
            context.load_verify_locations(address.authority)
        else:
            context.load_default_certs()
    except OSError:
        raise ProviderRejected(
            f"{address.where}: the certificate authority (sslrootcert) cannot be read"
        ) from None
    return context


def would_change() -> QueryRefused:
    """What to say when a statement tries to write where it must only read."""
    return QueryRefused(
        "Invalid SQL for mode 'read': it would change data, and the server refused it"
    )


def failed(address: Address, said: str, code: str = "") -> StepError:
    """The step error of a statement that the database refused."""
    words = masked(said, (address.password,))
    return QueryFailed(
        f"{address.where} refused the statement{f' ({code})' if code else ''}: {words}"
    )
