//! `state` and `list`.

use std::os::unix::fs::MetadataExt as _;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;

use crate::args::{Global, ListFormat};
use crate::record::Record;
use crate::report::{self, Failure};
use crate::state::{Home, Root, Status};

pub(crate) fn state(global: &Global, id: &str) -> Result<(), Failure> {
    let home = Root::find(global.root.as_deref())?.home(id)?;
    let record = home.known()?;
    report::print_json(&shown(&home, &record, ""))
}

/// The specification's keys, and those that runc's callers read, in runc's order: there are scripts that cut them out of the text.
struct Shown(Value);

const KEYS: [&str; 9] = [
    "ociVersion",
    "id",
    "pid",
    "status",
    "bundle",
    "rootfs",
    "created",
    "annotations",
    "owner",
];

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for key in KEYS {
            if let Some(value) = self.0.get(key) {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

fn shown(home: &Home, record: &Record, owner: &str) -> Shown {
    let status = home.status(record);
    let pid = match (status, record.process) {
        (Status::Stopped | Status::Creating, _) | (_, None) => 0,
        (_, Some(process)) => process.pid,
    };
    let mut state = record.document.json(status.name(), Some(pid));
    state["rootfs"] = record.rootfs.to_string_lossy().into();
    state["created"] = record.created.as_str().into();
    state["owner"] = owner.into();
    Shown(state)
}

pub(crate) fn list(global: &Global, format: ListFormat, quiet: bool) -> Result<(), Failure> {
    let root = Root::find(global.root.as_deref())?;
    let ids = root.ids()?;
    if quiet {
        let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
        return report::print(&text);
    }
    let mut rows = Vec::new();
    for id in ids {
        match row(&root, &id) {
            Ok(row) => rows.push(row),
            // Deleted meanwhile, or cut short: the others are still to be told.
            Err(failure) => report::warn(global, &format!("load container {id}: {failure}")),
        }
    }
    match format {
        // As runc has it for none.
        ListFormat::Json if rows.is_empty() => report::print("null\n"),
        ListFormat::Json => {
            let text =
                serde_json::to_string(&rows).map_err(|error| Failure::Output(error.into()))?;
            report::print(&format!("{text}\n"))
        }
        ListFormat::Table => report::print(&table(&rows)),
    }
}

fn row(root: &Root, id: &str) -> Result<Shown, Failure> {
    let home = root.home(id)?;
    let record = home.known()?;
    let uid = std::fs::metadata(home.dir())
        .map_err(|error| Failure::io(&home.dir().display().to_string(), &error))?
        .uid();
    Ok(shown(&home, &record, &user(uid)))
}

/// By name, else `#` and the number.
fn user(uid: u32) -> String {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

/// Columns as wide as their widest entry and three blanks, but no narrower than twelve.
fn table(rows: &[Shown]) -> String {
    const COLUMNS: [(&str, &str); 6] = [
        ("ID", "id"),
        ("PID", "pid"),
        ("STATUS", "status"),
        ("BUNDLE", "bundle"),
        ("CREATED", "created"),
        ("OWNER", "owner"),
    ];
    let mut lines = vec![COLUMNS.map(|(title, _)| title.to_owned())];
    lines.extend(rows.iter().map(|row| {
        COLUMNS.map(|(_, key)| match &row.0[key] {
            Value::String(text) => airtight_sandbox::visible(text).into_owned(),
            other => other.to_string(),
        })
    }));
    let mut widths = [12; COLUMNS.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count() + 3);
        }
    }
    let mut text = String::new();
    for line in &lines {
        for (at, (cell, width)) in line.iter().zip(widths).enumerate() {
            if at + 1 == line.len() {
                text.push_str(cell);
            } else {
                text.push_str(&format!("{cell:width$}"));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_come_in_runcs_order() {
        let state = json!({ "owner": "root", "id": "x", "bundle": "/b", "status": "running", "pid": 1, "ociVersion": "1.2.0", "rootfs": "/r", "created": "t", "annotations": { "b": "1", "a": "2" } });
        assert_eq!(
            serde_json::to_string(&Shown(state)).unwrap(),
            r#"{"ociVersion":"1.2.0","id":"x","pid":1,"status":"running","bundle":"/b","rootfs":"/r","created":"t","annotations":{"a":"2","b":"1"},"owner":"root"}"#
        );
    }

    #[test]
    fn the_table_is_runcs() {
        let row = json!({ "id": "x1", "pid": 11175, "status": "created", "bundle": "/srv/bundle", "created": "2026-11-25T10:31:41.823480957Z", "owner": "root" });
        assert_eq!(
            table(&[Shown(row)]),
            "ID          PID         STATUS      BUNDLE        CREATED                          OWNER\n\
             x1          11175       created     /srv/bundle   2026-11-25T10:31:41.823480957Z   root\n"
        );
        assert_eq!(
            table(&[]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
    }
}
