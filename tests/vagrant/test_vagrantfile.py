"""The machines for people are those of the lab: names, addresses, scripts, disks."""

from __future__ import annotations

import re

from vagrant import host
from vagrant.lab import BACKUP, INITIATOR, LINKS, PRIMARY

TEXT = (host.HERE / "Vagrantfile").read_text()
SPECS = (BACKUP, PRIMARY, INITIATOR)


def machines() -> dict[str, dict[str, str]]:
    """Return each machine's address by link."""
    found = re.findall(r'"(\w+)" => \{\s*links: \{([^}]*)\}', TEXT)
    return {name: dict(re.findall(r'"(\w+)" => "([\d.]+)"', links)) for name, links in found}


def test_machines_have_the_lab_s_addresses() -> None:
    expected = {
        spec.name: {link: address.partition("/")[0] for link, address in spec.addresses.items()}
        for spec in SPECS
    }
    assert machines() == expected
    assert {link for links in machines().values() for link in links} == set(LINKS)


def test_no_machine_has_the_host_s_address() -> None:
    assert '"254"' in TEXT
    addresses = [address for links in machines().values() for address in links.values()]
    assert not any(address.endswith(".254") for address in addresses)


def test_every_role_has_its_script() -> None:
    for name in ("common", "project", *(spec.name for spec in SPECS)):
        assert (host.HERE / f"provision-{name}.sh").exists()


def test_addresses_of_the_how_tos_are_the_machines() -> None:
    known = {address for links in machines().values() for address in links.values()}
    for page in (host.REPOSITORY / "docs/howto").glob("*.md"):
        assert set(re.findall(r"\b10\.77\.\d+\.\d+\b", page.read_text())) <= known, page.name


def test_disks_of_the_how_tos_are_in_the_machines() -> None:
    disks = set(re.findall(r'"(\w+)" => "\d+G"', TEXT))
    named: set[str] = set()
    for page in (host.REPOSITORY / "docs/howto").glob("*.md"):
        named |= set(re.findall(r"/dev/disk/by-id/virtio-(\w+)", page.read_text()))
    assert named - disks == {"travel"}  # it is carried, which needs hands
