//! What the network and the sandbox's parent say to the gate.

use airtight_fuzz::{TAKEN, fuzz};
use airtight_gate::dns::{Answer, Family, Name, Query, parse_response};
use airtight_gate::resolv::{Conf, hosts_lookup};
use airtight_plan::GatePlan;
use airtight_plan::address::AddressClass;

use crate::{answer, text};

/// A response to [`query`] with one record of `kind` and its data.
fn response(query: &Query, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut message = query.encode();
    message[2] |= 0x80;
    message[7] = 1;
    message.extend([0xc0, 12]);
    for word in [kind, 1, 0, 60, u16::try_from(data.len()).unwrap()] {
        message.extend(word.to_be_bytes());
    }
    message.extend(data);
    message
}

#[test]
fn dns_response() {
    let query = Query {
        id: 0x1234,
        name: Name::parse("db.internal").unwrap(),
        family: Family::V4,
    };
    // An alias, whose own name begins at byte 41, and the address of that.
    let mut alias = response(&query, 5, b"\x01a\xc0\x0f");
    alias[7] = 2;
    alias.extend([0xc0, 41, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1]);
    let seeds = [response(&query, 1, &[10, 0, 0, 1]), alias];
    let done = fuzz(
        "dns-response",
        &seeds,
        &["\u{0}\u{1}", "\u{3}com\u{0}", "\u{0}\u{5}", "\u{0}\u{1c}"],
        |message| {
            let read = parse_response(message, &query);
            if let Ok(Answer::Found { addresses, .. }) = &read {
                assert!(
                    !addresses.is_empty() && addresses.iter().all(std::net::IpAddr::is_ipv4),
                    "{addresses:?}"
                );
            }
            match read {
                Ok(Answer::Found { .. }) => TAKEN.to_owned(),
                Ok(other) => format!("{other:?}"),
                Err(error) => error.to_string(),
            }
        },
    );
    assert!(done.answers > 4, "{done:?}");
}

#[test]
fn resolver_files() {
    let seeds = [
        "nameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a.example b\noptions ndots:2 timeout:1 attempts:9\n",
        "127.0.0.1 localhost db\n# x\n::1 db db.internal\n",
    ];
    fuzz(
        "resolver-files",
        &seeds,
        &[
            "nameserver ",
            "search ",
            "domain ",
            "options ",
            "ndots:",
            "\n",
            "#",
            "db",
            "\t",
        ],
        |input| {
            let input = text(input);
            let names = Conf::parse(&input).candidates("db.internal");
            assert!(names.len() < 64, "{names:?}");
            let found = hosts_lookup(&input, "db");
            // Judged like any other.
            let never = found.iter().any(|found| AddressClass::of(*found).never());
            format!(
                "{TAKEN} {} {}",
                if names.len() > 1 { "search" } else { "plain" },
                if never { "never" } else { "ok" }
            )
        },
    );
}

#[test]
fn gate_plan() {
    let seed = r#"{"sandbox":"a","landlock_abi":7,"endpoints":[{"display":"a","inside":["198.18.0.1:6379"],"upstream":{"address":"10.0.0.5:6379"},"public":false},{"display":"b","inside":["[fd61::1]:1"],"upstream":{"name":{"host":"db","port":1}},"public":true}],"published":[{"outside":"127.0.0.1:8080","inside":"127.0.0.1:80"}],"on_death":"kill","audit":"text"}"#;
    fuzz(
        "gate-plan",
        &[seed],
        &[
            "null",
            "[[[[[[[[[[[[[[[[",
            "{\"a\":",
            "\"address\":",
            "\"127.0.0.1:1\"",
        ],
        |input| answer(serde_json::from_slice::<GatePlan>(input)),
    );
}
