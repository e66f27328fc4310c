//! What says why a file is there, and what lists what a layer holds.

use std::path::Component;

use airtight_build::Ledger;
use airtight_fuzz::fuzz;
use airtight_image::layer::list;

use crate::answer;
use crate::archives::{layer, with_checksums};

const LEDGER: &str = concat!(
    r#"{"format":1,"layers":[{"diffId":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","#,
    r#""files":{"/":{"bin":0},"/bin":{"a\\x80":2,"api":2,"libc.so":3}},"inherited":true,"name":"app"}],"reasons":["#,
    r#"{"key":"layer[0].copy[0]","kind":"leads-to"},{"generator":"passwd","key":"g","kind":"generated"},"#,
    r#"{"from":"dist","key":"layer[0].copy[0]","kind":"declared","to":"/bin"},"#,
    r#"{"by":["liba.so","/bin/api"],"key":"layer[0].closure[0]","kind":"needed","source":"/usr/lib/libc.so"}]}"#
);

#[test]
fn a_ledger_that_is_taken_is_what_would_be_written() {
    let words = [
        "\"kind\":",
        "\"package\":",
        "\"slice\":",
        "\"program\":",
        "\"interpreter\"",
        "\"linked\"",
        "/../",
        "\\\\x2f",
        "\\\\",
        ":4294967295",
        "null",
    ];
    fuzz("ledger", &[LEDGER], &words, |input| {
        let ledger = Ledger::parse(input);
        if let Ok(ledger) = &ledger {
            assert_eq!(ledger.json().as_bytes(), input);
        }
        answer(ledger)
    });
}

#[test]
fn what_a_layer_is_said_to_hold_lies_below_its_root() {
    fuzz(
        "listing",
        &[layer()],
        &[
            "ustar",
            ".wh.",
            ".wh..wh..opq",
            "../",
            "SCHILY.xattr.security.capability=",
        ],
        |input| {
            answer(list(with_checksums(input).as_slice(), |member, content| {
                assert!(
                    member
                        .path
                        .components()
                        .all(|part| matches!(part, Component::Normal(_))),
                    "{member:?}"
                );
                let read = std::io::copy(content, &mut std::io::sink()).unwrap_or_default();
                assert!(read <= member.size, "{member:?}");
                Ok(())
            }))
        },
    );
}
