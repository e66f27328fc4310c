//! Transfers of block devices: a list for each kind of count, in either version's files.

use airtight_sys::Result as SysResult;
use serde_json::{Map, Value, json};

use super::super::dir::Dir;
use super::{put, put_some};

/// Files of v1 and the keys that they fill. The first set whose first file tells something is the one of the scheduler in use.
const SETS: [&[(&str, &str)]; 5] = [
    &[
        ("blkio.bfq.sectors_recursive", "sectorsRecursive"),
        (
            "blkio.bfq.io_service_time_recursive",
            "ioServiceTimeRecursive",
        ),
        ("blkio.bfq.io_wait_time_recursive", "ioWaitTimeRecursive"),
        ("blkio.bfq.io_merged_recursive", "ioMergedRecursive"),
        ("blkio.bfq.io_queued_recursive", "ioQueueRecursive"),
        ("blkio.bfq.time_recursive", "ioTimeRecursive"),
        ("blkio.bfq.io_serviced_recursive", "ioServicedRecursive"),
        (
            "blkio.bfq.io_service_bytes_recursive",
            "ioServiceBytesRecursive",
        ),
    ],
    &[
        ("blkio.bfq.io_serviced_recursive", "ioServicedRecursive"),
        (
            "blkio.bfq.io_service_bytes_recursive",
            "ioServiceBytesRecursive",
        ),
    ],
    &[
        ("blkio.sectors_recursive", "sectorsRecursive"),
        ("blkio.io_service_time_recursive", "ioServiceTimeRecursive"),
        ("blkio.io_wait_time_recursive", "ioWaitTimeRecursive"),
        ("blkio.io_merged_recursive", "ioMergedRecursive"),
        ("blkio.io_queued_recursive", "ioQueueRecursive"),
        ("blkio.time_recursive", "ioTimeRecursive"),
        ("blkio.io_serviced_recursive", "ioServicedRecursive"),
        (
            "blkio.io_service_bytes_recursive",
            "ioServiceBytesRecursive",
        ),
    ],
    &[
        (
            "blkio.throttle.io_serviced_recursive",
            "ioServicedRecursive",
        ),
        (
            "blkio.throttle.io_service_bytes_recursive",
            "ioServiceBytesRecursive",
        ),
    ],
    &[
        ("blkio.throttle.io_serviced", "ioServicedRecursive"),
        ("blkio.throttle.io_service_bytes", "ioServiceBytesRecursive"),
    ],
];

pub(super) fn v1(dir: &Dir) -> SysResult<Map<String, Value>> {
    let mut told = Map::new();
    for set in SETS {
        for (file, key) in set {
            let entries = dir
                .read_if_there(file)?
                .map(|text| parse_v1(&text))
                .unwrap_or_default();
            put_some(&mut told, key, entries);
        }
        if !told.is_empty() {
            break;
        }
    }
    Ok(told)
}

pub(super) fn v2(dir: &Dir) -> SysResult<Map<String, Value>> {
    let mut told = Map::new();
    let text = dir.read_if_there("io.stat")?.unwrap_or_default();
    let (bytes, operations) = parse_v2(&text);
    put_some(&mut told, "ioServiceBytesRecursive", bytes);
    put_some(&mut told, "ioServicedRecursive", operations);
    Ok(told)
}

/// `8:0 Read 5`; or without an operation.
fn parse_v1(text: &str) -> Vec<Value> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = device(words.next()?)?;
        let rest: Vec<&str> = words.collect();
        match rest.as_slice() {
            [value] => Some(entry(major, minor, "", value.parse().ok()?)),
            [operation, value] => Some(entry(major, minor, operation, value.parse().ok()?)),
            _ => None,
        }
    };
    text.lines().filter_map(line).collect()
}

/// `8:0 rbytes=1 wbytes=2 rios=3 …`
fn parse_v2(text: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(device) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => bytes.push(entry(major, minor, "Read", value)),
                "wbytes" => bytes.push(entry(major, minor, "Write", value)),
                "rios" => operations.push(entry(major, minor, "Read", value)),
                "wios" => operations.push(entry(major, minor, "Write", value)),
                _ => {}
            }
        }
    }
    (bytes, operations)
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn entry(major: u64, minor: u64, operation: &str, value: u64) -> Value {
    let mut map = Map::new();
    put_some(&mut map, "major", major);
    put_some(&mut map, "minor", minor);
    if !operation.is_empty() {
        put(&mut map, "op", json!(operation));
    }
    put_some(&mut map, "value", value);
    map.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_devices_and_operations() {
        assert_eq!(
            parse_v1("8:0 Read 4096\n8:0 Write 0\n8:16 7\nTotal 4096\n"),
            [
                json!({ "major": 8, "op": "Read", "value": 4096 }),
                json!({ "major": 8, "op": "Write" }),
                json!({ "major": 8, "minor": 16, "value": 7 }),
            ]
        );
        let (bytes, operations) =
            parse_v2("254:1 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\nbad\n");
        assert_eq!(
            bytes,
            [
                json!({ "major": 254, "minor": 1, "op": "Read", "value": 1 }),
                json!({ "major": 254, "minor": 1, "op": "Write", "value": 2 }),
            ]
        );
        assert_eq!(operations.len(), 2);
    }
}
