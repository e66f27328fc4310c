//! The image's configuration and manifest as canonical JSON: sorted keys, no white space, nothing of this host, user or day.

use std::collections::BTreeMap;

pub(crate) use airtight_image::canonical_json as canonical;
use airtight_image::layer::Compression;
use airtight_image::{DiffId, Digest, Platform};
use serde_json::{Map, Value, json};

use crate::settings::Config;
use crate::spec::BuildSpec;

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// The profile that the image asks for.
const PROFILE_ANNOTATION: &str = "dev.airtight.profile.v1";
/// What a shell and `exec` take where nobody says; written down so that every runtime does the same.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A layer in the store.
#[derive(Clone, Debug)]
pub(crate) struct StoredLayer {
    pub(crate) name: String,
    pub(crate) compression: Compression,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: DiffId,
}

/// What the base brings: its documents as they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct BaseDocuments {
    pub(crate) config: Map<String, Value>,
    /// Descriptors, unchanged.
    pub(crate) layers: Vec<Value>,
}

/// The image's configuration: the base's with ours over it.
pub(crate) fn config(
    spec: &BuildSpec,
    base: &BaseDocuments,
    layers: &[StoredLayer],
    created: &str,
    platform: &Platform,
) -> Value {
    let mut document = base.config.clone();
    let list = |of: Option<&Value>| of.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut diff_ids = list(
        base.config
            .get("rootfs")
            .and_then(|rootfs| rootfs.get("diff_ids")),
    );
    let mut history = list(base.config.get("history"));
    for layer in layers {
        diff_ids.push(json!(layer.diff_id.to_string()));
        history.push(json!({ "created": created, "created_by": format!("airtight build: layer {}", layer.name) }));
    }
    document.insert("architecture".to_owned(), json!(platform.architecture()));
    document.insert("os".to_owned(), json!(platform.os()));
    if let Some(variant) = platform.variant() {
        document.insert("variant".to_owned(), json!(variant));
    }
    document.insert("created".to_owned(), json!(created));
    document.insert(
        "rootfs".to_owned(),
        json!({ "type": "layers", "diff_ids": diff_ids }),
    );
    document.insert("history".to_owned(), Value::Array(history));
    let inherited = document.remove("config").and_then(|config| {
        if let Value::Object(config) = config {
            Some(config)
        } else {
            None
        }
    });
    document.insert(
        "config".to_owned(),
        Value::Object(process(&spec.config, inherited.unwrap_or_default())),
    );
    Value::Object(document)
}

/// The part that a runtime starts the payload by.
fn process(ours: &Config, mut config: Map<String, Value>) -> Map<String, Value> {
    let Config {
        entrypoint,
        cmd,
        env,
        user,
        workdir,
        labels,
        expose,
        stop_signal,
    } = ours;
    if let Some(entrypoint) = entrypoint {
        config.insert("Entrypoint".to_owned(), json!(entrypoint));
        // The base's arguments were for the base's program.
        config.remove("Cmd");
    }
    if let Some(cmd) = cmd {
        config.insert("Cmd".to_owned(), json!(cmd));
    }
    config.insert("Env".to_owned(), json!(environment(env, config.get("Env"))));
    config.insert("User".to_owned(), json!(user.to_string()));
    match workdir {
        Some(workdir) => config.insert("WorkingDir".to_owned(), json!(workdir.to_string())),
        None => config.insert(
            "WorkingDir".to_owned(),
            config
                .get("WorkingDir")
                .cloned()
                .unwrap_or_else(|| json!("/")),
        ),
    };
    extend(
        &mut config,
        "Labels",
        labels.iter().map(|(name, value)| (name, json!(value))),
    );
    extend(
        &mut config,
        "ExposedPorts",
        expose.iter().map(|port| (port, json!({}))),
    );
    if let Some(signal) = stop_signal {
        config.insert("StopSignal".to_owned(), json!(signal));
    }
    config
}

/// Sorted by name; ours over the base's.
fn environment(ours: &BTreeMap<String, String>, base: Option<&Value>) -> Vec<String> {
    let mut all = BTreeMap::from([("PATH", PATH)]);
    let base = base.and_then(Value::as_array).into_iter().flatten();
    all.extend(
        base.filter_map(Value::as_str)
            .filter_map(|variable| variable.split_once('=')),
    );
    all.extend(
        ours.iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    all.into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn extend<'a>(
    config: &mut Map<String, Value>,
    key: &str,
    ours: impl Iterator<Item = (&'a String, Value)>,
) {
    let mut table = match config.remove(key) {
        Some(Value::Object(table)) => table,
        _ => Map::new(),
    };
    table.extend(ours.map(|(name, value)| (name.clone(), value)));
    if !table.is_empty() {
        config.insert(key.to_owned(), Value::Object(table));
    }
}

/// The image's manifest; `config` is the stored configuration.
pub(crate) fn manifest(
    spec: &BuildSpec,
    base: &BaseDocuments,
    layers: &[StoredLayer],
    config: &(Digest, u64),
) -> Value {
    let descriptor = |kind: &str, digest: &Digest, size: u64| json!({ "mediaType": kind, "digest": digest.to_string(), "size": size });
    let mut descriptors = base.layers.clone();
    descriptors.extend(
        layers
            .iter()
            .map(|layer| descriptor(layer.compression.media_type(), &layer.digest, layer.size)),
    );
    let mut annotations = spec.annotations.clone();
    if let Some(profile) = &spec.profile {
        annotations.insert(PROFILE_ANNOTATION.to_owned(), profile.canonical_json());
    }
    let (digest, size) = config;
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, digest, *size),
        "layers": descriptors,
    });
    if let (Some(document), false) = (document.as_object_mut(), annotations.is_empty()) {
        document.insert("annotations".to_owned(), json!(annotations));
    }
    document
}

/// RFC 3339 in UTC, of seconds since 1970.
pub(crate) fn timestamp(epoch: u64) -> String {
    let (days, seconds) = (epoch / 86_400, epoch % 86_400);
    // Days since 0000-03-01, so that a leap day ends a year; 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339() {
        for (epoch, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(epoch), want);
        }
    }

    #[test]
    fn the_base_s_settings_stay_where_the_file_says_nothing() {
        let text = "format = 1\nname = \"a\"\nbase = \"oci:b\"\n[config]\nentrypoint = [\"x\"]\nenv = { B = \"ours\" }\nlabels = { l = \"ours\" }";
        let spec = crate::parse(text, "airtight.toml".as_ref()).unwrap();
        let base = json!({
            "architecture": "amd64", "os": "linux", "author": "base", "rootfs": { "type": "layers", "diff_ids": ["sha256:1"] },
            "config": {
                "Cmd": ["sh"], "Env": ["A=base", "B=base", "PATH=/bin"], "User": "root", "WorkingDir": "/srv",
                "Labels": { "l": "base", "k": "base" }, "ExposedPorts": { "80/tcp": {} },
            },
        });
        let base = BaseDocuments {
            config: base.as_object().unwrap().clone(),
            layers: vec![],
        };
        let got = config(
            &spec,
            &base,
            &[],
            "1970-01-01T00:00:00Z",
            &"linux/amd64".parse().unwrap(),
        );
        let want = r#"{"architecture":"amd64","author":"base","config":{"Entrypoint":["x"],"Env":["A=base","B=ours","PATH=/bin"],"#.to_owned()
            + r#""ExposedPorts":{"80/tcp":{}},"Labels":{"k":"base","l":"ours"},"User":"65532:65532","WorkingDir":"/srv"},"#
            + r#""created":"1970-01-01T00:00:00Z","history":[],"os":"linux","rootfs":{"diff_ids":["sha256:1"],"type":"layers"}}"#;
        assert_eq!(canonical(got), want);
    }
}
