"""Which addresses of the network a picture may be fetched from: those of the public internet.

Everything else could be this machine, its neighbours, or a cloud's service that hands out keys.
The ranges are those of the IANA special-purpose registries, which `ipaddress` knows in part.
Pure: it resolves no name.
"""

from ipaddress import IPv6Address, ip_address, ip_network

# Global by `ipaddress` of Python 3.11, and yet not what a picture's address is.
KEPT_OUT_4 = tuple(map(ip_network, (
    "100.64.0.0/10",  # shared by carriers, and by clouds for their services (RFC 6598)
    "192.0.0.0/24",  # protocol assignments (RFC 6890)
    "192.88.99.0/24",  # 6to4 relays (RFC 7526)
    "168.63.129.16/32",  # Azure's own services, a public address that is not public
    "224.0.0.0/3",  # multicast and reserved
)))  # fmt: skip
UNICAST_6 = ip_network("2000::/3")  # all that is global so far (RFC 4291)
KEPT_OUT_6 = tuple(map(ip_network, (
    "2001::/23",  # Teredo and other protocols (RFC 2928)
    "2001:db8::/32",  # documents
    "2002::/16",  # 6to4, which carries any IPv4 address (RFC 3056)
    "3fff::/20",  # documents (RFC 9637)
)))  # fmt: skip


def is_public(address: str) -> bool:
    """Whether this is an address of the public internet, and nothing else in disguise."""
    try:
        known = ip_address(address)
    except ValueError:
        return False
    if isinstance(known, IPv6Address):
        return _is_public_6(known)
    return known.is_global and not any(known in network for network in KEPT_OUT_4)


def _is_public_6(address: IPv6Address) -> bool:
    """IPv4 in IPv6, be it mapped, compatible or translated, lies outside of `2000::/3`."""
    inside = address in UNICAST_6 and address.scope_id is None
    return inside and address.is_global and not any(address in net for net in KEPT_OUT_6)
