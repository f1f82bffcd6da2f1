"""Loopback addresses of clusters and their Pods."""

import ipaddress
import socket
from pathlib import Path

import pytest

from lull.local import address
from lull.local.address import API_SERVER_PORT, choose_range, control_plane_address, pod_address
from lull.local.errors import LocalClusterError


def test_pod_addresses_are_all_different_and_never_the_control_planes():
    addresses = [pod_address(42, serial) for serial in range(254**2)]
    assert len(set(addresses)) == len(addresses)
    network = ipaddress.ip_network("127.42.0.0/16")
    assert all(ipaddress.ip_address(address) in network for address in addresses[::97])
    assert control_plane_address(42) not in addresses


def test_a_range_is_chosen_by_the_folder_and_remembered():
    first = choose_range(Path("/x/one"), None)
    assert choose_range(Path("/x/one"), None) == first
    assert choose_range(Path("/x/one"), 77) == 77


def test_a_range_on_which_somebody_listens_is_left_to_them():
    first = choose_range(Path("/x/one"), None)
    with socket.socket() as other:
        other.bind((control_plane_address(first), API_SERVER_PORT))
        other.listen()
        assert choose_range(Path("/x/one"), None) != first
        assert choose_range(Path("/x/one"), first) != first


def test_a_program_that_has_a_port_on_all_addresses_is_told_by_its_port(monkeypatch):
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setattr(address, "_PORTS", (port,))
        with pytest.raises(LocalClusterError, match=f"Port {port} is taken on all addresses"):
            choose_range(Path("/x/one"), None)
