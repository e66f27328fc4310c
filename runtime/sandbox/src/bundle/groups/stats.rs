//! What a container uses, in the shape of `runc events --stats`: callers read its keys, and leave out what it leaves out.

mod block_io;
mod v1;
mod v2;

use airtight_sys::Result as SysResult;
use serde_json::{Map, Value, json};

use super::Groups;
use super::dir::{Dir, number};
use crate::error::Cause;

impl Groups {
    /// The `data` of an event of type `stats`. A group that is not there has used nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stats(&self) -> Result<Value, Cause> {
        let v2 = if self.only_unified() {
            self.unified()?
        } else {
            None
        };
        let part = match &v2 {
            Some(dir) => v2::stats(dir)?,
            None => v1::stats(self)?,
        };
        let Parts {
            cpu,
            cpuset,
            memory,
            pids,
            block_io,
            hugepages,
        } = part;
        Ok(json!({
            "cpu": cpu,
            "cpuset": cpuset,
            "memory": memory,
            "pids": pids,
            "blkio": block_io,
            "hugetlb": hugepages,
            "intel_rdt": {},
            "network_interfaces": null,
        }))
    }
}

/// One for each key.
#[derive(Debug, Default)]
struct Parts {
    cpu: Map<String, Value>,
    cpuset: Map<String, Value>,
    memory: Map<String, Value>,
    pids: Map<String, Value>,
    block_io: Map<String, Value>,
    hugepages: Map<String, Value>,
}

/// Present whatever it is.
fn put(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    map.insert(key.to_owned(), value.into());
}

/// Left out where it is nothing.
fn put_some(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    let value = value.into();
    let nothing = match &value {
        Value::Null => true,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::String(_) => false,
    };
    if !nothing {
        map.insert(key.to_owned(), value);
    }
}

/// `limit` and `failcnt` are always told.
fn entry(limit: u64, usage: u64, most: u64, failed: u64) -> Map<String, Value> {
    let mut map = Map::new();
    put(&mut map, "limit", limit);
    put_some(&mut map, "usage", usage);
    put_some(&mut map, "max", most);
    put(&mut map, "failcnt", failed);
    map
}

/// Lines of a name and a number.
fn table(text: &str) -> Map<String, Value> {
    let row = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), number(value.trim())?.into()))
    };
    text.lines().filter_map(row).collect()
}

fn cell(table: &Map<String, Value>, name: &str) -> u64 {
    table.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// `0-2,5` as numbers.
fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse().ok()?..=to.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// A file's number, or 0 without the file.
fn count(dir: &Dir, file: &str) -> SysResult<u64> {
    Ok(dir.number(file)?.unwrap_or(0))
}

/// Page sizes that this kernel counts, from the names of the files of `dir`.
fn page_sizes(dir: &Dir) -> SysResult<Vec<String>> {
    let mut sizes: Vec<String> = dir
        .files()?
        .iter()
        .filter_map(|name| {
            name.to_str()?
                .strip_prefix("hugetlb.")?
                .split('.')
                .next()
                .map(str::to_owned)
        })
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}

/// Pressure: `some` and `full`, where the kernel measures it.
fn pressure(dir: &Dir, file: &str) -> SysResult<Value> {
    // Built in and turned off, it is there and cannot be read.
    let text = match dir.read_if_there(file) {
        Err(error) if error.errno == nix::errno::Errno::EOPNOTSUPP => None,
        read => read?,
    };
    Ok(text.map_or(Value::Null, |text| parse_pressure(&text)))
}

fn parse_pressure(text: &str) -> Value {
    let mut told = Map::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(kind) = words.next() else { continue };
        let mut row = Map::new();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = match key {
                "total" => value.parse::<u64>().ok().map(Value::from),
                _ => value.parse::<f64>().ok().map(Value::from),
            };
            row.extend(value.map(|value| (key.to_owned(), value)));
        }
        told.insert(kind.to_owned(), row.into());
    }
    told.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nothing_is_left_out_as_runc_does() {
        assert_eq!(
            Value::from(entry(5, 0, 0, 0)),
            json!({ "limit": 5, "failcnt": 0 })
        );
        assert_eq!(
            Value::from(entry(5, 1, 2, 3)),
            json!({ "limit": 5, "usage": 1, "max": 2, "failcnt": 3 })
        );
    }

    #[test]
    fn files_of_the_kernel_are_read() {
        assert_eq!(list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(list("\n"), [0_u16; 0]);
        assert_eq!(list("x,3-1,2"), [2]);
        assert_eq!(
            Value::from(table("cache 5\nrss max\nbad\nworse x\n")),
            json!({ "cache": 5, "rss": u64::MAX })
        );
        assert_eq!(
            parse_pressure(
                "some avg10=0.50 avg60=1.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
            ),
            json!({
                "some": { "avg10": 0.5, "avg60": 1.0, "avg300": 0.0, "total": 7 },
                "full": { "avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 0 },
            })
        );
    }
}
