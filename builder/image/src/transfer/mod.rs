//! Images in and out: OCI layouts, and the archives that other tools write.

mod docker;
mod export;
mod import;
mod referrers;

/// Where an index names what is in it.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
