//! The sockets that exist inside, where each leads, and what `/etc/hosts` says.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use airtight_profiles::{Endpoint, Policy};

use crate::address::AddressClass;
use crate::control::{Refusal, Result};
use crate::{
    Audit, Connect, GateAudit, GateDeath, GateEndpoint, GatePlan, GatePublished, HostFacts, Spec,
    Upstream,
};

/// `198.18.0.0`: the first of the addresses for names. They are set aside for benchmarks, so that no real host is hidden by one.
const SYNTHETIC_V4: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// `fd61:6972::`, a unique local prefix.
const SYNTHETIC_V6: [u16; 2] = [0xfd61, 0x6972];
/// Most endpoints of one sandbox: each is one or two sockets of the gate.
const MAX_ENDPOINTS: usize = 256;

/// The network of one launch.
#[derive(Debug)]
pub(crate) struct Network {
    /// For `lo`, besides its own.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) listen: Vec<SocketAddr>,
    /// `/etc/hosts`.
    pub(crate) hosts: String,
    /// Listeners on the host.
    pub(crate) publish: Vec<SocketAddr>,
    pub(crate) gate: Option<GatePlan>,
}

pub(crate) fn network(spec: &Spec, policy: &Policy, facts: &HostFacts) -> Result<Network> {
    if spec.public && !policy.public {
        return Err(Refusal::new(
            "--public",
            "the policy allows no public address",
            "allow `public` in the ceiling",
        ));
    }
    let connects = connects(spec, policy)?;
    let mut names: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    let mut network = Network {
        addresses: Vec::new(),
        listen: Vec::new(),
        hosts: own_hosts(spec, facts),
        publish: Vec::new(),
        gate: None,
    };
    let mut endpoints = Vec::with_capacity(connects.len());
    for (endpoint, connect) in &connects {
        let inside = match endpoint.literal() {
            Some(literal) => vec![literal],
            None => network.synthetic(endpoint.host(), &mut names, facts),
        };
        let upstream = judged(endpoint, connect, policy, facts)?;
        for address in &inside {
            // Loopback addresses are on `lo` by themselves.
            if !address.is_loopback() && !network.addresses.contains(address) {
                network.addresses.push(*address);
            }
        }
        let inside: Vec<SocketAddr> = inside
            .into_iter()
            .map(|address| SocketAddr::new(address, endpoint.port()))
            .collect();
        network.listen.extend(&inside);
        endpoints.push(GateEndpoint {
            display: connect.display(),
            inside,
            upstream,
            public: policy.public,
        });
    }
    let published = published(spec, &connects)?;
    network.publish = published.iter().map(|port| port.outside).collect();
    if !endpoints.is_empty() || !published.is_empty() {
        if facts.gate.is_none() {
            let fix = "install airtight-gate into the directory of this binary";
            return Err(Refusal::new(
                "airtight-gate",
                "is not beside this binary, and endpoints need it",
                fix,
            ));
        }
        let audit = match &spec.audit {
            Audit::Off => GateAudit::Off,
            Audit::Stderr => GateAudit::Text,
            Audit::File(_) => GateAudit::Json,
        };
        network.gate = Some(GatePlan {
            sandbox: spec.id.clone(),
            landlock_abi: facts.landlock_abi,
            endpoints,
            published,
            on_death: GateDeath::Kill,
            audit,
        });
    }
    Ok(network)
}

impl Network {
    /// The addresses of a name, the same for all its ports: the n-th name has the n-th.
    fn synthetic(
        &mut self,
        host: &str,
        names: &mut BTreeMap<String, Vec<IpAddr>>,
        facts: &HostFacts,
    ) -> Vec<IpAddr> {
        if let Some(known) = names.get(host) {
            return known.clone();
        }
        // At most `MAX_ENDPOINTS`, so it fits.
        let number = u16::try_from(names.len()).unwrap_or(u16::MAX - 1) + 1;
        let [a, b] = SYNTHETIC_V6;
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::from_bits(
            SYNTHETIC_V4 + u32::from(number),
        ))];
        if facts.ipv6 {
            addresses.push(IpAddr::V6(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, number)));
        }
        for address in &addresses {
            self.hosts.push_str(&format!("{address} {host}\n"));
        }
        names.insert(host.to_owned(), addresses.clone());
        addresses
    }
}

fn own_hosts(spec: &Spec, facts: &HostFacts) -> String {
    let mut hosts = format!("127.0.0.1 localhost {}\n", spec.hostname);
    if facts.ipv6 {
        hosts.push_str(&format!("::1 localhost {}\n", spec.hostname));
    }
    hosts
}

/// What the operator named, in that order, then what the policy grants besides. What the policy lacks is refused.
fn connects(spec: &Spec, policy: &Policy) -> Result<Vec<(Endpoint, Connect)>> {
    let mut connects: Vec<(Endpoint, Connect)> = Vec::new();
    for connect in &spec.connect {
        let endpoint = endpoint(connect)?;
        let ask = flag(connect);
        if connects.iter().any(|(known, _)| *known == endpoint) {
            return Err(Refusal::new(
                ask,
                "the endpoint is named twice",
                "name each host and port once",
            ));
        }
        if !policy.connect.contains(&endpoint) {
            return Err(Refusal::new(
                ask,
                "the policy does not allow this endpoint",
                "allow it under `connect` in the ceiling",
            ));
        }
        if endpoint.host() == "localhost" || endpoint.host() == spec.hostname.to_ascii_lowercase() {
            let fix = format!(
                "give the endpoint another name, like `--connect db=127.0.0.1:{}`",
                endpoint.port()
            );
            return Err(Refusal::new(
                ask,
                format!("`{}` is the sandbox itself", endpoint.host()),
                fix,
            ));
        }
        connects.push((endpoint, connect.clone()));
    }
    for endpoint in &policy.connect {
        if !connects.iter().any(|(known, _)| known == endpoint) {
            let connect = Connect {
                name: endpoint.host().to_owned(),
                address: endpoint.literal(),
                port: endpoint.port(),
            };
            connects.push((endpoint.clone(), connect));
        }
    }
    if connects.len() > MAX_ENDPOINTS {
        return Err(Refusal::new(
            "--connect",
            format!("more than {MAX_ENDPOINTS} endpoints"),
            "name fewer",
        ));
    }
    Ok(connects)
}

/// The endpoint that the operator's flag names.
pub(crate) fn endpoint(connect: &Connect) -> Result<Endpoint> {
    Endpoint::new(&connect.name, connect.port).map_err(|problem| {
        Refusal::new(
            flag(connect),
            problem,
            "write --connect NAME[=ADDRESS]:PORT, like `redis=10.0.0.5:6379`",
        )
    })
}

fn flag(connect: &Connect) -> String {
    format!("--connect {}", connect.display())
}

/// Where the endpoint leads, if it may. A name without an address is judged by the gate, at each dial.
fn judged(
    endpoint: &Endpoint,
    connect: &Connect,
    policy: &Policy,
    facts: &HostFacts,
) -> Result<Upstream> {
    let literal = endpoint.literal();
    let refuse = |problem: String, fix: &str| Err(Refusal::new(flag(connect), problem, fix));
    if let (Some(literal), Some(address)) = (literal, connect.address)
        && literal != address
    {
        return refuse(
            "an address stands for another address".into(),
            "give the endpoint a name: NAME=ADDRESS:PORT",
        );
    }
    let Some(address) = connect.address.or(literal) else {
        return Ok(Upstream::Name {
            host: endpoint.host().to_owned(),
            port: endpoint.port(),
        });
    };
    if let IpAddr::V6(v6) = address {
        if let Some(v4) = v6.to_ipv4_mapped() {
            return refuse(
                "the address is IPv4 in IPv6 dress".into(),
                &format!("write it as {v4}"),
            );
        }
        if literal.is_some() && !facts.ipv6 {
            return refuse(
                "this kernel has no IPv6".into(),
                "give the endpoint a name: NAME=ADDRESS:PORT",
            );
        }
    }
    let class = AddressClass::of(address);
    if class.never() {
        return refuse(format!("{address} is {class}"), "name a host");
    }
    if class == AddressClass::Public && !policy.public {
        return refuse(
            format!("{address} is {class}"),
            "add --public if it was meant",
        );
    }
    Ok(Upstream::Address(SocketAddr::new(address, endpoint.port())))
}

fn published(spec: &Spec, connects: &[(Endpoint, Connect)]) -> Result<Vec<GatePublished>> {
    let mut published: Vec<GatePublished> = Vec::with_capacity(spec.publish.len());
    for publish in &spec.publish {
        let outside = SocketAddr::new(publish.address, publish.host_port);
        let ask = format!("--publish {outside}:{}", publish.port);
        if publish.port == 0 || publish.host_port == 0 {
            return Err(Refusal::new(
                ask,
                "port 0 is no port",
                "write --publish [ADDRESS:]HOSTPORT:PORT with ports from 1",
            ));
        }
        let class = AddressClass::of(publish.address);
        if class.never() && class != AddressClass::Unspecified {
            return Err(Refusal::new(
                ask,
                format!("{} is {class}", publish.address),
                "publish at an address of this host, like 127.0.0.1",
            ));
        }
        let overlaps = |other: &GatePublished| {
            let wild = other.outside.ip().is_unspecified() || publish.address.is_unspecified();
            other.outside.port() == publish.host_port
                && (wild || other.outside.ip() == publish.address)
        };
        if published.iter().any(overlaps) {
            return Err(Refusal::new(
                ask,
                "the host's port is published twice",
                "give each its own host port",
            ));
        }
        // The gate's own listener at that address would take the connection that it dials inside.
        let clashes = |(endpoint, _): &(Endpoint, Connect)| {
            endpoint.port() == publish.port
                && endpoint.literal() == Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
        };
        if connects.iter().any(clashes) {
            let fix = format!(
                "give the endpoint a name: --connect NAME=127.0.0.1:{}",
                publish.port
            );
            return Err(Refusal::new(
                ask,
                "127.0.0.1 at that port is an endpoint inside",
                fix,
            ));
        }
        published.push(GatePublished {
            outside,
            inside: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), publish.port),
        });
    }
    Ok(published)
}
