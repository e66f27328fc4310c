//! May this connection be made? Asked again for each address that a name resolves to, at each dial, so that a name which
//! is rebound to a place that nobody allowed reaches nothing. Pure: the host's addresses are an argument.

use std::fmt;
use std::net::IpAddr;

use airtight_plan::address::AddressClass;
use airtight_plan::{GateEndpoint, Upstream};

/// The answer for one address of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Refused(Refusal),
}

/// Why not. A name's address may be refused where the same address written by the operator would not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The operator named another address.
    NotNamed,
    /// The name leads to this host itself, past whatever its services think only local callers reach.
    HostItself,
    /// A kind of address that a name may not lead to.
    Kind(Kind),
    /// Neither private nor allowed by `public`.
    Public,
}

/// [`AddressClass`] of a refused address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub AddressClass);

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(&self.0).hash(state);
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNamed => f.write_str("not the address that was named"),
            Self::HostItself => f.write_str("an address of this host itself"),
            Self::Kind(kind) => write!(f, "{}", kind.0),
            Self::Public => f.write_str("a public address"),
        }
    }
}

/// Judges `resolved` for `endpoint`, seen from a host that has `host_addresses`.
#[must_use]
pub fn judge(endpoint: &GateEndpoint, resolved: IpAddr, host_addresses: &[IpAddr]) -> Verdict {
    let class = AddressClass::of(resolved);
    let refused = match &endpoint.upstream {
        Upstream::Address(named) if named.ip().to_canonical() != resolved.to_canonical() => {
            Some(Refusal::NotNamed)
        }
        // Written by the operator, digit for digit: loopback and 169.254 included. Not public by accident, though.
        Upstream::Address(_) => (class.never().then_some(Refusal::Kind(Kind(class))))
            .or((class == AddressClass::Public && !endpoint.public).then_some(Refusal::Public)),
        Upstream::Name { .. } => {
            judge_name(class, endpoint.public)
                .or(is_host(resolved, host_addresses).then_some(Refusal::HostItself))
        }
    };
    refused.map_or(Verdict::Allowed, Verdict::Refused)
}

fn judge_name(class: AddressClass, public: bool) -> Option<Refusal> {
    match class {
        AddressClass::Private | AddressClass::Shared => None,
        // Nobody routes the first two: a name which leads there is a mistake or a trick, unless everything is allowed.
        AddressClass::Benchmark | AddressClass::Documentation | AddressClass::Public => {
            (!public).then_some(Refusal::Public)
        }
        AddressClass::Unspecified
        | AddressClass::Loopback
        | AddressClass::LinkLocal
        | AddressClass::Metadata
        | AddressClass::Multicast
        | AddressClass::Broadcast
        | AddressClass::Reserved => Some(Refusal::Kind(Kind(class))),
    }
}

/// An IPv4 address has several IPv6 spellings that reach the same host.
fn is_host(resolved: IpAddr, host_addresses: &[IpAddr]) -> bool {
    host_addresses
        .iter()
        .any(|own| own.to_canonical() == resolved.to_canonical())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn endpoint(upstream: Upstream, public: bool) -> GateEndpoint {
        GateEndpoint {
            display: "db:5432".into(),
            inside: Vec::new(),
            upstream,
            public,
        }
    }

    fn name(public: bool) -> GateEndpoint {
        endpoint(
            Upstream::Name {
                host: "db".into(),
                port: 5432,
            },
            public,
        )
    }

    fn address(named: &str, public: bool) -> GateEndpoint {
        endpoint(
            Upstream::Address(std::net::SocketAddr::new(named.parse().unwrap(), 5432)),
            public,
        )
    }

    #[test]
    fn each_address_is_judged_by_how_it_was_named() {
        let kind = |class| Verdict::Refused(Refusal::Kind(Kind(class)));
        let public = Verdict::Refused(Refusal::Public);
        let host: Vec<IpAddr> = vec![
            "10.9.9.9".parse().unwrap(),
            "93.184.216.34".parse().unwrap(),
            "fd00::9".parse().unwrap(),
        ];
        for (case, endpoint, resolved, want) in [
            ("private", name(false), "10.0.0.5", Verdict::Allowed),
            ("unique local", name(false), "fd00::5", Verdict::Allowed),
            ("shared", name(false), "100.64.0.1", Verdict::Allowed),
            ("public", name(false), "1.1.1.1", public),
            ("public allowed", name(true), "1.1.1.1", Verdict::Allowed),
            ("documentation", name(false), "192.0.2.1", public),
            ("our own synthetic range", name(false), "198.18.0.1", public),
            (
                "metadata",
                name(true),
                "169.254.169.254",
                kind(AddressClass::LinkLocal),
            ),
            (
                "metadata elsewhere",
                name(true),
                "100.100.100.200",
                kind(AddressClass::Metadata),
            ),
            (
                "link local",
                name(true),
                "fe80::1",
                kind(AddressClass::LinkLocal),
            ),
            (
                "loopback",
                name(true),
                "127.0.0.1",
                kind(AddressClass::Loopback),
            ),
            (
                "loopback, other spelling",
                name(true),
                "::ffff:127.0.0.1",
                kind(AddressClass::Loopback),
            ),
            (
                "metadata, through NAT64",
                name(true),
                "64:ff9b::a9fe:a9fe",
                kind(AddressClass::LinkLocal),
            ),
            (
                "unspecified",
                name(true),
                "0.0.0.0",
                kind(AddressClass::Unspecified),
            ),
            (
                "multicast",
                name(true),
                "224.0.0.1",
                kind(AddressClass::Multicast),
            ),
            (
                "broadcast",
                name(true),
                "255.255.255.255",
                kind(AddressClass::Broadcast),
            ),
            (
                "reserved",
                name(true),
                "240.0.0.1",
                kind(AddressClass::Reserved),
            ),
            (
                "the host",
                name(false),
                "10.9.9.9",
                Verdict::Refused(Refusal::HostItself),
            ),
            (
                "the host, public",
                name(true),
                "93.184.216.34",
                Verdict::Refused(Refusal::HostItself),
            ),
            (
                "the host, other spelling",
                name(false),
                "::ffff:10.9.9.9",
                Verdict::Refused(Refusal::HostItself),
            ),
            (
                "named loopback",
                address("127.0.0.1", false),
                "127.0.0.1",
                Verdict::Allowed,
            ),
            (
                "named metadata",
                address("169.254.169.254", false),
                "169.254.169.254",
                Verdict::Allowed,
            ),
            (
                "named host",
                address("10.9.9.9", false),
                "10.9.9.9",
                Verdict::Allowed,
            ),
            ("named public", address("1.1.1.1", false), "1.1.1.1", public),
            (
                "named public, allowed",
                address("1.1.1.1", true),
                "1.1.1.1",
                Verdict::Allowed,
            ),
            (
                "named multicast",
                address("224.0.0.1", true),
                "224.0.0.1",
                kind(AddressClass::Multicast),
            ),
            (
                "another than named",
                address("10.0.0.5", true),
                "10.0.0.6",
                Verdict::Refused(Refusal::NotNamed),
            ),
        ] {
            assert_eq!(
                judge(&endpoint, resolved.parse().unwrap(), &host),
                want,
                "{case}"
            );
        }
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        let special = prop::sample::select(vec![
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "10.0.0.1",
            "8.8.8.8",
            "::1",
            "fe80::1",
            "ff02::1",
            "2606::1",
        ]);
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from_bits(bits).to_ipv6_mapped())),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
            special.prop_map(|text| text.parse().unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn a_name_never_leads_to_a_place_of_the_host(resolved in any_address(), own in any_address(), public: bool) {
            if judge(&name(public), resolved, &[own]) == Verdict::Allowed {
                let bare = resolved.to_canonical();
                prop_assert!(!bare.is_loopback() && !bare.is_multicast() && !bare.is_unspecified());
                prop_assert!(own.to_canonical() != bare);
                let (link_local, private) = match bare {
                    IpAddr::V4(v4) => (v4.is_link_local(), v4.is_private() || v4.octets()[0] == 100),
                    IpAddr::V6(v6) => (v6.is_unicast_link_local(), true),
                };
                prop_assert!(!link_local && (public || private), "{bare}");
            }
        }

        #[test]
        fn a_named_address_allows_itself_and_nothing_else(named in any_address(), resolved in any_address(), public: bool) {
            let endpoint = endpoint(Upstream::Address(std::net::SocketAddr::new(named, 1)), public);
            if named.to_canonical() != resolved.to_canonical() {
                prop_assert_eq!(judge(&endpoint, resolved, &[]), Verdict::Refused(Refusal::NotNamed));
            }
        }

        #[test]
        fn public_only_widens(resolved in any_address(), own in any_address()) {
            if judge(&name(false), resolved, &[own]) == Verdict::Allowed {
                prop_assert_eq!(judge(&name(true), resolved, &[own]), Verdict::Allowed);
            }
        }
    }
}
