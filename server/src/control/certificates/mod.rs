//! The relay's own key and what certifies it: by itself, from files or by an authority.

pub mod acme;
pub mod certificate;
pub mod pages;
pub mod relay_key;
pub mod tls;
pub mod trust;
