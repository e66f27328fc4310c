//! What kind of place an address is. The only list of special ranges: the plan judges what the operator wrote by it, the gate what a
//! name resolved to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of an address, by the IANA special-purpose registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressClass {
    /// `0.0.0.0`, `::`: the kernel takes it for this host.
    Unspecified,
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`: where clouds keep credentials.
    LinkLocal,
    /// Credential services of clouds outside of the link-local range.
    Metadata,
    /// RFC 1918, `fc00::/7`, `fec0::/10`.
    Private,
    /// `100.64.0.0/10`.
    Shared,
    /// `198.18.0.0/15`, `2001:2::/48`.
    Benchmark,
    Documentation,
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// `0.0.0.0/8`, `192.0.0.0/24`, `240.0.0.0/4`, Teredo, the discard prefix: nothing that a service has.
    Reserved,
    Public,
}

impl AddressClass {
    /// The class of `address`. An IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4) counts as what it leads to.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }

    /// No endpoint, however it is named.
    #[must_use]
    pub fn never(self) -> bool {
        matches!(
            self,
            Self::Unspecified | Self::Multicast | Self::Broadcast | Self::Reserved
        )
    }

    /// An endpoint only where the operator wrote this very address, never by what a name resolves to.
    #[must_use]
    pub fn only_if_named(self) -> bool {
        matches!(self, Self::Loopback | Self::LinkLocal | Self::Metadata)
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "the unspecified address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud's metadata address",
            Self::Private => "a private address",
            Self::Shared => "a shared address",
            Self::Benchmark => "a benchmarking address",
            Self::Documentation => "a documentation address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Reserved => "a reserved address",
            Self::Public => "a public address",
        })
    }
}

/// Alibaba, Oracle and Azure.
const METADATA_V4: [[u8; 4]; 3] = [[100, 100, 100, 200], [192, 0, 0, 192], [168, 63, 129, 16]];
/// AWS and Google.
const METADATA_V6: [[u16; 8]; 2] = [
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],
    [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254],
];

fn of_v4(v4: Ipv4Addr) -> AddressClass {
    let octets = v4.octets();
    if METADATA_V4.contains(&octets) {
        return AddressClass::Metadata;
    }
    match octets {
        [0, 0, 0, 0] => AddressClass::Unspecified,
        [127, ..] => AddressClass::Loopback,
        [169, 254, ..] => AddressClass::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressClass::Private,
        [100, 64..=127, ..] => AddressClass::Shared,
        [198, 18 | 19, ..] => AddressClass::Benchmark,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => AddressClass::Documentation,
        [224..=239, ..] => AddressClass::Multicast,
        [255, 255, 255, 255] => AddressClass::Broadcast,
        [0 | 240..=255, ..] | [192, 0, 0, _] => AddressClass::Reserved,
        _ => AddressClass::Public,
    }
}

fn of_v6(v6: Ipv6Addr) -> AddressClass {
    let segments = v6.segments();
    if METADATA_V6.contains(&segments) {
        return AddressClass::Metadata;
    }
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressClass::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        // Compatible, mapped, translated, NAT64 by its well-known prefix.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, _, _, _, _, _] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => of_local_nat64(v6.octets()),
        [0xff00..=0xffff, ..] => AddressClass::Multicast,
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => AddressClass::Private,
        [0x2001, 0x2, 0, ..] => AddressClass::Benchmark,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => AddressClass::Documentation,
        // Teredo holds its IPv4 address inverted; ORCHID and the other uses of 2001::/23 name no host.
        [0x2001, 0..=0x1ff, ..] | [0x100, 0, 0, ..] | [0x5f00, ..] => AddressClass::Reserved,
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        _ => AddressClass::Reserved,
    }
}

/// NAT64 by the prefix that is left to each network (RFC 8215, `64:ff9b:1::/48`). How long a translator's own prefix in it is, and so where the IPv4 address
/// lies, shows nowhere (RFC 6052, 2.2): what would lead to a guarded place by any of the lengths is taken for that; else the longest counts, the usual one.
fn of_local_nat64(octets: [u8; 16]) -> AddressClass {
    let [.., a, b, _, c, d, e, w, x, y, z] = octets;
    [[a, b, c, d], [b, c, d, e], [c, d, e, w]]
        .map(|place| of_v4(place.into()))
        .into_iter()
        .find(|class| class.only_if_named())
        .unwrap_or_else(|| of_v4([w, x, y, z].into()))
}

#[cfg(test)]
mod tests {
    use super::AddressClass::{self, *};

    #[test]
    fn each_special_range_is_known_at_both_ends() {
        for (address, want) in [
            ("0.0.0.0", Unspecified),
            ("0.0.0.1", Reserved),
            ("9.255.255.255", Public),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("11.0.0.0", Public),
            ("100.63.255.255", Public),
            ("100.64.0.0", Shared),
            ("100.100.100.200", Metadata),
            ("100.127.255.255", Shared),
            ("100.128.0.0", Public),
            ("127.0.0.1", Loopback),
            ("127.255.255.255", Loopback),
            ("168.63.129.16", Metadata),
            ("169.253.255.255", Public),
            ("169.254.0.0", LinkLocal),
            ("169.254.169.254", LinkLocal),
            ("172.15.255.255", Public),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("172.32.0.0", Public),
            ("192.0.0.1", Reserved),
            ("192.0.0.192", Metadata),
            ("192.0.2.1", Documentation),
            ("192.168.255.255", Private),
            ("198.17.255.255", Public),
            ("198.18.0.0", Benchmark),
            ("198.19.255.255", Benchmark),
            ("203.0.113.7", Documentation),
            ("223.255.255.255", Public),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.1", Reserved),
            ("255.255.255.255", Broadcast),
            ("::", Unspecified),
            ("::1", Loopback),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("fec0::1", Private),
            ("fc00::1", Private),
            ("fd00:ec2::254", Metadata),
            ("ff02::1", Multicast),
            ("2001:db8::1", Documentation),
            ("2001:2::1", Benchmark),
            ("2001:0:1::1", Reserved),
            ("2001:4860:4860::8888", Public),
            ("2606:4700::1", Public),
            ("3fff::1", Documentation),
            ("100::1", Reserved),
            ("4000::1", Reserved),
        ] {
            assert_eq!(
                AddressClass::of(address.parse().unwrap()),
                want,
                "{address}"
            );
        }
    }

    #[test]
    fn an_ipv4_address_inside_an_ipv6_one_counts_as_what_it_leads_to() {
        for (address, want) in [
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:169.254.169.254", LinkLocal),
            ("::ffff:8.8.8.8", Public),
            ("::ffff:0:10.0.0.1", Private),
            ("::10.0.0.1", Private),
            ("64:ff9b::169.254.169.254", LinkLocal),
            ("64:ff9b:1::10.0.0.1", Private),
            ("64:ff9b:1:2:3:4:10.0.0.1", Private),
            ("64:ff9b:1:a9fe:a9:fe00::", LinkLocal),
            ("64:ff9b:1:a9fe:a9:fe00:10.0.0.1", LinkLocal),
            ("64:ff9b:1:7f:0:100:10.0.0.1", Loopback),
            ("64:ff9b:1:0:64:6464:c800:1", Metadata),
            ("64:ff9b:1:1::8.8.8.8", Public),
            ("64:ff9b:1:a9fe:a9:fe00:127.0.0.1", LinkLocal),
            ("2002:a9fe:a9fe::1", LinkLocal),
            ("2002:7f00:1::", Loopback),
        ] {
            assert_eq!(
                AddressClass::of(address.parse().unwrap()),
                want,
                "{address}"
            );
        }
    }

    #[test]
    fn what_may_be_an_endpoint_follows_from_the_class() {
        for (class, never, only_if_named) in [
            (Unspecified, true, false),
            (Multicast, true, false),
            (Broadcast, true, false),
            (Reserved, true, false),
            (Loopback, false, true),
            (LinkLocal, false, true),
            (Metadata, false, true),
            (Private, false, false),
            (Shared, false, false),
            (Benchmark, false, false),
            (Documentation, false, false),
            (Public, false, false),
        ] {
            assert_eq!(
                (class.never(), class.only_if_named()),
                (never, only_if_named),
                "{class}"
            );
        }
    }
}
