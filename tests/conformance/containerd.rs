//! containerd's own shim with ours for its runc: `ctr --runc-binary`, against a containerd that the test starts and ends, with a root, a state and a socket of its own.

use std::process::Command;

use airtight_tests::{Need, binary, has};

/// `$1` a directory of the test's, `$2` what containerd calls runc, `$3` the user that a payload is to be.
const SCRIPT: &str = r#"
cd "$1"; runtime=$2; user=$3
mkdir -p image/bin image/tmp image/proc image/dev image/sys image/etc
cp /bin/busybox image/bin
for applet in sh id cat sleep; do ln -s busybox image/bin/$applet; done
umoci init --layout layout && umoci new --image layout:box && umoci insert --image layout:box image / && umoci config --image layout:box --config.cmd /bin/sh
tar -C layout -cf image.tar .
cat > config.toml <<CONF
version = 2
root = "$PWD/root"
state = "$PWD/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$PWD/grpc.sock"
[ttrpc]
address = "$PWD/ttrpc.sock"
CONF
containerd -c config.toml > log 2>&1 & daemon=$!
# A namespace of its own: shims and groups are named by it.
c() { timeout 60 ctr --address "$PWD/grpc.sock" --namespace "airtight-test-$$" "$@"; }
end() {
  for id in one two; do c task rm --force $id; c container rm $id; done >/dev/null 2>&1
  kill $daemon; wait $daemon
  rmdir /sys/fs/cgroup/{,*/}airtight-test-$$ 2>/dev/null
  grep -F " $PWD/" /proc/self/mounts | cut -d' ' -f2 | sort -r | while read -r mount; do umount -l "$mount"; done
}
trap end EXIT
until c version >/dev/null 2>&1; do kill -0 $daemon || exit 9; sleep 0.1; done
c image import --base-name docker.io/local/box image.tar >/dev/null
exec 3>&1 1>&2
tell() { echo "$@" >&3; }
state() { c task ls | awk '$1 == "two" { print $3 }'; }
tell "run $(c run --rm --runc-root "$PWD/runc" --runc-binary "$runtime" docker.io/local/box:box one /bin/sh -c 'echo "uid $(id -u)"; exit 7'; echo $?)"
c run -d --runc-root "$PWD/runc" --runc-binary "$runtime" docker.io/local/box:box two /bin/sleep 1000
tell "started $(state)"
tell "exec $(c task exec --exec-id first two /bin/sh -c 'echo "uid $(id -u)"; exit 3'; echo $?)"
c task pause two; tell "paused $(state)"
c task resume two; tell "resumed $(state)"
tell "ps $(c task ps two | wc -l)"
tell "metrics $(c task metrics two | grep -c memory.usage_in_bytes)"
c task kill -s KILL two
until [ "$(state)" = STOPPED ]; do sleep 0.05; done
c task rm two
c container rm two
tell "left $(c task ls -q | wc -l)"
"#;

fn holds(flags: &str, user: &str) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = dir.path().join("runtime");
    let text = format!(
        "#!/bin/sh\nexec {} {flags} \"$@\"\n",
        binary("airtight-runtime").display()
    );
    std::fs::write(&runtime, text).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&runtime, executable).unwrap();
    let output = Command::new("timeout")
        .args(["120", "bash", "-c", SCRIPT, "bash"])
        .arg(dir.path())
        .arg(&runtime)
        .arg(user)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let user = format!("uid {user}");
    let want = format!(
        "run {user}\n7\nstarted RUNNING\nexec {user}\n3\npaused PAUSED\nresumed RUNNING\nps 2\nmetrics 1\nleft 0\n"
    );
    assert_eq!(stdout, want, "{stderr}");
}

fn is_here() -> bool {
    has(&[
        Need::Root,
        Need::File("/bin/busybox"),
        Need::Program("containerd"),
        Need::Program("umoci"),
    ])
}

#[test]
fn privileged_containerd_runs_bundles_as_they_say() {
    if is_here() {
        holds("--compat", "0");
    }
}

#[test]
fn privileged_containerds_containers_are_sandboxes() {
    if is_here() {
        holds(
            "--on-excess narrow --accept-shortfall idmapped-mounts",
            "65532",
        );
    }
}
