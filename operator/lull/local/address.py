"""Each cluster has a /16 of loopback to itself: 127.<range>.0.0.

The control plane is at 127.<range>.0.1 on the well-known ports, pods have 127.<range>.1.1 and up.
A range is free when nobody listens at its control plane's address, so clusters side by side, and
other programs of the machine, do not collide, and nothing listens on any other interface.
"""

from __future__ import annotations

import socket
import zlib
from pathlib import Path

from lull.local.errors import LocalClusterError

API_SERVER_PORT = 6443
CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259
KUBELET_PORT = 10250

_PORTS = (API_SERVER_PORT, CONTROLLER_MANAGER_PORT, SCHEDULER_PORT, KUBELET_PORT)
_FIRST_RANGE, _LAST_RANGE = 16, 254  # below are 127.0.0.0 and what people use by hand
_UNUSED_ADDRESS = "127.255.0.1"  # in the range after the last: no cluster is ever there
_HOSTS_PER_BLOCK = 254


def control_plane_address(loopback_range: int) -> str:
    """The address of the control plane and of the nodes."""
    return f"127.{loopback_range}.0.1"


def pod_address(loopback_range: int, serial: int) -> str:
    """The address of the pod with this serial number; they repeat after 64,516 pods."""
    block, host = divmod(serial % (_HOSTS_PER_BLOCK**2), _HOSTS_PER_BLOCK)
    return f"127.{loopback_range}.{block + 1}.{host + 1}"


def choose_range(folder: Path, remembered: int | None) -> int:
    """A range nobody listens on: the remembered one if free, else one that the folder's name picks.

    Starting from the name keeps two clusters that come up at the same moment apart.
    """
    count = _LAST_RANGE - _FIRST_RANGE + 1
    first = zlib.crc32(str(folder).encode()) % count
    candidates = [_FIRST_RANGE + (first + step) % count for step in range(count)]
    for candidate in [remembered, *candidates] if remembered else candidates:
        if not _taken(control_plane_address(candidate)):
            return candidate
    # A listener on 0.0.0.0 takes its port from every range, so that one is to blame, not clusters.
    if taken := _taken(_UNUSED_ADDRESS):
        ports = " and ".join(map(str, taken))
        raise LocalClusterError(
            f"Port {ports} is taken on all addresses. End what listens there; `ss -ltnp` shows it."
        )
    raise LocalClusterError(
        "No loopback range is free: every 127.x.0.1 has a listener. End some clusters with "
        "`lull local down --name NAME`."
    )


def _taken(address: str) -> list[int]:
    """Those of the control plane's ports on which somebody listens at this address."""
    return [port for port in _PORTS if not _free(address, port)]


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
