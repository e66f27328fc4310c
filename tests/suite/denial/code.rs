//! Invariant 2: no code runs that is not in the layers.

use airtight_tests::{Need, Without, World, has};

use super::{LANDLOCK, SECCOMP, bites, denied};
use crate::errno::{EACCES, EPERM};
use crate::every_caller;

#[test]
fn privileged_no_new_code_runs() {
    denied(&[
        (&["exec-from", "/tmp"], EACCES),
        (&["exec-from", "/dev/shm"], EACCES),
        (&["mmap-write-execute"], EPERM),
        (&["mmap-execute"], EPERM),
        (&["mprotect-execute"], EPERM),
        (&["pkey-mprotect-execute"], EPERM),
        (&["memfd-exec"], EPERM),
        (&["memfd-exec-plain"], EPERM),
        (&["shm-execute"], EPERM),
        (&["mmap-execute-file"], EPERM),
        (&["personality-read-implies-exec"], EPERM),
    ]);
}

#[test]
fn privileged_executable_memory_is_denied_by_the_filter_and_by_the_kernel() {
    bites(
        &[],
        &[SECCOMP, Without::Step("deny-write-execute")],
        &["mmap-write-execute"],
    );
    bites(
        &[],
        &[SECCOMP, Without::Step("deny-write-execute")],
        &["mprotect-execute"],
    );
}

#[test]
fn privileged_a_new_file_is_not_executed_by_landlock_alone_nor_by_the_mount_alone() {
    if !has(&[Need::Root]) {
        return;
    }
    let world = World::new().unwrap();
    let report = world
        .attempt_without(&[], &[LANDLOCK], &["exec-from", "/tmp"])
        .unwrap();
    assert_eq!(report.of("exec-from").errno, EACCES, "noexec: {report:?}");
}

#[test]
fn privileged_a_memory_file_is_not_executed() {
    let sysctl = Without::StepWith("sysctl", "memfd_noexec");
    bites(&[], &[SECCOMP, sysctl], &["memfd-exec"]);
}

#[test]
fn privileged_a_program_that_asks_for_an_executable_stack_runs_under_jit_only() {
    let Some(worlds) = every_caller() else { return };
    let mut program = std::fs::read(airtight_tests::binary("airtight-prober")).unwrap();
    let word = |at: usize, length: usize| {
        let bytes = program[at..at + length].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (start, count) = (word(32, 8), word(56, 2));
    let stack = (0..count)
        .map(|at| start + at * 56)
        .find(|at| word(*at, 4) == 0x6474_e551)
        .unwrap();
    // PF_X of PT_GNU_STACK.
    program[stack + 4] |= 1;
    let world = &worlds[0];
    let file = world.write("work/stack/prober", program).unwrap();
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.write("work/stack/airtight.toml", "format = 1\nname = \"test/stack\"\nbase = \"scratch\"\n[[layer]]\nname = \"app\"\ncopy = [{ from = \"prober\", to = \"/app/prober\" }]\n[config]\nentrypoint = [\"/app/prober\"]\n").unwrap();
    let built = world
        .airtight(["build", &world.shown("work/stack")])
        .unwrap();
    assert_eq!(built.code, Some(0), "{built:?}");
    let ran = world.airtight(["run", "test/stack", "--", "say"]).unwrap();
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(
        ran.stderr.contains("app/prober") && ran.stderr.contains("fix:"),
        "{ran:?}"
    );
    let ran = world
        .airtight(["run", "--profile", "jit", "test/stack", "--", "say"])
        .unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
