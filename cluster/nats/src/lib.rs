//! The bucket of [`supernode_cluster`], on NATS JetStream.
//!
//! It is one stream that keeps the newest message of each subject. A write is a message that the stream takes only if the
//! subject's last message has the sequence number that is expected; sequence numbers are the revisions. A read asks the stream's
//! leader. What stands where is in [`record`].

mod access;
mod bucket;
mod drive;
pub mod record;

pub use self::{
    access::{Access, AccessError, Figures, Link, Listening, Login},
    bucket::{Bucket, BucketError, NAME_BYTES_MAX, Place},
    drive::drive,
    record::RecordKey,
};
