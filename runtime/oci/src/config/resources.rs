//! `linux.resources`, of a config.json or of a file given to `update`.

use airtight_plan::bundle::{BlockIo, Cpu, DeviceKind, DeviceRule, Memory, Resources};

use crate::document::{Object, Problems};

pub(super) fn resources(mut all: Object, problems: &mut Problems) -> Resources {
    let object = &mut all;
    let mut network = object.object("network", problems);
    let asked = Resources {
        devices: devices(object, problems),
        memory: object
            .object("memory", problems)
            .map(|memory| self::memory(memory, problems))
            .unwrap_or_default(),
        cpu: object
            .object("cpu", problems)
            .map(|cpu| self::cpu(cpu, problems))
            .unwrap_or_default(),
        pids: object
            .object("pids", problems)
            .and_then(|mut pids| pids.number("limit", problems)),
        block_io: object
            .object("blockIO", problems)
            .map(|block| block_io(block, problems))
            .unwrap_or_default(),
        hugepages: hugepages(object, problems),
        network_class: network
            .as_mut()
            .and_then(|network| network.number("classID", problems)),
        network_priorities: network
            .map(|network| priorities(network, problems))
            .unwrap_or_default(),
        rdma: object
            .named("rdma", problems)
            .into_iter()
            .map(|(device, mut rdma)| {
                let handles = rdma.number("hcaHandles", problems);
                (device, handles, rdma.number("hcaObjects", problems))
            })
            .collect(),
        unified: object.text_map("unified", problems),
    };
    all.rest(problems);
    asked
}

fn devices(resources: &mut Object, problems: &mut Problems) -> Vec<DeviceRule> {
    let mut rules = Vec::new();
    for mut rule in resources.objects("devices", problems) {
        let (kind_key, access_key) = (rule.key("type"), rule.key("access"));
        let kind = match rule.text("type", problems).as_deref() {
            None | Some("" | "a") => DeviceKind::Any,
            Some("c" | "u") => DeviceKind::Character,
            Some("b") => DeviceKind::Block,
            Some(_) => {
                problems.add(&kind_key, "is not a, b or c");
                continue;
            }
        };
        let access = match rule.text("access", problems) {
            Some(access) if !access.is_empty() => access,
            _ => "rwm".to_owned(),
        };
        if access.chars().any(|c| !"rwm".contains(c)) {
            // Other runtimes take what they know of it.
            problems.warn(format!(
                "`{access_key}`: has letters that are not r, w or m"
            ));
        }
        rules.push(DeviceRule {
            allow: rule.flag("allow", problems).unwrap_or(false),
            kind,
            major: number_of_device(&mut rule, "major", problems),
            minor: number_of_device(&mut rule, "minor", problems),
            read: access.contains('r'),
            write: access.contains('w'),
            mknod: access.contains('m'),
        });
    }
    rules
}

/// -1 is any, as left out.
fn number_of_device(rule: &mut Object, key: &str, problems: &mut Problems) -> Option<u32> {
    let number: i64 = rule.number(key, problems)?;
    if number == -1 {
        return None;
    }
    u32::try_from(number).ok().or_else(|| {
        problems.add(&rule.key(key), "is not a device number");
        None
    })
}

fn memory(mut memory: Object, problems: &mut Problems) -> Memory {
    let asked = Memory {
        limit: memory.number("limit", problems),
        reservation: memory.number("reservation", problems),
        swap: memory.number("swap", problems),
        kernel: memory.number("kernel", problems),
        kernel_tcp: memory.number("kernelTCP", problems),
        swappiness: memory.number("swappiness", problems),
        disable_oom_killer: memory.flag("disableOOMKiller", problems),
        use_hierarchy: memory.flag("useHierarchy", problems),
        check_before_update: memory.flag("checkBeforeUpdate", problems).unwrap_or(false),
    };
    memory.rest(problems);
    asked
}

fn cpu(mut cpu: Object, problems: &mut Problems) -> Cpu {
    let mut list = |key: &str| cpu.text(key, problems).filter(|text| !text.is_empty());
    let (cpus, mems) = (list("cpus"), list("mems"));
    let asked = Cpu {
        shares: cpu.number("shares", problems),
        quota: cpu.number("quota", problems),
        burst: cpu.number("burst", problems),
        period: cpu.number("period", problems),
        realtime_runtime: cpu.number("realtimeRuntime", problems),
        realtime_period: cpu.number("realtimePeriod", problems),
        cpus,
        mems,
        idle: cpu.number("idle", problems),
    };
    cpu.rest(problems);
    asked
}

fn block_io(mut block: Object, problems: &mut Problems) -> BlockIo {
    let mut weight_device = Vec::new();
    for mut device in block.objects("weightDevice", problems) {
        weight_device.push((
            device.number("major", problems).unwrap_or(0),
            device.number("minor", problems).unwrap_or(0),
            device.number("weight", problems),
            device.number("leafWeight", problems),
        ));
    }
    let asked = BlockIo {
        weight: block.number("weight", problems),
        leaf_weight: block.number("leafWeight", problems),
        weight_device,
        read_bps: rates(&mut block, "throttleReadBpsDevice", problems),
        write_bps: rates(&mut block, "throttleWriteBpsDevice", problems),
        read_iops: rates(&mut block, "throttleReadIOPSDevice", problems),
        write_iops: rates(&mut block, "throttleWriteIOPSDevice", problems),
    };
    block.rest(problems);
    asked
}

fn rates(block: &mut Object, key: &str, problems: &mut Problems) -> Vec<(i64, i64, u64)> {
    let mut rates = Vec::new();
    for mut device in block.objects(key, problems) {
        rates.push((
            device.number("major", problems).unwrap_or(0),
            device.number("minor", problems).unwrap_or(0),
            device.number("rate", problems).unwrap_or(0),
        ));
    }
    rates
}

fn hugepages(resources: &mut Object, problems: &mut Problems) -> Vec<(String, u64)> {
    let mut limits = Vec::new();
    for mut limit in resources.objects("hugepageLimits", problems) {
        let key = limit.key("pageSize");
        let size = limit.text("pageSize", problems).unwrap_or_default();
        // It becomes part of a file's name.
        if size.is_empty() || !size.chars().all(|c| c.is_ascii_alphanumeric()) {
            problems.add(&key, "is not a page size (2MB)");
        }
        limits.push((size, limit.number("limit", problems).unwrap_or(0)));
    }
    limits
}

fn priorities(mut network: Object, problems: &mut Problems) -> Vec<(String, u32)> {
    let mut priorities = Vec::new();
    for mut priority in network.objects("priorities", problems) {
        let name = priority.text("name", problems).unwrap_or_default();
        priorities.push((name, priority.number("priority", problems).unwrap_or(0)));
    }
    priorities
}
