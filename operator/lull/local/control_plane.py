"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler as ordinary processes.

All of them listen on one loopback address (etcd on a Unix socket only), authenticate each other by
certificates of the cluster's own authority, and keep what they write in the cluster's folder.
"""

from __future__ import annotations

import os
import ssl
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from lull.local import processes
from lull.local.address import (
    API_SERVER_PORT,
    CONTROLLER_MANAGER_PORT,
    SCHEDULER_PORT,
    control_plane_address,
)
from lull.local.errors import LocalClusterError
from lull.local.pki import Authority, Pair, write_private
from lull.local.toolchain import Progress

READY_TIMEOUT_SECONDS = 90
STOP_GRACE_SECONDS = 10
POLL_SECONDS = 0.05
SERVICE_CIDR = "10.96.0.0/16"  # addresses of Services; nothing routes to them here
ISSUER = "https://kubernetes.default.svc.cluster.local"

# In the order in which they are started. They are ended in the reverse order.
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

# There are no addresses that an EndpointSlice would take (loopback is refused), no cloud and no
# network to configure: these would only log errors.
CONTROLLERS_OFF = (
    "endpoints-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "node-ipam-controller",
    "node-route-controller",
    "service-lb-controller",
    "cloud-node-lifecycle-controller",
)


@dataclass(frozen=True)
class ControlPlane:
    """The control plane of the cluster in `folder`, on the loopback range `loopback_range`."""

    folder: Path
    loopback_range: int
    binaries: dict[str, Path]

    @property
    def address(self) -> str:
        """The loopback address that all of it listens on."""
        return control_plane_address(self.loopback_range)

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://{self.address}:{API_SERVER_PORT}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    def running(self) -> dict[str, bool]:
        """Which of the programs run."""
        records = {name: processes.Record.load(self._record(name)) for name in PROGRAMS}
        return {name: record is not None and record.alive() for name, record in records.items()}

    def start(self, progress: Progress) -> None:
        """Starts what does not run and waits until all of it is ready.

        Raises LocalClusterError, with the end of the log of the program that failed.
        """
        running = self.running()
        for subfolder in ("run", "log", "pki", "etcd"):
            (self.folder / subfolder).mkdir(parents=True, exist_ok=True)
        if not any(running.values()):
            self._write_credentials()
        # The API server waits for etcd by itself; the others end when they find no API server.
        for stage in (PROGRAMS[:2], PROGRAMS[2:]):
            for name in stage:
                if not running[name]:
                    progress(f"starting {name}")
                    self._launch(name)
            for name in stage:
                self._wait(name)

    def stop(self) -> None:
        """Ends all of it, etcd last."""
        for name in reversed(PROGRAMS):
            if record := processes.Record.load(self._record(name)):
                # An API server would spend its grace on watches that nobody needs any more.
                grace = STOP_GRACE_SECONDS if name == "etcd" else 1
                processes.stop([record], grace)
                self._record(name).unlink(missing_ok=True)

    def healthy(self, name: str) -> bool:
        """Whether a program answers its health check (etcd: by the API server's)."""
        if name == "etcd":
            return self.running()["etcd"]
        try:
            with urllib.request.urlopen(self._health_url(name), timeout=2, context=self._tls()) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def log(self, name: str) -> Path:
        """Where a program writes its log."""
        return self.folder / "log" / f"{name}.log"

    def _record(self, name: str) -> Path:
        return self.folder / "run" / f"{name}.json"

    def _health_url(self, name: str) -> str:
        port, path = {
            "kube-apiserver": (API_SERVER_PORT, "readyz"),
            "kube-controller-manager": (CONTROLLER_MANAGER_PORT, "healthz"),
            "kube-scheduler": (SCHEDULER_PORT, "readyz"),
        }[name]
        return f"https://{self.address}:{port}/{path}"

    def _tls(self) -> ssl.SSLContext:
        pki = self.folder / "pki"
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        return context

    def _wait(self, name: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while not self.healthy(name):
            ended = not self.running()[name]
            if ended or time.monotonic() > deadline:
                raise LocalClusterError(self._why(name, ended))
            time.sleep(POLL_SECONDS)

    def _why(self, name: str, ended: bool) -> str:
        log = self.log(name)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        what = "ended" if ended else f"was not ready after {READY_TIMEOUT_SECONDS} s"
        return f"{name} {what}. The end of {log}:\n{tail}"

    def _write_credentials(self) -> None:
        """Certificates and kubeconfigs: new at every start, as the address may be another."""
        authority = Authority(self.folder / "pki")
        hosts = [self.address, "localhost", "kubernetes", "kubernetes.default.svc"]
        for name in PROGRAMS[1:]:
            authority.server(name, hosts)
        authority.server("kubelet", [self.address])
        authority.client("kubelet-client", "kube-apiserver-kubelet-client")
        authority.signing_key("service-account")
        admin = authority.client("admin", "admin", "system:masters")
        self._write_kubeconfig(self.kubeconfig, "admin", admin)
        for name, user in (
            ("kube-controller-manager", "system:kube-controller-manager"),
            ("kube-scheduler", "system:kube-scheduler"),
        ):
            pair = authority.client(f"{name}-client", user)
            self._write_kubeconfig(self._kubeconfig_of(name), user, pair)
        node = authority.client("node", "lull-local-node", "system:masters")
        self._write_kubeconfig(self._kubeconfig_of("node"), "node", node)

    def _kubeconfig_of(self, name: str) -> Path:
        return self.folder / "pki" / f"{name}.kubeconfig"

    def _write_kubeconfig(self, path: Path, user: str, pair: Pair) -> None:
        name = f"lull-{self.folder.name}"
        cluster = {
            "server": self.server,
            "certificate-authority": str(self.folder / "pki" / "ca.crt"),
        }
        credentials = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "current-context": name,
        }
        write_private(path, yaml.safe_dump(config, sort_keys=False).encode())

    def _launch(self, name: str) -> None:
        flags = {
            "etcd": self._etcd,
            "kube-apiserver": self._api_server,
            "kube-controller-manager": self._controller_manager,
            "kube-scheduler": self._scheduler,
        }[name]()
        command = [str(self.binaries[name]), *(f"--{flag}" for flag in flags)]
        processes.start(self._record(name), command, self.log(name), mark=self.folder, environment=os.environ)

    def _etcd_url(self) -> str:
        return f"unix://{self.folder}/etcd/client.sock"

    def _etcd(self) -> list[str]:
        # What it advertises has to look like host:port. Nobody connects there: it is the only member.
        nobody = f"http://{self.address}:1"
        return [
            "name=lull",
            f"data-dir={self.folder}/etcd/data",
            f"listen-client-urls={self._etcd_url()}",
            f"listen-peer-urls=unix://{self.folder}/etcd/peer.sock",
            f"advertise-client-urls={nobody}",
            f"initial-advertise-peer-urls={nobody}",
            f"initial-cluster=lull={nobody}",
            "unsafe-no-fsync",  # a throw-away cluster: speed over surviving a power cut
            "log-level=warn",
        ]

    def _api_server(self) -> list[str]:
        pki = self.folder / "pki"
        return [
            f"etcd-servers={self._etcd_url()}",
            f"bind-address={self.address}",
            f"advertise-address={self.address}",
            "endpoint-reconciler-type=none",  # EndpointSlices refuse loopback addresses
            f"secure-port={API_SERVER_PORT}",
            f"tls-cert-file={pki}/kube-apiserver.crt",
            f"tls-private-key-file={pki}/kube-apiserver.key",
            f"client-ca-file={pki}/ca.crt",
            "anonymous-auth=false",
            "authorization-mode=RBAC",
            f"service-account-issuer={ISSUER}",
            f"service-account-key-file={pki}/service-account.key",
            f"service-account-signing-key-file={pki}/service-account.key",
            f"service-cluster-ip-range={SERVICE_CIDR}",
            f"kubelet-certificate-authority={pki}/ca.crt",
            "kubelet-preferred-address-types=InternalIP",
            f"kubelet-client-certificate={pki}/kubelet-client.crt",
            f"kubelet-client-key={pki}/kubelet-client.key",
        ]

    def _controller_manager(self) -> list[str]:
        pki = self.folder / "pki"
        return [
            *self._client_of_api("kube-controller-manager", CONTROLLER_MANAGER_PORT),
            f"root-ca-file={pki}/ca.crt",
            f"service-account-private-key-file={pki}/service-account.key",
            "use-service-account-credentials",
            f"controllers=*,{','.join(f'-{name}' for name in CONTROLLERS_OFF)}",
        ]

    def _scheduler(self) -> list[str]:
        return self._client_of_api("kube-scheduler", SCHEDULER_PORT)

    def _client_of_api(self, name: str, port: int) -> list[str]:
        kubeconfig = self._kubeconfig_of(name)
        pki = self.folder / "pki"
        return [
            f"kubeconfig={kubeconfig}",
            f"authentication-kubeconfig={kubeconfig}",
            f"authorization-kubeconfig={kubeconfig}",
            f"bind-address={self.address}",
            f"secure-port={port}",
            f"tls-cert-file={pki}/{name}.crt",
            f"tls-private-key-file={pki}/{name}.key",
            "leader-elect=false",
            "kube-api-qps=200",
            "kube-api-burst=400",
        ]
