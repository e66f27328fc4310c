//! OCI images at rest: digests, the content-addressed store, layers in and out, import and export, and the few things that a launch asks of an image.
//!
//! Nothing unverified leaves this crate: a blob is read through its digest and size, a layer's tree becomes visible when its diffID has been checked, and
//! everything is written under a temporary name, synced and renamed. It launches nothing and decides nothing of what goes into an image.

#![forbid(unsafe_code)]

mod artifact;
pub mod bundle;
mod canonical;
pub mod date;
mod descriptor;
mod digest;
mod error;
mod image;
pub mod layer;
pub mod mirror;
mod platform;
mod reference;
pub mod registry;
pub mod source;
mod store;
mod transfer;

pub use canonical::canonical_json;
pub use descriptor::Descriptor;
pub use digest::{DiffId, Digest, DigestOf};
pub use error::{Error, Result, one_line, with_fix};
pub use image::{Image, parse_index, parse_manifest};
pub use platform::Platform;
pub use reference::{ImageRef, Output, Reference};
pub use store::{
    BlobWriter, Contents, Device, GcReport, Identity, Known, LayerKey, LayerRecord, Lease, Listed,
    NewContents, OutcomeLayer, PlatformImage, Root, Steady, Store, VerifiedReader, VerifyReport,
    parse_layer_record, parse_outcome,
};
