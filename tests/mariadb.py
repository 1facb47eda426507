"""A private MariaDB server for tests: own folder, loopback, own port, ended by its process id."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PASSWORD = "maria-canary-71"
SHARE = Path("/usr/share/mysql")
SYSTEM_TABLES = (SHARE / "mysql_system_tables.sql", SHARE / "mysql_system_tables_data.sql")


def installed() -> bool:
    """Whether the server is here (Debian's package mariadb-server-core)."""
    return _program("mariadbd") is not None and all(path.exists() for path in SYSTEM_TABLES)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class MariaDb:
    """The server; user ``af`` may do anything in it. It encrypts, with an authority of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "ca.pem"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        certificate(folder)
        self._common = ["--no-defaults", f"--datadir={folder / 'data'}"]
        if os.geteuid() == 0:
            self._common.append("--user=root")
        (folder / "data" / "mysql").mkdir(parents=True)
        tables = ["use mysql;", *(path.read_text() for path in SYSTEM_TABLES)]
        subprocess.run(
            [str(_program("mariadbd")), *self._common, "--bootstrap", "--innodb-log-file-size=8M",
             "--innodb-buffer-pool-size=16M", "--skip-networking"],
            input="\n".join(tables).encode(), check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        self._setup = folder / "setup.sql"
        self._setup.write_text(
            f"CREATE USER IF NOT EXISTS af@'%' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO af@'%' WITH GRANT OPTION;\n"
        )

    def dsn(self, database: str = "mysql", password: str = PASSWORD) -> str:
        """The address of one of its databases."""
        return f"mysql://af:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it; returns when it answers."""
        options = (
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.folder / 's.sock'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--init-file={self._setup}",
            f"--ssl-cert={self.folder / 'server.pem'}",
            f"--ssl-key={self.folder / 'key.pem'}",
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=2",
            "--skip-name-resolve",
        )
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(_program("mariadbd")), *self._common, *options], stdout=log, stderr=log
            )
        until = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as greeted:
                    if greeted.recv(5):
                        return
            except OSError:
                pass
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default as a power cut does."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None


def certificate(folder: Path) -> None:
    """An authority, and the certificate of a server at 127.0.0.1 that it signed."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("ca", "db")]
    made = []
    for index, (key, name) in enumerate(zip(keys, names)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=not index, path_length=None), critical=True)
        )
        if index:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        made.append(builder.sign(keys[0], hashes.SHA256()))
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(made[0].public_bytes(pem))
    (folder / "server.pem").write_bytes(made[1].public_bytes(pem))
    (folder / "key.pem").write_bytes(
        keys[1].private_bytes(
            pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
