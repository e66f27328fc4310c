//! What is refused, word for word: what was asked, why not, what to do.

use airtight_plan::{Audit, Cgroup, Control, Have, HostFacts, Limits, Spec, Tmpfs, Volume, plan};
use airtight_profiles::shipped;

use crate::fixture::{connect, planned, publish, root, spec, user};

fn told(spec: &Spec, facts: &HostFacts) -> String {
    planned("extends = 'service'", spec, facts)
        .map_or_else(|refusal| refusal.to_string(), |_| "planned".to_owned())
}

fn asked(change: impl FnOnce(&mut Spec)) -> Spec {
    let mut spec = spec();
    change(&mut spec);
    spec
}

#[test]
fn each_ask_that_must_not_be_is_told_with_its_fix() {
    let volume = |source: &str, destination: &str| Volume {
        source: source.into(),
        destination: destination.into(),
        read_only: true,
    };
    let tmpfs = |path: &str| Tmpfs {
        path: path.into(),
        size: 1 << 20,
    };
    for (spec, want) in [
        (
            asked(|s| s.process.uid = 0),
            "--user: the payload would be uid 0\n  fix: run it as another user: --user 65532:65532",
        ),
        (
            asked(|s| s.write_execute = vec!["\"bin/old\"".into()]),
            "image: \"bin/old\" asks for memory that is both written and executed (an executable stack or segment)\n  fix: link it without (-z noexecstack), or use a profile that allows it (--profile jit)",
        ),
        (
            asked(|s| s.process.gid = 70_000),
            "--user: id 70000 is beyond the 65536 ids of a sandbox\n  fix: use ids below 65536",
        ),
        (
            asked(|s| s.process.args.clear()),
            "arguments: there is no program to execute\n  fix: name one after the image: IMAGE -- /bin/app, or build the image with an entrypoint",
        ),
        (
            asked(|s| s.process.args.push("a\0b".into())),
            "arguments: one has a NUL or is longer than 128 KiB\n  fix: pass it in a file",
        ),
        (
            asked(|s| s.process.env.push("=x".into())),
            "--env: one is not KEY=VALUE\n  fix: write --env KEY=VALUE",
        ),
        (
            asked(|s| s.process.cwd = "srv".into()),
            "working directory: srv is not absolute and free of `..`\n  fix: write it from the image's root, like `/srv`",
        ),
        (
            asked(|s| s.process.cwd = "/srv/../etc".into()),
            "working directory: /srv/../etc is not absolute and free of `..`\n  fix: write it from the image's root, like `/srv`",
        ),
        (
            asked(|s| s.id = "a/../b".into()),
            "id: `a/../b` is not 1 to 64 of a-z, 0-9 and `-`\n  fix: choose another",
        ),
        (
            asked(|s| s.hostname = "a\n127.0.0.1 b".into()),
            "hostname: `a\\n127.0.0.1 b` is not 1 to 64 of letters, digits, `-` and `.`\n  fix: choose another",
        ),
        (
            asked(|s| s.layers.clear()),
            "image: the image has 0 layers, not 1 to 256\n  fix: build it with fewer layers",
        ),
        (
            asked(|s| s.tmpfs = vec![tmpfs("/proc/x")]),
            "--tmpfs /proc/x: that place is the sandbox's own\n  fix: choose another path",
        ),
        (
            asked(|s| s.tmpfs = vec![tmpfs("/etc")]),
            "--tmpfs /etc: that place is the sandbox's own\n  fix: choose another path",
        ),
        (
            asked(|s| s.tmpfs = vec![tmpfs("/")]),
            "--tmpfs /: the path is not absolute, has `..`, or is `/`\n  fix: write an absolute path below `/`",
        ),
        (
            asked(|s| s.tmpfs = vec![tmpfs("/a/../proc")]),
            "--tmpfs /a/../proc: the path is not absolute, has `..`, or is `/`\n  fix: write an absolute path below `/`",
        ),
        (
            asked(|s| s.tmpfs = vec![tmpfs("/a"), tmpfs("/a")]),
            "--tmpfs /a: two mounts have this path\n  fix: give each its own",
        ),
        (
            asked(|s| {
                s.tmpfs = vec![Tmpfs {
                    path: "/a".into(),
                    size: 0,
                }]
            }),
            "--tmpfs /a: a size of 0 would be no limit\n  fix: give it a size, like `:64M`",
        ),
        (
            asked(|s| s.volumes = vec![volume("/srv", "/tmp/x")]),
            "mount at /tmp/x: it lies in the tmpfs at /tmp, which starts empty\n  fix: choose a path outside of it",
        ),
        (
            asked(|s| s.volumes = vec![volume("/", "/host")]),
            "--volume /:/host: the source is not absolute, has `..`, or is `/`\n  fix: name one directory or file by its absolute path",
        ),
        (
            asked(|s| s.volumes = vec![volume("/proc/1", "/host")]),
            "--volume /proc/1:/host: nothing below /proc is given to a sandbox\n  fix: name a directory of data",
        ),
        (
            asked(|s| s.volumes = vec![volume("/run", "/host")]),
            "--volume /run:/host: /run/airtight is in it, of which nothing is given to a sandbox\n  fix: name a directory of data",
        ),
    ] {
        assert_eq!(told(&spec, &root()), want);
    }
}

#[test]
fn each_endpoint_that_must_not_be_is_told_with_its_fix() {
    let connects = |connect: Vec<_>| asked(|s| s.connect = connect);
    for (spec, want) in [
        (
            connects(vec![connect("redis", None, 0)]),
            "--connect redis:0: port 0 is no destination\n  fix: write --connect NAME[=ADDRESS]:PORT, like `redis=10.0.0.5:6379`",
        ),
        (
            connects(vec![connect("a b", None, 1)]),
            "--connect a b:1: is not a host name: labels of letters, digits, `-` and `_`, joined by dots\n  fix: write --connect NAME[=ADDRESS]:PORT, like `redis=10.0.0.5:6379`",
        ),
        (
            connects(vec![connect("127.1", None, 1)]),
            "--connect 127.1:1: ends in a number, which a libc reads as an address\n  fix: write --connect NAME[=ADDRESS]:PORT, like `redis=10.0.0.5:6379`",
        ),
        (
            connects(vec![connect("db", None, 1), connect("DB", None, 1)]),
            "--connect DB:1: the endpoint is named twice\n  fix: name each host and port once",
        ),
        (
            connects(vec![connect("localhost", None, 8080)]),
            "--connect localhost:8080: `localhost` is the sandbox itself\n  fix: give the endpoint another name, like `--connect db=127.0.0.1:8080`",
        ),
        (
            connects(vec![connect("8.8.8.8", None, 53)]),
            "--connect 8.8.8.8:53: 8.8.8.8 is a public address\n  fix: add --public if it was meant",
        ),
        (
            connects(vec![connect("api", Some("8.8.8.8"), 443)]),
            "--connect api=8.8.8.8:443: 8.8.8.8 is a public address\n  fix: add --public if it was meant",
        ),
        (
            connects(vec![connect("x", Some("0.0.0.0"), 443)]),
            "--connect x=0.0.0.0:443: 0.0.0.0 is the unspecified address\n  fix: name a host",
        ),
        (
            connects(vec![connect("224.0.0.1", None, 443)]),
            "--connect 224.0.0.1:443: 224.0.0.1 is a multicast address\n  fix: name a host",
        ),
        (
            connects(vec![connect("::ffff:10.0.0.1", None, 443)]),
            "--connect [::ffff:10.0.0.1]:443: the address is IPv4 in IPv6 dress\n  fix: write it as 10.0.0.1",
        ),
        (
            connects(vec![connect("64:ff9b::8.8.8.8", None, 443)]),
            "--connect [64:ff9b::808:808]:443: 64:ff9b::808:808 is a public address\n  fix: add --public if it was meant",
        ),
        (
            connects(vec![connect("169.254.169.254", None, 80)]),
            "planned",
        ),
        (
            connects(vec![connect("sidecar", Some("127.0.0.1"), 80)]),
            "planned",
        ),
        (
            asked(|s| {
                s.connect = vec![connect("8.8.8.8", None, 53)];
                s.public = true;
            }),
            "planned",
        ),
        (
            asked(|s| s.publish = vec![publish("127.0.0.1", 0, 80)]),
            "--publish 127.0.0.1:0:80: port 0 is no port\n  fix: write --publish [ADDRESS:]HOSTPORT:PORT with ports from 1",
        ),
        (
            asked(|s| s.publish = vec![publish("0.0.0.0", 80, 80), publish("127.0.0.1", 80, 81)]),
            "--publish 127.0.0.1:80:81: the host's port is published twice\n  fix: give each its own host port",
        ),
        (
            asked(|s| {
                s.publish = vec![publish("127.0.0.1", 80, 80)];
                s.connect = vec![connect("127.0.0.1", None, 80)];
            }),
            "--publish 127.0.0.1:80:80: 127.0.0.1 at that port is an endpoint inside\n  fix: give the endpoint a name: --connect NAME=127.0.0.1:80",
        ),
    ] {
        assert_eq!(told(&spec, &root()), want);
    }
    let no_gate = HostFacts {
        gate: None,
        ..root()
    };
    assert_eq!(
        told(&connects(vec![connect("redis", None, 6379)]), &no_gate),
        "airtight-gate: is not beside this binary, and endpoints need it\n  fix: install airtight-gate into the directory of this binary"
    );
    let no_ipv6 = HostFacts {
        ipv6: false,
        ..root()
    };
    assert_eq!(
        told(&connects(vec![connect("fd00::1", None, 80)]), &no_ipv6),
        "--connect [fd00::1]:80: this kernel has no IPv6\n  fix: give the endpoint a name: NAME=ADDRESS:PORT"
    );
}

#[test]
fn what_the_host_lacks_is_refused_by_name() {
    let audited = asked(|s| s.audit = Audit::Stderr);
    let limited = |limits| asked(|s| s.limits = limits);
    let bare = HostFacts {
        cgroup: Cgroup::default(),
        ..root()
    };
    let delegate = "run below a delegated cgroup (systemd-run --user --scope -p Delegate=yes …), as root, or without the limit";
    for (spec, facts, want) in [
        (
            spec(),
            HostFacts { landlock_abi: 0, ..root() },
            "landlock: this host cannot give it: the kernel has no Landlock (5.13, and `landlock` in the boot parameter lsm=)\n  fix: use a newer kernel, or go without by name: --accept-shortfall landlock".to_owned(),
        ),
        (
            spec(),
            HostFacts { landlock_abi: 2, ..root() },
            "landlock-net, landlock-scopes: this host cannot give it: Landlock's TCP rules need Linux 6.7; Landlock's scopes need Linux 6.12\n  fix: use a newer kernel, or go without by name: --accept-shortfall landlock-net --accept-shortfall landlock-scopes".to_owned(),
        ),
        (
            audited,
            HostFacts { seccomp_notify: false, ..root() },
            "audit-listener: this host cannot give it: telling refusals needs Linux 5.5 (or leave the audit off)\n  fix: use a newer kernel, or go without by name: --accept-shortfall audit-listener".to_owned(),
        ),
        (
            spec(),
            HostFacts { idmapped_mounts: false, ..root() },
            "idmapped-mounts: this host cannot give it: idmapped mounts below an overlay need Linux 5.19\n  fix: use a newer kernel, or go without by name: --accept-shortfall idmapped-mounts".to_owned(),
        ),
        (
            spec(),
            HostFacts { plain_layers: vec!["/overlay/merged".into()], ..root() },
            "idmapped-mounts: this host cannot give it: the file system of /overlay/merged takes no id map, so that its files are nobody's inside\n  fix: use a newer kernel, or go without by name: --accept-shortfall idmapped-mounts".to_owned(),
        ),
        (
            spec(),
            HostFacts { seccomp: false, ..root() },
            "seccomp: this kernel does not give it, and no launch goes without\n  fix: use a kernel with CONFIG_SECCOMP_FILTER".to_owned(),
        ),
        (
            spec(),
            HostFacts { user_namespaces: Have::No("user.max_user_namespaces is 0".into()), ..user() },
            "user namespaces: user.max_user_namespaces is 0\n  fix: turn them on: without one the payload would have ids of this host".to_owned(),
        ),
        (
            spec(),
            HostFacts { privileged: false, ..root() },
            "user namespaces: this root has no CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID, so only its own uid 0 could be mapped in\n  fix: run airtight as another user, or give it those capabilities".to_owned(),
        ),
        (
            asked(|s| s.process.additional_gids = vec![5]),
            user(),
            "--user: additional groups need subordinate ids, and this user has none that hold them\n  fix: give the user a range in /etc/subuid and /etc/subgid (usermod --add-subuids), or leave the groups out".to_owned(),
        ),
        (
            limited(Limits { memory: Some(64 << 20), ..Limits::default() }),
            bare.clone(),
            format!("--memory: no memory controller is delegated to this process\n  fix: {delegate}"),
        ),
        (
            limited(Limits { pids: Some(64), ..Limits::default() }),
            bare,
            format!("--pids: no pids controller is delegated to this process\n  fix: {delegate}"),
        ),
        (
            limited(Limits { cpu_millis: Some(500), ..Limits::default() }),
            user(),
            format!("--cpus: no cpu controller is delegated to this process\n  fix: {delegate}"),
        ),
        (
            limited(Limits { memory: Some(1), ..Limits::default() }),
            root(),
            "--memory: 1 bytes is too little to start\n  fix: ask for at least 4194304".to_owned(),
        ),
        (
            limited(Limits { pids: Some(1), ..Limits::default() }),
            root(),
            "--pids: 1 processes is too little to start\n  fix: ask for at least 2".to_owned(),
        ),
    ] {
        assert_eq!(told(&spec, &facts), want);
    }
}

#[test]
fn what_the_policy_lacks_is_refused_even_if_the_caller_did_not_ask_it() {
    let base = shipped("base").unwrap().policy();
    for (spec, want) in [
        (
            asked(|s| s.connect = vec![connect("redis", None, 1)]),
            "--connect redis:1",
        ),
        (asked(|s| s.public = true), "--public"),
        (asked(|s| s.listen = [80].into()), "--listen 80"),
        (
            asked(|s| {
                s.tmpfs = vec![Tmpfs {
                    path: "/a".into(),
                    size: 1,
                }]
            }),
            "--tmpfs /a",
        ),
    ] {
        assert_eq!(plan(&spec, &base, &root()).unwrap_err().ask, want);
    }
}

#[test]
fn an_accepted_control_that_is_there_stays_on() {
    let spec = asked(|s| s.accepted = Control::ALL.into());
    assert_eq!(
        planned("", &spec, &root()),
        planned("", &asked(|_| {}), &root())
    );
}

#[test]
fn a_control_has_one_name() {
    for control in Control::ALL {
        assert_eq!(control.to_string().parse(), Ok(control));
        assert_eq!(serde_json::to_value(control).unwrap(), control.name());
    }
    assert_eq!(
        "apparmor".parse::<Control>().unwrap_err(),
        "`apparmor` is not a control; the controls are landlock, landlock-net, landlock-scopes, memfd-noexec, audit-listener, idmapped-mounts"
    );
}
