//! Tables of flag values, legal and not.

use super::*;

fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(wrong) => wrong.problem,
    }
}

#[test]
fn connect_takes_a_name_an_address_or_both() {
    for (value, want) in [
        ("redis:6379", Ok(("redis", None, 6379))),
        ("redis=10.0.0.7:6379", Ok(("redis", Some("10.0.0.7"), 6379))),
        ("redis=[fd00::7]:6379", Ok(("redis", Some("fd00::7"), 6379))),
        ("10.0.0.7:6379", Ok(("10.0.0.7", Some("10.0.0.7"), 6379))),
        ("[FD00::0:7]:6379", Ok(("fd00::7", Some("fd00::7"), 6379))),
        ("redis", Err("has no port")),
        ("redis:", Err("has no port from 1 to 65535")),
        ("redis:0", Err("has no port from 1 to 65535")),
        ("redis:+80", Err("has no port from 1 to 65535")),
        ("redis:65536", Err("has no port from 1 to 65535")),
        (":6379", Err("has no host")),
        ("=10.0.0.7:6379", Err("has no name before `=`")),
        ("redis=cache:6379", Err("`cache` is not an IP address")),
        ("fd00::7:6379", Err("has an IPv6 address without brackets")),
        (
            "redis=fd00::7:6379",
            Err("has an IPv6 address without brackets"),
        ),
    ] {
        let got = connect(value).map(|got| {
            (
                got.name,
                got.address.map(|address| address.to_string()),
                got.port,
            )
        });
        let want = want
            .map(|(name, address, port): (&str, Option<&str>, u16)| {
                (name.to_owned(), address.map(str::to_owned), port)
            })
            .map_err(str::to_owned);
        assert_eq!(got.map_err(|wrong| wrong.problem), want, "{value}");
    }
}

#[test]
fn publish_listens_on_loopback_unless_an_address_is_written() {
    for (value, want) in [
        ("8080:80", Ok(("127.0.0.1", 8080, 80))),
        ("8080:80/tcp", Ok(("127.0.0.1", 8080, 80))),
        ("0.0.0.0:8080:80", Ok(("0.0.0.0", 8080, 80))),
        ("[::1]:8080:80", Ok(("::1", 8080, 80))),
        ("8080", Err("has one port and no port of this host")),
        ("8080:80/udp", Err("`udp` is not carried")),
        ("0:80", Err("`0` is not a port from 1 to 65535")),
        ("8080:99999", Err("`99999` is not a port from 1 to 65535")),
        ("::1:8080:80", Err("`::1` is not an IP address")),
        ("db:8080:80", Err("`db` is not an IP address")),
    ] {
        let got = publish(value).map(|got| (got.address.to_string(), got.host_port, got.port));
        let want = want
            .map(|(address, outside, port): (&str, u16, u16)| (address.to_owned(), outside, port))
            .map_err(str::to_owned);
        assert_eq!(got.map_err(|wrong| wrong.problem), want, "{value}");
    }
}

#[test]
fn tmpfs_has_a_path_and_a_size() {
    for (value, want) in [
        ("/run", Ok(("/run", 64 << 20))),
        ("/run/", Ok(("/run", 64 << 20))),
        ("/run:16m", Ok(("/run", 16 << 20))),
        ("/run:4096", Ok(("/run", 4096))),
        ("/run:rw,noexec,nosuid,size=65536k", Ok(("/run", 64 << 20))),
        ("/run:exec", Err("`exec` is not a size")),
        ("/run:0", Err("`0` is not a size")),
        ("run", Err("the path is not absolute and free of `..`")),
        ("/a/../b", Err("the path is not absolute and free of `..`")),
    ] {
        let got = tmpfs(value)
            .map(|got| (got.path.display().to_string(), got.size))
            .map_err(|wrong| wrong.problem);
        assert_eq!(
            got,
            want.map(|(path, size): (&str, u64)| (path.to_owned(), size))
                .map_err(str::to_owned),
            "{value}"
        );
    }
}

#[test]
fn a_volume_has_a_source_and_a_destination() {
    for (value, want) in [
        ("/srv/data:/data", Ok(("/srv/data", "/data", false))),
        ("/srv/data:/data:ro", Ok(("/srv/data", "/data", true))),
        ("./data:/data:rw", Ok(("./data", "/data", false))),
        ("../data:/data", Ok(("../data", "/data", false))),
        (".:/data", Ok((".", "/data", false))),
        ("/srv/data", Err("has no destination")),
        (":/data", Err("has no source")),
        (
            "data:/data",
            Err("`data` would be a named volume, and there are none"),
        ),
        (
            "/srv/data:data",
            Err("the destination is not absolute and free of `..`"),
        ),
        ("/srv/data:/data:Z", Err("`Z` is neither ro nor rw")),
        ("/a:/b:ro:x", Err("has more than three parts")),
    ] {
        let got = volume(value)
            .map(|got| {
                (
                    got.source.display().to_string(),
                    got.destination.display().to_string(),
                    got.read_only,
                )
            })
            .map_err(|wrong| wrong.problem);
        let want = want
            .map(|(source, destination, ro): (&str, &str, bool)| {
                (source.to_owned(), destination.to_owned(), ro)
            })
            .map_err(str::to_owned);
        assert_eq!(got, want, "{value}");
    }
}

#[test]
fn numbers_have_the_units_that_container_users_know() {
    for (value, want) in [
        ("4096", "4096"),
        ("4096b", "4096"),
        ("64k", "65536"),
        ("256m", "268435456"),
        ("256M", "268435456"),
        ("256MiB", "268435456"),
        ("1.5g", "1610612736"),
        ("1.2345g", "is not a size"),
        ("0", "is not a size"),
        ("-1", "is not a size"),
        ("m", "is not a size"),
        ("1x", "is not a size"),
        ("9223372036854775808", "is not a size"),
        ("99999999999999999999g", "is not a size"),
    ] {
        assert_eq!(text(memory(value)), want, "{value}");
    }
    for (value, want) in [
        ("0.5", "500"),
        ("2", "2000"),
        ("0.001", "1"),
        ("0", "is not a number of CPUs"),
        (".5", "is not a number of CPUs"),
    ] {
        assert_eq!(text(cpus(value)), want, "{value}");
    }
    for (value, want) in [
        ("2", "2000"),
        ("1.5", "1500"),
        ("250ms", "250"),
        ("2m", "120000"),
        ("1h", "3600000"),
        ("0", "is not a time"),
        ("2d", "is not a time"),
        ("", "is not a time"),
    ] {
        assert_eq!(text(timeout(value)), want, "{value}");
    }
    for (value, want) in [
        ("64", "64"),
        ("many", "is not a whole number"),
        ("-1", "is not a whole number"),
    ] {
        assert_eq!(text(pids(value)), want, "{value}");
    }
}

#[test]
fn a_wrong_value_is_told_with_the_flag_as_typed_and_the_fix() {
    assert_eq!(
        connect("redis\n").unwrap_err().to_string(),
        "`--connect redis\\n`: has no port\n  fix: write NAME[=ADDR]:PORT, like `redis:6379` or `redis=10.0.0.7:6379`"
    );
}

#[test]
fn no_value_is_more_than_an_error() {
    let seeds = [
        "redis=[fd00::7]:6379",
        "127.0.0.1:8080:80",
        "/tmp:size=64m",
        "/srv/data:/data:rw",
        "1.5g",
        "1h30m",
    ];
    let words = [
        ":",
        "=",
        "[",
        "]",
        "/",
        "..",
        "::",
        "18446744073709551615",
        "g",
        "ms",
        "1e9",
        "inf",
        "nan",
    ];
    airtight_fuzz::fuzz("values-of-flags", &seeds, &words, |input| {
        let input = String::from_utf8_lossy(input);
        let told = [
            text(connect(&input)),
            text(publish(&input)),
            text(listen(&input)),
            text(tmpfs(&input)),
            text(volume(&input)),
            text(memory(&input)),
            text(pids(&input)),
            text(cpus(&input)),
            text(timeout(&input)),
        ];
        format!("{} {}", airtight_fuzz::TAKEN, told.concat())
    });
}
