//! Findings as SARIF 2.1.0, which code hosts show beside a change.

use serde_json::{Value, json};

use super::lint::{Finding, Level, LintReport, RULES};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// One run, of `version` of this tool, over the image that is called `image`.
#[must_use]
pub fn sarif(report: &LintReport, image: &str, version: &str) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": { "text": rule.what },
                "help": { "text": rule.fix },
                "defaultConfiguration": { "level": level(rule.level) },
            })
        })
        .collect();
    let results: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| result(finding, image))
        .collect();
    let mut run = json!({
        "tool": { "driver": { "name": "airtight", "version": version, "rules": rules } },
        "properties": { "image": image, "digest": report.image },
        "results": results,
    });
    if let (Some(run), false) = (run.as_object_mut(), report.warnings.is_empty()) {
        let told = report
            .warnings
            .iter()
            .map(|text| json!({ "level": "warning", "message": { "text": text } }));
        let told: Vec<Value> = told.collect();
        let invocation = json!({ "executionSuccessful": true, "toolExecutionNotifications": told });
        run.insert("invocations".to_owned(), json!([invocation]));
    }
    json!({ "$schema": SCHEMA, "version": "2.1.0", "runs": [run] })
}

fn result(finding: &Finding, image: &str) -> Value {
    let index = RULES.iter().position(|rule| rule.id == finding.rule);
    let name = finding.path.as_deref().unwrap_or(image);
    // A place of the image, not of the repository; of the image's own settings there is no file to name but the image.
    let uri = finding.path.as_deref().map_or_else(
        || percent(image),
        |path| percent(path.trim_start_matches('/')),
    );
    json!({
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": level(finding.level),
        "message": { "text": format!("{name}: {}", finding.says) },
        "locations": [{
            "physicalLocation": { "artifactLocation": { "uri": uri } },
            "logicalLocations": [{ "fullyQualifiedName": name, "kind": "resource" }],
        }],
        "partialFingerprints": { "ruleAndPath/v1": format!("{}:{name}", finding.rule) },
    })
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Note => "note",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

/// As RFC 3986 has a path.
fn percent(path: &str) -> String {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/@+=,!$&'()*;".contains(&byte);
    path.bytes()
        .map(|byte| {
            if legal(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
