//! The command line as typed: runc's, whose callers are many, and a few words of our own. Options may stand before or after the container's id.

use std::path::PathBuf;

use airtight_plan::Control;
use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Launch an OCI bundle, confined by airtight
#[derive(Debug, Parser)]
#[command(
    name = "airtight-runtime",
    disable_version_flag = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) top: Top,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What stands before a verb.
#[derive(Debug, ClapArgs)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Print the version
    #[arg(short = 'v', long)]
    pub(crate) version: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Global {
    /// Directory for state [default: /run/airtight as root, else $XDG_RUNTIME_DIR/airtight]; compiled filters are kept in it
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Append errors to FILE too
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How --log writes them
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Log the plan and how long each step took
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Honour the bundle as other runtimes do, instead of narrowing it to a profile
    #[arg(long, global = true)]
    pub(crate) compat: bool,
    /// What the payload may do: base, service, jit, build, or a path of a *.profile.toml [default: the annotation
    /// dev.airtight.profile.v1, else base]
    #[arg(long, global = true, value_name = "NAME|FILE")]
    pub(crate) profile: Option<String>,
    /// What becomes of a bundle that asks for more than its profile and the host's ceiling allow
    #[arg(long, global = true, value_enum)]
    pub(crate) on_excess: Option<OnExcess>,
    /// Go without a control that this host cannot give, by its name (see `airtight doctor`). Repeatable
    #[arg(long, global = true, value_name = "NAME", value_parser = control)]
    pub(crate) accept_shortfall: Vec<Control>,
    /// Take cgroupsPath as SLICE:PREFIX:NAME, as systemd names groups
    #[arg(long, global = true)]
    pub(crate) systemd_cgroup: bool,
    /// Whether failures that a caller without root cannot help are passed over
    #[arg(long, value_enum, default_value_t = Rootless::Auto)]
    pub(crate) rootless: Rootless,
    /// Taken and not used: checkpoints are not offered
    #[arg(long, global = true, hide = true, value_name = "PATH")]
    pub(crate) criu: Option<PathBuf>,
}

fn control(name: &str) -> Result<Control, String> {
    name.parse()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnExcess {
    /// Refuse it with the list
    Refuse,
    /// Leave out what is too much
    Narrow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rootless {
    True,
    False,
    Auto,
}

#[derive(Debug, Subcommand)]
// What a verb takes is put together when it is the one that was typed.
#[command(defer = true)]
pub(crate) enum Command {
    /// Make a container that waits for `start`
    Create(CreateArgs),
    /// Start what `create` made
    Start { id: String },
    /// Create, start, and wait for the end
    Run(RunArgs),
    /// Print the state of a container
    State { id: String },
    /// Send a signal to a container's first process
    Kill {
        /// To every process of the container
        #[arg(short, long)]
        all: bool,
        id: String,
        /// A name with or without SIG, or a number
        #[arg(default_value = "SIGTERM", allow_hyphen_values = true)]
        signal: String,
    },
    /// Remove a stopped container
    Delete {
        /// Kill it first if it runs; one that is not there is no error
        #[arg(short, long)]
        force: bool,
        id: String,
    },
    /// Run one more process in a container
    Exec(Box<ExecArgs>),
    /// List the containers below --root
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t = ListFormat::Table)]
        format: ListFormat,
        /// Ids only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Print the processes of a container
    Ps {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t = ListFormat::Table)]
        format: ListFormat,
        id: String,
        /// Options of ps(1) instead of -ef
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Stop every process of a container where it is
    Pause { id: String },
    /// Let the processes of a paused container go on
    Resume { id: String },
    /// Change the limits of a container
    Update(Box<UpdateArgs>),
    /// Print what a container uses, each time an interval has passed, and when it ran out of memory
    Events {
        /// Between two lines, like 5s or 1m30s
        #[arg(long, default_value = "5s", value_name = "TIME")]
        interval: String,
        /// Once, and at once
        #[arg(long)]
        stats: bool,
        id: String,
    },
    /// Write a config.json that this runtime takes, as a start
    Spec {
        /// Where to write it
        #[arg(short, long, default_value = ".", value_name = "DIR")]
        bundle: PathBuf,
        /// For a caller without root
        #[arg(long = "rootless")]
        for_rootless: bool,
    },
    /// Print what this runtime can do, as features.md of the OCI runtime specification has it
    Features,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    Table,
    Json,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CreateArgs {
    /// Where config.json is
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// Socket that gets the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Socket that gets a pidfd of the container's first process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Write the number of the container's first process to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Move the root instead of pivoting, for a host whose own root is the initial ramfs
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Hand N descriptors from 3 on to the container, besides those of $LISTEN_FDS
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) preserve_fds: u32,
    /// Letters, digits, `_`, `+`, `-`, `.`
    pub(crate) id: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) create: CreateArgs,
    /// Return when it runs
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Leave the container's state after its end
    #[arg(long)]
    pub(crate) keep: bool,
    /// Taken and not used: nothing of the container becomes a child of this command
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExecArgs {
    /// Socket that gets the master of the process's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Socket that gets a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Add KEY=VALUE to the environment
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// With a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    #[arg(short, long, value_name = "UID[:GID]", help = "As this user")]
    pub(crate) user: Option<String>,
    /// Further groups
    #[arg(short = 'g', long, value_name = "GID", value_delimiter = ',')]
    pub(crate) additional_gids: Vec<u32>,
    /// Read the process from FILE, in the form of config.json's `process`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Return when it runs
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Write the number of the process to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// It can gain no privilege
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Add a capability
    #[arg(short, long, value_name = "CAP")]
    pub(crate) cap: Vec<String>,
    /// Hand N descriptors from 3 on to the process
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) preserve_fds: u32,
    /// Join this group below the container's own, or CONTROLLER:PATH on v1
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Vec<String>,
    /// Even if the container is paused
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Taken and not used: nothing of the container becomes a child of this command
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    pub(crate) no_subreaper: bool,
    pub(crate) id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Default, ClapArgs)]
pub(crate) struct UpdateArgs {
    /// Read the limits from FILE, or - for stdin, in the form of config.json's `linux.resources`; other options are ignored then
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Share of block devices, 10 to 1000
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) blkio_weight: Option<u16>,
    /// Microseconds in which a quota is used up
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub(crate) cpu_period: Option<String>,
    /// Microseconds of each period; -1 is all of it
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<String>,
    /// Microseconds that a period may use of earlier ones
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub(crate) cpu_burst: Option<String>,
    /// Share of the processors against other groups
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) cpu_share: Option<String>,
    /// Microseconds in which the real-time runtime is used up
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub(crate) cpu_rt_period: Option<String>,
    /// Microseconds of each real-time period
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub(crate) cpu_rt_runtime: Option<String>,
    /// 1: only when nobody else wants to
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub(crate) cpu_idle: Option<String>,
    /// Processors, like 0-2,5
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes, like 0-1
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Bytes, or like 64M; -1 is no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory: Option<String>,
    /// What it is brought back to when the host runs short
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<String>,
    /// Memory and swap together; -1 is no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Taken and not used: kernels have no such limit any more
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub(crate) kernel_memory: Option<String>,
    /// Buffers of TCP sockets, on cgroup v1
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub(crate) kernel_memory_tcp: Option<String>,
    /// Processes; -1 is no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Not offered: Intel RDT's L3 cache schema
    #[arg(long, hide = true)]
    pub(crate) l3_cache_schema: Option<String>,
    /// Not offered: Intel RDT's memory bandwidth schema
    #[arg(long, hide = true)]
    pub(crate) mem_bw_schema: Option<String>,
    pub(crate) id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_every_argument_has_help() {
        let mut command = Args::command();
        command.build();
        command.clone().debug_assert();
        for verb in command.get_subcommands() {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
            for argument in verb.get_arguments() {
                let named = ["id"].contains(&argument.get_id().as_str());
                assert!(
                    named || argument.is_hide_set() || argument.get_help().is_some(),
                    "{} {}",
                    verb.get_name(),
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn options_stand_on_either_side_of_the_id_but_not_in_a_program() {
        let parse = |line: &str| {
            let words = line.split(' ');
            Args::try_parse_from(["airtight-runtime"].into_iter().chain(words)).unwrap()
        };
        for line in [
            "create c --bundle /b",
            "create --bundle /b c",
            "create -b /b c",
        ] {
            let Some(Command::Create(create)) = parse(line).command else {
                panic!("{line}")
            };
            assert_eq!((create.id.as_str(), create.bundle), ("c", "/b".into()));
        }
        let Some(Command::Exec(exec)) = parse("--root /r exec -e A=B c ls -l --root /x").command
        else {
            panic!("exec")
        };
        assert_eq!(exec.command, ["ls", "-l", "--root", "/x"]);
        let Some(Command::Kill { signal, .. }) = parse("kill c -9").command else {
            panic!("kill")
        };
        assert_eq!(signal, "-9");
    }

    #[test]
    fn verbs_that_are_not_offered_are_unknown() {
        for verb in ["checkpoint", "restore"] {
            let error = Args::try_parse_from(["airtight-runtime", verb, "id"]).unwrap_err();
            assert_eq!(
                error.kind(),
                clap::error::ErrorKind::InvalidSubcommand,
                "{verb}"
            );
        }
    }
}
